"""Every decision of a design is told: two designs that differ are told apart."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dse
from dse.cost.context import Context
from dse.hardware import load_board
from dse.plan.decisions import LIFESPAN_CHOICES, TrainingPlan
from dse.report.board_report import board_report
from dse.report.estimate import plan_words
from dse.report.outcome import outcome_text
from dse.report.summary import report_text
from dse.report.tables import DECIDED, decided_columns
from dse.search.choices import DECISIONS
from dse.workload import load_network

OTHER: dict[str, Any] = {
    "head": "ncm", "replay": "raw", "n_replays": 7, "replay_bits": 4, "rounding": "floor",
    "replay_level": "L2", "frozen_bits": 32, "policy": "bias", "learning_dtype": "int8",
    "bn_mode": "frozen_stats", "optimiser": "adam", "new_per_batch": 5, "replays_per_batch": 3,
    "micro_batch": 2, "update": "immediate", "epochs": 2, "images_per_event": 42, "new_samples": "recompute",
    "first_input": "dequantised", "persist_every": 3, "backward_dtype": "int8", "accumulator_dtype": "int8",
    "classifier_dtype": "fp32", "gradient_scaling": "none", "weight_rounding": "nearest", "cut": 5,
    "in_place": "depthwise", "checkpoints": "every 2", "saved_bits": 4, "im2col": "full",
    "patches": "2x2 to 2",
}  # fmt: skip
OTHER_OF_INT8 = {
    "backward_dtype", "accumulator_dtype", "classifier_dtype", "gradient_scaling", "weight_rounding",
}  # fmt: skip
SPACE = """\
networks = ["resnet8"]
boards = ["stm32l4r5"]
objectives = ["event_j", "ram_peak_bytes"]
accuracy = "none"
[choices]
cut = ["last"]
replay = ["none"]
saved_bits = [32, 4]
patches = [{patches}]
"""


@pytest.mark.parametrize("decision", [item.name for item in fields(TrainingPlan)])
def test_a_plan_with_another_decision_has_other_words(decision: str) -> None:
    context = Context(load_network("resnet8"), load_board("vega"))
    plan = TrainingPlan(cut=2, learning_dtype="int8" if decision in OTHER_OF_INT8 else "fp32")
    changed = {decision: OTHER[decision]}
    assert getattr(plan, decision) != OTHER[decision]
    assert plan_words(plan, context) != plan_words(replace(plan, **changed), context)


def test_by_default_nothing_is_said_of_lifespans() -> None:
    context = Context(load_network("resnet8"), load_board("vega"))
    words = " ".join(plan_words(TrainingPlan(cut=2), context))
    assert not any(word in words for word in ("in place", "checkpoints", "saved", "im2col", "patches"))


def test_tables_have_every_decision_of_a_space() -> None:
    assert set(DECISIONS) - {"batch"} <= set(DECIDED)  # a batch is told by its two parts
    columns = {name: np.array(["a", "b"]) for name in LIFESPAN_CHOICES}
    assert decided_columns(columns) == (list(LIFESPAN_CHOICES), {})


def _space(tmp_path: Path, patches: str) -> dse.SearchResult:
    path = tmp_path / "space.toml"
    path.write_text(SPACE.format(patches=patches), encoding="utf-8")
    return dse.explore(path)


def test_a_search_tells_its_designs_apart(tmp_path: Path) -> None:
    found = _space(tmp_path, '"none", "2x2 to 2"')
    told = outcome_text(found)
    assert "patches 2x2 to 2" in told
    assert "patches none" not in told
    report = report_text(found, [board_report(found, 0)], {})
    assert ", patches 2x2 to 2; at" in report  # the named design
    assert "| design | patches |" in report
    assert re.search(r"The same for all: .*checkpoints none, saved_bits 32, im2col library", report)


def test_names_of_one_design_share_a_line(tmp_path: Path) -> None:
    told = outcome_text(_space(tmp_path, '"none"'))
    (line,) = (line for line in told.splitlines() if "smallest" in line)
    assert line.startswith("  most frugal, balanced, smallest  resnet8  cut 9")
