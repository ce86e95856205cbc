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
from tests.execution.mutations import (
    Lenient,
    loops,
    moved,
    nudged,
    outcome,
    same,
    shortened,
    wanted,
    with_entry,
)
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


def some(mutants):
    every = list(mutants)
    return every[:: max(1, len(every) // MOST)]


@pytest.mark.parametrize("place", [first_fit, one_after_another])
@pytest.mark.parametrize("name", CASES)
def test_mutants_fail_unless_they_are_equivalent(name, place):
    """All that are not equivalent are caught, and there are many; the others leave the same numbers."""
    schedule, stages, inputs, frame = prepared(*CASES[name])
    memory_map = place(schedule)
    expected = outcome(memory_map, stages, inputs, frame)
    assert expected is not None
    mutants = some([*shortened(memory_map), *moved(memory_map, per_buffer=1), *nudged(memory_map)])
    wrong = [
        mutant.name for mutant in mutants
        if same(outcome(mutant.memory_map, stages, inputs, frame), expected) != mutant.equivalent
    ]  # fmt: skip
    assert not wrong
    assert sum(not mutant.equivalent for mutant in mutants) >= 0.4 * len(mutants)


@pytest.mark.parametrize("name", CASES)
def test_numbers_alone_tell_of_harm(name):
    """Though nobody looks on whose bytes a buffer begins; rows stored anew hide what was there."""
    schedule, stages, inputs, frame = prepared(*CASES[name])
    memory_map = first_fit(schedule)
    expected = outcome(memory_map, stages, inputs, frame)
    mutants = [one for one in moved(memory_map, per_buffer=1) if "new_samples" not in one.name]
    wrong = [
        mutant.name for mutant in some(mutants)
        if same(outcome(mutant.memory_map, stages, inputs, frame, Lenient), expected) != mutant.harmless
    ]  # fmt: skip
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_mutants_of_random_plans_fail(seed):
    network, plan = random_plan(seed, SMALL)
    frame = np.random.default_rng(1).integers(0, 256, network.input_shape).astype(np.uint8)
    stages, inputs = stages_of(network, plan), inputs_of(network, plan, seed)
    memory_map = first_fit(schedule_of(network, plan))
    expected = outcome(memory_map, stages, inputs, frame)
    assert expected is not None
    every = (*shortened(memory_map), *moved(memory_map, per_buffer=2, seed=seed), *nudged(memory_map))
    for mutant in every:
        found = outcome(mutant.memory_map, stages, inputs, frame)
        assert same(found, expected) == mutant.equivalent, mutant.name


def test_a_longer_lifespan_may_be_cut_back():
    """A lifespan that is longer than it needs may end early, and its last bytes be used by another."""
    schedule, stages, inputs, frame = prepared(*CASES["everything learns"])
    mask = next(buffer for buffer in schedule.buffers if buffer.holds == Holds.MASK)
    longer = replace(mask, end=mask.end + 1)
    buffers = tuple(longer if one is mask else one for one in schedule.buffers)
    memory_map = one_after_another(replace(schedule, buffers=buffers))
    expected = outcome(memory_map, stages, inputs, frame)
    (mutant,) = [one for one in shortened(memory_map) if one.name == f"{mask.id} ends early"]
    assert mutant.equivalent
    assert same(outcome(mutant.memory_map, stages, inputs, frame), expected)


def test_the_frame_of_patches_is_wanted_until_the_last_patch():
    """The first layer of the next patch reads it again, though the last operation of a patch does not."""
    schedule, stages, inputs, frame = prepared(*CASES["patches"])
    memory_map = one_after_another(schedule)
    (_, last), *_ = loops(schedule)
    kept = next(one for one in schedule.buffers if one.holds == Holds.FRAME and one.start == 0)
    assert max(kept.reads) < wanted(kept, schedule)[1] == last == kept.end
    (mutant,) = [one for one in shortened(memory_map) if one.name == f"{kept.id} ends early"]
    assert not mutant.equivalent
    assert outcome(mutant.memory_map, stages, inputs, frame) is None
    space = next(one for one in schedule.buffers if one.holds == Holds.WORKSPACE and 0 < one.start <= last)
    offset = next(entry.offset for entry in memory_map.entries if entry.buffer is kept)
    onto = with_entry(memory_map, Placed(space, "ram", offset))
    assert outcome(onto, stages, inputs, frame, Lenient) is None
