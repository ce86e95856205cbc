"""How the numbers of a file's tensor lie in the planner's tensor: channels first, whatever the file's order.

A ``Layout`` says it for one tensor: cut the file's flat numbers into factors (row-major), then take the
factors in another order. It survives reshapes unchanged (they move nothing), transposes change it, and two
tensors hold the same numbers in the same places exactly where their layouts are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from dse.workload.base import Shape


@dataclass(frozen=True)
class Layout:
    """The planner's order of a file's tensor: ``file.reshape(factors).transpose(order)``, flat.

    In lowest terms: no factor of one, and no two factors that stay neighbours.
    """

    factors: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Whether the numbers lie as in the file."""
        return self.order == tuple(range(len(self.order)))

    def index(self) -> NDArray[np.int64]:
        """Return the flat place in the file of each number, (n,) in the planner's order."""
        places = np.arange(prod(self.factors), dtype=np.int64)
        return places.reshape(self.factors).transpose(self.order).ravel()


def reduced(factors: Sequence[int], order: Sequence[int]) -> Layout:
    """Return the layout in lowest terms.

    >>> reduced((4, 1, 5, 3), (3, 0, 1, 2))
    Layout(factors=(20, 3), order=(1, 0))
    """
    kept = [place for place in order if factors[place] > 1]
    before = sorted(kept)
    rank = {place: number for number, place in enumerate(before)}
    runs: list[list[int]] = []
    for place in kept:
        if runs and rank[place] == rank[runs[-1][-1]] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    in_file = sorted(range(len(runs)), key=lambda run: runs[run][0])
    sizes = tuple(prod(factors[place] for place in runs[run]) for run in in_file)
    position = {run: number for number, run in enumerate(in_file)}
    return Layout(sizes, tuple(position[run] for run in range(len(runs))))


def plain(shape: Shape) -> Layout:
    """Return the layout of numbers that lie as in the file."""
    return reduced((prod(shape),), (0,))


def channels_first(shape: Shape, axis: int) -> Layout:
    """Return the layout with one axis of the file's shape moved to the front.

    >>> channels_first((32, 32, 3), 2)
    Layout(factors=(1024, 3), order=(1, 0))
    """
    return reduced(shape, (axis, *(other for other in range(len(shape)) if other != axis)))


def moved(shape: Shape, axis: int) -> Shape:
    """Return a shape with one axis moved to the front."""
    return (shape[axis], *shape[:axis], *shape[axis + 1 :])


def channel_axis(layout: Layout, shape: Shape, channels: int) -> int | None:
    """Return the axis of the file's shape that ``layout`` has in front; None where there is none."""
    for axis, size in enumerate(shape):
        if size == channels and channels_first(shape, axis) == layout:
            return axis
    return None


def transposed(layout: Layout, shape: Shape, permutation: Sequence[int]) -> Layout | None:
    """Return the layout of the same numbers behind a transpose of the file's tensor of ``shape``.

    None where the factors and the axes do not divide each other.
    """
    cut = refined(layout, shape)
    if cut is None:
        return None
    fine, axis_of = cut
    in_file = [place for axis in permutation for place in range(len(axis_of)) if axis_of[place] == axis]
    position = {place: number for number, place in enumerate(in_file)}
    return reduced([fine.factors[place] for place in in_file], [position[place] for place in fine.order])


def refined(layout: Layout, shape: Shape) -> tuple[Layout, list[int]] | None:
    """Cut a layout's factors at the axes of ``shape`` too; return it with the axis of each factor.

    None where a factor and an axis overlap without dividing each other.
    """
    pieces: list[tuple[int, int, int]] = []  # size, factor, axis; last first
    factor, axis = len(layout.factors) - 1, len(shape) - 1
    left_of_factor, left_of_axis = 1, 1
    while True:
        while left_of_factor == 1 and factor >= 0:
            left_of_factor, factor = layout.factors[factor], factor - 1
        while left_of_axis == 1 and axis >= 0:
            left_of_axis, axis = shape[axis], axis - 1
        if left_of_factor == 1 or left_of_axis == 1:
            break
        size = min(left_of_factor, left_of_axis)
        if left_of_factor % size or left_of_axis % size:
            return None
        pieces.append((size, factor + 1, axis + 1))
        left_of_factor, left_of_axis = left_of_factor // size, left_of_axis // size
    if left_of_factor != left_of_axis:
        return None  # not as many numbers
    pieces.reverse()
    order = [
        place
        for factor in layout.order
        for place, (_, owner, _) in enumerate(pieces)
        if owner == factor
    ]  # fmt: skip
    return Layout(tuple(size for size, _, _ in pieces), tuple(order)), [axis for _, _, axis in pieces]


def chained(first: Layout, second: Layout) -> Layout | None:
    """Return the layout that ``second`` is to the file where it is laid over the order of ``first``.

    None where their factors do not divide each other.
    """
    cut = refined(second, tuple(first.factors[place] for place in first.order))
    if cut is None:
        return None
    fine, run_of = cut
    in_file = sorted(range(len(run_of)), key=lambda place: (first.order[run_of[place]], place))
    position = {place: number for number, place in enumerate(in_file)}
    return reduced([fine.factors[place] for place in in_file], [position[place] for place in fine.order])
