"""The expected gain of a run: against simulation, and against hypervolumes worked out from scratch."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from dse.accuracy.features import LearningPoint
from dse.accuracy.fitted import Posterior
from dse.search.acquisition import (
    Belief,
    Board,
    Staircase,
    choose,
    expected_length,
    floor_of,
    gains,
)
from dse.search.learning import Candidate, Candidates
from dse.search.pareto import REFERENCE, Ranges, volume
from tests.accuracy.plans import point

KEYS = 7


def some_boards(seed: int, axes: int = 2, boards: int = 2) -> list[Board]:
    """Boards on which keys have one to three random designs, or none."""
    draw = np.random.default_rng(seed)
    parts = [
        [draw.random((int(draw.integers(0 if board else 1, 4)), axes)) for board in range(boards)]
        for _ in range(KEYS)
    ]
    names = ("event_s", "utilisation", "lifetime_s")[:axes]
    unit = Ranges(np.zeros(axes), np.ones(axes))
    stand_in: LearningPoint = point()
    entries = tuple(Candidate(stand_in, tuple(each)) for each in parts)
    candidates = Candidates(entries, ("event_s", "event_s", "event_s")[:axes], (unit,) * boards)
    assert names
    return [Board(candidates, board) for board in range(boards)]


def naive(boards: list[Board], accuracy: dict[int, float], floor: float) -> float:
    """Hypervolume of costs and accuracy above ``floor``: cells between all coordinates, one by one."""
    total = 0.0
    for board in boards:
        points = [
            (*row, value) for key, value in accuracy.items() for row in board.costs[key] if value > floor
        ]
        if not points:
            continue
        axes = len(points[0]) - 1
        ticks = [sorted({p[axis] for p in points} | {REFERENCE}) for axis in range(axes)]
        levels = sorted({p[axes] for p in points} | {floor})
        for cell in product(*(pairwise(t) for t in ticks), pairwise(levels)):
            *sides, (low, high) = cell
            if any(all(p[a] <= sides[a][0] for a in range(axes)) and p[axes] >= high for p in points):
                total += float(np.prod([b - a for a, b in sides])) * (high - low)
    return total


def belief(seed: int, known: int = 4) -> Belief:
    draw = np.random.default_rng(100 + seed)
    has = np.zeros(KEYS, dtype=bool)
    has[:known] = True
    return Belief(0.4 + 0.3 * draw.random(KEYS), 0.05 * draw.random(KEYS) ** 2, np.full(KEYS, 1e-3), has)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_hypervolume_is_the_volume_below_the_stairs(seed: int, axes: int) -> None:
    boards, known = some_boards(seed, axes), belief(seed)
    keys = np.flatnonzero(known.known).tolist()
    floor = floor_of(known.mean[known.known])
    found = sum(Staircase(board, keys, known.mean, floor).hypervolume for board in boards)
    assert found == pytest.approx(naive(boards, {key: known.mean[key] for key in keys}, floor))


def test_the_hypervolume_is_that_of_moocore_in_one_dimension_more() -> None:
    board, known = some_boards(1)[0], belief(1)
    keys = np.flatnonzero(known.known).tolist()
    low, high = known.mean[keys].min(), known.mean[keys].max()
    floor = floor_of(known.mean[keys])
    rows = [
        np.append(row, (high - known.mean[key]) / (high - low)) for key in keys for row in board.costs[key]
    ]
    found = Staircase(board, keys, known.mean, floor).hypervolume
    assert found == pytest.approx(volume(np.array(rows)) * (high - low))


@pytest.mark.parametrize("seed", range(4))
def test_expected_gain_is_the_mean_over_simulated_runs(seed: int) -> None:
    boards, now = some_boards(seed), belief(seed)
    keys = np.flatnonzero(now.known).tolist()
    floor = floor_of(now.mean[now.known])
    found = gains(boards, now, np.ones(KEYS, dtype=bool))

    def hypervolume(extra: int, value: float) -> float:
        accuracy = now.mean.copy()
        accuracy[extra] = value
        return sum(Staircase(board, {*keys, extra}, accuracy, floor).hypervolume for board in boards)

    before = sum(Staircase(board, keys, now.mean, floor).hypervolume for board in boards)
    # Equally likely outcomes instead of random ones: the midpoints of equal parts of the distribution.
    outcomes = norm.ppf((np.arange(200) + 0.5) / 200)
    for key in range(KEYS):
        after = [hypervolume(key, now.mean[key] + now.step[key] * z) for z in outcomes]
        assert found[key] == pytest.approx(np.mean(after) - before, abs=3e-4)


def test_no_gain_is_negative_and_none_without_doubt_below_the_front() -> None:
    for seed in range(20):
        boards, now = some_boards(seed), belief(seed)
        assert (gains(boards, now, np.ones(KEYS, dtype=bool)) >= 0).all()
        sure = Belief(now.mean, np.zeros(KEYS), now.noise, np.ones(KEYS, dtype=bool))
        assert gains(boards, sure, np.ones(KEYS, dtype=bool)) == pytest.approx(np.zeros(KEYS))


def test_what_may_not_be_run_has_no_gain() -> None:
    boards, now = some_boards(0), belief(0)
    eligible = np.zeros(KEYS, dtype=bool)
    eligible[5] = True
    found = gains(boards, now, eligible)
    assert found[5] > 0
    assert found[~eligible].tolist() == [0.0] * (KEYS - 1)


@given(
    st.floats(-2, 2), st.floats(0, 2), st.floats(-1, 1), st.floats(0.01, 1)
)  # fmt: skip
def test_expected_length_is_the_integral(low: float, width: float, mean: float, deviation: float) -> None:
    levels = low + (np.arange(2000) + 0.5) / 2000 * width
    integral = norm.sf(levels, mean, deviation).mean() * width
    assert expected_length(low, low + width, mean, deviation) == pytest.approx(integral, abs=1e-5)


def test_without_doubt_the_expected_length_is_the_overlap() -> None:
    assert expected_length(0.2, 0.6, 0.5, 0.0) == pytest.approx(0.3)
    assert expected_length(0.2, np.inf, 0.5, 0.0) == pytest.approx(0.3)
    assert expected_length(0.6, 0.8, 0.5, 0.0) == 0.0


def posterior(now: Belief, together: float = 0.0) -> Posterior:
    deviations = np.sqrt(now.variance)

    def column(place: int) -> np.ndarray:
        found = together * deviations * deviations[place]
        found[place] = now.variance[place]
        return found

    return Posterior(now.mean, now.variance, now.noise, column)


def test_the_first_choice_has_the_largest_gain_and_later_ones_count_it_as_done() -> None:
    boards, now = some_boards(2), belief(2)
    left = np.full(KEYS, 3)
    chosen = choose(boards, posterior(now), now.known, left, 3)
    first = gains(boards, now, left > 0)
    assert chosen[0] == int(np.argmax(first))
    after = now.after(chosen[0], posterior(now).column(chosen[0]))
    assert chosen[1] == int(np.argmax(gains(boards, after, left > 0)))
    assert choose(boards, posterior(now), now.known, left, 2, pending=[chosen[0]])[0] == chosen[1]


def test_what_is_learned_from_a_neighbour_is_counted() -> None:
    """Keys that move together: after the one, the other has little left to say."""
    now = belief(3)
    alone = now.after(5, posterior(now).column(5))
    together = now.after(5, posterior(now, together=0.95).column(5))
    assert alone.variance[6] == now.variance[6]
    assert together.variance[6] < 0.5 * now.variance[6]


def test_no_more_runs_than_are_left() -> None:
    boards, now = some_boards(4), belief(4)
    left = np.zeros(KEYS, dtype=np.int64)
    left[2], left[6] = 1, 1
    chosen = choose(boards, posterior(now), now.known, left, 8)
    assert sorted(chosen) == [2, 6]


def test_equal_gains_go_to_the_first() -> None:
    boards = some_boards(0, boards=1)
    boards[0].costs = [np.array([[0.5, 0.5]])] * KEYS
    now = Belief(np.full(KEYS, 0.5), np.full(KEYS, 0.01), np.full(KEYS, 0.01), np.zeros(KEYS, dtype=bool))
    assert choose(boards, posterior(now), now.known, np.ones(KEYS, dtype=np.int64), 1) == [0]


def test_nothing_is_proposed_where_nothing_can_change() -> None:
    boards, now = some_boards(0), belief(0, known=KEYS)
    sure = Belief(now.mean, np.zeros(KEYS), now.noise, now.known)
    assert choose(boards, posterior(sure), sure.known, np.full(KEYS, 3), 4) == []
