"""Power and energy at operating points."""

from __future__ import annotations

from math import exp, log

import pytest

from dse.calibrate import Measurement, calibrate
from dse.calibrate.power import power_of
from dse.hardware import load_board
from tests.calibrate.synthetic import vega

BOARD = load_board("stm32l4r5")


def row(dtype: str = "int8", network: str = "resnet8", **fields: object) -> Measurement:
    given: dict[str, object] = {"clock_hz": 120e6, "latency_s": 0.25}
    return Measurement(dtype=dtype, network=network, **{**given, **fields})  # type: ignore[arg-type]


def test_energy_over_latency_is_a_power() -> None:
    found = calibrate(BOARD, [row(energy_j=0.0125), row(network="autoencoder", latency_s=0.01, power_w=0.05)])
    (power,) = found.powers
    assert (power.point, power.field, power.rows) == ("120MHz", "inference_power_w", 2)
    assert power.value_w == pytest.approx(0.05, rel=0.01)
    assert power.low_w < 0.05 < power.high_w


def test_int8_inference_and_everything_else_are_two_powers() -> None:
    rows = [row(power_w=0.045), row("fp32", latency_s=1.2, power_w=0.055)]
    found = {power.field: power.value_w for power in calibrate(BOARD, rows).powers}
    assert found["inference_power_w"] == pytest.approx(0.045, rel=0.02)
    assert found["training_power_w"] == pytest.approx(0.055, rel=0.02)


def test_the_rails_that_the_meter_has_to_see_are_named() -> None:
    (power,) = calibrate(BOARD, [row(power_w=0.045)]).powers
    assert power.domains == BOARD.operating_points[0].domains == ("mcu",)


def test_mean_and_interval_by_hand() -> None:
    """Four powers, 5 % expected scatter as three rows, a prior of a factor of two."""
    powers = [0.040, 0.042, 0.044, 0.046]
    logs = [log(power) for power in powers]
    mean = sum(logs) / 4
    own = sum((one - mean) ** 2 for one in logs)
    scatter = ((3 * 0.05**2 + own) / 6) ** 0.5
    data, belief = 4 / scatter**2, (1.6448536 / log(2.0)) ** 2
    prior = BOARD.operating_points[0].inference_power_w
    expected = (data * mean + belief * log(prior.value)) / (data + belief)
    value, reach = power_of(logs, prior)
    assert value == pytest.approx(exp(expected), rel=1e-6)
    student_90_of_6 = 1.9432
    assert reach == pytest.approx(student_90_of_6 * (scatter**2 + 1 / (data + belief)) ** 0.5, rel=1e-3)


def test_an_operating_point_is_named_where_two_share_a_clock() -> None:
    found = calibrate(BOARD, [row(power_w=0.033, operating_point="120MHz-smps")])
    assert found.powers[0].point == "120MHz-smps"
    unnamed = calibrate(BOARD, [row(power_w=0.042)])
    assert any("120MHz, 120MHz-smps have the same clock" in note for note in unnamed.notes)


def test_a_clock_that_no_operating_point_has_gives_time_but_no_power() -> None:
    found = calibrate(BOARD, [row(clock_hz=96e6, power_w=0.03)])
    assert not found.powers
    assert any("96 MHz is not used" in note for note in found.notes)
    assert found.rows


def test_power_alone_is_enough() -> None:
    found = calibrate(BOARD, [row(latency_s=None, power_w=0.05)])
    assert found.powers[0].value_w == pytest.approx(0.05, rel=0.02)
    assert not found.rows


def test_the_standby_of_attached_parts_is_no_power_of_the_chip() -> None:
    board = load_board("vega + hyperram-64")
    part = next(level for level in board.levels if level.attached)
    assert part.standby_power_w is not None
    measured = 0.06 + part.standby_power_w.value
    rows = [Measurement(dtype="fp32", operator="linear", macs=1e6, cycles=1e6, power_w=measured)]
    with_part, without = calibrate(board, rows).powers[0], calibrate(vega(), rows).powers[0]
    ratio = 0.06 / measured
    assert log(with_part.value_w / without.value_w) == pytest.approx(log(ratio), rel=0.05)


def test_the_standby_of_a_memory_on_a_rail_that_the_meter_sees_belongs_to_the_power() -> None:
    board = load_board("vega + hyperram-64")
    rail = board.operating_points[0].domains[0]
    inside = tuple(level.model_copy(update={"domain": rail}) for level in board.levels)
    rows = [Measurement(dtype="fp32", operator="linear", macs=1e6, cycles=1e6, power_w=0.06)]
    metered = calibrate(board.model_copy(update={"levels": inside}), rows).powers[0]
    assert metered.value_w == calibrate(vega(), rows).powers[0].value_w
    assert metered.value_w > calibrate(board, rows).powers[0].value_w


def test_held_out_energy_is_held_out_power_times_held_out_time() -> None:
    rows = [row(power_w=0.040), row(network="ds-cnn", latency_s=0.05, power_w=0.050)]
    found = calibrate(BOARD, rows)
    first = found.rows[0]
    alone = calibrate(BOARD, rows[1:])
    assert first.held_out_j == pytest.approx(alone.powers[0].value_w * first.held_out_s, rel=1e-6)
    assert first.energy_j == pytest.approx(0.040 * 0.25)


def test_the_same_time_at_two_operating_points_of_one_clock_is_one_thing_and_two_powers() -> None:
    rows = [row(power_w=0.042, operating_point="120MHz"), row(power_w=0.033, operating_point="120MHz-smps")]
    found = calibrate(BOARD, rows)
    assert {power.point for power in found.powers} == {"120MHz", "120MHz-smps"}
    # Held out, neither is predicted by the other: what is left is the profile.
    for each in found.rows:
        assert each.held_out_s == pytest.approx(each.prior_s, rel=1e-12)
