"""Layers that slide a window over positions, and the checks of the numbers that describe a layer.

Every refusal is a ValueError that states the rule and the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from dse.workload.base import Layer, Padding, Shape, shape_text

_AXES: Final = {1: "(C, L)", 2: "(C, H, W)"}


def require_positive(**values: int) -> None:
    """Refuse numbers below 1."""
    for what, value in values.items():
        if value < 1:
            raise ValueError(f"{what} must be at least 1, found {value}")


def require_vector(kind: str, shape: Shape) -> None:
    """Refuse tensors that still have positions."""
    if len(shape) != 1:
        raise ValueError(f"{kind} reads a vector, found {shape_text(shape)}; pool or flatten it first")


def require_positions(kind: str, shape: Shape, rank: int | None) -> None:
    """Refuse tensors without positions, or with another number of axes than ``rank``."""
    if len(shape) - 1 not in (_AXES if rank is None else (rank,)):
        wanted = " or ".join(_AXES.values()) if rank is None else _AXES[rank]
        raise ValueError(f"{kind} reads {wanted}, found {shape_text(shape)}")


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the positions that ``"same"`` pads before and behind an axis of ``size``; the odd one behind.

    >>> same_padding(8, 3, 2), same_padding(8, 3, 1)
    ((0, 1), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True, kw_only=True)
class Sliding(Layer):
    """A window of ``kernel`` sizes, one per axis; pools take a single size for all axes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: Padding = "same"

    rank: ClassVar[int | None] = None
    """Number of axes; None where the input decides."""

    def __post_init__(self) -> None:
        if not self.stride:
            object.__setattr__(self, "stride", self.default_stride())
        padding = {} if self.padding == "same" else {"padding": self.padding}
        for what, sizes in ({"kernel": self.kernel, "stride": self.stride} | padding).items():
            if not sizes or (self.rank is not None and len(sizes) != self.rank):
                raise ValueError(f"{what} needs {self.rank or 'one or two'} sizes, found {list(sizes)}")
            least = 0 if what == "padding" else 1
            if min(sizes) < least:
                raise ValueError(f"{what} must be at least {least}, found {min(sizes)}")

    def default_stride(self) -> tuple[int, ...]:
        """Stride where none is given."""
        return (1,) * len(self.kernel)

    def positions(self, shape: Shape) -> tuple[int, ...]:
        """Output positions of the window over ``shape`` = (C, positions...).

        ``"same"`` gives ceil(size / stride) on each axis, as TensorFlow does; numbers p pad both ends alike:
        floor((size + 2 p - k) / stride) + 1. Raises ValueError where the window does not fit.
        """
        require_positions(self.kind, shape, self.rank)
        window, step = self._spread(self.kernel, shape), self._spread(self.stride, shape)
        if self.padding == "same":
            return tuple(-(-size // by) for size, by in zip(shape[1:], step, strict=True))
        pads = self._spread(self.padding, shape)
        padded = [size + 2 * pad for size, pad in zip(shape[1:], pads, strict=True)]
        for size, width in zip(padded, window, strict=True):
            if width > size:
                raise ValueError(f"a kernel of {width} is larger than the padded input of {size}")
        return tuple((size - width) // by + 1 for size, width, by in zip(padded, window, step, strict=True))

    def _spread(self, sizes: tuple[int, ...], shape: Shape) -> tuple[int, ...]:
        rank = len(shape) - 1
        if len(sizes) not in (1, rank):
            raise ValueError(f"{self.kind} has {len(sizes)} axes, found an input of {shape_text(shape)}")
        return sizes * rank if len(sizes) == 1 else sizes
