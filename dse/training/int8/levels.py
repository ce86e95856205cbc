"""Tensors on a grid on their way through the learning stage, and errors on their way back.

The value of a tensor is a whole number q per element, held in fp32 while kernels work on it. What waits for
the backward pass is q in one byte, counted from the least of the grid's 256 numbers, or at fewer bits, on a
coarser grid over the range that q has. Errors are derivatives
of the loss by real values: the same for q, whatever the grid.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dse.training.keeping import AS_IT_IS, Keeper
from dse.training.quantise import WEIGHT_LIMIT, Grid, nearest
from dse.training.stored_gradients import take


class Levels:
    """A tensor on ``grid``: ``q`` (B, ...) holds whole numbers in fp32."""

    def __init__(self, q: Tensor, grid: Grid) -> None:
        self.q, self.grid = q, grid

    @cached_property
    def code(self) -> Tensor:
        """The same in bytes, uint8, made once for all that save it."""
        return coded(self.q, self.grid)

    def kept(self, channels: Tensor | None, keeper: Keeper = AS_IT_IS) -> tuple[Tensor, ...]:
        """Return what ``keeper`` keeps of some channels, or of all where None; as computed, their bytes."""
        if channels is None:
            return (self.code,) if keeper is AS_IT_IS else keeper.keep(self.q, shared=True)
        return kept_levels(take(self.q.detach(), channels), self.grid, keeper)


def kept_levels(q: Tensor, grid: Grid, keeper: Keeper) -> tuple[Tensor, ...]:
    """Return what ``keeper`` keeps of q on ``grid``; as computed, its bytes."""
    return (coded(q, grid),) if keeper is AS_IT_IS else keeper.keep(q)


def read_levels(kept: tuple[Tensor, ...], grid: Grid, keeper: Keeper, shape: torch.Size) -> Tensor:
    """Return q of ``shape``, in fp32; whole numbers unless it was kept at fewer bits."""
    if keeper is AS_IT_IS:
        return decoded(kept[0], grid)
    return keeper.read(kept, shape, torch.float32)


def coded(q: Tensor, grid: Grid) -> Tensor:
    """Return q as bytes from 0 for the grid's lowest number."""
    return (q.detach() - grid.low).to(torch.uint8)


def decoded(code: Tensor, grid: Grid) -> Tensor:
    """Return q of bytes, in fp32."""
    return code.float().add_(grid.low)


class Narrowed(Function):
    """The identity, whose error is rounded to int8; see ``narrowed``."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, size: int) -> Tensor:
        """Pass a tensor on; ``size`` samples share a scale on the way back."""
        ctx.size = size
        return q.view_as(q)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Round the error."""
        return narrowed(error, ctx.size), None


def narrowed(error: Tensor, size: int) -> Tensor:
    """Round an error (B, ...) to the nearest of 255 multiples of a scale: its largest magnitude / 127.

    Each run of ``size`` samples, a micro-batch, has a scale of its own. Halves are rounded upwards.
    """
    largest = error.abs().amax(tuple(range(1, error.ndim)))
    runs = torch.arange(len(error), device=error.device) // size
    most = largest.new_zeros(int(runs[-1]) + 1).scatter_reduce_(0, runs, largest, "amax")
    scale = torch.where(most > 0, most / WEIGHT_LIMIT, 1.0)[runs].view(-1, *(1,) * (error.ndim - 1))
    return nearest(error / scale).mul_(scale)
