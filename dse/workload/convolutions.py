"""Layers with weights: convolutions, linear, batch norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Final

from dse.vocabulary import Saved
from dse.workload.base import MAC_PASSES, Layer, Shape
from dse.workload.windows import Dilated, require_positions, require_positive, require_vector

_WEIGHTED: Final = {
    "fwd": ("input", "weights"),
    "bwd_input": ("weights", "output_gradient"),
    "bwd_weight": ("input", "output_gradient"),  # a bias gradient needs the output gradient alone
    "update": ("weights", "weight_gradient"),
}


@dataclass(frozen=True, kw_only=True)
class Convolution(Layer):
    """What all convolutions share."""

    saves: ClassVar[Saved] = Saved.INPUT_FOR_WEIGHTS
    passes: ClassVar[Mapping[str, tuple[str, ...]]] = _WEIGHTED

    def geometry(self, *inputs: Shape) -> tuple[int, int, tuple[int, ...]]:
        """Return (output channels, groups, kernel) for these inputs."""
        raise NotImplementedError

    def operator_on(self, *inputs: Shape) -> str | None:
        """See ``Layer.operator_on``."""
        out, groups, kernel = self.geometry(*inputs)
        if groups == 1 and prod(kernel) == 1:
            return "pointwise"
        return "depthwise" if groups == inputs[0][0] == out else self.operator

    def weight_params(self, *inputs: Shape) -> int:
        """Output channels x input channels per group x kernel elements."""
        out, groups, kernel = self.geometry(*inputs)
        return out * (inputs[0][0] // groups) * prod(kernel)

    def macs(self, *inputs: Shape) -> dict[str, int]:
        """Weights x output positions; padded positions count."""
        positions = prod(self.output_shape(*inputs)[1:])
        return dict.fromkeys(MAC_PASSES, self.weight_params(*inputs) * positions)


@dataclass(frozen=True, kw_only=True)
class _WindowConvolution(Dilated, Convolution):
    out_channels: int
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        require_positive(out_channels=self.out_channels, groups=self.groups)
        super().__post_init__()

    def geometry(self, *inputs: Shape) -> tuple[int, int, tuple[int, ...]]:
        """See ``Convolution.geometry``."""
        return self.out_channels, self.groups, self.kernel

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_channels, positions...), with channels divisible by groups."""
        channels = inputs[0][0]
        spatial = self.positions(inputs[0])
        for what, count in (("input", channels), ("output", self.out_channels)):
            if count % self.groups:
                raise ValueError(f"{self.groups} groups do not divide the {count} {what} channels")
        return (self.out_channels, *spatial)

    def bias_params(self, *inputs: Shape) -> int:
        """One per output channel, where the layer has a bias of its own."""
        return self.out_channels if self.bias else 0


@dataclass(frozen=True, kw_only=True)
class Conv2d(_WindowConvolution):
    """Convolution over height and width, grouped or dilated if asked, with rectangular kernels."""

    kind: ClassVar[str] = "conv2d"
    operator: ClassVar[str | None] = "conv2d"
    rank: ClassVar[int | None] = 2


@dataclass(frozen=True, kw_only=True)
class Conv1d(_WindowConvolution):
    """Convolution over time."""

    kind: ClassVar[str] = "conv1d"
    operator: ClassVar[str | None] = "conv1d"
    rank: ClassVar[int | None] = 1


@dataclass(frozen=True, kw_only=True)
class Depthwise(Dilated, Convolution):
    """One filter per channel over height and width."""

    bias: bool = True

    kind: ClassVar[str] = "depthwise"
    operator: ClassVar[str | None] = "depthwise"
    rank: ClassVar[int | None] = 2

    def geometry(self, *inputs: Shape) -> tuple[int, int, tuple[int, ...]]:
        """See ``Convolution.geometry``."""
        return inputs[0][0], inputs[0][0], self.kernel

    def operator_on(self, *inputs: Shape) -> str | None:
        """Depthwise, even on a single channel."""
        return self.operator

    def output_shape(self, *inputs: Shape) -> Shape:
        """(C, positions...)."""
        return (inputs[0][0], *self.positions(inputs[0]))

    def bias_params(self, *inputs: Shape) -> int:
        """One per channel, where the layer has a bias of its own."""
        return inputs[0][0] if self.bias else 0


@dataclass(frozen=True, kw_only=True)
class Depthwise1d(Depthwise):
    """One filter per channel over time."""

    kind: ClassVar[str] = "depthwise1d"
    rank: ClassVar[int | None] = 1


@dataclass(frozen=True, kw_only=True)
class Pointwise(Convolution):
    """Mixes channels at each position: (C, ...) -> (out_channels, ...)."""

    out_channels: int
    bias: bool = True

    kind: ClassVar[str] = "pointwise"
    operator: ClassVar[str | None] = "pointwise"

    def __post_init__(self) -> None:
        require_positive(out_channels=self.out_channels)

    def geometry(self, *inputs: Shape) -> tuple[int, int, tuple[int, ...]]:
        """See ``Convolution.geometry``."""
        return self.out_channels, 1, (1,) * (len(inputs[0]) - 1)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Positions stay, channels change."""
        require_positions(self.kind, inputs[0], None)
        return (self.out_channels, *inputs[0][1:])

    def bias_params(self, *inputs: Shape) -> int:
        """One per output channel, where the layer has a bias of its own."""
        return self.out_channels if self.bias else 0


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """Fully connected: (F,) -> (out_features,)."""

    out_features: int
    bias: bool = True

    kind: ClassVar[str] = "linear"
    operator: ClassVar[str | None] = "linear"
    saves: ClassVar[Saved] = Saved.INPUT_FOR_WEIGHTS
    passes: ClassVar[Mapping[str, tuple[str, ...]]] = _WEIGHTED

    def __post_init__(self) -> None:
        require_positive(out_features=self.out_features)

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_features,); the input must be a vector."""
        require_vector(self.kind, inputs[0])
        return (self.out_features,)

    def weight_params(self, *inputs: Shape) -> int:
        """Inputs x outputs."""
        return inputs[0][0] * self.out_features

    def bias_params(self, *inputs: Shape) -> int:
        """One per output, where the layer has a bias."""
        return self.out_features if self.bias else 0

    def macs(self, *inputs: Shape) -> dict[str, int]:
        """One per weight."""
        return dict.fromkeys(MAC_PASSES, self.weight_params(*inputs))


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Layer):
    """Scale and shift per channel by running or batch statistics; what it saves depends on its mode."""

    kind: ClassVar[str] = "batch_norm"
    element_operation: ClassVar[str | None] = "batch_norm"
    in_place: ClassVar[bool] = True
    saves: ClassVar[Saved] = Saved.NORM
    passes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "fwd": ("input", "weights"),
        "bwd_input": ("norm", "weights", "output_gradient"),
        "bwd_weight": ("norm", "output_gradient"),
        "update": ("weights", "weight_gradient"),
    }

    def weight_params(self, *inputs: Shape) -> int:
        """One scale per channel."""
        return inputs[0][0]

    def bias_params(self, *inputs: Shape) -> int:
        """One shift per channel."""
        return inputs[0][0]
