"""What an executor asks of the numbers: the mathematics of each operation, without any memory of its own.

The executor finds operands in the arena, calls these functions, and writes what they return into the buffers
that the schedule plans for it. All arrays are batch first, then the shape of a layer's tensor: (B, C, H, W),
(B, C, L) or (B, F). Functions never write into their arguments, unless they say so, and never return a view
of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dse.plan.operations import Holds

Array = NDArray[Any]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Parts = Mapping[str, Array]
"""The numbers of one layer by part: weight, bias; or gamma, beta, mean, variance."""
Kept = Mapping[tuple[Holds, int], Array]
"""What an operation leaves for a later one, by what it holds and its place; masks are bool, not packed."""


@dataclass(frozen=True)
class Forward:
    """The output of a layer, what it keeps for its backward pass, and statistics that it changed."""

    output: Array
    kept: Kept = field(default_factory=dict)
    statistics: Parts = field(default_factory=dict)
    """Running mean and variance behind this mini-batch, where the layer updates them."""


@dataclass(frozen=True)
class Loss:
    """Summed loss of a micro-batch as a share of the mini-batch's mean, and the error of the logits."""

    value: float
    error: Array


class Arithmetic(Protocol):
    """The operations of one stage (frozen, learning or inference) in one kind of numbers."""

    def dtype(self, holds: Holds, place: int) -> np.dtype[Any]:
        """Type of one number in the buffers of ``holds`` at ``place`` (uint8 where they are packed)."""

    # --- forward ---

    def entered(self, values: FloatArray) -> Array:
        """Turn real values of the tensor that enters the stage into what its first layers read."""

    def real(self, layer: int, values: Array) -> FloatArray:
        """Return the real values of what ``layer`` wrote (-1: of what enters the stage)."""

    def forward(self, layer: int, inputs: Sequence[Array], own: Parts, *, keep: bool) -> Forward:
        """Run ``layer``; with ``keep``, also return what its backward pass may need.

        A kernel that clamps for a later layer in place keeps that layer's mask under that layer's place.
        """

    def saved(self, producer: int, values: Array) -> FloatArray:
        """Return what is saved at fewer bits of what ``producer`` wrote (-1: of what enters the stage).

        What those bits give back goes to ``operand``, and to ``input_errors`` as kept, in fp32.
        """

    # --- backward ---

    def loss(self, logits: Array, labels: IntArray, seen: Sequence[int], samples: int) -> Loss:
        """Softmax and cross-entropy over the classes ``seen`` of a micro-batch, of a batch of ``samples``."""

    def operand(self, layer: int, values: Array) -> Array:
        """Return kept input channels of ``layer``, as its weight gradient reads them."""

    def error_read(self, root: int, held: Array) -> Array:
        """Return the error of tensor ``root``, as its buffer holds it, as kernels read it."""

    def error_written(self, root: int, held: Array | None, added: Array) -> Array:
        """Return what the buffer of the error of ``root`` holds once ``added`` joined what it held."""

    def input_errors(self, layer: int, error: Array, own: Parts, kept: Kept) -> tuple[Array, ...]:
        """Return the error of each input of ``layer``, in their order, from that of its output."""

    def weight_gradient(self, layer: int, error: Array, operand: Array, channels: IntArray | None) -> Array:
        """Return the gradient of the weights that read ``channels`` of the input, all where None.

        ``operand`` (B, chosen channels, ...). All: in the shape of the weights. Else (chosen channels, output
        channels per group, kernel elements).
        """

    def affine_gradient(self, layer: int, error: Array, own: Parts, kept: Kept) -> dict[str, Array]:
        """Return the gradients of bias, or of gamma and beta, of ``layer``."""

    # --- update ---

    def accumulated(self, key: str, held: Array | None, gradient: Array) -> Array:
        """Return what a gradient's buffer holds once ``gradient`` of a micro-batch joined what it held."""

    def update(self, key: str, values: Array, gradient: Array, state: Sequence[Array]) -> Array:
        """Return the learning numbers of ``key`` (``<layer>.<part>``) after one step of the optimiser.

        ``gradient`` as its buffer holds it (or as it was computed, where none does). ``state`` are the words
        of optimiser state, each in the shape of ``values``: written in place.
        """
