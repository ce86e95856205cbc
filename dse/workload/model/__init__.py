"""Models as their files describe them: what every importer gives, and how it becomes a network."""

from dse.workload.model.graph import Constant, Model, ModelInput, Node, Quantisation

__all__ = ["Constant", "Model", "ModelInput", "Node", "Quantisation"]
