"""Writes any network as a real .onnx file: float, quantised between nodes (QDQ), or in them (QOperator)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dse.workload import Workload
from dse.workload.base import Layer
from dse.workload.convolutions import BatchNorm, Convolution, Linear, Pointwise
from dse.workload.windows import Sliding

Array = NDArray[Any]
Form = Literal["float", "qdq", "qoperator"]

ACTIVATION_SCALE, ACTIVATION_ZERO = 0.05, 3
ABSORBED = ("relu", "relu6")
"""Activations that the range of the quantised output before them stands for, in the QOperator form."""

PLAIN = {
    "relu": "Relu", "hard_swish": "HardSwish", "add": "Add", "concat": "Concat", "softmax": "Softmax",
    "flatten": "Flatten", "relu6": "Clip",
}  # fmt: skip


def onnx_bytes(
    workload: Workload,
    parameters: Mapping[str, Array],
    *,
    form: Form = "float",
    batch: int | str = 1,
    opset: int = 17,
) -> bytes:
    """Return ``workload`` with ``parameters`` as the bytes of an .onnx file.

    Batch norms without numbers have been folded and are left out; the quantised forms need that.
    """
    return bytes(_Writer(workload, parameters, form).model(batch, opset).SerializeToString())


def weight_scales(weight: Array) -> Array:
    """One scale per output channel, so that the largest weight of each is 127 steps."""
    most = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    return (np.maximum(most, 1e-6) / 127).astype(np.float32)


def stepped(weight: Array, scales: Array) -> Array:
    """The integers that stand for a weight, one scale per index of its first axis."""
    spread = scales.reshape(-1, *(1,) * (weight.ndim - 1))
    return np.clip(np.round(weight / spread), -128, 127).astype(np.int8)


@dataclass
class _Writer:
    workload: Workload
    parameters: Mapping[str, Array]
    form: Form
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    made: dict[int, str] = field(default_factory=dict)  # layer -> tensor that its readers read

    def model(self, batch: int | str, opset: int) -> Any:
        shape = [batch, *self.workload.input_shape]
        given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
        self.made[-1] = self._kept("input")
        for index, layer in enumerate(self.workload.layers):
            self._layer(index, layer)
        last = self.made[len(self.workload.layers) - 1]
        if self.form == "qoperator" and self.nodes[-1].op_type != "Softmax":
            last = self._node("DequantizeLinear", [last, *self._scale()], "output_real")
        result = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
        graph = helper.make_graph(
            self.nodes, self.workload.name, [given], [result], list(self.constants.values())
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, producer_name="tests", producer_version="1")

    # --- pieces ---

    def _node(self, op: str, inputs: list[str], name: str, domain: str = "", **attributes: Any) -> str:
        attributes = {key: value for key, value in attributes.items() if value is not None}
        output = f"{name}_output"
        self.nodes.append(helper.make_node(op, inputs, [output], name, domain=domain, **attributes))
        return output

    def _constant(self, name: str, value: Array) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _scale(self) -> list[str]:
        scale = self._constant("activation_scale", np.array(ACTIVATION_SCALE, dtype=np.float32))
        return [scale, self._constant("activation_zero", np.array(ACTIVATION_ZERO, dtype=np.uint8))]

    def _kept(self, tensor: str) -> str:
        """The tensor as its readers read it: through a pair of nodes in QDQ, as integers in QOperator."""
        if self.form == "float":
            return tensor
        whole = self._node("QuantizeLinear", [tensor, *self._scale()], f"{tensor}_q")
        if self.form == "qoperator":
            return whole
        return self._node("DequantizeLinear", [whole, *self._scale()], f"{tensor}_dq")

    # --- layers ---

    def _layer(self, index: int, layer: Layer) -> None:
        inputs = [self.made[place] for place in self.workload.inputs[index]]
        if isinstance(layer, BatchNorm) and f"{layer.name}.gamma" not in self.parameters:
            self.made[index] = inputs[0]
        elif self.form == "qoperator":
            self.made[index] = self._integer_layer(index, layer, inputs)
        else:
            tensor = self._float_layer(index, layer, inputs)
            end = index == len(self.workload.layers) - 1
            self.made[index] = tensor if end or self._folded_behind(index) else self._kept(tensor)

    def _folded_behind(self, index: int) -> bool:
        """Whether the activation right behind takes the numbers before they are quantised."""
        readers = [place for place, inputs in enumerate(self.workload.inputs) if index in inputs]
        return len(readers) == 1 and self.workload.layers[readers[0]].kind in ABSORBED

    def _float_layer(self, index: int, layer: Layer, inputs: list[str]) -> str:
        name = layer.name
        if isinstance(layer, Convolution | Linear):
            return self._weighted(index, layer, inputs[0])
        if isinstance(layer, BatchNorm):
            parts = [f"{name}.{part}" for part in ("gamma", "beta", "mean", "variance")]
            held = [self._constant(part, self.parameters[part]) for part in parts]
            return self._node("BatchNormalization", [inputs[0], *held], name, epsilon=1e-5)
        if layer.kind == "global_avg_pool":
            pooled = self._node("GlobalAveragePool", inputs, name)
            return self._node("Flatten", [pooled], f"{name}_flat")
        if isinstance(layer, Sliding):
            op = {"avg_pool": "AveragePool", "max_pool": "MaxPool"}[layer.kind]
            return self._node(op, inputs, name, **self._window(index, layer))
        if layer.kind == "relu6":
            bounds = [
                self._constant(key, np.array(value, dtype=np.float32))
                for key, value in (("low", 0), ("six", 6))
            ]
            return self._node("Clip", [*inputs, *bounds], name)
        axis = {"concat": 1, "softmax": -1, "flatten": 1}.get(layer.kind)
        return self._node(PLAIN[layer.kind], inputs, name, axis=axis)

    def _window(self, index: int, layer: Layer) -> dict[str, Any]:
        shape = self.workload.shape_of(self.workload.inputs[index][0])
        if not isinstance(layer, Sliding):
            return {"kernel_shape": [1] * (len(shape) - 1)}
        axes = layer.axes(shape)
        found = {
            "kernel_shape": [axis.kernel for axis in axes],
            "strides": [axis.stride for axis in axes],
            "pads": [*(axis.before for axis in axes), *(axis.after for axis in axes)],
        }
        dilations = [axis.dilation for axis in axes]
        return found if set(dilations) == {1} else found | {"dilations": dilations}

    def _weighted(self, index: int, layer: Layer, tensor: str) -> str:
        held = self._weights(layer.name)
        if isinstance(layer, Linear):
            return self._node("Gemm", [tensor, *held], layer.name, transB=1)
        return self._node("Conv", [tensor, *held], layer.name, **self._convolution(index, layer))

    def _convolution(self, index: int, layer: Layer) -> dict[str, Any]:
        assert isinstance(layer, Convolution)
        _, groups, _ = layer.geometry(self.workload.shape_of(self.workload.inputs[index][0]))
        return self._window(index, layer) | {"group": groups if not isinstance(layer, Pointwise) else 1}

    def _weights(self, name: str) -> list[str]:
        weight, bias = self.parameters[f"{name}.weight"], self.parameters.get(f"{name}.bias")
        if self.form == "float":
            held = [self._constant(f"{name}.weight", weight)]
            return held if bias is None else [*held, self._constant(f"{name}.bias", bias)]
        scales = weight_scales(weight)
        found = [self._dequantised(f"{name}.weight", stepped(weight, scales), scales)]
        if bias is not None:
            units = scales * np.float32(ACTIVATION_SCALE)
            found.append(self._dequantised(f"{name}.bias", np.round(bias / units).astype(np.int32), units))
        return found

    def _dequantised(self, name: str, whole: Array, scales: Array) -> str:
        zeros = self._constant(f"{name}_zero", np.zeros(len(scales), dtype=whole.dtype))
        held = [self._constant(name, whole), self._constant(f"{name}_scale", scales), zeros]
        return self._node("DequantizeLinear", held, f"{name}_dq", axis=0)

    # --- operators on integers ---

    def _integer_layer(self, index: int, layer: Layer, inputs: list[str]) -> str:
        name = layer.name
        triples = [[tensor, *self._scale()] for tensor in inputs]
        if isinstance(layer, Convolution | Linear):
            return self._integer_weighted(index, layer, triples[0])
        if layer.kind in ABSORBED:
            return inputs[0]
        if layer.kind == "add":
            return self._node("QLinearAdd", [*triples[0], *triples[1], *self._scale()], name, "com.microsoft")
        if layer.kind == "concat":
            parts = [word for triple in triples for word in triple]
            return self._node("QLinearConcat", [*self._scale(), *parts], name, "com.microsoft", axis=1)
        if layer.kind == "global_avg_pool":
            pooled = self._node(
                "QLinearGlobalAveragePool", [*triples[0], *self._scale()], name, "com.microsoft"
            )
            return self._node("Flatten", [pooled], f"{name}_flat")
        if layer.kind == "avg_pool":
            window = self._window(index, layer)
            return self._node(
                "QLinearAveragePool", [*triples[0], *self._scale()], name, "com.microsoft", **window
            )
        if layer.kind in ("max_pool", "flatten"):
            return self._float_layer(index, layer, inputs)
        real = self._node("DequantizeLinear", triples[0], f"{name}_dq")
        found = self._float_layer(index, layer, [real])
        return found if layer.kind == "softmax" else self._kept(found)

    def _integer_weighted(self, index: int, layer: Layer, triple: list[str]) -> str:
        name, weight = layer.name, self.parameters[f"{layer.name}.weight"]
        scales = weight_scales(weight)
        zeros = np.zeros(len(scales), dtype=np.int8)
        named = (
            (f"{name}.weight", stepped(weight, scales)),
            (f"{name}_scale", scales),
            (f"{name}_zero", zeros),
        )
        held = [self._constant(key, value) for key, value in named]
        bias = self.parameters.get(f"{name}.bias")
        units = scales * np.float32(ACTIVATION_SCALE)
        more = (
            [] if bias is None else [self._constant(f"{name}.bias", np.round(bias / units).astype(np.int32))]
        )
        if isinstance(layer, Linear):
            inputs = [*triple, *held, *(more or [""]), *self._scale()]
            return self._node("QGemm", inputs, name, "com.microsoft", transB=1)
        inputs = [*triple, *held, *self._scale(), *more]
        return self._node("QLinearConv", inputs, name, **self._convolution(index, layer))
