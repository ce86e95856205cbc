"""Splits found by parts against whole schedules of every subset of places."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.cost.memory import training_peak_bytes
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.step import training_step
from dse.plan.structure import Checkpoints
from dse.search.segments import find_segments, parts_of
from dse.search.segments import result as results
from dse.search.segments.parts import steps_of
from tests.plan.strategies import BRANCHES, network, random_plans

RESIDUAL = "resnet8@width=0.5"
CHAIN = "har-cnn-1d"
SMALL = (RESIDUAL, CHAIN, BRANCHES)
MOST_PLACES = 6


def step_of(workload, plan, units):
    word = f"units {' '.join(map(str, units))}" if units else "none"
    return training_step(workload, PlanBatch.from_plans(workload, [replace(plan, checkpoints=word)]))


def every_split(workload, plan, places):
    """(units, peak, recomputed MACs) of all subsets, each from its own schedule."""
    whole = step_of(workload, plan, ()).macs[0, :, 0].sum()
    for size in range(len(places) + 1):
        for units in combinations(places, size):
            step = step_of(workload, plan, units)
            yield units, int(training_peak_bytes(step)[0]), round(float(step.macs[0, :, 0].sum() - whole))


def compare(workload, plan):
    """Front, least work within each budget that makes a difference, and least peak, against all subsets."""
    found = find_segments(workload, plan)
    assert len(found.places) <= MOST_PLACES
    splits = list(every_split(workload, found.plan, found.places))
    pairs = {(macs, peak) for _, peak, macs in splits}
    front = sorted(p for p in pairs if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in pairs))
    assert [(split.macs, split.peak_bytes) for split in found.splits] == front
    by_units = {units: (macs, peak) for units, peak, macs in splits}
    assert all(by_units[split.units] == (split.macs, split.peak_bytes) for split in found.splits)
    assert found.least_bytes == min(peak for _, peak, _ in splits)
    for _, budget, _ in splits:
        fitting = [macs for _, peak, macs in splits if peak <= budget]
        assert found.within(budget).macs == min(fitting)
    assert found.within(found.least_bytes - 1) is None
    return found


def plan_of(**decisions):
    base = {
        "cut": -1, "replay": "none", "n_replays": 0, "new_per_batch": 4, "replays_per_batch": 0,
        "micro_batch": 4, "new_samples": "recompute",
    }  # fmt: skip
    return TrainingPlan(**(base | decisions))


PLANS = {
    "all in place": {"update": "in_place"},
    "all, accumulated": {"micro_batch": 2},
    "momentum": {"optimiser": "momentum"},
    "dequantised": {"first_input": "dequantised", "update": "immediate"},
    "bias": {"policy": "bias", "update": "immediate"},
    "last two": {"policy": "last-2"},
    "frozen statistics": {"bn_mode": "frozen_stats", "update": "immediate"},
    "batch statistics": {"bn_mode": "batch_stats", "update": "immediate"},
    "int8": {"learning_dtype": "int8", "update": "in_place"},
    "int8 errors": {"learning_dtype": "int8", "backward_dtype": "int8", "classifier_dtype": "fp32"},
    "saved at 4 bits": {"saved_bits": 4, "update": "immediate"},
    "nothing in place": {"in_place": "none", "update": "immediate"},
    "one sample": {"new_per_batch": 1, "micro_batch": 1, "update": "in_place"},
}


@pytest.mark.parametrize("decisions", PLANS.values(), ids=PLANS)
def test_front_and_budgets_are_those_of_all_subsets_of_a_chain(decisions):
    compare(network(CHAIN), plan_of(**decisions))


@pytest.mark.parametrize("decisions", PLANS.values(), ids=PLANS)
def test_front_and_budgets_are_those_of_all_subsets_of_residual_blocks(decisions):
    compare(network(RESIDUAL), plan_of(**decisions))


def test_a_residual_network_gains_and_a_cut_leaves_fewer_places():
    workload = network(RESIDUAL)
    found = compare(workload, plan_of(update="in_place"))
    assert len(found.splits) > 1
    assert found.least_bytes < found.splits[0].peak_bytes
    inside = next(cut for cut in workload.legal_cuts if cut > found.places[0])
    above = compare(workload, plan_of(cut=inside, update="in_place"))
    assert set(above.places) == {unit for unit in found.places if unit > inside}


def test_where_the_lowest_units_are_frozen_by_policy_splits_below_cost_no_work():
    """Nothing is learned below unit 5: a segment there is not run again, and its input not kept."""
    workload = network(RESIDUAL)
    units = [unit.index for unit in workload.units if unit.index >= 5]
    plan = plan_of(policy=UpdatePolicy.parse({"weights": units, "bias": units}), update="immediate")
    found = compare(workload, plan)
    parts = parts_of(workload, -1, steps_of(workload, found.plan))
    lowest = parts.units.index(next(unit for unit in parts.units if unit < 5)) + 1
    assert parts.macs[0, lowest] == 0
    assert (parts.kept < 0).any() or found.splits[0].macs == 0


@given(random_plans(names=SMALL), st.sampled_from((32, 8, 4, 2)), st.sampled_from(("elementwise", "none")))
@settings(max_examples=8)
def test_random_plans(drawn, bits, in_place):
    name, plan = drawn
    compare(network(name), replace(plan, saved_bits=bits, in_place=in_place))


def test_checkpoints_of_the_plan_itself_do_not_count():
    workload = network(CHAIN)
    plain, split = plan_of(), plan_of(checkpoints="every 1")
    assert find_segments(workload, plain) == find_segments(workload, split)


def test_every_point_is_a_plan_that_prices_as_it_says():
    workload = network(RESIDUAL)
    found = find_segments(workload, plan_of(update="in_place"))
    for split in found.splits:
        step = training_step(workload, PlanBatch.from_plans(workload, [found.planned(split)]))
        assert training_peak_bytes(step)[0] == split.peak_bytes
        assert Checkpoints.parse(split.checkpoints).units == split.units
        assert split.share == pytest.approx(split.macs / (4 * sum(u.macs for u in workload.units)))


def test_budget_and_frame():
    workload = network(RESIDUAL)
    free = find_segments(workload, plan_of(update="in_place"))
    budget = free.splits[1].peak_bytes + 1
    found = find_segments(workload, plan_of(update="in_place"), budget_bytes=budget)
    assert found.chosen == free.splits[1]
    assert (free.chosen, found.missing_bytes) == (None, 0)
    frame = found.to_frame()
    assert frame.chosen.tolist() == [split == found.chosen for split in free.splits]
    assert frame.segments.tolist() == [1 + len(split.units) for split in free.splits]
    none = find_segments(workload, plan_of(update="in_place"), budget_bytes=free.least_bytes - 7)
    assert (none.chosen, none.missing_bytes) == (None, 7)


def test_workspaces_of_kernels_count():
    workload = network(RESIDUAL)
    table = {("conv2d", pass_, "fp32"): "im2col_full" for pass_ in ("fwd", "bwd_input", "bwd_weight")}
    plan = plan_of(update="in_place")
    plain, wide = find_segments(workload, plan), find_segments(workload, plan, workspace=table)
    assert wide.splits[0].peak_bytes > plain.splits[0].peak_bytes


def test_progress_counts_schedules():
    calls = []
    workload = network(RESIDUAL)
    found = find_segments(workload, plan_of(), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (found.schedules, found.schedules)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_parts_that_disagree_with_the_schedule_are_an_error(monkeypatch):
    """As if a segment needed something that its own schedules do not show."""

    def wrong(*given_):
        parts = parts_of(*given_)
        return replace(parts, need=np.maximum(parts.need - 1, 0))

    monkeypatch.setattr(results, "parts_of", wrong)
    with pytest.raises(ArithmeticError, match="by parts"):
        find_segments(network(CHAIN), plan_of())
