"""Grids, roundings and what is held narrowly, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.execution.int8.constants import Steps, quantised
from dse.execution.int8.grid import BIAS_LIMIT, Grid, clamped, multiplier, nearest
from dse.execution.int8.narrow import NarrowErrors, NarrowGradients
from dse.execution.int8.rounding import seeded, written_back
from tests.execution.int8.small import shifted


def test_a_grid_spans_its_range_and_zero():
    grid = Grid.over(-1.0, 1.55)
    assert (grid.scale, grid.low, grid.high) == (float(np.float32(0.01)), -100, 155)
    assert Grid.over(0.5, 2.55).low == 0
    assert Grid.over(-2.55, -0.5).high == 0
    assert Grid.over(0.0, 0.0) == Grid(1.0, 0, 255)


def test_bytes_count_from_the_lowest_level_and_halves_go_upwards():
    grid = Grid(0.5, -2, 253)
    x = np.array([-9.0, -1.0, -0.75, -0.25, 0.0, 0.25, 0.7, 200.0], np.float32)
    held = grid.bytes_of(x)
    assert held.dtype == np.uint8
    assert held.tolist() == [0, 0, 1, 2, 2, 3, 3, 255]
    assert grid.q(held).tolist() == [-2, -2, -1, 0, 0, 1, 1, 253]
    assert grid.values(held).tolist() == [-1, -1, -0.5, 0, 0, 0.5, 0.5, 126.5]


@pytest.mark.parametrize(("rectifier", "expected"), [("", (-5, 250)), ("relu", (0, 250)), ("relu6", (0, 60))])
def test_a_rectifier_narrows_the_limits(rectifier, expected):
    assert Grid(0.1, -5, 250).limits(rectifier) == expected


def test_a_clamp_says_what_it_did_not_cut():
    q, passed = clamped(np.array([-1.6, -1.5, -0.4, 2.4, 2.5]), (-1, 2))
    assert q.tolist() == [-1, -1, 0, 2, 2]
    assert passed.tolist() == [False, True, True, True, False]


@given(st.integers(-(2**29), 2**29), st.floats(1e-6, 0.9))
def test_a_product_with_a_multiplier_rounds_as_a_shift_does(value, ratio):
    factor = float(multiplier(ratio))
    assert int(nearest(np.float64(value) * np.array([factor]))[0]) == shifted(value, ratio)


def test_weights_are_quantised_by_output_channel():
    weight = np.array([[1.27, -0.62], [0.0, 0.0], [1e-6, 0.0]], np.float32)
    bias = np.array([0.25, 0.1, 1000.0], np.float32)
    q, whole, steps = quantised(weight, bias, Grid(0.5, 0, 255), Grid(0.25, 0, 255))
    assert q.tolist() == [[127, -62], [0, 0], [0, 0]]
    assert whole[0] == round(0.25 / (0.5 * 0.01))
    assert whole[1:].tolist() == [BIAS_LIMIT, BIAS_LIMIT]
    np.testing.assert_allclose(steps.bias, 0.5 * steps.weight, rtol=1e-12)
    np.testing.assert_allclose(steps.sums, steps.bias / 0.25, rtol=1e-7)
    assert isinstance(steps, Steps)
    assert quantised(np.zeros((1, 2), np.float32), None, Grid(0.5, 0, 255), None)[2].weight.tolist() == [1.0]


# --- narrow errors and gradients ---


def test_an_error_is_held_in_127_steps_of_its_largest_value():
    errors = NarrowErrors()
    held = errors.written(4, None, np.array([-2.54, 0.01, 0.03, 1.0]))
    assert held.dtype == np.int8
    assert held.tolist() == [-127, 1, 2, 50]  # steps of 0.02: 0.5 is rounded to 1, 1.5 to 2
    np.testing.assert_allclose(errors.read(4, held), [-2.54, 0.02, 0.04, 1.0], rtol=1e-6)


def test_errors_of_several_readers_add_up_in_real_values():
    errors = NarrowErrors()
    held = errors.written(0, None, np.array([1.27, -0.5]))
    held = errors.written(0, held, np.array([1.27, 0.5]))
    assert held.tolist() == [127, 0]
    np.testing.assert_allclose(errors.read(0, held)[0], 2.54, rtol=1e-6)


def test_a_mask_rounds_nothing_and_another_micro_batch_starts_afresh():
    errors = NarrowErrors()
    held = errors.written(1, None, np.array([1.27, 0.64, 0.01]))
    cut = errors.read(1, held) * np.array([0, 1, 1])
    assert errors.written(1, None, cut).tolist() == [0, 64, 1]
    errors.clear()
    assert errors.written(1, None, cut).tolist() == [0, 127, 2]


def test_zeros_have_a_scale_as_well():
    assert NarrowErrors().written(0, None, np.zeros(3)).tolist() == [0, 0, 0]


def test_gradients_have_one_scale_per_group():
    gradients, groups = NarrowGradients(), np.array([[0, 0], [1, 1]])
    first = gradients.accumulated("w", None, np.array([[1.27, 0.3], [0.0, 0.0]], np.float32), groups)
    assert first.tolist() == [[127, 30], [0, 0]]
    second = gradients.accumulated("w", first, np.array([[-1.27, 0.0], [0.0, 254.0]], np.float32), groups)
    assert second.tolist() == [[0, 127], [0, 127]]
    np.testing.assert_allclose(gradients.values("w", second, groups), [[0, 0.3], [0, 254]], atol=1e-6)


# --- updated integers ---


def test_updated_integers_go_to_the_nearest_or_to_a_neighbour():
    values = np.array([1.5, -1.5, 0.2, 126.9, -400.0])
    assert written_back(values, 127, None).tolist() == [2, -1, 0, 127, -127]
    assert written_back(values, 127, np.full(5, 0.49)).tolist() == [1, -2, 0, 127, -127]
    assert written_back(values, 127, np.full(5, 0.85)).tolist() == [2, -1, 1, 127, -127]


def test_stochastic_rounding_is_right_in_the_mean():
    values = np.linspace(-3, 3, 4001)
    total = sum(written_back(values, 127, seeded(7, step)("w", values.shape)) for step in range(400))
    share = values - np.floor(values)
    off = (total / 400 - values) / np.sqrt(np.maximum(share * (1 - share), 1e-9) / 400)
    assert abs(off[share > 0.01].mean()) < 0.1
    assert off[share > 0.01].std() == pytest.approx(1.0, abs=0.05)


def test_draws_depend_on_seed_step_and_key_alone():
    one = seeded(3, 1)
    assert np.array_equal(one("a.weight", (2, 3)).ravel(), one("a.weight", (6,)))
    others = (seeded(3, 2)("a.weight", (6,)), seeded(4, 1)("a.weight", (6,)), one("a.bias", (6,)))
    assert all(not np.array_equal(other, one("a.weight", (6,))) for other in others)
