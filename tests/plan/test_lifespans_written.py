"""One plan's schedule, written out, against a mini-batch that is walked object by object."""

from __future__ import annotations

from hypothesis import given, settings

from dse.plan.decisions import PlanBatch
from dse.plan.standing import standing_buffers
from dse.plan.step import training_step
from dse.plan.written import step_schedule
from tests.oracles import NaiveStep
from tests.plan.strategies import LIFESPANS, NAMES, SMALL, network, random_plans, resolve


@given(random_plans(names=(*NAMES, *SMALL), lifespans=tuple(LIFESPANS)))
@settings(max_examples=100)
def test_operations_and_live_bytes_of_one_plan(case):
    """Those operations are left that do something; what is alive throughout comes on top of the walk."""
    workload, plan = network(case[0]), case[1]
    naive = NaiveStep(workload, plan, *resolve(workload, plan))
    step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
    schedule = step_schedule(step, plan.canonical(workload))
    assert [(op.kind, op.layer) for op in schedule.operations] == [
        operation for operation in naive.trace.operations if operation in naive.trace.executed
    ]
    standing = sum(item.size_bytes for item in standing_buffers(step, 0, {}))
    found = {(op.kind, op.layer): int(schedule.live_bytes[op.number]) for op in schedule.operations}
    assert found == {operation: naive.live[operation] + standing for operation in found}
