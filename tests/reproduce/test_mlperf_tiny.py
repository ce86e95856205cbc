"""The rule that predicts vww: whom it may learn from, and what it does with that."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest

from dse.calibrate import donors as rule
from dse.calibrate.mlperf import Run, load_runs, operator_macs, task_macs
from dse.reproduce import mlperf_tiny as study
from dse.reproduce.base import MODEL

RUNS = load_runs()
PREDICTED = [run for run in RUNS if run.complete and study.donors_for(run, RUNS)]


def run_of(organisation: str, kernels: str, core: str = "cortex-m4") -> Run:
    return next(
        run for run in RUNS if (run.organisation, run.kernels, run.core) == (organisation, kernels, core)
    )


def test_macs_of_the_tasks() -> None:
    assert {task: task_macs(task) for task in ("ad", "ic", "vww")} == {
        "ad": 264_192,
        "ic": 12_501_632,
        "vww": 7_489_664,
    }
    assert operator_macs("vww")["depthwise"] == 798_336


def test_how_much_there_is_to_predict() -> None:
    assert len(PREDICTED) == 44
    assert sum("vww" in run.energy_j and bool(run.power_w) for run in PREDICTED) == 21


@pytest.mark.parametrize("run", PREDICTED, ids=lambda run: run.name)
def test_no_donor_is_of_the_same_organisation_or_another_dtype(run: Run) -> None:
    donors = study.donors_for(run, RUNS)
    assert donors is not None
    assert all(other.organisation != run.organisation for other in donors.runs)
    assert {other.dtype for other in donors.runs} == {run.dtype}


@pytest.mark.parametrize("run", PREDICTED, ids=lambda run: run.name)
def test_the_predicted_figures_of_an_organisation_change_none_of_its_predictions(run: Run) -> None:
    """Leave one organisation out, tested by falsifying all vww rows of that organisation."""

    def falsified(other: Run) -> Run:
        if other.organisation != run.organisation or "vww" not in other.latency_s:
            return other
        return replace(
            other,
            latency_s={**other.latency_s, "vww": 17.0},
            energy_j={**other.energy_j, "vww": 17.0},
            power_w={**other.power_w, "vww": 17.0},
        )

    honest = study.comparisons(run, RUNS)[0]
    lied_to = study.comparisons(falsified(run), [falsified(other) for other in RUNS])[0]
    assert lied_to.published == 17.0e3
    assert (lied_to.model, lied_to.low, lied_to.high) == (honest.model, honest.low, honest.high)
    assert lied_to.null_models == honest.null_models


def test_the_same_library_elsewhere_comes_first() -> None:
    donors = study.donors_for(run_of("STMicroelectronics", "x-cube-ai-7.3"), RUNS)
    assert donors is not None
    assert donors.step == study.SAME_LIBRARY
    assert {(other.organisation, other.kernels, other.core) for other in donors.runs} == {
        ("Krai", "x-cube-ai-7.3", "cortex-m4")
    }


def test_another_core_serves_where_nobody_ran_the_library_on_this_one() -> None:
    run = replace(run_of("renesas", "cmsis-nn", "cortex-m33"), core="cortex-m7")
    donors = study.donors_for(run, RUNS)
    assert donors is not None
    assert donors.step == study.SAME_LIBRARY
    assert {other.core for other in donors.runs} == {"cortex-m4", "cortex-m33"}


def test_other_libraries_come_from_the_same_core_and_no_later_round() -> None:
    run = run_of("plumerai", "plumerai")
    donors = study.donors_for(run, RUNS)
    assert donors is not None
    assert donors.step == rule.SAME_CORE
    assert {other.core for other in donors.runs} == {"cortex-m4"}
    assert max(other.round for other in donors.runs) <= run.round


def test_a_core_of_its_own_learns_from_any_core() -> None:
    donors = study.donors_for(run_of("bosch", "hale-1.0", "cortex-m0plus"), RUNS)
    assert donors is not None
    assert donors.step == rule.ANY_CORE


def test_a_dtype_of_one_organisation_is_not_predicted() -> None:
    alone = [run for run in RUNS if run.dtype == "fp32" and run.complete]
    assert alone
    assert all(study.donors_for(run, RUNS) is None for run in alone)
    listed = study.reproduce().unpredicted
    assert all(any(line.startswith(run.name) for line in listed) for run in alone)


@pytest.mark.parametrize("run", PREDICTED, ids=lambda run: run.name)
def test_the_own_ratio_gives_back_the_own_latency(run: Run) -> None:
    assert study.latency_s(run, run.separable_ratio) == pytest.approx(run.latency_s["vww"], rel=1e-12)


def test_latency_is_the_sum_over_operators() -> None:
    run = run_of("Nuvoton", "onnc")
    macs = operator_macs("vww")
    cycles = macs["conv2d"] * run.dense + macs["linear"] * run.linear
    cycles += (macs["depthwise"] + macs["pointwise"]) * 1.5 * run.dense
    assert study.latency_s(run, 1.5) == pytest.approx(cycles / run.clock_hz)


def test_null_models_by_hand() -> None:
    run = run_of("STMicroelectronics", "x-cube-ai-9.0")
    others = [
        other
        for other in RUNS
        if other.organisation != "STMicroelectronics"
        and (other.core, other.dtype) == ("cortex-m4", "int8")
        and other.complete
    ]
    factor = median(
        (other.latency_s["vww"] / 7_489_664) / (other.latency_s["ic"] / 12_501_632) for other in others
    )
    own = run.latency_s["ic"] / 12_501_632 * 7_489_664
    found = study.null_latencies_s(run, RUNS)
    assert found["own ic rate"] == pytest.approx(own)
    assert found["one factor"] == pytest.approx(own * factor)


def test_energy_is_own_power_times_predicted_latency() -> None:
    run = run_of("STMicroelectronics", "x-cube-ai-8.1")
    latency, energy = study.comparisons(run, RUNS)
    power = (run.power_w["ad"] + run.power_w["ic"]) / 2
    assert energy.model == pytest.approx(latency.model * 1e-3 * power * 1e6)
    assert energy.published == pytest.approx(5618.28)


def test_the_gain_comes_from_libraries_that_others_measured() -> None:
    """Where a library comes from one organisation alone, the model is no better than the null model."""
    found = study.reproduce()
    same = found.statistics(study.LATENCY, lambda row: row.note.startswith(study.SAME_LIBRARY))
    alone = found.statistics(study.LATENCY, lambda row: not row.note.startswith(study.SAME_LIBRARY))
    assert same[MODEL].median < 0.05 < alone[MODEL].median
    assert alone[MODEL].p90 > 0.4, "the two modes of the ratio are told apart now: say so in the module"
