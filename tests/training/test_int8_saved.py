"""What an int8 step saves is what the plan says, in bytes that are bytes, for random freeze patterns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from dse.training.int8.functions import Rounded, Weighted
from dse.training.int8.learner import Int8Learner
from dse.training.parameters import initial_parameters
from dse.training.saved import observe_saved
from tests.plan.strategies import BRANCHES, TCN, UNEVEN, network
from tests.training.freezing import (
    CORNERS,
    RESIDUAL,
    SERIES,
    allocated_bytes,
    mask_bytes,
    mini_batch,
    plan_of,
    planned_bytes,
    random_plan,
)
from tests.training.reference_networks import lively

torch.set_num_threads(1)

INT8 = {"learning_dtype": "int8", "bn_mode": "folded"}


def int8_learner(name, plan):
    workload = network(name)
    known = mini_batch(name, replace(plan, micro_batch=2), 7)[0]
    parameters = lively(workload, initial_parameters(workload, 0))
    return Int8Learner(workload, parameters, plan, known, rate=0.1)


def observed(mine, latents):
    """Bytes saved by one forward pass, and the types of what is saved."""
    kinds = set()
    with saved_tensors_hooks(lambda tensor: (kinds.add(tensor.dtype), tensor)[1], lambda tensor: tensor):
        mine.module(torch.from_numpy(latents))
    with observe_saved(()) as found:
        mine.module(torch.from_numpy(latents))
    return found.total, kinds


@pytest.mark.parametrize(("name", "count"), [
    (RESIDUAL, 20), (BRANCHES, 100), (CORNERS, 100), ("resnet8@width=0.5", 40), (SERIES, 100),
])  # fmt: skip
def test_observed_bytes_are_the_planned_ones_for_random_freeze_patterns(name, count):
    draw = np.random.default_rng(1)
    totals = set()
    for _ in range(count):
        backward, classifier = str(draw.choice(["fp32", "int8"])), str(draw.choice(["learning", "fp32"]))
        plan = random_plan(name, draw, "folded", int(draw.choice([1, 3])))
        plan = replace(plan, backward_dtype=backward, classifier_dtype=classifier, **INT8)
        total, kinds = observed(int8_learner(name, plan), mini_batch(name, plan)[0])
        assert total == planned_bytes(name, plan), plan
        assert kinds <= {torch.uint8}
        totals.add(total)
    assert len(totals) > count // 3


@pytest.mark.parametrize(("name", "count"), [(BRANCHES, 5), (CORNERS, 5), (SERIES, 3), (TCN, 3)])
def test_the_allocator_sees_the_planned_bytes_too(name, count):
    """Not by autograd's hooks: what a forward pass takes and keeps, in its context or in a kernel."""
    draw = np.random.default_rng(3)
    for number in range(count):
        backward, classifier = ("fp32", "int8")[number % 2], ("learning", "fp32")[number % 3 == 1]
        plan = random_plan(name, draw, "folded", 3)
        plan = replace(plan, backward_dtype=backward, classifier_dtype=classifier, **INT8)
        kept = allocated_bytes(int8_learner(name, plan), mini_batch(name, plan)[0])
        assert kept == planned_bytes(name, plan) - mask_bytes(name, plan), plan


HIDING = {
    "input in the context of a layer": (Weighted, lambda ctx, given: (ctx, given[0])),
    "input in the kernel of a layer": (Weighted, lambda ctx, given: (given[4], given[0])),
    "inputs in the context of an addition": (Rounded, lambda ctx, given: (ctx, given[5:])),
}


@pytest.mark.parametrize(("function", "hiding"), HIDING.values(), ids=HIDING)
def test_a_function_that_keeps_too_much_is_caught(function, hiding, monkeypatch):
    """Where autograd does not see it."""
    plan = replace(plan_of(2, "all", count=3), **INT8)
    latents, planned, real = mini_batch(BRANCHES, plan)[0], planned_bytes(BRANCHES, plan), function.forward

    def forward(ctx, *given):
        holder, kept = hiding(ctx, given)
        holder.hidden = kept
        return real(ctx, *given)

    monkeypatch.setattr(function, "forward", forward)
    assert observed(int8_learner(BRANCHES, plan), latents)[0] == planned
    kept = allocated_bytes(int8_learner(BRANCHES, plan), latents)
    assert kept > planned - mask_bytes(BRANCHES, plan)


@pytest.mark.parametrize("policy", ["all", "bias", "last-2"])
@pytest.mark.parametrize("name", [BRANCHES, CORNERS, SERIES, TCN, UNEVEN])
def test_policies_by_name_save_as_planned_bytes(name, policy):
    plan = replace(plan_of(network(name).legal_cuts[1], policy, count=2), **INT8)
    total, _ = observed(int8_learner(name, plan), mini_batch(name, plan)[0])
    assert total == planned_bytes(name, plan)


def test_int8_saves_a_quarter_of_fp32_where_inputs_are_saved():
    plan = plan_of(network(SERIES).legal_cuts[0], "last-1", count=2)
    total, _ = observed(int8_learner(SERIES, replace(plan, **INT8)), mini_batch(SERIES, plan)[0])
    assert 4 * total == planned_bytes(SERIES, plan) > 0


def test_nothing_is_saved_in_inference():
    plan = replace(plan_of(-1, "all", count=2), **INT8)
    mine = int8_learner(SERIES, plan)
    with observe_saved(()) as found:
        mine.logits(mini_batch(SERIES, plan)[0])
    assert found.total == 0
