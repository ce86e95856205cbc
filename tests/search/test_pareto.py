"""Fronts against the obvious O(n^2) answer, whatever the order and size of chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dse.search.pareto import FrontArchive, Ranges, front_mask, hypervolume, scaled
from tests.oracles import dominated_mask

# Few distinct values, so that ties and equal rows are common.
TIED = st.integers(2, 4).flatmap(
    lambda m: arrays(
        np.float64, st.tuples(st.integers(1, 60), st.just(m)), elements=st.integers(0, 5).map(float)
    )
)
SMOOTH = st.integers(2, 4).flatmap(
    lambda m: arrays(
        np.float64, st.tuples(st.integers(1, 60), st.just(m)), elements=st.floats(-1e6, 1e6, allow_nan=False)
    )
)


def archive_of(values: np.ndarray, chunk: int) -> FrontArchive:
    archive = FrontArchive(values.shape[1])
    for start in range(0, len(values), chunk):
        part = values[start : start + chunk]
        archive.add(list(part.T), np.arange(start, start + len(part)))
    return archive


@given(TIED | SMOOTH)
def test_the_mask_is_that_of_the_oracle(values: np.ndarray) -> None:
    assert (front_mask(values) == ~dominated_mask(values)).all()


@given(TIED | SMOOTH, st.integers(1, 70))
def test_the_archive_is_the_front_for_every_chunk_size(values: np.ndarray, chunk: int) -> None:
    points = archive_of(values, chunk).points
    alive = np.flatnonzero(~dominated_mask(values))
    expected: dict[tuple[float, ...], list[int]] = {}
    for index in alive:
        expected.setdefault(tuple(values[index]), []).append(int(index))
    firsts = sorted(indices[0] for indices in expected.values())
    assert points.index.tolist() == firsts
    assert (points.values == values[firsts]).all()
    assert points.variants.tolist() == [len(expected[tuple(values[first])]) for first in firsts]


def test_many_chunks_with_scouts_agree_with_one() -> None:
    values = np.random.default_rng(5).random((20_000, 3)) ** 2
    one, many = archive_of(values, len(values)).points, archive_of(values, 700).points
    assert len(one) > 30
    assert (one.index == many.index).all()
    assert (one.variants == many.variants).all()


def test_infinite_objectives_are_compared() -> None:
    values = np.array([[np.inf, 1.0], [2.0, 2.0], [np.inf, 0.5]])
    assert archive_of(values, 1).points.index.tolist() == [1, 2]


def test_hypervolume_of_one_point_in_the_middle() -> None:
    ranges = Ranges(np.array([0.0, 0.0]), np.array([2.0, 10.0]))
    assert hypervolume(np.array([[1.0, 5.0]]), ranges, ["event_s", "lifetime_s"]) == pytest.approx(0.6**2)


def test_bytes_and_joules_are_scaled_by_their_logarithm() -> None:
    ranges = Ranges(np.array([10.0, 1e-3, 0.0]), np.array([1000.0, 1.0, 4.0]))
    names = ["ram_peak_bytes", "event_j", "event_s"]
    found = scaled(np.array([[100.0, 1e-2, 1.0]]), ranges, names)
    assert found == pytest.approx(np.array([[1 / 2, 1 / 3, 1 / 4]]))


def test_an_objective_that_never_varies_is_zero_and_zero_bytes_are_allowed() -> None:
    ranges = Ranges(np.array([0.0, 3.0]), np.array([0.0, 3.0]))
    assert (scaled(np.array([[0.0, 3.0]]), ranges, ["nvm_bytes", "event_s"]) == 0).all()
    assert hypervolume(np.array([[0.0, 3.0]]), ranges, ["nvm_bytes", "event_s"]) == pytest.approx(1.1**2)


def test_no_points_no_volume() -> None:
    assert hypervolume(np.zeros((0, 2)), Ranges.empty(2), ["event_s", "event_j"]) == 0.0
    assert front_mask(np.zeros((0, 3))).tolist() == []


def test_ranges_leave_infinities_out() -> None:
    ranges = Ranges.empty(1).widened([np.array([3.0, np.inf, 1.0])]).widened([np.array([2.0])])
    assert (ranges.low[0], ranges.high[0]) == (1.0, 3.0)
