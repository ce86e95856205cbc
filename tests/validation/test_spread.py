from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dse.search.pareto import Ranges, hypervolume
from dse.validation.spread import by_contribution

NAMES = ("a", "b")


def plain_greedy(points: np.ndarray) -> list[float]:
    """Hypervolume after each choice, by trying every point every time."""
    ranges = Ranges.empty(points.shape[1]).widened(list(points.T))
    left, chosen, reached = list(range(len(points))), [], []
    while left:
        volumes = [hypervolume(points[[*chosen, row]], ranges, NAMES[: points.shape[1]]) for row in left]
        best = left[int(np.argmax(volumes))]
        chosen.append(best)
        left.remove(best)
        reached.append(max(volumes))
    return reached


@given(st.integers(0, 10**6), st.integers(1, 9))
def test_the_order_is_greedy(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).random((count, 2))
    order = by_contribution([{"board": point[None]} for point in points], NAMES)
    assert sorted(order) == list(range(count))
    ranges = Ranges.empty(2).widened(list(points.T))
    reached = [hypervolume(points[order[:taken]], ranges, NAMES) for taken in range(1, count + 1)]
    np.testing.assert_allclose(reached, plain_greedy(points), rtol=1e-12)


def test_the_middle_of_a_front_comes_before_its_neighbours() -> None:
    points = np.array([[0.31, 0.29], [0.0, 1.0], [0.3, 0.3], [1.0, 0.0]])
    order = by_contribution([{"x": point[None]} for point in points], NAMES)
    # Up to 1.1: (0.3, 0.3) covers 0.64; either end adds 0.03; (0.31, 0.29) adds 0.01 x 0.79 = 0.0079.
    assert order[0] == 2
    assert order[-1] == 0


def test_boards_count_alike_and_ties_keep_their_order() -> None:
    one, other = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    groups = [{"x": one}, {"x": one, "y": one}, {"x": other, "y": other}]
    order = by_contribution(groups, NAMES)
    assert order[0] == 1, "of equal gains the first; two boards gain more than one"
    assert order == [1, 2, 0]


def test_nothing_has_an_empty_order() -> None:
    assert by_contribution([], NAMES) == []


def test_infinite_objectives_do_not_break_the_order() -> None:
    points = np.array([[-np.inf, 1.0], [-3.0, 0.5], [-2.0, 0.1]])
    assert sorted(by_contribution([{"x": point[None]} for point in points], NAMES)) == [0, 1, 2]
