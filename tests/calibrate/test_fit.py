"""The fit: hand-solved cases, known truth, intervals, and refits by another optimiser."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import t as student

from dse.calibrate import calibrate
from dse.calibrate.fit import Design, fit, half_width, student_90
from dse.calibrate.prior import NORMAL_90, Prior, Term, prior_sd, spread
from dse.calibrate.response import Response
from dse.hardware import Quantity
from dse.vocabulary import Evidence
from tests.calibrate.synthetic import OVERHEAD, RATES, RELU, kernel, kernel_cycles, measured, numbers, vega

SIZES = (2e4, 1e5, 1e6)
ROWS = [kernel(operator, size) for operator in (*RATES, "relu") for size in SIZES]


def quantity(value: float, low: float | None = None, high: float | None = None) -> Quantity:
    return Quantity(value=value, low=low, high=high, kind=Evidence.MEASURED, source="x")


def term(path: str, value: float, sd: float) -> Term:
    return Term(path, quantity(value), sd, path)


def response(*per_cost: float, fixed: float = 0.0, floor: float = 0.0) -> Response:
    paths = ("rate[a].mac_per_cycle", "overhead[b].cycles_per_call")[: len(per_cost)]
    return Response(
        paths, np.array([per_cost]), np.array([fixed]), np.array([floor]), np.array([1.0]), ("u",)
    )


def test_two_equations_with_two_unknowns_by_hand() -> None:
    """1000 MACs and 2 calls take 600 s, 5000 and 1 take 2100 s: 2.5 MAC/s and 100 s per call."""
    prior = Prior((term("rate[a].mac_per_cycle", 1.0, 50.0), term("overhead[b].cycles_per_call", 7.0, 50.0)))
    design = Design.of([response(1000.0, 2.0), response(5000.0, 1.0)], prior)
    found = fit(design, np.log([600.0, 2100.0]), np.ones(2), prior)
    assert np.exp(found.theta) == pytest.approx([2.5, 100.0], rel=1e-4)


def test_one_term_is_the_weighted_mean_of_prior_and_data() -> None:
    prior = Prior((term("rate[a].mac_per_cycle", 2.0, 0.3),))
    design = Design.of([response(1000.0)] * 3, prior)
    times = np.array([240.0, 250.0, 260.0])
    found = fit(design, np.log(times), np.ones(3), prior)
    data, belief = 3 / found.noise_sd**2, 1 / 0.3**2
    expected = (data * np.mean(np.log(1000.0 / times)) + belief * log(2.0)) / (data + belief)
    assert found.theta[0] == pytest.approx(expected, abs=1e-9)
    assert found.sd[0] == pytest.approx((data + belief) ** -0.5, rel=1e-9)


def test_where_bytes_outlast_computing_the_rate_is_not_seen() -> None:
    prior = Prior((term("rate[a].mac_per_cycle", 2.0, 0.3),))
    design = Design.of([response(1000.0, floor=5000.0)], prior)
    found = fit(design, np.log([4800.0]), np.ones(1), prior)
    assert np.exp(found.theta[0]) == pytest.approx(2.0)
    assert found.statuses == ("prior",)


def test_a_cost_that_is_hidden_behind_bytes_is_found_where_it_must_be_higher() -> None:
    """1000 MACs at 2 MAC/s take 500 s behind 800 s of bytes; 4000 s were measured: 0.25 MAC/s."""
    prior = Prior((term("rate[a].mac_per_cycle", 2.0, 0.8),))
    design = Design.of([response(1000.0, floor=800.0)], prior)
    found = fit(design, np.log([4000.0]), np.ones(1), prior)
    assert np.exp(found.theta[0]) == pytest.approx(0.25, rel=0.02)
    assert found.statuses == ("fitted",)


@pytest.mark.parametrize("freedom", [2.0, 3.0, 5.0, 12.0, 80.0])
def test_student_quantile_against_scipy(freedom: float) -> None:
    assert student_90(freedom) == pytest.approx(float(student.ppf(0.95, freedom)), rel=3e-3)


def test_the_noise_counts_with_student_and_the_prior_with_the_normal_quantile() -> None:
    """Variance 0.25 of one combination, 0.09 of it from the noise, at 3 degrees of freedom."""
    slope = np.array([0.6, -0.8])
    covariance, from_noise = np.diag([0.25, 0.25]), np.diag([0.09, 0.09])
    expected = (2.353363**2 * 0.09 + 1.644854**2 * 0.16) ** 0.5
    assert half_width(slope, covariance, from_noise, 3.0) == pytest.approx(expected, rel=1e-3)


def test_an_interval_of_a_profile_is_ninety_percent_and_never_narrower_than_a_factor_of_two() -> None:
    assert prior_sd(quantity(100.0, 20.0, 500.0)) == pytest.approx(log(5.0) / NORMAL_90)
    assert prior_sd(quantity(100.0)) == pytest.approx(log(2.0) / NORMAL_90)
    assert prior_sd(quantity(5.0, 0.0, 50.0)) == pytest.approx(log(10.0) / NORMAL_90)


def test_spread_of_few_values_leans_on_what_is_expected() -> None:
    assert spread([0.3], 0.2, 1.0) == pytest.approx(0.2 * 2**0.5)
    many = list(np.random.default_rng(0).normal(0.0, 0.5, 2000))
    assert spread(many, 0.2, 1.0) == pytest.approx(0.5, rel=0.05)


def test_known_truth_comes_back() -> None:
    board, rng = vega(), np.random.default_rng(3)
    truth = numbers(board, *RATES.values(), OVERHEAD, RELU)
    truth |= {RATES["conv2d"]: 0.9, RATES["linear"]: 2.4, OVERHEAD: 3000.0, RELU: 2.2}
    found = calibrate(board, measured(ROWS * 3, truth, 0.02, rng))
    values = {each.term.path: each for each in found.terms}
    for path, value in truth.items():
        assert values[path].value == pytest.approx(value, rel=0.06), path
        assert values[path].low < value < values[path].high, path
        assert values[path].status == "fitted"
    assert found.scatter == pytest.approx(0.02, rel=0.5)


def test_intervals_hold_the_truth_in_nine_of_ten_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truths drawn from the prior, noise of 2 %; 60 seeds x 5 numbers."""
    monkeypatch.setattr(
        "dse.calibrate.calibration.held_out", lambda design, repeats, prior: np.zeros(len(repeats))
    )
    board = vega()
    paths = (*RATES.values(), OVERHEAD, RELU)
    start = numbers(board, *paths)
    known = dict(board.numbers())
    inside = total = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = {path: start[path] * exp(rng.normal(0.0, prior_sd(known[path]))) for path in paths}
        found = calibrate(board, measured(ROWS, truth, 0.02, rng), keep_implausible=True)
        for each in found.terms:
            inside += each.low <= truth[each.term.path] <= each.high
            total += 1
    assert total == 300
    assert 0.84 <= inside / total <= 0.97


