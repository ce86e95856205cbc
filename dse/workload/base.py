"""What every layer kind has: its place in the graph, shapes, parameters, MACs, and what each pass reads.

Shapes are per sample: (C, H, W), (C, L) or (F,). MACs are counted at every output position, padded ones
included, and are equal in the three passes: the input gradient and the weight gradient of a convolution
multiply as many pairs of numbers as its forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Final, Literal

from dse.vocabulary import PASSES, Saved

Shape = tuple[int, ...]
Pad = int | tuple[int, int]
"""Positions that are added to an axis: as many at both ends, or (before, after)."""
Padding = tuple[Pad, ...] | Literal["same"]

MAC_PASSES: Final = ("fwd", "bwd_input", "bwd_weight")


def elements(shape: Shape) -> int:
    """Return how many numbers a tensor of ``shape`` holds."""
    return prod(shape)


def shape_text(shape: Shape) -> str:
    """Write a shape for people.

    >>> shape_text((3, 128, 128))
    '3x128x128'
    """
    return "x".join(map(str, shape))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operation on one or more tensors; ``inputs`` names the layers (or ``"input"``) that it reads."""

    name: str
    inputs: tuple[str, ...]

    kind: ClassVar[str] = ""
    operator: ClassVar[str | None] = None
    """Word of ``vocabulary.OPERATORS`` before geometry is known; see ``operator_on``."""
    element_operation: ClassVar[str | None] = None
    in_place: ClassVar[bool] = False
    saves: ClassVar[Saved] = Saved.NOTHING
    many_inputs: ClassVar[bool | None] = False
    """Whether it reads several tensors; None: one or more."""
    forward_only: ClassVar[bool] = False
    """It has no backward pass, and no stage that learns may hold it."""
    ends_unit: ClassVar[bool] = False
    """A cut after a unit stores the tensor before this layer (pooling, flatten, softmax)."""
    passes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "fwd": ("input",),
        "bwd_input": ("output_gradient",),
        "bwd_weight": (),
        "update": (),
    }

    def output_shape(self, *inputs: Shape) -> Shape:
        """Shape of the output; raises ValueError with the rule and the value where there is none."""
        return inputs[0]

    def operator_on(self, *inputs: Shape) -> str | None:
        """Operator that prices this geometry: a 1x1 conv2d is pointwise, one channel per group depthwise."""
        return self.operator

    def weight_params(self, *inputs: Shape) -> int:
        """Weights (scales of a batch norm)."""
        return 0

    def bias_params(self, *inputs: Shape) -> int:
        """Biases (shifts of a batch norm)."""
        return 0

    def macs(self, *inputs: Shape) -> dict[str, int]:
        """Multiply-accumulates of one sample, by pass."""
        return dict.fromkeys(MAC_PASSES, 0)

    def reads(self, pass_: str) -> tuple[str, ...]:
        """Tensors that a pass reads; empty where the layer has no such pass."""
        if pass_ not in PASSES:
            raise ValueError(f"unknown pass {pass_!r}; allowed: {', '.join(PASSES)}")
        return self.passes[pass_]
