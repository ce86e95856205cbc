"""Gradients of layers with weights, from what was saved: the whole input, some of its channels, or nothing.

An input gradient needs the weights and the shape of the input alone. A weight gradient of chosen input
channels needs those channels alone; it is zero for all others.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dse.training.geometry import Window


class Gradients(Protocol):
    """How one layer with weights passes errors on."""

    def of_input(self, error: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """Error of the output -> error of the input, of ``shape``."""

    def of_weight(self, error: Tensor, kept: Tensor, weight: Tensor, channels: Tensor | None) -> Tensor:
        """Error of the output and the input's ``channels`` (None: all) -> gradient, in the weight's shape."""


def rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C), without a copy where channels are innermost; vectors stay."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) if x.ndim == 4 else x


def take(x: Tensor, channels: Tensor) -> Tensor:
    """Copy some channels of (B, C, H, W) or (B, F), channels innermost in memory."""
    if x.ndim == 2:
        return x.index_select(1, channels)
    return x.permute(0, 2, 3, 1).index_select(3, channels).permute(0, 3, 1, 2)


def chosen(shape: torch.Size, channels: Tensor | None) -> torch.Size:
    """Return the shape of what ``take`` copies of a tensor of ``shape``; all of it where None."""
    return shape if channels is None else torch.Size((shape[0], len(channels), *shape[2:]))


def spread(part: Tensor, weight: Tensor, channels: Tensor, groups: int) -> Tensor:
    """Put gradients of chosen input channels into one of the weight's shape, zero elsewhere.

    ``part`` is (out, channels, ...), or with groups (channels x out per group, 1, ...).
    """
    whole = torch.zeros_like(weight)
    if groups == 1:
        whole[:, channels] = part
        return whole
    out, inside = weight.shape[0] // groups, weight.shape[1]
    by_group = whole.view(groups, out, *weight.shape[1:])
    by_group[channels // inside, :, channels % inside] = part.view(len(channels), out, *weight.shape[2:])
    return whole


def unread_like(error: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return memory of ``shape`` that nobody fills, for kernels that read no more of it than its shape."""
    return torch.empty(shape, dtype=error.dtype, device=error.device, memory_format=torch.channels_last)


class MatrixGradients:
    """Linear layers and 1x1 convolutions, as matrix products over all positions."""

    def of_input(self, error: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """See ``Gradients``."""
        found = rows(error) @ weight.flatten(1)
        if len(shape) == 2:
            return found
        return found.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)

    def of_weight(self, error: Tensor, kept: Tensor, weight: Tensor, channels: Tensor | None) -> Tensor:
        """See ``Gradients``."""
        found = rows(error).t() @ rows(kept)
        found = found.view(*found.shape, *weight.shape[2:])
        return found if channels is None else spread(found, weight, channels, 1)


class WindowGradients:
    """Convolutions with windows, of any number of groups."""

    def __init__(self, window: Window, groups: int) -> None:
        self.window, self.groups = window, groups
        self._padding = window.before if window.symmetric else (0, 0)

    def of_input(self, error: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """See ``Gradients``."""
        left, right, top, bottom = (0,) * 4 if self.window.symmetric else self.window.sides
        padded = (*shape[:2], shape[2] + top + bottom, shape[3] + left + right)
        unread = unread_like(error, padded)
        found = self._backward(error, unread, weight, self.groups, of_input=True)
        return found[:, :, top : top + shape[2], left : left + shape[3]]

    def of_weight(self, error: Tensor, kept: Tensor, weight: Tensor, channels: Tensor | None) -> Tensor:
        """See ``Gradients``."""
        if not self.window.symmetric:
            kept = F.pad(kept, self.window.sides)
        if channels is None:
            return self._backward(error, kept, weight, self.groups, of_input=False)
        if self.groups == 1:
            unread = weight.new_empty(weight.shape[0], len(channels), *weight.shape[2:])
            found = self._backward(error, kept, unread, 1, of_input=False)
        else:
            out = weight.shape[0] // self.groups
            own = (channels // weight.shape[1] * out).view(-1, 1) + torch.arange(out, device=error.device)
            unread = weight.new_empty(own.numel(), 1, *weight.shape[2:])
            found = self._backward(take(error, own.flatten()), kept, unread, len(channels), of_input=False)
        return spread(found, weight, channels, self.groups)

    def _backward(self, error: Tensor, x: Tensor, weight: Tensor, groups: int, *, of_input: bool) -> Tensor:
        """Call PyTorch's own kernel for one of the two gradients."""
        mask = [of_input, not of_input, False]
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            error, x, weight, None, self.window.stride, self._padding, self.window.dilation, False, (0, 0),
            groups, mask,
        )  # fmt: skip
        return found[0] if of_input else found[1]


class LinkGradients:
    """Depthwise convolutions over few positions, as ``dse.training.depthwise`` runs them."""

    def __init__(self, links: Tensor, positions: int) -> None:
        self.links, self.positions = links, positions  # (outputs x inputs, kernel elements); outputs

    def of_input(self, error: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """See ``Gradients``."""
        matrices = (self.links @ weight.flatten(1).t()).view(self.positions, -1, shape[1])
        found = (self._inside(error).unsqueeze(2) * matrices).sum(1)  # (B, outputs, inputs, C)
        return found.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)

    def of_weight(self, error: Tensor, kept: Tensor, weight: Tensor, channels: Tensor | None) -> Tensor:
        """See ``Gradients``."""
        error = error if channels is None else take(error, channels)
        matrices = (self._inside(error).unsqueeze(2) * self._inside(kept).unsqueeze(1)).sum(0)
        found = (self.links.t() @ matrices.flatten(0, 1)).t().reshape(-1, *weight.shape[1:])
        return found if channels is None else spread(found, weight, channels, weight.shape[0])

    def _inside(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H W, C)."""
        return x.permute(0, 2, 3, 1).flatten(1, 2)
