"""Random plans over the zoo and small networks: as in separate memory bit for bit, and as autograd."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dse.execution.memory import Arena, Separate
from dse.execution.step import Executor
from dse.execution.trial.work import captures
from tests.execution import by_torch
from tests.execution.cases import first_fit, inputs_of, schedule_of, stages_of
from tests.execution.mutations import same
from tests.execution.random_plans import ZOO, random_plan

FEW, MANY = 30, 500
CONDITION = 5
NARROW = 2e-2
"""Largest difference where activations are saved in few bits: another order of sums can move a level."""


def executed(schedule, memory, stages, inputs, frame):
    """A captured image, a mini-batch, an inference."""
    executor = Executor(schedule, memory, stages, inputs)
    if captures(schedule):
        executor.capture(frame, schedule.plan.new_per_batch)
    return executor.learn(), executor.infer(frame)


def agree(seed):
    """Execute one random plan everywhere."""
    network, plan = random_plan(seed)
    schedule, stages = schedule_of(network, plan), stages_of(network, plan)
    inputs = by_torch.selected(network, plan, inputs_of(network, plan, seed))
    frame = np.random.default_rng(seed).integers(0, 256, network.input_shape).astype(np.uint8)
    expected = executed(schedule, Separate(schedule), stages, inputs, frame)
    found = executed(schedule, Arena(first_fit(schedule)), stages, inputs, frame)
    assert same(found, expected)
    if plan.head == "sgd" and plan.bn_mode != "group":  # what training executes
        above = {layer.name for layer in network.layers[network.cut_layer(plan.cut) + 1 :]}
        mine = {key: value for key, value in found[0].parameters.items() if key.rsplit(".", 1)[0] in above}
        compare_with_torch(network, plan, inputs, mine)


def compare_with_torch(network, plan, inputs, mine):
    """To 1e-5; where autograd in fp32 is not that exact itself, as close to fp64 as it is, by a factor."""
    _, theirs = by_torch.torch_step(network, plan, inputs)
    limit = 1e-5 if plan.saved_bits == 32 else NARROW
    if by_torch.difference(mine, theirs) < limit:
        return
    assert plan.bn_mode == "batch_stats"  # a deep stack of norms over a few values each: badly conditioned
    _, exact = by_torch.torch_step(network, plan, inputs, dtype=by_torch.torch.float64)
    theirs = {key: theirs[key] for key in mine}
    assert by_torch.difference(mine, exact) < CONDITION * by_torch.difference(theirs, exact)


@pytest.mark.parametrize("seed", range(FEW))
def test_executions_agree(seed):
    agree(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FEW, MANY))
def test_many_executions_agree(seed):
    agree(seed)


def test_the_plans_are_of_every_kind():
    """At least a third from the zoo; every decision that changes a lifespan among them."""
    drawn = [random_plan(seed) for seed in range(200)]
    assert sum(network.name in " ".join(ZOO) for network, _ in drawn) > 70
    words = Counter()
    for _, plan in drawn:
        for key in (
            "head",
            "bn_mode",
            "optimiser",
            "update",
            "new_samples",
            "in_place",
            "saved_bits",
            "replay",
        ):
            words[key, getattr(plan, key)] += 1
        words["checkpoints", plan.checkpoints != "none"] += 1
        words["patches", plan.patches != "none"] += 1
        words["partial", "." in str(getattr(plan.policy, "ratio", ""))] += 1
        words["micro", plan.micro_batch < plan.new_per_batch + plan.replays_per_batch] += 1
    assert min(words.values()) >= 2
    assert len(words) == 5 + 4 + 4 + 3 + 3 + 3 + 4 + 3 + 2 + 2 + 2 + 2
