"""Figures of docs/checkpoints.md against the schedule."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from dse.cost.memory import training_peak_bytes
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import TrainingStep, training_step
from dse.workload import load_network

PAGE = (Path(__file__).parents[1] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\S+)` \| (fp32|int8) \| ([\d,]+) B \| (.*) \|$", PAGE, re.MULTILINE)
SPLIT = re.compile(r"([\d,]+) B, ([\d.]+) %: `(units [\d ]+)`")
PLAN = TrainingPlan(
    cut=-1, replay="none", new_per_batch=1, replays_per_batch=0, update="in_place", new_samples="recompute"
)


@cache
def described(network: str, dtype: str, checkpoints: str) -> TrainingStep:
    workload = load_network(network)
    plan = replace(PLAN, learning_dtype=dtype, checkpoints=checkpoints)
    return training_step(workload, PlanBatch.from_plans(workload, [plan]))


def test_the_table_is_read() -> None:
    assert len(ROWS) == 4
    assert all(len(SPLIT.findall(splits)) == 2 for *_, splits in ROWS)


@pytest.mark.parametrize(("network", "dtype", "whole", "splits"), ROWS)
def test_peaks_and_work_are_those_of_the_schedule(network: str, dtype: str, whole: str, splits: str) -> None:
    plain = described(network, dtype, "none")
    forward = float(plain.macs[0, :, 0].sum())
    assert f"{int(training_peak_bytes(plain)[0]):,}" == whole
    for peak, share, word in SPLIT.findall(splits):
        step = described(network, dtype, word)
        assert f"{int(training_peak_bytes(step)[0]):,}" == peak
        assert f"{100 * (float(step.macs[0, :, 0].sum()) / forward - 1):.1f}" == share
