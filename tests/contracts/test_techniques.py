"""One suite over every technique: what any new one must pass."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from dse.plan.decisions import EVENT_CHOICES, STEP_CHOICES, PlanBatch, TrainingPlan
from dse.plan.spec import base_spec
from dse.plan.techniques import TECHNIQUES, build_spec, illegal
from dse.workload import load_network

NET = load_network("mobilenet-v1@width=0.25,resolution=64")
PLANS = PlanBatch.from_plans(
    NET,
    [
        TrainingPlan(cut=19), TrainingPlan(cut=27, head="ncm"), TrainingPlan(cut=27, head="slda"),
        TrainingPlan(cut=23, replay="raw"),
        TrainingPlan(cut=-1, replay="none", new_per_batch=1, update="in_place"),
        TrainingPlan(cut=25, policy="bias", optimiser="adam", micro_batch=16),
    ],
)  # fmt: skip


def test_names_are_unique():
    names = [technique.name for technique in TECHNIQUES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_choices_are_decisions(technique):
    assert technique.choices
    assert set(technique.choices) <= {*STEP_CHOICES, *EVENT_CHOICES}


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_legality_is_a_mask_per_reason(technique):
    for reason, mask in technique.illegal(NET, PLANS).items():
        assert mask.shape == (len(PLANS),)
        assert mask.dtype == bool
        assert len(reason) > 10


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_an_edit_is_pure_and_keeps_shapes(technique):
    spec = base_spec(NET, PLANS)
    arrays = [item for item in fields(spec) if item.name != "structure"]
    before = {item.name: getattr(spec, item.name).copy() for item in arrays}
    edited = technique.edit(spec, NET, PLANS)
    assert edited.structure == spec.structure
    for item in arrays:
        np.testing.assert_array_equal(getattr(spec, item.name), before[item.name])
        assert np.broadcast(getattr(edited, item.name), before[item.name]).shape == before[item.name].shape


def test_every_decision_of_the_step_belongs_to_some_technique():
    offered = {choice for technique in TECHNIQUES for choice in technique.choices}
    assert set(STEP_CHOICES) - offered == {"persist_every"}  # what stands beside the step


def test_legal_plans_have_no_reason_and_build():
    assert illegal(NET, PLANS) == {}
    assert len(build_spec(NET, PLANS)) == len(PLANS)
    broken = replace(PLANS, micro_batch=np.full(len(PLANS), 999))
    assert illegal(NET, broken)
