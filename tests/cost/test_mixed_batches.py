"""Plans of several schedules in one batch cost what each costs alone, in the order they were given in."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from dse.api.context import context_of
from dse.cost.model import step_costs
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import training_step
from dse.plan.structure import structures
from dse.plan.techniques import illegal

START = TrainingPlan(
    cut=4, replay="none", n_replays=0, new_per_batch=4, replays_per_batch=0, micro_batch=2, images_per_event=8
)
CHANGES = (
    {}, {"checkpoints": "every 2"}, {"cut": 9}, {"in_place": "none"}, {"patches": "2x2 to 2"},
    {"checkpoints": "units 6"}, {"cut": 9, "checkpoints": "every 2"}, {"saved_bits": 4},
    {"in_place": "depthwise"},
    {"checkpoints": "every 2", "in_place": "none", "saved_bits": 8}, {"micro_batch": 4},
)  # fmt: skip


@pytest.fixture(scope="module")
def batch():
    context = context_of("ds-cnn", "stm32l4r5")
    plans = [replace(START, **change) for change in CHANGES]
    columns = PlanBatch.from_plans(context.workload, plans)
    assert illegal(context.workload, columns) == {}
    return context, plans, columns


def test_a_batch_of_many_schedules_costs_what_its_plans_cost_alone(batch):
    context, plans, columns = batch
    together = step_costs(context, columns)
    for row, plan in enumerate(plans):
        alone = step_costs(context, PlanBatch.from_plans(context.workload, [plan]))
        for item in fields(alone):
            np.testing.assert_array_equal(
                getattr(together, item.name)[row], getattr(alone, item.name)[0], err_msg=item.name
            )


def test_plans_of_one_schedule_have_the_live_bytes_that_each_has_alone(batch):
    context, plans, columns = batch
    found = list(structures(context.workload, columns))
    assert len(found) > 5
    assert sorted(int(row) for _, rows in found for row in rows) == list(range(len(plans)))
    for _, rows in found:
        together = training_step(context.workload, columns.rows(rows)).schedule.live_bytes()
        for place, row in enumerate(rows.tolist()):
            one = training_step(context.workload, PlanBatch.from_plans(context.workload, [plans[row]]))
            np.testing.assert_array_equal(together[:, :, place], one.schedule.live_bytes()[:, :, 0])


def test_a_schedule_refuses_plans_of_another(batch):
    context, _, columns = batch
    with pytest.raises(ValueError, match="schedules in one batch"):
        training_step(context.workload, columns)
