"""What contradicts physics is refused, and fitted only when asked to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dse.calibrate import Measurement, calibrate, load_runs
from dse.calibrate.mlperf import task_macs
from dse.calibrate.physics import PEAKS, peak
from dse.calibrate.profile import with_quantities
from dse.errors import UserError
from dse.hardware import list_boards, load_board

BOARD = load_board("stm32l4r5")
ROW = Measurement(dtype="int8", network="resnet8", clock_hz=120e6, latency_s=0.25, power_w=0.042, line=3,
                  columns={"latency_s": "latency_ms", "power_w": "power_mw"})  # fmt: skip


def refusal(row: Measurement) -> str:
    with pytest.raises(UserError) as caught:
        calibrate(BOARD, [row])
    return str(caught.value)


def test_the_row_itself_is_fine() -> None:
    assert not calibrate(BOARD, [ROW]).implausible


def test_milliseconds_given_as_seconds_in_a_column_of_milliseconds() -> None:
    said = refusal(replace(ROW, latency_s=0.25e-3))
    # 12 501 632 MACs in 30 000 cycles
    assert "line 3, latency_ms: 417 MAC/cycle" in said
    assert "cortex-m4 reaches 2 in int8 on 1 (SMLAD: two 16-bit MACs)" in said
    assert "is the unit in the header right (ms, us)?" in said


def test_milliseconds_in_a_column_of_seconds() -> None:
    said = refusal(replace(ROW, latency_s=250.0))
    assert "times the 165 ms expected" in said
    assert "is the unit in the header right" in said


def test_a_slow_kernel_of_an_honest_table_is_kept() -> None:
    assert calibrate(BOARD, [replace(ROW, latency_s=0.25 * 30)]).rows


def test_energy_against_power_times_latency() -> None:
    said = refusal(replace(ROW, energy_j=0.0125))
    assert "12.5 mJ, where power x latency gives 10.5 mJ" in said
    assert not calibrate(BOARD, [replace(ROW, energy_j=0.0110)]).implausible


def test_a_power_that_the_board_cannot_draw() -> None:
    assert "42 W, where the profile says" in refusal(replace(ROW, power_w=42.0))


def test_what_is_kept_on_request_is_fitted_and_listed() -> None:
    found = calibrate(BOARD, [replace(ROW, latency_s=0.25e-3)], keep_implausible=True)
    assert len(found.implausible) == 1
    assert found.rows[0].fitted_s < 0.01


def test_one_factor_below_the_peak_is_the_limit() -> None:
    limit = 12_501_632 / (2.0 * 120e6)
    assert not calibrate(BOARD, [replace(ROW, latency_s=limit * 1.001, power_w=None)]).implausible
    assert "MAC/cycle" in refusal(replace(ROW, latency_s=limit * 0.999))


@pytest.mark.parametrize("name", list_boards())
def test_no_shipped_rate_is_above_the_peak_of_its_core(name: str) -> None:
    board = load_board(name)
    for rate in board.rates:
        one = PEAKS.get((board.core, rate.dtype))
        assert rate.mac_per_cycle.value <= peak(board, rate.dtype, rate.cores).macs
        if one is not None:
            assert rate.mac_per_cycle.value <= one.macs * rate.cores, rate.key


def test_no_published_run_is_above_the_peak_of_its_core() -> None:
    for run in load_runs():
        one = PEAKS.get((run.core, run.dtype))
        for task, seconds in run.latency_s.items():
            if one is not None:
                assert task_macs(task) / (seconds * run.clock_hz) < one.macs, run.name


def test_a_row_without_macs_that_is_a_thousand_times_too_fast() -> None:
    row = Measurement(dtype="fp32", operator="relu", elements=576, cores=8, cycles=917)
    assert calibrate(load_board("vega"), [row]).rows
    for factor in (1 / 1000, 1000):
        with pytest.raises(UserError, match="is the unit in the header right"):
            calibrate(load_board("vega"), [replace(row, cycles=917 * factor)])


@pytest.mark.parametrize("clock", [120.0, 120e12])
def test_a_clock_in_another_unit_is_told_at_the_clock_and_once(clock: float) -> None:
    said = refusal(replace(ROW, clock_hz=clock))
    assert said.startswith("measurements: line 3, clock_hz: ")
    assert "runs at 120 MHz" in said
    assert "MAC/cycle" not in said
    assert not calibrate(BOARD, [replace(ROW, clock_hz=48e6, latency_s=0.4, power_w=None)]).implausible


def test_a_row_whose_cost_the_profile_includes_elsewhere_is_refused() -> None:
    row = Measurement(dtype="int8", operator="relu", elements=1000, clock_hz=120e6, latency_s=1e-3)
    for keep in (False, True):
        with pytest.raises(UserError, match="takes no time by the profile"):
            calibrate(BOARD, [row], keep_implausible=keep)


def test_a_rate_of_the_profile_raises_the_peak_of_its_own_dtype_alone() -> None:
    board = load_board("vega")
    path, rate = next(
        each for each in board.numbers() if each[0].startswith("rate[") and ",fp16,8]" in each[0]
    )
    fast = with_quantities(board, {path: rate.model_copy(update={"value": 90.0, "high": 100.0})})
    assert peak(fast, "fp16", 8).macs == 100.0 > peak(board, "fp16", 8).macs
    assert peak(fast, "fp32", 8) == peak(board, "fp32", 8)
    assert peak(fast, "fp16", 1) == peak(board, "fp16", 1)
