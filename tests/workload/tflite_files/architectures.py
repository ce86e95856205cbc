"""Int8 networks with blocks that no network of the zoo has, written operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.workload.exporters.tflite_builder import Scheme, TfliteBuilder
from tests.workload.tflite_files.samples import ints

ACTIVATIONS = Scheme((0.05,), (0,))


@dataclass
class Int8Graph:
    """A graph whose activations all have one scale."""

    build: TfliteBuilder = field(default_factory=TfliteBuilder)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def image(self, name: str, height: int, width: int, channels: int) -> int:
        return self.build.tensor(name, (1, height, width, channels), "int8", scheme=ACTIVATIONS)

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.build.tensors[tensor].shape)

    def _weights(self, name: str, shape: tuple[int, ...], axis: int) -> list[int]:
        """Add weights with a scale per channel, and their bias."""
        channels = shape[axis]
        stored = self.random.integers(-127, 128, shape, dtype=np.int8)
        scales, zeros = [0.01] * channels, [0] * channels
        weight = self.build.constant(f"{name}.weight", stored, Scheme(scales, zeros, axis))
        biases = self.random.integers(-99, 99, channels, dtype=np.int32)
        return [weight, self.build.constant(f"{name}.bias", biases, Scheme([0.0005] * channels, zeros, 0))]

    def conv(
        self, name: str, source: int, out: int, kernel: tuple[int, int] = (3, 3), stride: int = 1, *,
        dilation: int = 1, fused: int = 1, depthwise: bool = False,
    ) -> int:  # fmt: skip
        """A SAME convolution; ``depthwise`` with out / in filters for each channel."""
        _, height, width, channels = self.shape(source)
        target = self.image(name, -(-height // stride), -(-width // stride), out)
        options = {"Padding": 0, "StrideH": stride, "StrideW": stride, "DilationHFactor": dilation,
                   "DilationWFactor": dilation, "FusedActivationFunction": fused}  # fmt: skip
        if depthwise:
            inputs = [source, *self._weights(name, (1, *kernel, out), 3)]
            return self.build.operator("DEPTHWISE_CONV_2D", inputs, target, "DepthwiseConv2DOptions",
                                       DepthMultiplier=out // channels, **options)  # fmt: skip
        inputs = [source, *self._weights(name, (out, *kernel, channels), 0)]
        return self.build.operator("CONV_2D", inputs, target, "Conv2DOptions", **options)

    def dense(self, name: str, source: int, out: int) -> int:
        stored = self.random.integers(-127, 128, (out, self.shape(source)[-1]), dtype=np.int8)
        weight = self.build.constant(f"{name}.weight", stored, Scheme((0.01,)))
        target = self.build.tensor(name, (1, out), "int8", scheme=ACTIVATIONS)
        return self.build.operator("FULLY_CONNECTED", [source, weight, -1], target, "FullyConnectedOptions")

    def same(self, kind: str, name: str, inputs: list[int], options: str = "", **fields: int) -> int:
        """An operator whose output has the shape of its first input."""
        return self.build.operator(
            kind, inputs, self.image(name, *self.shape(inputs[0])[1:]), options, **fields
        )

    def concat(self, name: str, parts: list[int]) -> int:
        _, height, width, _ = self.shape(parts[0])
        target = self.image(name, height, width, sum(self.shape(part)[3] for part in parts))
        return self.build.operator("CONCATENATION", parts, target, "ConcatenationOptions", Axis=3)

    def halved(self, name: str, source: int) -> int:
        _, height, width, channels = self.shape(source)
        target = self.image(name, height // 2, width // 2, channels)
        return self.build.operator(
            "MAX_POOL_2D",
            [source],
            target,
            "Pool2DOptions",
            Padding=1,
            StrideH=2,
            StrideW=2,
            FilterHeight=2,
            FilterWidth=2,
        )

    def doubled(self, name: str, source: int) -> int:
        _, height, width, channels = self.shape(source)
        size = self.build.constant(f"{name}.size", ints(2 * height, 2 * width))
        target = self.image(name, 2 * height, 2 * width, channels)
        return self.build.operator(
            "RESIZE_NEAREST_NEIGHBOR", [source, size], target, "ResizeNearestNeighborOptions"
        )

    def pooled(self, name: str, source: int, *, keep: bool = False) -> int:
        axes, channels = self.build.constant(f"{name}.axes", ints(1, 2)), self.shape(source)[3]
        full = (1, 1, 1, channels) if keep else (1, channels)
        target = self.build.tensor(name, full, "int8", scheme=ACTIVATIONS)
        return self.build.operator("MEAN", [source, axes], target, "ReducerOptions", KeepDims=keep)

    def finish(self, source: int, out: int) -> bytes:
        return self.build.finish([source], [out])


def squeezing() -> bytes:
    """Fire modules: a squeeze, two expansions of different kernels, joined; max pools between them."""
    graph = Int8Graph()
    source = graph.image("input", 32, 32, 3)
    here = graph.conv("stem", source, 16, stride=2)
    for i in range(3):
        thin = graph.conv(f"fire{i}/squeeze", here, 8, (1, 1))
        parts = [graph.conv(f"fire{i}/expand1", thin, 24, (1, 1)), graph.conv(f"fire{i}/expand3", thin, 24)]
        here = graph.concat(f"fire{i}/joined", parts)
        here = graph.halved(f"fire{i}/pool", here) if i < 2 else here
    return graph.finish(source, graph.dense("classifier", graph.pooled("pool", here), 10))


def exciting() -> bytes:
    """Inverted residuals with squeeze and excitation and hard swish, as MobileNetV3 has them."""
    graph = Int8Graph()
    source = graph.image("input", 48, 48, 3)
    stem = graph.conv("stem", source, 16, stride=2, fused=0)
    here = graph.same("HARD_SWISH", "stem/act", [stem], "HardSwishOptions")
    for i in range(2):
        wide = graph.conv(f"block{i}/expand", here, 64, (1, 1))
        deep = graph.conv(f"block{i}/depthwise", wide, 64, (5, 5), depthwise=True)
        mean = graph.pooled(f"block{i}/mean", deep, keep=True)
        thin = graph.conv(f"block{i}/reduce", mean, 16, (1, 1))
        gate = graph.conv(f"block{i}/restore", thin, 64, (1, 1), fused=0)
        gate = graph.same("LOGISTIC", f"block{i}/gate", [gate])
        scaled = graph.same("MUL", f"block{i}/scaled", [deep, gate], "MulOptions")
        thin = graph.conv(f"block{i}/project", scaled, 16, (1, 1), fused=0)
        here = graph.same("ADD", f"block{i}/add", [here, thin], "AddOptions")
    return graph.finish(source, graph.dense("classifier", graph.pooled("pool", here), 10))


def upwards() -> bytes:
    """An encoder and decoder with a skip, dilated kernels, and several filters for each channel."""
    graph = Int8Graph()
    source = graph.image("input", 32, 40, 2)
    first = graph.conv("down0", source, 8, (3, 5), depthwise=True)
    second = graph.conv("down1", graph.halved("pool", first), 16, dilation=2)
    deep = graph.conv("down2", second, 16, (1, 7))
    joined = graph.concat("joined", [graph.doubled("up", deep), first])
    return graph.finish(source, graph.conv("out", joined, 1, fused=0))


ARCHITECTURES: dict[str, Callable[[], bytes]] = {
    "squeezing": squeezing,
    "exciting": exciting,
    "upwards": upwards,
}
"""Name -> what writes the network."""
