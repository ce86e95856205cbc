"""Layers that slide a window over positions, and the checks of the numbers that describe a layer.

Every refusal is a ValueError that states the rule and the value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self, TypeVar

from dse.workload.base import Layer, Pad, Padding, Shape, shape_text

T = TypeVar("T")
Pair = tuple[int, int]

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


def both_ends(pad: Pad) -> tuple[int, int]:
    """Return the positions that a padding adds before and behind an axis.

    >>> both_ends(1), both_ends((2, 0))
    ((1, 1), (2, 0))
    """
    return (pad, pad) if isinstance(pad, int) else pad


@dataclass(frozen=True)
class Axis:
    """A window along one axis: the one place that knows which positions of the input its taps meet.

    ``size`` [positions] is that of the input; of ``kernel`` taps, each stands ``dilation`` behind the one
    before; windows begin ``stride`` apart, the first ``before`` positions in front of the input.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def extent(self) -> int:
        """Positions from the first tap to the last, both included: (kernel - 1) dilation + 1."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def padded(self) -> int:
        """Positions of the input with its padding."""
        return self.before + self.size + self.after

    @property
    def positions(self) -> int:
        """Output positions."""
        return (self.padded - self.extent) // self.stride + 1

    @property
    def holds_data(self) -> bool:
        """Whether every window, its taps side by side, meets a position of the input."""
        last = (self.positions - 1) * self.stride - self.before
        return self.before < self.extent and last < self.size

    def touched(self, first: int, end: int) -> tuple[int, int]:
        """Return the stretch [start, stop) of the input that the taps of outputs [first, end) meet.

        From the first such position to the last, whatever dilation leaves out in between; (0, 0) where all
        taps lie in the padding.
        """
        start, stop = self.size, 0
        for tap in range(self.kernel):
            offset = tap * self.dilation - self.before
            low = max(first, -(offset // self.stride))  # the outputs whose tap lies inside
            high = min(end - 1, (self.size - 1 - offset) // self.stride)
            if low <= high:
                start = min(start, low * self.stride + offset)
                stop = max(stop, high * self.stride + offset + 1)
        return (start, stop) if start < stop else (0, 0)


ALONE: Final = Axis(size=1, kernel=1, stride=1, dilation=1, before=0, after=0)
"""An axis of one position: the height of a series."""


@dataclass(frozen=True, kw_only=True)
class Sliding(Layer):
    """A window of ``kernel`` sizes, one per axis; pools take a single size for all axes.

    ``padding`` is ``"same"``, or per axis a number for both ends or (before, after); a pair of equal ends is
    kept as the number.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: Padding = "same"

    rank: ClassVar[int | None] = None
    """Number of axes; None where the input decides."""

    def __post_init__(self) -> None:
        if not self.stride:
            object.__setattr__(self, "stride", self.default_stride())
        self._check("kernel", self.kernel)
        self._check("stride", self.stride)
        if self.padding != "same":
            self._check("padding", self.padding, least=0)
            object.__setattr__(self, "padding", tuple(_alike(pad) for pad in self.padding))

    def _check(self, what: str, sizes: tuple[Pad, ...], least: int = 1) -> None:
        if not sizes or (self.rank is not None and len(sizes) != self.rank):
            raise ValueError(f"{what} needs {self.rank or 'one or two'} sizes, found {list(sizes)}")
        for size in sizes:
            pair = (size,) if isinstance(size, int) else tuple(size)
            if len(pair) > 2 or not pair:
                raise ValueError(f"{what} needs a number or (before, after) for each axis, found {size}")
            if min(pair) < least:
                raise ValueError(f"{what} must be at least {least}, found {min(pair)}")

    def default_stride(self) -> tuple[int, ...]:
        """Stride where none is given."""
        return (1,) * len(self.kernel)

    def positions(self, shape: Shape) -> tuple[int, ...]:
        """Output positions of the window over ``shape`` = (C, positions...).

        ``"same"`` gives ceil(size / stride) on each axis, as TensorFlow does; numbers of padding give
        floor((before + size + after - extent) / stride) + 1, where a kernel of k taps has the extent
        (k - 1) dilation + 1. Raises ValueError where the window does not fit.
        """
        axes = self.axes(shape)
        for axis in axes:
            if axis.extent > axis.padded:
                apart = "" if axis.dilation == 1 else f" and dilation {axis.dilation}, {axis.extent} wide,"
                found = f"a kernel of {axis.kernel}{apart}"
                raise ValueError(f"{found} is larger than the padded input of {axis.padded}")
        return tuple(axis.positions for axis in axes)

    def axes(self, shape: Shape) -> tuple[Axis, ...]:
        """Return the window along each axis of an input of ``shape`` = (C, positions...)."""
        require_positions(self.kind, shape, self.rank)
        kernel, stride, dilation = (self._spread(each, shape) for each in self._numbers())
        numbers = zip(shape[1:], kernel, stride, dilation, strict=True)
        found = [Axis(*values, before=0, after=0) for values in numbers]
        if self.padding == "same":
            pads = [same_padding(axis.size, axis.extent, axis.stride) for axis in found]
        else:
            pads = [both_ends(pad) for pad in self._spread(self.padding, shape)]
        return tuple(
            replace(axis, before=pad[0], after=pad[1]) for axis, pad in zip(found, pads, strict=True)
        )

    def _numbers(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Kernel, stride and dilation."""
        return self.kernel, self.stride, (1,) * len(self.kernel)

    def _spread(self, sizes: tuple[T, ...], shape: Shape) -> tuple[T, ...]:
        rank = len(shape) - 1
        if len(sizes) not in (1, rank):
            raise ValueError(f"{self.kind} has {len(sizes)} axes, found an input of {shape_text(shape)}")
        return sizes * rank if len(sizes) == 1 else sizes


@dataclass(frozen=True, kw_only=True)
class Dilated(Sliding):
    """A window whose taps stand ``dilation`` apart, one number per axis; side by side unless given."""

    dilation: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dilation:
            object.__setattr__(self, "dilation", (1,) * len(self.kernel))
        self._check("dilation", self.dilation)

    def _numbers(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return self.kernel, self.stride, self.dilation


@dataclass(frozen=True)
class Plane:
    """A window over (height, width), by its axes; a series is an image of height 1."""

    rows: Axis
    columns: Axis
    same: bool
    """Whether it is padded by ``"same"``."""

    @classmethod
    def of(cls, layer: Layer, shape: Shape) -> Self:
        """Return the window of ``layer`` over one input of ``shape``; one position where it slides none."""
        if isinstance(layer, Sliding):
            axes = layer.axes(shape)
        else:
            axes = tuple(replace(ALONE, size=size) for size in shape[1:] or (1,))
        rows, columns = axes if len(axes) == 2 else (ALONE, *axes)
        return cls(rows, columns, isinstance(layer, Sliding) and layer.padding == "same")

    @property
    def size(self) -> Pair:
        """Positions of the input."""
        return self.rows.size, self.columns.size

    @property
    def kernel(self) -> Pair:
        """Taps."""
        return self.rows.kernel, self.columns.kernel

    @property
    def stride(self) -> Pair:
        """Positions from one window to the next."""
        return self.rows.stride, self.columns.stride

    @property
    def dilation(self) -> Pair:
        """Positions from one tap to the next."""
        return self.rows.dilation, self.columns.dilation

    @property
    def before(self) -> Pair:
        """Padding in front."""
        return self.rows.before, self.columns.before

    @property
    def after(self) -> Pair:
        """Padding behind."""
        return self.rows.after, self.columns.after

    @property
    def positions(self) -> Pair:
        """Output positions."""
        return self.rows.positions, self.columns.positions


def _alike(pad: Pad) -> Pad:
    """One number where both ends are padded alike, else the pair."""
    before, after = both_ends(pad)
    return before if before == after else (before, after)
