"""The peak of a step alone, and the memory twice: by name and at the peak, adding up to both."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings

from dse.cost.accounting import MCUNETV3_EXTRA
from dse.cost.context import Context
from dse.cost.explain import explain
from dse.cost.memory import KEPT_ORDER, mcunetv3_extra_bytes, training_peak_bytes
from dse.cost.memory_notions import memory_notions
from dse.cost.model import describe
from dse.hardware import load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.step import training_step
from dse.report.breakdown import breakdown_text
from dse.workload import load_network
from tests.oracles import NaiveStep
from tests.plan.strategies import network, random_plans, resolve

H743, F746 = load_board("stm32h743"), load_board("stm32f746")
TINY = load_network(str(Path(__file__).parent.parent / "plan" / "data" / "two-linear.toml"))
MCUNET = load_network("mcunet-5fps")
ONE = {"replay": "none", "new_per_batch": 1, "replays_per_batch": 0, "images_per_event": 1, "cut": -1}
SCHEME = UpdatePolicy.parse("sparse 20 24:0.25 27:0.5 30:0.5")


@given(random_plans())
@settings(max_examples=60)
def test_the_peak_of_a_step_is_that_of_its_placement_where_all_frozen_weights_fit_flash(case):
    workload, plan = network(case[0]), case[1]
    context = Context(workload, H743)
    step, placement = describe(context, PlanBatch.from_plans(workload, [plan]))
    volatile = [level.volatile for level in H743.levels]
    assume(not any(volatile[int(placement.level[role][0])] for role in KEPT_ORDER))
    assert training_peak_bytes(step)[0] == placement.ram_peak_bytes[0]


@given(random_plans())
@settings(max_examples=60)
def test_the_peak_of_a_step_is_that_of_the_naive_walk(case):
    workload, plan = network(case[0]), case[1]
    naive = NaiveStep(workload, plan, *resolve(workload, plan))
    step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
    assert training_peak_bytes(step)[0] == naive.training_peak_bytes + naive.static_bytes


def test_heads_bring_their_state():
    last = len(MCUNET.units) - 1
    plans = PlanBatch.from_plans(MCUNET, [TrainingPlan(cut=last, head="slda")])
    step = training_step(MCUNET, plans)
    assert training_peak_bytes(step)[0] >= step.spec.head_state_bytes[0] + step.spec.head_workspace_bytes[0]


@given(random_plans())
@settings(max_examples=60)
def test_both_columns_add_up(case):
    workload, plan = network(case[0]), case[1]
    step = training_step(workload, PlanBatch.from_plans(workload, [plan, plan]))
    parts = memory_notions(step, row=1)
    assert sum(part.named_bytes for part in parts) == mcunetv3_extra_bytes(step)[1]
    assert sum(part.peak_bytes for part in parts) == training_peak_bytes(step)[1]
    assert sum(part.backward_bytes for part in parts) <= training_peak_bytes(step)[1]
    assert len({part.part for part in parts}) == len(parts)


def test_both_notions_by_hand():
    """fc1 (4 -> 3) with its bias and all weights, and fc2 (3 -> 2), in int8 with fp32 errors, one sample.

    The peak is the weight gradient of fc1: its error (3 x 4 B), its input in int8 and widened (4 and 16 B),
    all gradients (23 x 4 B), and what learns. Input of the classifier and masks are gone by then.
    """
    policy = UpdatePolicy.of_scheme(1, {"fc1": 1})
    plan = TrainingPlan(**ONE, policy=policy, learning_dtype="int8")
    parts = memory_notions(training_step(TINY, PlanBatch.from_plans(TINY, [plan])))
    assert {part.part: (part.named_bytes, part.peak_bytes) for part in parts} == {
        "classifier input": (3, 0),
        "clamp masks": (1, 0),
        "biases": (12, 12),
        "trained weights": (12, 12),
        "saved inputs": (4, 4),
        "classifier": (0, 6 + 8),
        "error": (0, 12),
        "widened operand": (0, 16),
        "gradient": (0, 92),
    }


@pytest.mark.parametrize(
    "decisions",
    [
        {},
        {"update": "in_place"},
        {"backward_dtype": "int8", "accumulator_dtype": "int8", "optimiser": "adam"},
        {"classifier_dtype": "fp32", "cut": 20},
    ],
)
def test_a_placed_plan_adds_what_else_lies_in_ram(decisions):
    plan = TrainingPlan(**(ONE | {"policy": SCHEME, "learning_dtype": "int8"} | decisions))
    found = explain(Context(MCUNET, F746), plan)
    assert sum(part.named_bytes for part in found.notions) / 1024 == 49.75
    assert sum(part.peak_bytes for part in found.notions) == found.costs.ram_peak_bytes[0]
    beside = {part.part: part.peak_bytes for part in found.notions if part.reason == "beside the step"}
    assert beside["new samples"] > 0
    text = breakdown_text(found)
    assert "memory by its name (extra memory, arXiv 2206.15472)" in text


def test_the_table_is_for_plans_with_such_a_name():
    plan = TrainingPlan(**ONE, policy="all", learning_dtype="int8")
    assert explain(Context(MCUNET, F746), plan).notions == ()
    assert explain(Context(MCUNET, F746, accounting=MCUNETV3_EXTRA), plan).notions
