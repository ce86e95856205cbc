"""The Gaussian process: against the plain formulas, and on accuracies that fall where one expects a rise."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dse.accuracy.features import LearningPoint
from dse.accuracy.fitted import STRETCH, Z90, DepthAndReplays, GaussianProcess
from dse.accuracy.runs import MeasuredRuns
from tests.accuracy.plans import grid, point, runs_of


def falling(one: LearningPoint) -> float:
    """Deeper cuts are worse at many replays and better at few, as on activity data."""
    many = np.log2(one.plan.n_replays / 25) / 4
    return float(0.6 + 0.05 * one.plan.cut * (1 - 2 * many) + 0.1 * many)


def noisy(one: LearningPoint, seed: int) -> float:
    return random.Random(f"{one.key} {seed}").gauss(0, 0.01)


@pytest.fixture(scope="module")
def fitted() -> GaussianProcess:
    return GaussianProcess(MeasuredRuns.of(runs_of(grid(), falling, 3, noisy)), grid())


def test_mean_and_covariance_are_those_of_the_formulas(fitted: GaussianProcess) -> None:
    new = [point(1, 50), point(2, 200), point(4, 400), *grid()[:2]]
    found = fitted.posterior(new)
    kernel, x, z = fitted.fitted.kernel_, fitted.encoder(fitted.runs.points), fitted.encoder(new)
    inner = np.linalg.inv(kernel(x) + np.diag(fitted.noise + 1e-6))
    y = (fitted.runs.means - fitted.centre) / fitted.spread
    mean = kernel(z, x) @ inner @ y * fitted.spread + fitted.centre
    covariance = (kernel(z, z) - kernel(z, x) @ inner @ kernel(x, z)) * fitted.spread**2
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.variance == pytest.approx(np.diag(covariance), abs=1e-9)
    for place in range(len(new)):
        assert found.column(place) == pytest.approx(covariance[place], abs=1e-9)


def test_left_out_points_are_missed_as_if_they_had_been_left_out(fitted: GaussianProcess) -> None:
    kernel, x, y = fitted.fitted.kernel_, fitted.x, fitted.y
    noise = np.diag(fitted.noise + 1e-6)
    for out in range(len(y)):
        kept = np.arange(len(y)) != out
        inner = np.linalg.inv((kernel(x) + noise)[np.ix_(kept, kept)])
        cross = kernel(x[out : out + 1], x[kept])[0]
        mean = cross @ inner @ y[kept]
        variance = kernel(x[out : out + 1])[0, 0] + noise[out, out] - cross @ inner @ cross
        assert fitted.misses[out] == pytest.approx((y[out] - mean) / np.sqrt(variance), rel=1e-6)


def test_it_follows_accuracies_that_reverse(fitted: GaussianProcess) -> None:
    few = [point(cut, 25) for cut in range(4)]
    many = [point(cut, 400) for cut in range(4)]
    assert (np.diff(fitted.posterior(few).mean) > 0).all()
    assert (np.diff(fitted.posterior(many).mean) < 0).all()
    between = [point(cut, size) for cut in range(4) for size in (50, 200)]
    expected = np.array([falling(one) for one in between])
    assert fitted.posterior(between).mean == pytest.approx(expected, abs=0.03)


def test_away_from_the_runs_it_is_wide() -> None:
    near = grid(cuts=(0, 1), sizes=(25, 50, 100))
    model = GaussianProcess(MeasuredRuns.of(runs_of(near, falling, 3, noisy)), [point(4, 6400)])
    _, inside = model.one_run([point(1, 70)])
    _, outside = model.one_run([point(4, 6400)])
    assert outside[0] > 2 * inside[0]


def test_where_the_order_was_not_seen_the_interval_says_so() -> None:
    """Only large buffers were run: at few replays either order of the cuts lies within the intervals."""
    seen = grid(sizes=(200, 400))
    model = GaussianProcess(MeasuredRuns.of(runs_of(seen, falling, 3, noisy)), [point(0, 25)])
    mean, half = model.one_run([point(0, 25), point(3, 25)])
    assert abs(mean[0] - mean[1]) < half.sum()
    assert mean[0] - half[0] <= falling(point(0, 25)) <= mean[0] + half[0]
    assert mean[1] - half[1] <= falling(point(3, 25)) <= mean[1] + half[1]


def test_the_same_runs_in_any_order_make_the_same_model() -> None:
    runs = runs_of(grid(), falling, 2, noisy)
    shuffled = runs.copy()
    random.Random(1).shuffle(shuffled)
    one, other = (GaussianProcess(MeasuredRuns.of(each), grid()) for each in (runs, shuffled))
    for first, second in zip(one.one_run(grid()), other.one_run(grid()), strict=True):
        assert (first == second).all()


def test_intervals_cover_runs_that_were_left_out() -> None:
    """Half of the points of a larger grid, over several draws: 80 to 97 % of the runs of the other half."""
    points = grid(cuts=range(5), sizes=(25, 50, 100, 200, 400))
    inside, total = 0, 0
    for draw in range(6):
        order = random.Random(draw).sample(points, len(points))
        model = GaussianProcess(MeasuredRuns.of(runs_of(order[:13], falling, 2, noisy)), points)
        rest = order[13:]
        mean, half = model.one_run(rest)
        for one, middle, width in zip(rest, mean, half, strict=True):
            reached = [falling(one) + noisy(one, seed) for seed in range(2)]
            inside += sum(abs(each - middle) <= width for each in reached)
            total += 2
    assert 0.80 <= inside / total <= 0.99


def test_equal_accuracies_are_no_reason_to_fail() -> None:
    model = GaussianProcess(MeasuredRuns.of(runs_of(grid(), lambda one: 0.5)), grid())
    mean, half = model.one_run(grid())
    assert mean == pytest.approx(np.full(len(grid()), 0.5))
    assert (half > 0).all()
    assert STRETCH[0] <= model.stretch <= STRETCH[1]


def test_one_point_alone_is_enough_for_a_flat_answer() -> None:
    model = GaussianProcess(MeasuredRuns.of(runs_of([point()], lambda one: 0.7)), [])
    mean, half = model.one_run([point()])
    assert mean[0] == pytest.approx(0.7)
    assert half[0] > 0


def test_the_plain_rule_is_least_squares_in_depth_and_log_n() -> None:
    def straight(one: LearningPoint) -> float:
        return (
            0.3 - 0.2 * (one.plan.cut + 1) / len(one.workload.units) + 0.05 * np.log2(1 + one.plan.n_replays)
        )

    model = DepthAndReplays(MeasuredRuns.of(runs_of(grid(), straight)))
    new = [point(1, 50), point(4, 1000)]
    mean, half = model.one_run(new)
    assert mean == pytest.approx([straight(one) for one in new])
    assert half == pytest.approx(0, abs=1e-9)
    jagged = DepthAndReplays(MeasuredRuns.of(runs_of(grid(), lambda one: straight(one) + noisy(one, 0))))
    assert jagged.one_run(new)[1][0] == pytest.approx(Z90 * jagged.deviation)
