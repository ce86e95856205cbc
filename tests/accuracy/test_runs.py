"""Means of runs, what seeds add, and how sure a mean is."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import t

from dse.accuracy.runs import (
    LEAST_REPEATED,
    POOLED_WEIGHT,
    SHRINKAGE,
    USUAL_NOISE_WEIGHT,
    USUAL_SEED_WEIGHT,
    USUAL_SPREAD,
    MeasuredRuns,
    Run,
)
from tests.accuracy.plans import grid, point, runs_of

LUCK = (-0.03, 0.01, 0.02)


def test_runs_are_grouped_whatever_their_order() -> None:
    runs = runs_of(grid(), lambda one: one.plan.cut / 10, seeds=3, effect=lambda one, seed: seed / 100)
    shuffled = runs.copy()
    random.Random(0).shuffle(shuffled)
    one, other = MeasuredRuns.of(runs), MeasuredRuns.of(shuffled)
    assert one == other
    assert one.means.tolist() == other.means.tolist()
    assert len(one) == len(grid())
    assert set(one.counts) == {3}


def test_a_run_counts_once() -> None:
    found = MeasuredRuns.of([Run(point(), 0, 0.5), Run(point(), 0, 0.9), Run(point(), 1, 0.7)])
    assert found.entries[0].accuracies == (0.5, 0.7)


def test_what_a_seed_adds_is_found_and_shrunk() -> None:
    points = grid()
    found = MeasuredRuns.of(runs_of(points, lambda one: 0.5, 3, lambda one, seed: LUCK[seed]))
    share = len(points) / (len(points) + SHRINKAGE)
    assert found.effects == pytest.approx({seed: luck * share for seed, luck in enumerate(LUCK)})


def test_a_point_with_one_lucky_seed_is_not_favoured() -> None:
    points = grid()
    runs = runs_of(points[1:], lambda one: 0.5, 3, lambda one, seed: LUCK[seed])
    found = MeasuredRuns.of([*runs, Run(points[0], 0, 0.5 + LUCK[0])])
    entry = found.by_key[points[0].key]
    assert found.mean(entry) == pytest.approx(0.5, abs=0.003)
    assert found.half_width(entry) > found.half_width(found.by_key[points[1].key])


def test_with_every_seed_the_mean_is_the_plain_one() -> None:
    values = {0: 0.51, 1: 0.58, 2: 0.53}
    others = runs_of(grid()[1:], lambda one: 0.4, 3, lambda one, seed: LUCK[seed])
    found = MeasuredRuns.of([*others, *(Run(grid()[0], seed, value) for seed, value in values.items())])
    assert found.mean(found.by_key[grid()[0].key]) == pytest.approx(sum(values.values()) / 3)


def test_until_something_is_repeated_the_usual_spread_is_taken() -> None:
    found = MeasuredRuns.of(runs_of(grid(), lambda one: one.plan.cut / 10))
    assert found.effects == {0: 0.0}
    assert found.noise == pytest.approx(USUAL_SPREAD**2)
    assert found.seed_variance == pytest.approx(USUAL_SPREAD**2)


def test_the_scatter_of_too_few_points_moves_no_other() -> None:
    """One head that scatters by itself says nothing of the others; enough points do."""
    points = grid()
    for repeated in range(1, LEAST_REPEATED + 1):
        several = runs_of(points[:repeated], lambda one: 0.5, 3, lambda one, seed: LUCK[seed])
        found = MeasuredRuns.of([*several, *(Run(one, 0, 0.5) for one in points[repeated:])])
        enough = repeated == LEAST_REPEATED
        assert found.seeds_compared == (3 if enough else 0)
        assert found.points_compared == (repeated if enough else 0)
        single = found.mean(found.by_key[points[-1].key])
        assert (single == 0.5) is not enough
        if enough:
            assert single == pytest.approx(0.5 - LUCK[0] * 3 / (3 + SHRINKAGE))


def test_a_seed_that_too_few_points_have_is_left_alone() -> None:
    points = grid()
    runs = runs_of(points[:4], lambda one: 0.5, 2, lambda one, seed: LUCK[seed])
    lonely = [Run(points[0], 7, 0.9), Run(points[5], 7, 0.6), Run(points[6], 8, 0.6)]
    with_them, without = MeasuredRuns.of([*runs, *lonely]), MeasuredRuns.of(runs)
    assert with_them.compared == {0, 1}
    assert with_them.effects == pytest.approx({**without.effects, 7: 0.0, 8: 0.0})
    assert with_them.mean(with_them.by_key[points[5].key]) == 0.6
    own, shared = (with_them.by_key[points[place].key] for place in (5, 1))
    assert with_them.half_width(own) > with_them.half_width(shared)


def test_noise_and_interval_by_hand() -> None:
    """Three points, two seeds; seed 1 adds 4, 2 and 2 points, hence 8/3, shrunk by 3/4 to 2."""
    one, other, third = grid()[:3]
    found = MeasuredRuns.of(
        Run(plan, seed, accuracy)
        for plan, pair in ((one, (0.50, 0.54)), (other, (0.60, 0.62)), (third, (0.70, 0.72)))
        for seed, accuracy in enumerate(pair)
    )
    assert found.effects == pytest.approx({0: -0.01, 1: 0.01})
    # What is left: +-0.01, 0 and 0.
    assert found.freedom == 2
    noise = (2 * 0.01**2 + USUAL_NOISE_WEIGHT * USUAL_SPREAD**2) / (2 + USUAL_NOISE_WEIGHT)
    assert found.noise == pytest.approx(noise)
    entry = found.by_key[one.key]
    own = (2 * 0.01**2 + POOLED_WEIGHT * noise) / (1 + POOLED_WEIGHT)
    assert found.noise_of(entry) == pytest.approx(own)
    seeds = (2 * 0.01**2 + USUAL_SEED_WEIGHT * USUAL_SPREAD**2) / (1 + USUAL_SEED_WEIGHT)
    assert found.seed_variance == pytest.approx(seeds)
    first = t.ppf(0.95, 1 + 4.0) * math.sqrt(own / 2)
    second = t.ppf(0.95, 2.0) * math.sqrt(seeds / 2)
    assert found.half_width(entry) == pytest.approx(math.hypot(first, second))


def test_intervals_cover_the_mean_nine_times_in_ten() -> None:
    """Simulated: points of known accuracy, seeds that help or harm all of them, and noise."""
    draw = random.Random(5)
    inside = total = 0
    for _ in range(150):
        luck = [draw.gauss(0, 0.02) for _ in range(3)]
        runs = runs_of(
            grid(), lambda one: 0.5, 3, lambda one, seed, luck=luck: luck[seed] + draw.gauss(0, 0.01)
        )
        found = MeasuredRuns.of(runs)
        inside += sum(abs(found.mean(one) - 0.5) <= found.half_width(one) for one in found.entries)
        total += len(found)
    assert 0.80 <= inside / total <= 0.97