def test_a_refit_by_another_optimiser_finds_no_better_place() -> None:
    """The negative log posterior, written out here, is not lower anywhere near."""
    board, rng = vega(), np.random.default_rng(5)
    truth = numbers(board, *RATES.values(), OVERHEAD, RELU)
    truth |= {RATES["conv2d"]: 2.1, OVERHEAD: 900.0}
    rows = measured(ROWS, truth, 0.05, rng)
    found = calibrate(board, rows)
    paths = [each.term.path for each in found.terms]
    known = dict(board.numbers())

    def posterior(theta: np.ndarray) -> float:
        at = dict(zip(paths, np.exp(theta), strict=True))
        data = sum(log(kernel_cycles(row, at) / (row.cycles or 0.0)) ** 2 for row in rows)
        belief = sum(
            (value - log(known[path].value)) ** 2 / prior_sd(known[path]) ** 2
            for path, value in zip(paths, theta, strict=True)
        )
        return data / found.noise_sd**2 + belief

    ours = np.log([each.value for each in found.terms])
    theirs = minimize(posterior, ours + 0.1, method="BFGS").x
    assert theirs == pytest.approx(ours, abs=2e-4)


def test_held_out_is_a_fit_without_the_row_and_its_repeats() -> None:
    board, rng = vega(), np.random.default_rng(7)
    truth = numbers(board, *RATES.values(), OVERHEAD, RELU) | {RATES["pointwise"]: 1.1, OVERHEAD: 4000.0}
    rows = measured([*ROWS, ROWS[0], ROWS[5]], truth, 0.04, rng)
    found = calibrate(board, rows)
    for index, each in enumerate(found.rows):
        same = {"operator": rows[index].operator, "macs": rows[index].macs, "elements": rows[index].elements}
        others = [row for row in rows if any(getattr(row, key) != same[key] for key in same)]
        assert len(others) < len(rows)
        alone = calibrate(board, others).predict(rows[index])[0]
        # Without the repeats of this row the scatter of the others is all that is known of the meter.
        assert each.held_out_s == pytest.approx(alone, rel=0.02)


