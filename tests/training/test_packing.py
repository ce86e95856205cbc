"""Packed bytes against a loop over single bits, and levels against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dse.errors import UserError
from dse.plan.decisions import ROUNDINGS
from dse.training.packing import Quantiser, row_bytes
from dse.vocabulary import REPLAY_BITS

NARROW = [bits for bits in REPLAY_BITS if bits <= 8]
QUANTISED = [bits for bits in REPLAY_BITS if bits <= 16]


def bit_by_bit(levels, bits):
    """Row bytes of one sample: element i at bits i Q .. i Q + Q - 1, bit 0 lowest in the first byte."""
    row = [0] * -(-len(levels) * bits // 8)
    for index, level in enumerate(levels):
        for bit in range(bits):
            place = index * bits + bit
            row[place // 8] |= (int(level) >> bit & 1) << place % 8
    return row


def naive_level(value, quantiser):
    """Level of one value by exact arithmetic on the numbers that are stored."""
    exact = Fraction(float(value)) / Fraction(quantiser.scale)
    if quantiser.rounding == "floor":
        level = floor(exact)
        if exact - level > 1 - abs(exact) * Fraction(1, 2**23):  # a level, but for the rounding of float32
            level += 1
    else:
        level = round(exact)
    if quantiser.signed:
        most = 2 ** (quantiser.bits - 1) - 1
        return min(max(level, -most), most)
    return min(max(level, 0), 2**quantiser.bits - 1)


@st.composite
def samples(draw, low=-8.0, high=8.0):
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 41)))
    return draw(arrays.arrays(np.float32, shape, elements=st.floats(low, high, width=32)))


@given(st.data(), st.sampled_from(NARROW), st.integers(0, 3), st.integers(1, 41))
def test_rows_are_what_a_loop_over_bits_writes(data, bits, count, elements):
    strategy = arrays.arrays(np.uint8, (count, elements), elements=st.integers(0, 2**bits - 1))
    levels = data.draw(strategy)
    quantiser = Quantiser(bits, "nearest", 1.0, False, elements)
    rows = quantiser.encode(levels.astype(np.float32))
    assert rows.dtype == np.uint8
    assert rows.tolist() == [bit_by_bit(row, bits) for row in levels]
    assert rows.shape == (count, row_bytes(elements, bits))
    np.testing.assert_array_equal(quantiser.decode(rows), levels)


def test_three_bits_by_hand():
    # 0b101, 0b011, 0b111 -> bits 1 0 1 1 1 0 1 1 1 -> bytes 0b11011101, 0b1
    rows = Quantiser(3, "nearest", 1.0, False, 3).encode(np.array([[5, 3, 7]], np.float32))
    assert rows.tolist() == [[0b11011101, 0b1]]


def test_sixteen_bits_are_little_endian_and_thirty_two_are_the_values():
    sixteen = Quantiser(16, "nearest", 1.0, False, 2)
    assert sixteen.encode(np.array([[1, 515]], np.float32)).tolist() == [[1, 0, 3, 2]]
    values = np.array([[-1.5, 3e38]], np.float32)
    exact = Quantiser(32, "nearest", 1.0, True, 2)
    assert exact.encode(values).tobytes() == values.astype("<f4").tobytes()
    np.testing.assert_array_equal(exact.decode(exact.encode(values)), values)


@given(samples(), st.sampled_from(QUANTISED), st.sampled_from(ROUNDINGS), st.booleans())
def test_values_are_levels_of_exact_arithmetic(x, bits, rounding, signed):
    assume(not (signed and bits == 1))
    quantiser = Quantiser.calibrated(bits, rounding, x, signed)
    kept = quantiser.decode(quantiser.encode(x))
    wanted = [[naive_level(value, quantiser) for value in row] for row in x]
    near = np.array([[Fraction(float(value)) / Fraction(quantiser.scale) % 1 for value in row] for row in x])
    # Where exact arithmetic lies within a float32 rounding of the border between two levels, either is right.
    edge = np.abs(near.astype(float) - (0.5 if rounding == "nearest" else 0.0))
    edge = np.minimum(edge, 1 - edge if rounding == "floor" else edge)
    away = edge > 2.0**-21 * 2**bits
    got = np.rint(kept.astype(float) / quantiser.scale)
    np.testing.assert_array_equal(got[away], np.array(wanted, dtype=float)[away])
    assert np.abs(got - np.array(wanted, dtype=float)).max() <= 1


@given(samples(), st.sampled_from(QUANTISED), st.sampled_from(ROUNDINGS), st.booleans())
def test_storing_what_was_stored_changes_nothing(x, bits, rounding, signed):
    quantiser = Quantiser.calibrated(bits, rounding, x, signed)
    rows = quantiser.encode(x)
    kept = quantiser.decode(rows)
    np.testing.assert_array_equal(quantiser.encode(kept), rows)
    np.testing.assert_array_equal(quantiser.quantised(x), kept)


@given(samples(low=0.0), st.sampled_from(QUANTISED))
def test_errors_are_half_a_level_to_the_nearest_and_one_level_downwards(x, bits):
    for rounding, below, above in (("nearest", 0.5, 0.5), ("floor", 1.0, 0.0)):
        quantiser = Quantiser.calibrated(bits, rounding, x, signed=False)
        lost = (x.astype(float) - quantiser.quantised(x)) / quantiser.scale
        slack = 2.0**-21 * 2**bits
        assert lost.max() <= below + slack
        assert lost.min() >= -above - slack


@pytest.mark.parametrize(
    ("rounding", "signed", "wanted"),
    [
        ("nearest", False, [0, 0, 0, 1, 2, 3, 3]),
        ("floor", False, [0, 0, 0, 0, 1, 2, 3]),
        ("nearest", True, [-1, -1, 0, 1, 1, 1, 1]),
        ("floor", True, [-1, -1, 0, 0, 1, 1, 1]),
    ],
)
def test_two_bits_by_hand(rounding, signed, wanted):
    x = np.array([[-3, -0.75, 0, 0.75, 1.75, 2.75, 9]], np.float32)
    np.testing.assert_array_equal(Quantiser(2, rounding, 1.0, signed, 7).quantised(x), [wanted])


def test_a_single_signed_bit_is_the_sign_times_the_mean_magnitude():
    x = np.array([[-3, -1, 0, 4]], np.float32)
    quantiser = Quantiser.calibrated(1, "floor", x, signed=True)
    assert quantiser.scale == 2.0
    np.testing.assert_array_equal(quantiser.quantised(x), [[-2, -2, 2, 2]])
    assert quantiser.encode(x).tolist() == [[0b1100]]


def test_scales_hold_the_largest_value():
    x = np.array([[0.5, 3.0, -6.0]], np.float32)
    assert Quantiser.calibrated(4, "nearest", x, signed=False).scale == float(np.float32(3 / 15))
    assert Quantiser.calibrated(4, "nearest", x, signed=True).scale == float(np.float32(6 / 7))
    assert Quantiser.calibrated(4, "nearest", 0 * x, signed=True).scale == 1.0


def test_values_beyond_the_range_saturate():
    quantiser = Quantiser(8, "floor", float(np.finfo(np.float32).tiny), False, 2)
    assert quantiser.encode(np.array([[3e38, -3e38]], np.float32)).tolist() == [[255, 0]]


@given(st.floats(2.0**-10, 1.0, width=32), st.floats(-4, 4, width=32))
def test_frames_are_kept_exactly(scale, offset):
    stored = np.arange(256, dtype=np.uint8).reshape(2, 128)
    values = stored * np.float32(scale) + np.float32(offset)
    quantiser = Quantiser.of_frames(128, scale, offset)
    np.testing.assert_array_equal(quantiser.encode(values), stored)
    np.testing.assert_array_equal(quantiser.decode(stored), values)


def test_large_tensors_are_converted_in_pieces_without_a_seam():
    x = np.random.default_rng(3).normal(size=(301, 700)).astype(np.float32)
    quantiser = Quantiser.calibrated(5, "nearest", x, signed=True)
    rows = quantiser.encode(x)
    for row in (0, 92, 93, 94, 300):
        np.testing.assert_array_equal(quantiser.encode(x[row : row + 1]), rows[row : row + 1])
        np.testing.assert_array_equal(quantiser.decode(rows)[row], quantiser.decode(rows[row : row + 1])[0])


def test_what_does_not_exist_is_refused_all_at_once():
    with pytest.raises(UserError) as raised:
        Quantiser(9, "up", 0.0, False, 0)
    assert [problem.key for problem in raised.value.problems] == [
        "replay_bits", "rounding", "scale", "elements",
    ]  # fmt: skip
    assert "one of 1, 2, 3, 4, 5, 6, 7, 8, 16, 32" in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value):
    x = np.array([[1, value]], np.float32)
    quantiser = Quantiser(8, "nearest", 1.0, False, 2)
    for call in (
        quantiser.encode,
        quantiser.quantised,
        lambda x: Quantiser.calibrated(8, "nearest", x, True),
    ):
        with pytest.raises(UserError, match="NaN or infinite"):
            call(x)


def test_shapes_that_do_not_fit_are_refused():
    quantiser = Quantiser(3, "nearest", 1.0, False, 5)
    with pytest.raises(UserError, match=r"shape \(n, 5\)"):
        quantiser.encode(np.zeros((2, 4), np.float32))
    with pytest.raises(UserError, match="rows of 2 bytes"):
        quantiser.decode(np.zeros((2, 3), np.uint8))
    with pytest.raises(UserError, match="calibration samples"):
        Quantiser.calibrated(3, "nearest", np.zeros((0, 5), np.float32), signed=False)
