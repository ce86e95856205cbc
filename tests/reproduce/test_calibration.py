"""Boards calibrated on ad and ic predict vww: errors recomputed from the table, nothing tuned on itself."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from dse.calibrate import load_runs
from dse.calibrate.mlperf import Run
from dse.reproduce import Reproduction
from dse.reproduce import calibration as study
from dse.reproduce.base import MODEL

RUNS = load_runs()
MACS = {"ad": 264_192, "ic": 12_501_632, "vww": 7_489_664}


@cache
def found() -> Reproduction:
    return study.reproduce()


@cache
def table() -> dict[tuple[str, ...], dict[str, float]]:
    """Latency [ms] by task of every run, straight from the file."""
    text = files("dse.reference").joinpath("mlperf_tiny.csv").read_text(encoding="utf-8")
    runs: dict[tuple[str, ...], dict[str, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = tuple(
            row[name] for name in ("round", "organisation", "run", "kernels", "core", "dtype", "board")
        )
        runs.setdefault(key, {})[row["task"]] = float(row["latency_ms"])
    return runs


def key_of(name: str) -> tuple[str, ...]:
    (key,) = (
        key for key, tasks in table().items()
        if f"{key[0]} {key[1]} {key[2].rpartition('/')[2]} {key[3]}" == name and len(tasks) == 3
    )  # fmt: skip
    return key


def one_factor_ms(key: tuple[str, ...]) -> float:
    """Own ic time per MAC times the median ratio of vww to ic of other organisations, from the file alone."""
    others = [(other, tasks) for other, tasks in table().items()
              if other[1] != key[1] and other[5] == key[5] and len(tasks) == 3]  # fmt: skip
    others = [pair for pair in others if pair[0][4] == key[4]] or others
    ratio = median((t["vww"] / MACS["vww"]) / (t["ic"] / MACS["ic"]) for _, t in others)
    return table()[key]["ic"] / MACS["ic"] * MACS["vww"] * ratio


def test_statistics_recomputed_from_the_table() -> None:
    rows = [row for row in found().rows if row.quantity == study.LATENCY]
    assert len(rows) == 44
    own, null = [], []
    for row in rows:
        key = key_of(row.name)
        measured = table()[key]["vww"]
        assert row.published == pytest.approx(measured)
        own.append(abs(row.model / measured - 1))
        null.append(abs(one_factor_ms(key) / measured - 1))
    told = found().statistics(study.LATENCY)
    for name, errors in ((MODEL, own), (study.ONE_FACTOR, null)):
        shown = (told[name].median, told[name].p90, told[name].worst)
        assert shown == pytest.approx((np.median(errors), np.quantile(errors, 0.9), max(errors)), rel=1e-9)
    assert np.median(own) < np.median(null)
    assert np.quantile(own, 0.9) < np.quantile(null, 0.9)
    assert max(own) < max(null)


def test_pinned_so_that_a_change_is_seen() -> None:
    told = found().statistics(study.LATENCY)
    assert round(told[MODEL].median, 3) == pytest.approx(0.116, abs=0.003)
    assert round(told[study.ONE_FACTOR].median, 3) == 0.145
    assert round(told[MODEL].p90, 3) == pytest.approx(0.581, abs=0.005)
    assert round(told[MODEL].worst, 3) == pytest.approx(0.745, abs=0.005)


def test_coverage_recomputed() -> None:
    rows = [row for row in found().rows if row.quantity == study.LATENCY]
    inside = sum(row.low <= table()[key_of(row.name)]["vww"] <= row.high for row in rows)  # type: ignore[operator]
    assert (inside, len(rows)) == study.coverage(found())
    assert 0.85 <= inside / len(rows) <= 0.97


@pytest.mark.parametrize("index", [0, 7, 20, 33, 43])
def test_the_vww_rows_of_an_organisation_change_none_of_its_predictions(index: int) -> None:
    predicted = [run for run in RUNS if run.complete and run.dtype == "int8"]
    run = predicted[index]

    def falsified(other: Run) -> Run:
        if other.organisation != run.organisation or "vww" not in other.latency_s:
            return other
        lies = {"vww": 17.0}
        return replace(
            other, latency_s={**other.latency_s, **lies}, energy_j={**other.energy_j, **lies},
            power_w={**other.power_w, **lies},
        )  # fmt: skip

    honest = study.predicted_s(run, RUNS)
    lied_to = study.predicted_s(falsified(run), [falsified(other) for other in RUNS])
    assert honest is not None
    assert lied_to is not None
    assert lied_to[0] == honest[0]


def test_the_generic_board_knows_no_rate_of_the_organisation() -> None:
    run = next(run for run in RUNS if run.organisation == "Nuvoton")
    mine = study.generic_board(run, RUNS)
    others = [other for other in RUNS if other.organisation != "Nuvoton"]
    assert study.generic_board(run, others).numbers() == mine.numbers()


def test_it_says_where_it_does_not_beat() -> None:
    text = "\n".join(found().summary)
    assert (
        "where calibration does not beat a null model: p90 error of latency of vww below own ic rate" in text
    )
    assert "lie in their 90 % intervals" in text


def test_the_page_says_what_comes_out() -> None:
    page = (Path(__file__).parents[2] / "docs" / "calibrate.md").read_text(encoding="utf-8")
    told = found().statistics(study.LATENCY)
    for name, by in (("calibrated", MODEL), ("one factor on the MACs", study.ONE_FACTOR)):
        sizes = (told[by].median, told[by].p90, told[by].worst)
        assert f"| {name} | " + " | ".join(f"{100 * size:.1f} %" for size in sizes) + " |" in page
    inside, count = study.coverage(found())
    assert f"hold {inside} of {count}" in page
