"""Shapes that operators give, from shapes and numbers alone; what breaks a rule raises Refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from dse.workload.base import Shape, shape_text
from dse.workload.model.limits import MOST_AXES, MOST_ELEMENTS
from dse.workload.onnx.operations import front
from dse.workload.onnx.tensors import Refused

SAME: Final = ("SAME_UPPER", "SAME_LOWER")
Pads = tuple[tuple[int, int], ...]


def checked(shape: Sequence[int]) -> Shape:
    """Return a shape that a tensor may have: positive sizes within the limits."""
    if len(shape) > MOST_AXES:
        raise Refused(f"{len(shape)} axes, at most {MOST_AXES} are read")
    if min(shape, default=1) < 1:
        raise Refused(f"it would give {list(shape)}")
    if prod(shape) > MOST_ELEMENTS:
        raise Refused(f"{list(shape)} has more than {MOST_ELEMENTS} elements")
    return tuple(shape)


def broadcast(*shapes: Shape) -> Shape:
    """Return the common shape of tensors whose axes of one stretch.

    >>> broadcast((8, 1, 4), (3, 1))
    (8, 3, 4)
    """
    rank = max(map(len, shapes), default=0)
    wide = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    merged = []
    for sizes in zip(*wide, strict=True):
        others = {size for size in sizes if size != 1}
        if len(others) > 1:
            raise Refused(
                f"{' and '.join(shape_text(shape) or 'a number' for shape in shapes)} do not go together"
            )
        merged.append(others.pop() if others else 1)
    return tuple(merged)


def reshaped(shape: Shape, target: Sequence[int], zero_is_zero: bool = False) -> Shape:
    """Return the shape after a reshape: 0 keeps an axis, one -1 takes what is left."""
    if len(target) > MOST_AXES or sum(size == -1 for size in target) > 1 or min(target, default=0) < -1:
        raise Refused(f"it reshapes to {list(target)[:MOST_AXES]}")
    sizes = list(target)
    for axis, size in enumerate(sizes):
        if size == 0 and not zero_is_zero:
            if axis >= len(shape):
                raise Refused(f"it keeps axis {axis} of {shape_text(shape)}")
            sizes[axis] = shape[axis]
    if -1 in sizes:
        rest = -prod(sizes)
        if rest <= 0 or prod(shape) % rest:
            raise Refused(f"{shape_text(shape)} does not reshape to {list(target)}")
        sizes[sizes.index(-1)] = prod(shape) // rest
    if prod(sizes) != prod(shape):
        raise Refused(f"{shape_text(shape)} does not reshape to {list(target)}")
    return tuple(sizes)


def squeezed(shape: Shape, axes: Sequence[int] | None) -> Shape:
    """Return the shape without axes of one: the given ones, or all."""
    if axes is None:
        return tuple(size for size in shape if size != 1)
    gone = {front(axis, len(shape)) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        raise Refused(f"it squeezes axes {sorted(gone)} of {shape_text(shape)}")
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def unsqueezed(shape: Shape, axes: Sequence[int]) -> Shape:
    """Return the shape with new axes of one at the given places of the result."""
    rank = len(shape) + len(axes)
    if rank > MOST_AXES:
        raise Refused(f"{rank} axes, at most {MOST_AXES} are read")
    new = {front(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise Refused(f"it makes axes {list(axes)} twice")
    rest = iter(shape)
    return tuple(1 if axis in new else next(rest) for axis in range(rank))


def permuted(shape: Shape, permutation: Sequence[int]) -> Shape:
    """Return the shape after a transpose."""
    if sorted(permutation) != list(range(len(shape))):
        raise Refused(f"permutation {list(permutation)} of {shape_text(shape)}")
    return tuple(shape[axis] for axis in permutation)


def reduced(shape: Shape, axes: Sequence[int], keep: bool) -> Shape:
    """Return the shape after a reduction; reduced axes stay as one, or go."""
    gone = {front(axis, len(shape)) for axis in axes}
    sizes = [(1 if axis in gone else size) for axis, size in enumerate(shape) if keep or axis not in gone]
    return tuple(sizes)


def sliced(shape: Shape, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None,
           steps: Sequence[int] | None) -> tuple[slice, ...]:  # fmt: skip
    """Return the slice of each axis; numbers beyond the ends mean the ends."""
    axes = range(len(starts)) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Refused("starts, ends, axes and steps do not go together")
    found = [slice(0, size, 1) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = front(axis, len(shape))
        found[place] = slice(*slice(start, end, step).indices(shape[place]))
    return tuple(found)


def slice_sizes(slices: Sequence[slice]) -> Shape:
    """Return how many elements each slice takes.

    >>> slice_sizes((slice(0, 5, 2), slice(3, -1, -1)))
    (3, 4)
    """
    return tuple(len(range(part.start, part.stop, part.step)) for part in slices)


def multiplied(left: Shape, right: Shape) -> Shape:
    """Return the shape of a matrix product: the last two axes multiply, those before stretch."""
    if not left or not right:
        raise Refused("a matrix product of a single number")
    rows, columns = left if len(left) > 1 else (1, *left), right if len(right) > 1 else (*right, 1)
    if rows[-1] != columns[-2]:
        raise Refused(f"{shape_text(left)} times {shape_text(right)}")
    outer = broadcast(rows[:-2], columns[:-2])
    return (*outer, *rows[-2:-1][: len(left) > 1], *columns[-1:][: len(right) > 1])


# --- windows ---


@dataclass(frozen=True)
class Window:
    """A window along the position axes: all sizes in the order of the axes."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    pads: Pads
    positions: Shape