def test_held_out_equals_the_refit_exactly_where_nothing_is_repeated() -> None:
    board, rng = vega(), np.random.default_rng(8)
    truth = numbers(board, *RATES.values(), OVERHEAD, RELU)
    rows = measured(ROWS, truth, 0.04, rng)
    found = calibrate(board, rows)
    for index, each in enumerate(found.rows):
        alone = calibrate(board, rows[:index] + rows[index + 1 :]).predict(rows[index])[0]
        assert each.held_out_s == pytest.approx(alone, rel=1e-6)


def test_the_null_model_is_the_geometric_mean_of_the_other_rows() -> None:
    rows = [
        kernel("linear", 1e5, cycles=1e5),
        kernel("conv2d", 2e5, cycles=1e5),
        kernel("relu", 10, cycles=9),
    ]
    found = calibrate(vega(), rows)
    clock = found.rows[0].row.setting.clock_hz
    assert found.rows[0].one_factor_s == pytest.approx(1e5 * 0.5 / clock)
    assert found.rows[1].one_factor_s == pytest.approx(2e5 * 1.0 / clock)
    assert found.rows[2].one_factor_s is None


def test_the_null_model_prefers_rows_of_the_same_dtype() -> None:
    rows = [kernel("linear", 1e5, cycles=1e5), kernel("conv2d", 2e5, cycles=1e5)]
    fp16 = replace(kernel("linear", 1e5, cycles=3e4), dtype="fp16")
    found = calibrate(vega(), [*rows, fp16])
    clock = found.rows[0].row.setting.clock_hz
    assert found.rows[0].one_factor_s == pytest.approx(1e5 * 0.5 / clock)
    assert found.rows[2].one_factor_s == pytest.approx(1e5 * 0.5**0.5 / clock)


def test_repeats_weigh_as_many_rows() -> None:
    """A mean of nine runs and one run of the same thing: the mean of logarithms leans nine to one."""
    one = kernel("linear", 1e6, cycles=9e5)
    found = calibrate(vega(), [replace(one, repeats=9), replace(one, cycles=8e5)])
    weighted = (9 * log(9e5) + log(8e5)) / 10
    prior = dict(vega().numbers())
    start = log(1e6 / prior[RATES["linear"]].value + prior[OVERHEAD].value)
    fitted = log(found.rows[0].fitted_s * found.rows[0].row.setting.clock_hz)
    assert abs(fitted - weighted) < 0.05 * abs(start - weighted) + 1e-3
    assert found.scatter is not None


def test_a_prediction_of_what_was_not_measured_has_the_interval_of_its_prior() -> None:
    found = calibrate(vega(), [kernel("linear", 1e7, cycles=9e6)])
    value, low, high = found.predict(kernel("conv2d", 1e7, cycles=1.0))
    known = dict(vega().numbers())[RATES["conv2d"]]
    assert value * 375e6 == pytest.approx(1e7 / known.value, rel=0.01)
    assert log(high / low) / 2 == pytest.approx(NORMAL_90 * prior_sd(known), rel=0.1)


def test_a_prediction_of_what_was_measured_scatters_as_a_further_measurement_does() -> None:
    row = kernel("linear", 1e7, cycles=9e6)
    found = calibrate(vega(), [row])
    value, low, high = found.predict(row)
    reach = student_90(found.fit.freedom) * found.noise_sd
    assert reach < log(high / value) < 1.5 * reach
    assert value / low == pytest.approx(high / value)


def test_a_large_table_takes_bounded_time() -> None:
    rng = np.random.default_rng(9)
    truth = numbers(vega(), *RATES.values(), OVERHEAD, RELU)
    rows = [kernel(("linear", "conv2d", "relu")[index % 3], 2e4 * (1 + index)) for index in range(400)]
    found = calibrate(vega(), measured(rows, truth, 0.02, rng))
    assert len(found.rows) == 400
    assert np.median([abs(each.error(each.held_out_s) or 0.0) for each in found.rows]) < 0.03
