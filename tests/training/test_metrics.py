"""Metrics of continual learning on matrices small enough for pen and paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dse.training import metrics

NAN = math.nan
LOWER = [[0.9, NAN, NAN], [0.6, 0.8, NAN], [0.5, 0.9, 0.7]]


def test_three_parts_by_hand():
    # Part 0 was best at 0.9 and ends at 0.5; part 1 was best at 0.8 before the end, where it gains 0.1.
    assert metrics.forgetting(LOWER) == pytest.approx((0.4 - 0.1) / 2)
    assert metrics.backward_transfer(LOWER) == pytest.approx((-0.4 + 0.1) / 2)
    assert metrics.mean_accuracy(LOWER) == pytest.approx(0.7)
    assert metrics.average_accuracy([0.9, 0.7, 0.65]) == pytest.approx(0.75)


def test_the_best_may_lie_after_the_part_was_learned():
    matrix = [[0.5, NAN, NAN], [0.8, 0.6, NAN], [0.7, 0.6, 0.9]]
    assert metrics.forgetting(matrix) == pytest.approx((0.1 + 0.0) / 2)
    assert metrics.backward_transfer(matrix) == pytest.approx((0.2 + 0.0) / 2)


def test_what_was_not_measured_does_not_count():
    joint = [[0.9, NAN, NAN], [NAN, NAN, NAN], [0.8, 0.7, 0.6]]
    assert metrics.forgetting(joint) == pytest.approx(0.1)
    assert metrics.backward_transfer(joint) == pytest.approx(-0.1)
    assert metrics.average_accuracy([0.9, NAN, 0.7]) == pytest.approx(0.8)


@pytest.mark.parametrize("matrix", [[[0.9]], [[NAN, NAN], [NAN, NAN]], [[NAN, 0.2], [NAN, 0.4]]])
def test_what_is_not_defined_is_nan(matrix):
    assert math.isnan(metrics.forgetting(matrix))
    assert math.isnan(metrics.backward_transfer(matrix))


def test_accuracy_of_nothing_is_nan():
    nothing = np.zeros(4, dtype=bool)
    assert math.isnan(metrics.accuracy(nothing, nothing))
    assert math.isnan(metrics.average_accuracy([NAN, NAN]))


def test_matrix_counts_samples_of_classes_seen_alone():
    part = np.array([0, 0, 0, 1, 1, -1])
    hits = np.array([[1, 1, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0]], dtype=bool)
    seen = np.array([[1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1]], dtype=bool)
    matrix = metrics.accuracy_matrix(hits, part, seen)
    np.testing.assert_allclose(matrix, [[2 / 3, NAN], [1 / 3, 1 / 2]])
    assert metrics.accuracy(hits[0], seen[0]) == pytest.approx(3 / 4)
    assert metrics.accuracy(hits[1], seen[1]) == pytest.approx(2 / 6)


def test_accuracy_weighs_samples_and_acc_weighs_parts():
    part = np.array([0] * 9 + [1])
    hits = np.array([[True] * 9 + [False]] * 2)
    seen = np.ones_like(hits)
    assert metrics.accuracy(hits[1], seen[1]) == pytest.approx(0.9)
    assert metrics.mean_accuracy(metrics.accuracy_matrix(hits, part, seen)) == pytest.approx(0.5)


@given(arrays.arrays(float, st.integers(2, 6).map(lambda n: (n, n)), elements=st.floats(0, 1)))
def test_forgetting_is_at_least_what_backward_transfer_says(matrix):
    count = len(matrix)
    losses = [max(matrix[i][j] for i in range(count - 1)) - matrix[-1][j] for j in range(count - 1)]
    gains = [matrix[-1][j] - matrix[j][j] for j in range(count - 1)]
    assert metrics.forgetting(matrix) == pytest.approx(sum(losses) / (count - 1))
    assert metrics.backward_transfer(matrix) == pytest.approx(sum(gains) / (count - 1))
    assert metrics.forgetting(matrix) >= -metrics.backward_transfer(matrix) - 1e-12
