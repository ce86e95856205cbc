"""Writes any network as a real .tflite file: float, or int8 with weights per channel.

As converters do it: NHWC, batch norms folded, clamps fused, windows over time as windows of height 1 between
an EXPAND_DIMS and a SQUEEZE, pads that are not those of SAME or VALID as a PAD of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.workload import Workload
from dse.workload.base import Layer, Shape
from dse.workload.convolutions import Depthwise, Pointwise
from dse.workload.windows import both_ends, same_padding
from tests.workload.exporters.tflite_builder import Scheme, TfliteBuilder

Array = NDArray[Any]

FUSED = {"relu": 1, "relu6": 3}
SCALES = {"relu": (6 / 255, -128), "relu6": (6 / 255, -128), "softmax": (1 / 256, -128)}
"""Plausible scale and zero point behind an operation; others have (0.05, 0)."""


def tflite_bytes(workload: Workload, parameters: Mapping[str, Array], *, int8: bool = False) -> bytes:
    """Return ``workload`` with ``parameters`` (batch norms folded already) as the bytes of a .tflite file."""
    return _Writer(workload, parameters, int8).file()


@dataclass
class _Writer:
    workload: Workload
    parameters: Mapping[str, Array]
    int8: bool
    build: TfliteBuilder = field(default_factory=TfliteBuilder)
    made: dict[int, int] = field(default_factory=dict)  # layer -> tensor
    scales: dict[int, tuple[float, int]] = field(default_factory=dict)  # tensor -> scale, zero point

    def file(self) -> bytes:
        self.made[-1] = self._activation("input", self.workload.input_shape, "input")
        for index, layer in enumerate(self.workload.layers):
            if index not in self.made:
                self._layer(index, layer)
        return self.build.finish([self.made[-1]], [self.made[len(self.workload.layers) - 1]])

    # --- tensors ---

    def _activation(self, name: str, shape: Shape, kind: str, like: int | None = None) -> int:
        """Add a tensor of ``shape`` (channels first, per sample) as the file has it."""
        return self._image(name, (1, *shape[1:], shape[0]), kind, like)

    def _image(self, name: str, full: Shape, kind: str, like: int | None = None) -> int:
        if not self.int8:
            return self.build.tensor(name, full)
        scale, zero_point = SCALES.get(kind, (0.05, 0)) if like is None else self.scales[like]
        index = self.build.tensor(name, full, "int8", scheme=Scheme((scale,), (zero_point,)))
        self.scales[index] = (scale, zero_point)
        return index

    def _weights(self, name: str, array: Array, axis: int, *, per_channel: bool = True) -> tuple[int, Array]:
        """Add weights in the file's order of axes, with channels on ``axis``; return their scales too."""
        if not self.int8:
            return self.build.constant(name, np.ascontiguousarray(array, dtype=np.float32)), np.ones(1)
        others = tuple(i for i in range(array.ndim) if i != axis) if per_channel else None
        scale = np.atleast_1d(np.maximum(np.abs(array).max(axis=others), 1e-6) / 127).astype(np.float32)
        spread = scale.reshape([-1 if i == axis else 1 for i in range(array.ndim)]) if per_channel else scale
        stored = np.clip(np.rint(array / spread), -127, 127).astype(np.int8)
        zeros = np.zeros(len(scale), dtype=np.int64)
        scheme = Scheme(scale.tolist(), zeros.tolist(), axis if per_channel else 0)
        return self.build.constant(name, np.ascontiguousarray(stored), scheme), scale

    def _bias(self, name: str, channels: int, source: int, scale: Array) -> int:
        """Add the bias of a layer; interpreters want one, so that a missing one is zeros."""
        bias = self.parameters.get(name, np.zeros(channels, dtype=np.float32))
        if not self.int8:
            return self.build.constant(name, bias.astype(np.float32))
        steps = (self.scales[source][0] * scale.astype(np.float64)).astype(np.float32)
        stored = np.rint(bias / steps.astype(np.float64)).astype(np.int32)
        scheme = Scheme(steps.tolist(), [0] * len(steps), 0)
        return self.build.constant(name, stored, scheme)

    # --- layers ---

    def _layer(self, index: int, layer: Layer) -> None:
        sources = [self.made[producer] for producer in self.workload.inputs[index]]
        getattr(self, f"_{layer.kind}", self._plain)(index, layer, sources)

    def _done(self, index: int, tensor: int) -> None:
        """Layer ``index``, and the folded and fused ones behind it, are what ``tensor`` holds."""
        self.made[index] = tensor
        for follower in self._tail(index):
            self.made[follower] = tensor

    def _tail(self, index: int) -> list[int]:
        """Followers that leave no operator: a batch norm, then a clamp, each the only reader."""
        tail: list[int] = []
        for kinds in (("batch_norm",), tuple(FUSED)):
            readers = [
                i for i, producers in enumerate(self.workload.inputs) if (tail or [index])[-1] in producers
            ]
            if len(readers) == 1 and self.workload.layers[readers[0]].kind in kinds:
                tail.append(readers[0])
        return tail

    def _last_kind(self, index: int) -> str:
        return self.workload.layers[[index, *self._tail(index)][-1]].kind

    def _window(self, index: int, layer: Any, sources: list[int]) -> None:
        """Convolutions and pools; over time they are images of height 1 in between."""
        shape = self.workload.shape_of(self.workload.inputs[index][0])
        source, flat = sources[0], len(shape) == 2
        if flat:
            source = self._reshaped(f"{layer.name}/expand", "EXPAND_DIMS", source, (1, 1, shape[1], shape[0]))
        source, padding = self._padded(layer, source, shape)
        out = self.workload.shapes[index]
        full = (1, 1, *out[1:], out[0]) if flat else (1, *out[1:], out[0])
        pooled = layer.kind.endswith("_pool")
        target = self._image(layer.name, full,
                             self._last_kind(index), source if pooled else None)  # fmt: skip
        stride = _two(getattr(layer, "stride", (1,)), len(shape) - 1)
        options = {"Padding": padding, "StrideH": stride[0], "StrideW": stride[1]}
        (self._pooled if pooled else self._convolved)(index, layer, (source, target), shape, options)
        if flat:
            target = self._reshaped(f"{layer.name}/series", "SQUEEZE", target, (1, out[1], out[0]))
        self._done(index, target)

    _conv2d = _conv1d = _depthwise = _depthwise1d = _pointwise = _avg_pool = _max_pool = _window

    def _pooled(
        self, index: int, layer: Any, ends: tuple[int, int], shape: Shape, options: dict[str, int]
    ) -> None:
        kernel = _two(layer.kernel, len(shape) - 1)
        kind = "AVERAGE_POOL_2D" if layer.kind == "avg_pool" else "MAX_POOL_2D"
        self.build.operator(kind, [ends[0]], ends[1], "Pool2DOptions", FilterHeight=kernel[0],
                            FilterWidth=kernel[1], **options)  # fmt: skip

    def _convolved(
        self, index: int, layer: Any, ends: tuple[int, int], shape: Shape, options: dict[str, int]
    ) -> None:
        """Write weights as OHWI, or 1HWC where every channel has filters of its own."""
        weight = self.parameters[f"{layer.name}.weight"]
        weight = weight.reshape(*weight.shape[:2], *(1,) * (4 - weight.ndim), *weight.shape[2:])
        channels, out = shape[0], weight.shape[0]
        depthwise = isinstance(layer, Depthwise) or getattr(layer, "groups", 1) == channels > 1
        order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
        index_of_weight, scale = self._weights(f"{layer.name}.weight", weight.transpose(order), axis)
        bias = self._bias(f"{layer.name}.bias", out, ends[0], scale)
        dilation = _two(getattr(layer, "dilation", (1,)), len(shape) - 1)
        options |= {"DilationHFactor": dilation[0], "DilationWFactor": dilation[1],
                    "FusedActivationFunction": FUSED.get(self._last_kind(index), 0)}  # fmt: skip
        kind, table = (
            ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
        )
        if depthwise:
            options["DepthMultiplier"] = out // channels
        self.build.operator(kind, [ends[0], index_of_weight, bias], ends[1], table, **options)

    def _padded(self, layer: Any, source: int, shape: Shape) -> tuple[int, int]:
        """Return the tensor to slide over and the padding: SAME (0), VALID (1), or VALID behind a PAD."""
        if isinstance(layer, Pointwise):
            return source, 1
        if layer.padding == "same":
            return source, 0
        rank = len(shape) - 1
        ends = [both_ends(pad) for pad in tuple(layer.padding) * (rank if len(layer.padding) == 1 else 1)]
        if not any(map(sum, ends)):
            return source, 1
        taps, stride, dilation = (
            _each(part, rank) for part in (layer.kernel, layer.stride, getattr(layer, "dilation", (1,)))
        )
        spans = [(width - 1) * step + 1 for width, step in zip(taps, dilation, strict=True)]
        if [*map(same_padding, shape[1:], spans, stride)] == ends:
            return source, 0
        pads = [(0, 0), *([(0, 0)] if rank == 1 else []), *ends, (0, 0)]
        full = tuple(a + sum(b) for a, b in zip(self.build.tensors[source].shape, pads, strict=True))
        target = self._image(f"{layer.name}/pad", full, "pad", source if self.int8 else None)
        amounts = self.build.constant(f"{layer.name}/pads", np.array(pads, dtype=np.int32))
        return self.build.operator("PAD", [source, amounts], target, "PadOptions"), 1

    def _reshaped(self, name: str, kind: str, source: int, full: Shape) -> int:
        target = self._image(name, full, "", source if self.int8 else None)
        if kind == "EXPAND_DIMS":
            return self.build.operator(
                kind, [source, self.build.ints(f"{name}/axis", [1])], target, "ExpandDimsOptions"
            )
        if kind == "SQUEEZE":
            return self.build.operator(kind, [source], target, "SqueezeOptions", SqueezeDims=(1,))
        return self.build.operator(
            kind, [source, self.build.ints(f"{name}/shape", [-1, *full[1:]])], target, "ReshapeOptions"
        )

    def _linear(self, index: int, layer: Any, sources: list[int]) -> None:
        """Columns of the weights follow the order in which an image was flattened."""
        weight = self.parameters[f"{layer.name}.weight"]
        shape = self._flattened(self.workload.inputs[index][0])
        if shape is not None:
            places = np.arange(prod(shape)).reshape(shape)
            weight = weight[:, np.moveaxis(places, 0, -1).reshape(-1)]
        index_of_weight, scale = self._weights(f"{layer.name}.weight", weight, 0, per_channel=False)
        bias = self._bias(f"{layer.name}.bias", len(weight), sources[0], scale)
        target = self._image(layer.name, (1, len(weight)), self._last_kind(index))
        self.build.operator(
            "FULLY_CONNECTED",
            [sources[0], index_of_weight, bias],
            target,
            "FullyConnectedOptions",
            FusedActivationFunction=FUSED.get(self._last_kind(index), 0),
        )
        self._done(index, target)

    def _flattened(self, layer: int) -> Shape | None:
        """Shape that a flatten above has read, through layers that keep the places of elements."""
        while layer >= 0 and self.workload.layers[layer].kind not in ("flatten", "linear", "global_avg_pool"):
            layer = self.workload.inputs[layer][0]
        if layer < 0 or self.workload.layers[layer].kind != "flatten":
            return None
        return self.workload.shape_of(self.workload.inputs[layer][0])

    def _flatten(self, index: int, layer: Layer, sources: list[int]) -> None:
        full = (1, *self.workload.shapes[index])
        self._done(index, self._reshaped(layer.name, "RESHAPE", sources[0], full))

    def _global_avg_pool(self, index: int, layer: Layer, sources: list[int]) -> None:
        rank = len(self.workload.shape_of(self.workload.inputs[index][0]))
        target = self._image(
            layer.name, (1, *self.workload.shapes[index]), "", sources[0] if self.int8 else None
        )
        axes = self.build.ints(f"{layer.name}/axes", list(range(1, rank)))
        self._done(
            index, self.build.operator("MEAN", [sources[0], axes], target, "ReducerOptions", KeepDims=False)
        )

    def _add(self, index: int, layer: Layer, sources: list[int]) -> None:
        target = self._activation(layer.name, self.workload.shapes[index], self._last_kind(index))
        fused = FUSED.get(self._last_kind(index), 0)
        self.build.operator("ADD", sources, target, "AddOptions", FusedActivationFunction=fused)
        self._done(index, target)

    def _concat(self, index: int, layer: Layer, sources: list[int]) -> None:
        target = self._activation(
            layer.name, self.workload.shapes[index], "", sources[0] if self.int8 else None
        )
        self.build.operator("CONCATENATION", sources, target, "ConcatenationOptions", Axis=-1)
        self.made[index] = target

    def _softmax(self, index: int, layer: Layer, sources: list[int]) -> None:
        target = self._activation(layer.name, self.workload.shapes[index], "softmax")
        self.made[index] = self.build.operator("SOFTMAX", sources, target, "SoftmaxOptions", Beta=1.0)

    def _plain(self, index: int, layer: Layer, sources: list[int]) -> None:
        """Clamps that are not fused, hard swish."""
        target = self._activation(layer.name, self.workload.shapes[index], layer.kind)
        options = {"hard_swish": "HardSwishOptions"}.get(layer.kind, "")
        self.made[index] = self.build.operator(layer.kind.upper(), sources, target, options)


def _each(sizes: Shape, rank: int) -> Shape:
    return tuple(sizes) * rank if len(sizes) == 1 else tuple(sizes)


def _two(sizes: Shape, rank: int) -> Shape:
    """Sizes for height and width; over time the height has 1."""
    return (1, *sizes) if rank == 1 else _each(sizes, 2)
