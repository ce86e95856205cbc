"""Single changes that lower the RAM peak: what is offered, and that it is what an estimate gives."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import dse
from dse.cost.context import Context
from dse.cost.explain import Change, cheapest_changes
from dse.cost.neighbours import neighbours
from dse.hardware import load_board
from dse.plan.decisions import TrainingPlan
from dse.plan.patches import refusal
from dse.plan.structure import Patches
from dse.workload import load_network

BOARD = "stm32h743"


def _context(network: str) -> Context:
    return Context(load_network(network), load_board(BOARD))


def _offered(plan: TrainingPlan, decision: str, network: str = "mcunet-5fps") -> list[Any]:
    return [value for name, value, _ in neighbours(_context(network), plan) if name == decision]


def _all(plan: TrainingPlan, network: str) -> tuple[Change, ...]:
    return cheapest_changes(_context(network), plan, count=1000)


def test_patches_are_offered_where_the_frozen_stage_sets_the_peak() -> None:
    plan = TrainingPlan(cut=42)
    found = [
        change for change in dse.explain("mcunet-5fps", BOARD, plan).changes if change.decision == "patches"
    ]
    assert found
    for change in found:
        estimate = dse.estimate("mcunet-5fps", BOARD, replace(plan, patches=change.after), intervals=False)
        assert estimate.value("ram_peak_bytes") == change.ram_peak_bytes
        assert estimate.value("event_j") == pytest.approx(change.event_j, rel=1e-12)


def test_patches_end_where_they_can_and_below_the_cut() -> None:
    workload = load_network("mcunet-5fps")
    legal = [unit for unit in range(42) if not refusal(workload, Patches(2, unit))]
    words = [f"2x2 to {unit}" for unit in legal]
    assert _offered(TrainingPlan(cut=42), "patches") == words[:8]
    assert _offered(TrainingPlan(cut=legal[2]), "patches") == words[:3]
    assert _offered(TrainingPlan(cut=42, patches=words[1]), "patches") == [words[0], *words[2:8]]
    assert _offered(TrainingPlan(cut=-1), "patches") == []


def test_lifespans_that_the_plan_has_are_not_offered() -> None:
    assert _offered(TrainingPlan(cut=5), "saved_bits") == [8, 4]
    assert _offered(TrainingPlan(cut=5, saved_bits=8), "saved_bits") == [4]
    assert _offered(TrainingPlan(cut=5), "checkpoints") == ["every 2", "every 4"]
    assert _offered(TrainingPlan(cut=5, checkpoints="every 2"), "checkpoints") == ["every 4"]
    assert _offered(TrainingPlan(cut=5), "in_place") == ["depthwise"]
    assert _offered(TrainingPlan(cut=5, patches="2x2 to 2"), "in_place") == []


@pytest.mark.parametrize(
    ("network", "plan"),
    [
        ("mobilenet-v1@width=0.25", TrainingPlan(cut=26, replay="none")),
        ("mobilenet-v1@width=0.25", TrainingPlan(cut=8, update="in_place", replay="none", micro_batch=21)),
        ("resnet8", TrainingPlan(cut=2)),
    ],
)
def test_each_change_has_the_peak_of_its_plan(network: str, plan: TrainingPlan) -> None:
    now = dse.estimate(network, BOARD, plan, intervals=False).value("ram_peak_bytes")
    changes = _all(plan, network)
    for change in changes:
        changed: dict[str, Any] = {change.decision: change.after}
        other = dse.estimate(network, BOARD, replace(plan, **changed), intervals=False)
        assert other.value("ram_peak_bytes") == change.ram_peak_bytes < now


def test_lifespans_are_among_the_changes() -> None:
    offered = {
        change.decision
        for plan in (TrainingPlan(cut=26, replay="none"), TrainingPlan(cut=8, replay="none", micro_batch=21))
        for change in _all(plan, "mobilenet-v1@width=0.25")
    }
    assert {"patches", "checkpoints", "saved_bits"} <= offered


def test_a_dearer_value_of_the_same_decision_lowers_the_peak_further() -> None:
    changes = _all(TrainingPlan(cut=42), "mcunet-5fps")
    for decision in {change.decision for change in changes}:
        peaks = [change.ram_peak_bytes for change in changes if change.decision == decision]
        assert all(first > second for first, second in pairwise(peaks))
