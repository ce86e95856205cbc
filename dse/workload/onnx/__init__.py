"""ONNX files as models: parsed as protobuf, shapes inferred here, nothing executed."""

from dse.workload.onnx.read import read_onnx

__all__ = ["read_onnx"]
