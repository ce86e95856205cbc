"""Published runs as measurements, and ratios of other organisations as a prior."""

from __future__ import annotations

import csv
from dataclasses import replace
from importlib.resources import files
from math import log
from statistics import median

import pytest

import dse
from dse.calibrate import donors_for, find_run, load_runs, run_measurements, run_name, stand_in
from dse.calibrate.calibration import BY_RATIO
from dse.errors import UnknownName, UserError
from dse.hardware import load_board

NAME = "STMicroelectronics/NUCLEO-L4R5ZI/x-cube-ai-8.1"


def table() -> list[dict[str, str]]:
    text = files("dse.reference").joinpath("mlperf_tiny.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_a_run_is_its_ad_and_ic_rows_as_the_table_has_them() -> None:
    rows = run_measurements(find_run(NAME))
    wanted = [
        row for row in table()
        if (row["organisation"], row["board"], row["kernels"]) == ("STMicroelectronics", "NUCLEO-L4R5ZI",
                                                                   "x-cube-ai-8.1") and row["task"] != "vww"
    ]  # fmt: skip
    assert {row.note for row in rows} == {"ad", "ic"}
    for row in rows:
        (published,) = (each for each in wanted if each["task"] == row.note)
        assert row.latency_s == pytest.approx(float(published["latency_ms"]) * 1e-3)
        assert row.energy_j == pytest.approx(float(published["energy_uj"]) * 1e-6)
        assert row.clock_hz == float(published["clock_mhz"]) * 1e6


def test_names_of_runs() -> None:
    assert find_run(NAME.lower()) == find_run(NAME)
    assert run_name(find_run(NAME)) == NAME
    with pytest.raises(UnknownName, match=f"did you mean '{NAME}'"):
        find_run("STMicroelectronics/NUCLEO-L4R5ZI/x-cube-ai-8.4")
    with pytest.raises(UserError, match=r"names 2 runs; one of .*@v0.7, .*@v1.0"):
        find_run("plumerai/Nucleo-L4R5ZI/plumerai")
    assert find_run("plumerai/Nucleo-L4R5ZI/plumerai@v0.7").round == "v0.7"
    assert find_run("Andes/AndesCore_d45_tflite_micro_framework/andes-nn").latency_s["ad"] == 0.012128
    with pytest.raises(UserError, match="has no ad row"):
        find_run("kai_jiang/LC236R5E176_BOARD_V2.0/own")
    for text in ("", "/", "a/b", "@", "x@y"):
        with pytest.raises(UserError):
            find_run(text)


def test_every_run_has_a_name_that_finds_it() -> None:
    for run in load_runs():
        if run.latency_s.keys() >= {"ad", "ic"}:
            assert find_run(f"{run.organisation}/{run.label}/{run.kernels}@{run.round}").source == run.source


def test_other_boards_set_depthwise_and_pointwise_beside_the_fitted_convolution() -> None:
    """Cycles per MAC of both together over those of conv2d are the donors' median, by hand from the table."""
    found = dse.calibrate_board("stm32l4r5", run=NAME, other_boards=True)
    values = {each.term.label.split()[0]: each.value for each in found.terms}
    deep, point = 798_336, 6_193_152
    together = (deep / values["depthwise"] + point / values["pointwise"]) / (deep + point)
    donors = donors_for(find_run(NAME), load_runs())
    assert donors is not None
    assert all(run.organisation != "STMicroelectronics" for run in donors.runs)
    ratio = together * values["conv2d"]
    assert ratio == pytest.approx(median(donors.ratios), rel=0.03)
    assert {each.term.label.split()[0] for each in found.terms if each.status == BY_RATIO} == {
        "depthwise", "pointwise"
    }  # fmt: skip
    # How the two differ stays as in the profile.
    before = dict(load_board("stm32l4r5").numbers())
    profile = [before[f"rate[x-cube-ai,{each},fwd,int8,1].mac_per_cycle"].value
               for each in ("pointwise", "depthwise")]  # fmt: skip
    assert log(values["pointwise"] / values["depthwise"]) == pytest.approx(
        log(profile[0] / profile[1]), abs=0.05
    )


def test_the_own_vww_row_is_never_read() -> None:
    found = dse.calibrate_board("stm32l4r5", run=NAME, other_boards=True)
    assert {row.row.measurement.network for row in found.rows} == {"autoencoder", "resnet8"}


def test_rows_of_a_user_take_all_boards_of_the_core() -> None:
    board = load_board("stm32l4r5")
    donors = donors_for(stand_in(board, "int8"), load_runs())
    assert donors is not None
    assert {run.core for run in donors.runs} == {"cortex-m4"}
    rows = run_measurements(find_run(NAME))
    found = dse.calibrate_board(board, rows, other_boards=True)
    assert found.prior.ratios


def test_other_boards_for_a_dtype_that_nobody_measured() -> None:
    rows = [run_measurements(find_run(NAME))[0]]
    with pytest.raises(UserError, match="nobody else measured fp16"):
        dse.calibrate_board("vega", [replace(rows[0], dtype="fp16", clock_hz=375e6)], other_boards=True)
