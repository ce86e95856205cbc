"""A schedule that forgets a buffer fails: what has to be there follows from the plan, not from the schedule.

Every buffer is left out in turn, of schedule and map alike. The execution may do without

- workspaces of kernels: they depend on the kernel library, not on the plan, and numpy needs none;
- a frame that nobody stores: at the network's input, new samples that are captured again for every
  mini-batch come by no operation before it;
- the copy that survives a loss of power, where all of it is missing: whether there is one is up to the
  placement. A part of it may not be missing.

What a plan lacks rightly is listed below, and then its schedule lacks it too.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from dse.execution.trial import trial
from dse.plan.decisions import TrainingPlan
from dse.plan.memory_map import MemoryMap
from dse.plan.operations import Holds
from dse.vocabulary import Role
from dse.workload import load_network
from tests.execution.cases import first_fit, schedule_of
from tests.execution.pairs import SMALL

FEW = {"n_replays": 6, "new_per_batch": 2, "replays_per_batch": 2, "micro_batch": 2, "images_per_event": 8}
INT8 = {
    "learning_dtype": "int8", "backward_dtype": "int8", "accumulator_dtype": "int8",
    "classifier_dtype": "fp32",
}  # fmt: skip

CASES = {
    "fp32 above int8": ("har-cnn-1d", {"cut": 1}),
    "updates at once": ("har-cnn-1d", {"cut": 1, "micro_batch": 4, "update": "immediate"}),
    "updates in place": ("har-cnn-1d", {"cut": 1, "micro_batch": 4, "update": "in_place"}),
    "frames of new samples and replays": (
        "har-cnn-1d", {"cut": 1, "replay": "raw", "new_samples": "cache_raw"},
    ),
    "captured again": ("har-cnn-1d", {"cut": 1, "new_samples": "recompute"}),
    "from the input, captured again": (
        "har-cnn-1d", {"cut": -1, "replay": "raw", "new_samples": "recompute"},
    ),
    "no replays": ("har-cnn-1d", {"cut": 1, "replay": "none", "replays_per_batch": 0, "n_replays": 0}),
    "norms, state": (
        "har-cnn-1d", {"cut": 1, "frozen_bits": 32, "optimiser": "adam", "bn_mode": "batch_stats",
                       "micro_batch": 4},
    ),
    "int8": ("har-cnn-1d", {"cut": 1, **INT8}),
    "int8 residual, recompute": ("resnet8@width=0.25", {"cut": 5, "checkpoints": "every 1", **INT8}),
    "saved bits, stored input, some channels": (
        "resnet8@width=0.25",
        {"cut": 5, "saved_bits": 4, "first_input": "stored", "policy": "sparse 2 8:0.5", "replay_bits": 7},
    ),
    "stored input read again": (
        "har-cnn-1d", {"cut": 0, "checkpoints": "every 1", "first_input": "stored", "replay_bits": 8},
    ),
    "slices": ("har-cnn-1d", {"cut": 0, "policy": "sparse 1 2:0.5 3:0.5"}),
    "maxima, hard-swish": (SMALL[0], {"cut": -1, "replay": "raw", "n_replays": 3}),
    "patches": ("har-cnn-1d", {"cut": 3, "patches": "3x3 to 2"}),
    "slda": ("har-cnn-1d", {"cut": 4, "head": "slda"}),
    "cwr": ("har-cnn-1d", {"cut": 4, "head": "cwr"}),
}  # fmt: skip


@cache
def map_of(name):
    network, decisions = load_network(CASES[name][0]), CASES[name][1]
    return first_fit(schedule_of(network, TrainingPlan(**(FEW | decisions)).canonical(network)))


def without(memory_map, forgotten):
    """The map without the buffers that ``forgotten`` says."""
    entries = tuple(entry for entry in memory_map.entries if not forgotten(entry.buffer))
    buffers = tuple(buffer for buffer in memory_map.schedule.buffers if not forgotten(buffer))
    return MemoryMap(replace(memory_map.schedule, buffers=buffers), entries, memory_map.arena_bytes)


def may_be_missing(buffer, memory_map):
    """The documented exceptions."""
    plan = memory_map.schedule.plan
    if buffer.holds == Holds.WORKSPACE:
        return buffer.place >= 0
    if buffer.holds == Holds.PERSISTENT_HEAD:
        return not any(one.holds == Holds.PERSISTENT_WEIGHT for one in memory_map.schedule.buffers)
    unseen = plan.cut < 0 and plan.new_samples == "recompute"
    return buffer.holds == Holds.FRAME and buffer.start == 0 and unseen


@pytest.mark.parametrize("name", CASES)
def test_every_buffer_is_missed(name):
    memory_map = map_of(name)
    assert trial(memory_map).equal
    unnoticed = [
        buffer.id for buffer in memory_map.schedule.buffers
        if not trial(without(memory_map, lambda one, gone=buffer.id: one.id == gone)).failed
        and not may_be_missing(buffer, memory_map)
    ]  # fmt: skip
    assert not unnoticed


@pytest.mark.parametrize("kind", list(Holds))
def test_every_kind_of_buffer_is_missed(kind):
    """All buffers of a kind at once, in every plan that has one; every kind is in some plan."""
    maps = [map_of(name) for name in CASES]
    holding = [
        one for one in maps
        if any(
            buffer.holds == kind and not may_be_missing(buffer, one) and buffer.role != Role.PERSISTENT_COPY
            for buffer in one.schedule.buffers
        )
    ]  # fmt: skip
    persistent = (Holds.PERSISTENT_WEIGHT, Holds.PERSISTENT_AFFINE, Holds.PERSISTENT_HEAD)
    assert holding or kind in persistent
    for memory_map in holding:
        found = trial(without(memory_map, lambda one: one.holds == kind))
        assert found.failed, found.text


@pytest.mark.parametrize("name", ["fp32 above int8", "int8", "slda", "cwr"])
def test_there_may_be_no_copy_that_survives_a_loss_of_power(name):
    found = trial(without(map_of(name), lambda one: one.role == Role.PERSISTENT_COPY))
    assert found.equal, found.text


def test_labels_stand_outside_where_nobody_counts_them():
    labels = (Holds.NEW_LABELS, Holds.REPLAY_LABELS)
    bare = without(map_of("cwr"), lambda one: one.holds in labels)
    assert trial(bare).failed
    found = trial(bare, labels_held=False)
    assert found.equal, found.text
    assert "labels outside" in found.text


@pytest.mark.parametrize(("name", "absent"), [
    ("captured again", {Holds.NEW_SAMPLES, Holds.NEW_LABELS}),
    ("no replays", {Holds.REPLAYS, Holds.REPLAY_LABELS}),
    ("updates in place", {Holds.GRADIENT}),
    ("norms, state", {Holds.COPY_WEIGHT, Holds.COPY_AFFINE}),
    ("int8", {Holds.STATE}),
    ("slda", {Holds.LEARNING_WEIGHT, Holds.GRADIENT, Holds.STATE}),
])  # fmt: skip
def test_what_a_plan_lacks_is_not_missed(name, absent):
    memory_map = map_of(name)
    assert not absent & {buffer.holds for buffer in memory_map.schedule.buffers}
    assert trial(memory_map).equal
