"""Autograd functions that save what ``dse.plan.schedule`` plans, and nothing else.

All that a backward pass needs goes through ``save_for_backward``, so that ``saved.observe_saved`` counts it;
weights and running statistics go there too, which exist anyway.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dse.training.geometry import Window
from dse.training.keeping import Keeper
from dse.training.operators import MOMENTUM, Operation
from dse.training.parameters import EPSILON
from dse.training.saved import pack_mask, unpack_mask
from dse.training.stored_gradients import Gradients, chosen, rows, take, unread_like


class Weighted(Function):
    """A layer with weights: saves its input whole, its learning channels, or nothing of it; by ``keeper``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        plain: Operation,
        gradients: Gradients,
        channels: Tensor | None,
        keeper: Keeper,
    ) -> Tensor:
        """Run ``plain``, which reads the same weight and bias."""
        kept: tuple[Tensor, ...] = ()
        if ctx.needs_input_grad[1]:
            kept = keeper.keep(x, shared=True) if channels is None else keeper.keep(take(x, channels))
        ctx.save_for_backward(weight, *kept)
        ctx.gradients, ctx.channels, ctx.shape, ctx.keeper = gradients, channels, x.shape, keeper
        return plain(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients that are asked for: of the input, the weights, the bias."""
        weight, *kept = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        if error.ndim == 4:
            error = error.contiguous(memory_format=torch.channels_last)
        of_weight = None
        if for_weight:
            x = ctx.keeper.read(kept, chosen(ctx.shape, ctx.channels), error.dtype)
            of_weight = ctx.gradients.of_weight(error, x, weight, ctx.channels)
        return (
            ctx.gradients.of_input(error, weight, ctx.shape) if for_x else None,
            of_weight,
            rows(error).sum(0) if for_bias else None,
            *(None,) * 4,
        )


class Masked(Function):
    """ReLU and ReLU6: saves one bit per element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plain: Operation, limit: float | None) -> Tensor:
        """Run ``plain``; errors pass where 0 < x < ``limit``."""
        result = plain(x)
        ctx.save_for_backward(pack_mask(_between(result, limit)))
        ctx.shape = x.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Let the error through where the mask says so."""
        (mask,) = ctx.saved_tensors
        return unpack_mask(mask, ctx.shape).to(error.dtype).mul_(error), None, None


class Normed(Function):
    """Batch norm: saves its input where scale and shift learn, with batch statistics whenever errors pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, by_batch: bool,
        keeper: Keeper,
    ) -> Tensor:  # fmt: skip
        """Normalise; by the batch, the running ``mean`` and ``variance`` follow it.

        The batch's own statistics are kept as computed, whatever the width of the input.
        """
        result, centre, inverse = torch.native_batch_norm(
            x, gamma, beta, mean, variance, by_batch, MOMENTUM, EPSILON
        )
        kept = keeper.keep(x) if by_batch or ctx.needs_input_grad[1] else ()
        if by_batch:
            ctx.save_for_backward(gamma, centre, inverse, None, None, *kept)
        else:
            ctx.save_for_backward(gamma, None, None, mean, variance, *kept)
        ctx.by_batch, ctx.keeper = by_batch, keeper
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients that are asked for: of the input, the scale, the shift."""
        gamma, centre, inverse, mean, variance, *kept = ctx.saved_tensors
        mask = ctx.needs_input_grad[:3]
        # Without a gradient of the scale, running statistics leave the input unread.
        x = ctx.keeper.read(kept, error.shape, error.dtype) if kept else error
        found = torch.ops.aten.native_batch_norm_backward(
            error, x, gamma, mean, variance, centre, inverse, ctx.by_batch, EPSILON, mask
        )
        return (*(part if asked else None for part, asked in zip(found, mask, strict=True)), *(None,) * 4)


class Swished(Function):
    """Hard swish: saves its input by ``keeper``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keeper: Keeper) -> Tensor:
        """Return the hard swish of ``x``."""
        ctx.save_for_backward(*keeper.keep(x))
        ctx.keeper, ctx.shape = keeper, x.shape
        return F.hardswish(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply by the slope at the input."""
        x = ctx.keeper.read(ctx.saved_tensors, ctx.shape, error.dtype)
        return torch.ops.aten.hardswish_backward(error, x), None


class LargestOf(Function):
    """Max pooling: saves the place of each winner within its window, one byte."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window) -> Tensor:
        """Pool (B, C, H, W); padding never wins."""
        if any(window.sides):
            x = F.pad(x, window.sides, value=-torch.inf)
        result, places = F.max_pool2d(x, window.kernel, window.stride, return_indices=True)
        starts = _window_starts(window, x.shape[3], places.device)
        row, column = (places - starts) // x.shape[3], (places - starts) % x.shape[3]
        ctx.save_for_backward((row * window.kernel[1] + column).to(torch.uint8))
        ctx.window, ctx.padded = window, x.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Give each error to the winner of its window."""
        (within,) = ctx.saved_tensors
        window, padded = ctx.window, ctx.padded
        within = within.to(torch.int64)
        places = within // window.kernel[1] * padded[3] + within % window.kernel[1]
        places += _window_starts(window, padded[3], places.device)
        found = torch.ops.aten.max_pool2d_with_indices_backward(
            error, unread_like(error, padded), window.kernel, window.stride, (0, 0), (1, 1), False, places
        )
        return _inner(found, window), None


class Averaged(Function):
    """Average pooling: saves nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plain: Operation, count: Tensor, window: Window) -> Tensor:
        """Run ``plain``, an average that divides the sum over each window by ``count``."""
        left, right, top, bottom = window.sides
        ctx.count, ctx.window = count, window
        ctx.padded = (*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right)
        return plain(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        """Share each error out over its window."""
        shares, window = error / ctx.count.to(error), ctx.window
        found = torch.ops.aten.avg_pool2d_backward(
            shares, unread_like(error, ctx.padded), window.kernel, window.stride, (0, 0), False, False, 1
        )
        return _inner(found, window), None, None, None


def _between(x: Tensor, limit: float | None) -> Tensor:
    """Return where 0 < x < ``limit``; on the processor by NumPy, which takes a fifth of the time."""
    if not x.is_cpu:
        return (x > 0) if limit is None else (x > 0) & (x < limit)
    values = x.numpy()
    return torch.from_numpy(values > 0 if limit is None else (values > 0) & (values < limit))


def _window_starts(window: Window, width: int, place: torch.device) -> Tensor:
    """Flat index of each window's first element in a padded image ``width`` wide: (rows, columns)."""
    first, second = (
        torch.arange(count, device=place) * step
        for count, step in zip(window.positions, window.stride, strict=True)
    )
    return first.view(-1, 1) * width + second


def _inner(x: Tensor, window: Window) -> Tensor:
    """Cut the padding off again."""
    return x[:, :, window.before[0] :, window.before[1] :][:, :, : window.size[0], : window.size[1]]
