"""Every mistake in a memory map makes the execution fail, unless nothing that is wanted is lost by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.plan.memory_map import Placed
from dse.plan.operations import Holds
from tests.execution.cases import (
    first_fit,
    inputs_of,
    network_of,
    one_after_another,
    plan_of,
    schedule_of,
    stages_of,
)
from tests.execution.mutations import moved, outcome, same, shortened, wanted, with_entry
from tests.execution.random_plans import SMALL, random_plan

CASES = {
    "everything learns": (SMALL[3], {"cut": -1, "replay": "raw"}),
    "residual, channels, momentum": (
        SMALL[2], {"cut": 0, "optimiser": "momentum", "policy": "sparse 2 2:0.5"},
    ),
    "branches, recompute, saved bits": (
        SMALL[0],
        {"cut": 5, "checkpoints": "every 1", "saved_bits": 8, "micro_batch": 4, "bn_mode": "batch_stats"},
    ),
    "updates at once": (
        SMALL[1], {"cut": 0, "update": "in_place", "micro_batch": 4, "bn_mode": "frozen_stats"},
    ),
    "frozen stage inside": (
        SMALL[1], {"cut": 1, "replay": "raw", "new_samples": "cache_raw", "micro_batch": 3},
    ),
    "patches": ("har-cnn-1d", {"cut": 3, "patches": "3x3 to 2"}),
    "head": ("har-cnn-1d", {"cut": 4, "head": "slda"}),
}  # fmt: skip

MOST = 120
"""Mutants of one map, about; ``--long`` takes all."""


def prepared(name, decisions):
    network = network_of(name)
    plan = plan_of(network, **decisions)
    frame = np.random.default_rng(1).integers(0, 256, network.input_shape).astype(np.uint8)
    return schedule_of(network, plan), stages_of(network, plan), inputs_of(network, plan), frame


@pytest.mark.parametrize("place", [first_fit, one_after_another])
@pytest.mark.parametrize("name", CASES)
def test_mutants_fail(name, place):
    """All that are not equivalent are caught, and there are many of them."""
    schedule, stages, inputs, frame = prepared(*CASES[name])
    memory_map = place(schedule)
    expected = outcome(memory_map, stages, inputs, frame)
    assert expected is not None
    every = [*shortened(memory_map), *moved(memory_map, per_buffer=1)]
    mutants = every[:: max(1, len(every) // MOST)]
    missed = [
        mutant.name for mutant in mutants
        if not mutant.equivalent and same(outcome(mutant.memory_map, stages, inputs, frame), expected)
    ]  # fmt: skip
    assert not missed
    assert sum(not mutant.equivalent for mutant in mutants) >= 0.75 * len(mutants)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_mutants_of_random_plans_fail(seed):
    network, plan = random_plan(seed, SMALL)
    frame = np.random.default_rng(1).integers(0, 256, network.input_shape).astype(np.uint8)
    stages, inputs = stages_of(network, plan), inputs_of(network, plan, seed)
    memory_map = first_fit(schedule_of(network, plan))
    expected = outcome(memory_map, stages, inputs, frame)
    assert expected is not None
    for mutant in (*shortened(memory_map), *moved(memory_map, per_buffer=2, seed=seed)):
        if not mutant.equivalent:
            assert not same(outcome(mutant.memory_map, stages, inputs, frame), expected), mutant.name


def test_equivalent_mutants_change_nothing_that_is_wanted():
    """A lifespan that is longer than it needs may be cut back, and its last bytes be used by another."""
    schedule, stages, inputs, frame = prepared(*CASES["everything learns"])
    mask = next(buffer for buffer in schedule.buffers if buffer.holds == Holds.MASK)
    longer = replace(mask, end=mask.end + 1)
    buffers = tuple(longer if one is mask else one for one in schedule.buffers)
    memory_map = one_after_another(replace(schedule, buffers=buffers))
    expected = outcome(memory_map, stages, inputs, frame)
    (mutant,) = [one for one in shortened(memory_map) if one.name == f"{mask.id} ends early"]
    assert mutant.equivalent
    assert same(outcome(mutant.memory_map, stages, inputs, frame), expected)


def test_a_move_is_judged_by_what_is_wanted_alone():
    """On the bytes of what is read no more it is equivalent, though both may live; and it changes nothing."""
    schedule, stages, inputs, frame = prepared(*CASES["everything learns"])
    logits = next(buffer for buffer in schedule.buffers if buffer.id == "activation.fc2")
    late = next(buffer for buffer in schedule.buffers if buffer.id == "error.fc1")
    assert wanted(logits)[1] < wanted(late)[0]
    memory_map = one_after_another(schedule)
    offset = next(entry.offset for entry in memory_map.entries if entry.buffer is logits)
    onto = with_entry(memory_map, Placed(late, "ram", offset))
    expected = outcome(memory_map, stages, inputs, frame)
    assert same(outcome(onto, stages, inputs, frame), expected)
