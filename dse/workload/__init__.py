"""What there is to train: layer kinds, networks as graphs, and the networks that come with the program."""

from dse.workload.base import Layer, Shape
from dse.workload.graph import Unit, Workload
from dse.workload.layers import LAYER_KINDS
from dse.workload.load import list_networks, load_network

__all__ = ["LAYER_KINDS", "Layer", "Shape", "Unit", "Workload", "list_networks", "load_network"]
