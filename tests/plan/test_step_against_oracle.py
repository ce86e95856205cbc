"""The vectorised step against a mini-batch that is walked object by object."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.plan.decisions import PlanBatch
from dse.plan.step import training_step
from dse.vocabulary import PASSES, Role
from tests.oracles import NaiveStep
from tests.plan.strategies import LIFESPANS, NAMES, SMALL, network, plans_of, random_plans, resolve
from tests.plan.window_networks import window_network


def assert_agrees(workload, plan):
    """Live bytes at the peak and during every operation that is executed, static bytes, MACs."""
    naive = NaiveStep(workload, plan, *resolve(workload, plan))
    step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
    live = step.schedule.live_bytes().sum(axis=0)[:, 0]
    assert live.max() == naive.peak_bytes
    position = {operation: now for now, operation in enumerate(step.schedule.clock.sequence)}
    found = {operation: live[position[operation]] for operation in naive.trace.executed}
    assert found == {operation: naive.live[operation] for operation in naive.trace.executed}
    held = step.static_bytes[Role.LEARNING_WEIGHTS] + step.static_bytes[Role.OPTIMISER_STATE]
    assert held[0] == naive.static_bytes
    for index, pass_ in enumerate(PASSES[:3]):
        assert step.macs[0, :, index].sum() == pytest.approx(naive.macs[pass_], rel=1e-12)


@given(random_plans())
@settings(max_examples=60)
def test_plans_as_they_are_by_default(case):
    assert_agrees(network(case[0]), case[1])


@given(random_plans(lifespans=tuple(LIFESPANS)))
@settings(max_examples=130)
def test_all_decisions_about_lifespans_at_once(case):
    assert_agrees(network(case[0]), case[1])


@given(random_plans(names=(*NAMES, *SMALL), lifespans=("checkpoints", "saved_bits")))
@settings(max_examples=70)
def test_segments_that_run_again_with_narrow_saved_activations(case):
    assert_agrees(network(case[0]), case[1])


@given(random_plans(names=SMALL, lifespans=tuple(LIFESPANS)))
@settings(max_examples=100)
def test_small_networks_where_every_rule_shows(case):
    assert_agrees(network(case[0]), case[1])


@given(st.data(), st.integers(0, 10**6))
@settings(max_examples=60)
def test_random_networks_of_dilated_and_unevenly_padded_windows(data, seed):
    workload = window_network(seed)
    assert_agrees(workload, data.draw(plans_of(workload, tuple(LIFESPANS))))


@pytest.mark.parametrize("decision", ["checkpoints", "saved_bits", "in_place", "patches"])
def test_one_decision_at_a_time(decision):
    @given(random_plans(lifespans=(decision,)))
    @settings(max_examples=20)
    def agrees(case):
        assert_agrees(network(case[0]), case[1])

    agrees()
