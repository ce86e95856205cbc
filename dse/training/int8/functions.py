"""Autograd functions in integers: they save what ``dse.plan.schedule`` plans for int8, and nothing else.

Forward: whole numbers, as ``dse.training.integer`` has them, bit for bit. Backward: errors by real values
in fp32, straight through every rounding, zero where a clamp cut: at a rectifier, or at an end of the grid of
a unit or an addition. Concatenations, averages and looked-up functions keep no mask: they pass errors on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dse.training.int8.levels import Levels, kept_levels, read_levels
from dse.training.keeping import Keeper
from dse.training.operators import Operation
from dse.training.quantise import Grid, nearest
from dse.training.saved import pack_mask, unpack_mask
from dse.training.stored_gradients import Gradients, chosen, rows

Limits = tuple[int, int]
Back = Callable[[Tensor, list[torch.Size]], Iterable[Tensor]]


class Kernel(Protocol):
    """One layer with weights, as ``Weighted`` runs it."""

    real: Tensor
    """Real weights, for the error of the input."""
    limits: Limits | None
    """Least and largest q of the output; None for logits, which stay as they are."""
    source: Grid
    channels: Tensor | None
    """Input channels whose weights learn; None: all."""
    gradients: Gradients
    keeper: Keeper
    """In which width the input waits for the weight gradient."""

    def unrounded(self, q: Tensor) -> Tensor:
        """Return sums and bias, in steps of the output's grid (real values for logits), fp64."""


class Weighted(Function):
    """A convolution or linear layer: saves the learning channels of its input, and its clamp's mask."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, weight: Tensor, bias: Tensor | None, levels: Levels, kernel: Kernel
    ) -> Tensor:
        """Run ``kernel`` on ``q``, that of ``levels``; weight and bias say what learns."""
        kept = levels.kept(kernel.channels, kernel.keeper) if ctx.needs_input_grad[1] else ()
        found = kernel.unrounded(q)
        result, mask = (found.float(), None) if kernel.limits is None else clamped(
            found, kernel.limits, masked=any(ctx.needs_input_grad)
        )  # fmt: skip
        ctx.save_for_backward(mask, *kept)
        ctx.kernel, ctx.shape = kernel, q.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Give what is asked for: the error of the input, the gradients of real weights and biases."""
        mask, *kept = ctx.saved_tensors
        kernel, (for_q, for_weight, for_bias) = ctx.kernel, ctx.needs_input_grad[:3]
        error = cut(error, mask)
        weight = None
        if for_weight:
            q = read_levels(kept, kernel.source, kernel.keeper, chosen(ctx.shape, kernel.channels))
            weight = kernel.gradients.of_weight(error, q, kernel.real, kernel.channels)
            weight = weight.mul_(kernel.source.scale)
        return (
            kernel.gradients.of_input(error, kernel.real, ctx.shape) if for_q else None,
            weight,
            rows(error).sum(0) if for_bias else None,
            *(None,) * 2,
        )


class Rounded(Function):
    """An operation without weights: saves its clamp's mask, or nothing."""

    @staticmethod
    def forward(
        ctx: Any, unrounded: Operation, back: Back, limits: Limits, masked: bool, *inputs: Tensor
    ) -> Tensor:
        """Run ``unrounded``; ``back`` turns the error of the result into one per input, of their shapes."""
        result, mask = clamped(unrounded(*inputs), limits, masked=masked and any(ctx.needs_input_grad))
        ctx.save_for_backward(mask)
        ctx.back, ctx.shapes = back, [each.shape for each in inputs]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the error on."""
        return (*(None,) * 4, *ctx.back(cut(error, ctx.saved_tensors[0]), ctx.shapes))


class LookedUp(Function):
    """A function of single values, such as hard swish: saves its input by ``keeper``, in bytes of its own."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, unrounded: Operation, back: Operation, limits: Limits, grid: Grid, keeper: Keeper
    ) -> Tensor:
        """Run ``unrounded`` on ``q`` on ``grid``; ``back`` takes an error and the real input."""
        ctx.save_for_backward(*(kept_levels(q, grid, keeper) if ctx.needs_input_grad[0] else ()))
        ctx.back, ctx.grid, ctx.keeper, ctx.shape = back, grid, keeper, q.shape
        return clamped(unrounded(q), limits, masked=False)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply by the slope at the input."""
        q = read_levels(ctx.saved_tensors, ctx.grid, ctx.keeper, ctx.shape)
        return ctx.back(error, ctx.grid.values(q)), *(None,) * 5


def clamped(found: Tensor, limits: Limits, *, masked: bool) -> tuple[Tensor, Tensor | None]:
    """Round fp64 values to whole numbers within ``limits``; the mask, packed, of what was not cut."""
    whole = nearest(found).float()
    result = whole.clamp(*limits)
    return result, pack_mask(result == whole) if masked else None


def cut(error: Tensor, mask: Tensor | None) -> Tensor:
    """Let an error pass where a packed mask says so; None lets all of it. Channels come innermost."""
    if error.ndim == 4:
        error = error.contiguous(memory_format=torch.channels_last)
    if mask is None:
        return error
    return error * unpack_mask(mask, error.shape).view(torch.uint8)  # thrice as fast as by bool
