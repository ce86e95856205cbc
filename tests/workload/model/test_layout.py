"""Layouts against numpy: whatever transposes and reshapes do, the layout says where numbers lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.workload.base import Shape
from dse.workload.model.layout import (
    chained,
    channel_axis,
    channels_first,
    moved,
    plain,
    reduced,
    refined,
    transposed,
)

SIZES = st.sampled_from([1, 2, 3, 4, 6])
SHAPES = st.lists(SIZES, min_size=1, max_size=4).map(tuple)


def regrouped(draw: st.DrawFn, total: int) -> Shape:
    """Any shape of ``total`` numbers."""
    sizes: list[int] = []
    while total > 1 and len(sizes) < 3:
        sizes.append(draw(st.sampled_from([size for size in range(1, total + 1) if total % size == 0])))
        total //= sizes[-1]
    return (*sizes, total)


@given(st.data())
def test_layouts_follow_what_numpy_does(data: st.DataObject) -> None:
    file = np.arange(int(np.prod(data.draw(SHAPES)))).reshape(-1)
    layout = plain(file.shape)
    for _ in range(data.draw(st.integers(1, 5))):
        file = file.reshape(regrouped(data.draw, file.size))
        order = data.draw(st.permutations(range(file.ndim)))
        after = transposed(layout, file.shape, order)
        if after is None:  # numbers that no cut of both reaches
            assert refined(layout, file.shape) is None
            break
        layout, file = after, file.transpose(order)
        file = np.ascontiguousarray(file)
    assert np.array_equal(file.reshape(-1)[layout.index()], np.arange(file.size))
    assert layout.is_plain == bool(np.array_equal(file.reshape(-1), np.arange(file.size)))


@given(st.data(), SHAPES)
def test_chained_layouts(data: st.DataObject, shape: Shape) -> None:
    first = reduced(shape, data.draw(st.permutations(range(len(shape)))))
    sizes = regrouped(data.draw, int(np.prod(shape)))
    second = reduced(sizes, data.draw(st.permutations(range(len(sizes)))))
    both = chained(first, second)
    if both is not None:
        assert np.array_equal(both.index(), first.index()[second.index()])


@pytest.mark.parametrize(
    ("factors", "order", "other", "others"),
    [
        ((4, 5, 3), (2, 0, 1), (20, 3), (1, 0)),
        ((4, 1, 5), (1, 2, 0), (4, 5), (1, 0)),
        ((1, 7, 1), (2, 1, 0), (7,), (0,)),
    ],
)
def test_equal_orders_are_equal_layouts(factors: Shape, order: Shape, other: Shape, others: Shape) -> None:
    assert reduced(factors, order) == reduced(other, others)


def test_channels_are_found_where_they_were_put() -> None:
    shape = (6, 5, 3)
    for axis in range(3):
        layout = channels_first(shape, axis)
        assert channel_axis(layout, shape, shape[axis]) == axis
        assert moved(shape, axis) == np.moveaxis(np.zeros(shape), axis, 0).shape
    assert channel_axis(reduced(shape, (2, 1, 0)), shape, 3) is None


def test_layouts_of_other_sizes_do_not_fit() -> None:
    assert refined(plain((12,)), (5, 2)) is None
    assert transposed(reduced((4, 3), (1, 0)), (6, 2), (1, 0)) is None