def window(
    sizes: Shape, kernel: Shape, stride: Shape, dilation: Shape, pads: Sequence[int], auto_pad: str,
    round_up: bool = False,
) -> Window:  # fmt: skip
    """Return the window with its padding resolved, and its output positions.

    ``pads`` holds all ends before, then all ends after. With ``round_up`` a last window that begins inside
    the input (or its padding before) counts, and the padding behind grows to hold it.
    """
    rank = len(sizes)
    for what, values in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if len(values) != rank or min(values, default=1) < 1:
            raise Refused(f"{what} {list(values)} over {rank} axes")
    extents = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    ends = _ends(sizes, extents, stride, pads, auto_pad)
    found = [
        _axis(*axis, round_up and auto_pad not in SAME)
        for axis in zip(sizes, extents, stride, ends, strict=True)
    ]
    return Window(
        kernel, stride, dilation, tuple(pad for pad, _ in found), tuple(count for _, count in found)
    )


def _ends(sizes: Shape, extents: Shape, stride: Shape, pads: Sequence[int], auto_pad: str) -> Pads:
    rank = len(sizes)
    if auto_pad in SAME:
        lower = auto_pad == "SAME_LOWER"
        return tuple(_same(*axis, lower) for axis in zip(sizes, extents, stride, strict=True))
    if auto_pad == "VALID":
        return ((0, 0),) * rank
    if auto_pad not in ("NOTSET", "") or len(pads) != 2 * rank or min(pads, default=0) < 0:
        raise Refused(f"padding {auto_pad} {list(pads)} over {rank} axes")
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def _same(size: int, extent: int, stride: int, lower: bool) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    small = total // 2
    return (total - small, small) if lower else (small, total - small)


def _axis(
    size: int, extent: int, stride: int, pad: tuple[int, int], round_up: bool
) -> tuple[tuple[int, int], int]:
    before, after = pad
    room = before + size + after - extent
    if room < 0:
        raise Refused(f"a window of {extent} is larger than the padded input of {room + extent}")
    count = room // stride + 1
    if round_up and room % stride and count * stride < size + before:
        after, count = count * stride + extent - size - before, count + 1
    return (before, after), count


def transposed_window(
    sizes: Shape, kernel: Shape, stride: Shape, dilation: Shape, pads: Sequence[int], extra: Shape,
    auto_pad: str, output: Sequence[int] | None,
) -> Window:  # fmt: skip
    """Return the window of a transposed convolution: stride (in - 1) + extra + extent - pads positions."""
    rank = len(sizes)
    given = (
        ("kernel", kernel, 1),
        ("stride", stride, 1),
        ("dilation", dilation, 1),
        ("output padding", extra, 0),
    )
    for what, values, least in given:
        if len(values) != rank or min(values, default=least) < least:
            raise Refused(f"{what} {list(values)} over {rank} axes")
    full = tuple(
        s * (size - 1) + e + (k - 1) * d + 1
        for size, k, s, d, e in zip(sizes, kernel, stride, dilation, extra, strict=True)
    )
    if auto_pad in SAME and output is None:
        output = tuple(size * s for size, s in zip(sizes, stride, strict=True))
    if output is None:
        ends = _ends(sizes, kernel, stride, pads, auto_pad)
        counts = tuple(whole - sum(pad) for whole, pad in zip(full, ends, strict=True))
        return Window(kernel, stride, dilation, ends, counts)
    if len(output) < rank:
        raise Refused(f"output shape {list(output)} over {rank} axes")
    counts = tuple(output[-rank:])
    lower = auto_pad != "SAME_UPPER"
    ends = tuple(_split(whole - count, lower) for whole, count in zip(full, counts, strict=True))
    return Window(kernel, stride, dilation, ends, counts)


def _split(total: int, lower: bool) -> tuple[int, int]:
    small = total // 2
    return (total - small, small) if lower else (small, total - small)
