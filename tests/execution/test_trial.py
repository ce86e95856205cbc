"""Trials of plans: what they execute, what they say, and that maps which do not hold fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.execution.memory import Arena, Separate
from dse.execution.packing import Levels
from dse.execution.step import Executor, Result
from dse.execution.trial import Outcome, Trial, prepared_step, trial
from dse.execution.trial.run import PATIENCE, first_difference
from dse.execution.trial.step import Watched
from dse.execution.trial.work import shortened, work_of
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import Holds, Kind
from dse.plan.step import training_step
from dse.plan.written import step_schedule
from dse.workload import load_network
from tests.execution.cases import first_fit, sample_bytes, schedule_of, workspaces
from tests.execution.pairs import random_pair

FEW = {"n_replays": 9, "new_per_batch": 2, "replays_per_batch": 3, "micro_batch": 2, "images_per_event": 8}
INT8 = {"learning_dtype": "int8", "weight_rounding": "stochastic"}

CASES = {
    "fp32": ("ds-cnn", {"cut": 4, "frozen_bits": 32}),
    "fp32 above an int8 frozen stage": ("ds-cnn", {"cut": 4}),
    "int8": ("ds-cnn", {"cut": 4, **INT8}),
    "int8 above an fp32 frozen stage": ("har-cnn-1d", {"cut": 1, "frozen_bits": 32, **INT8}),
    "int8 from the input": ("har-cnn-1d", {"cut": -1, "replay": "raw", **INT8}),
    "fp32 from the input": ("har-cnn-1d", {"cut": -1, "replay": "raw", "optimiser": "adam"}),
    "norms and residuals": ("resnet8@width=0.25", {"cut": 2, "bn_mode": "frozen_stats"}),
    "frozen stage inside": ("ds-cnn", {"cut": 4, "replay": "raw", "new_samples": "cache_raw"}),
    "new images inside": ("ds-cnn", {"cut": 4, "new_samples": "recompute"}),
    "patches": ("ds-cnn", {"cut": 4, "patches": "2x2 to 2", "new_samples": "recompute"}),
    "recompute": ("resnet8@width=0.25", {"cut": -1, "replay": "raw", "checkpoints": "every 2"}),
    "some channels": ("ds-cnn", {"cut": 2, "policy": "sparse 3 4:0.5 6:0.25"}),
    "ncm": ("har-cnn-1d", {"cut": 4, "head": "ncm"}),
    "slda": ("har-cnn-1d", {"cut": 4, "head": "slda", "frozen_bits": 32}),
    "cwr": ("har-cnn-1d", {"cut": 4, "head": "cwr"}),
    "tinyol": ("har-cnn-1d", {"cut": 4, "head": "tinyol"}),
}


def map_of(name, decisions):
    network = load_network(name)
    plan = TrainingPlan(**(FEW | decisions)).canonical(network)
    return first_fit(schedule_of(network, plan, cached=max(plan.new_per_batch, 4)))


# --- what is executed ---


@pytest.mark.parametrize("name", CASES)
def test_sound_maps_pass_and_every_operation_is_told(name):
    memory_map, told = map_of(*CASES[name]), []
    found = trial(memory_map, progress=lambda done, total: told.append((done, total)))
    assert found.equal, found.text
    assert not found.failed
    assert found.changed > 0
    total = 2 * found.operations
    assert told == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("name", ["fp32", "int8", "patches", "frozen stage inside", "cwr"])
def test_every_operation_of_the_schedule_is_executed_and_every_buffer_lives(name):
    memory_map = map_of(*CASES[name])
    schedule, numbers, lived = memory_map.schedule, set(), set()
    inside = Arena(memory_map)

    class Listening(Watched):
        def begin(self, operation):
            numbers.add(operation)
            found = super().begin(operation)
            lived.update(buffer.id for buffer in found)
            return found

    prepared_step(schedule, 0).run(schedule, Listening(inside, lambda: None))
    assert numbers == {operation.number for operation in schedule.operations}
    assert lived | inside._lifespans.live.keys() == {buffer.id for buffer in schedule.buffers}


def test_the_work_of_a_hand_computed_plan():
    network = load_network("har-cnn-1d")
    plan = TrainingPlan(**(FEW | {"cut": -1, "replay": "raw", "frozen_bits": 32})).canonical(network)
    schedule = schedule_of(network, plan)
    macs = [unit.macs for unit in network.units]
    found = work_of(schedule)
    assert (found.samples, found.micro_batches) == (5, 3)
    # Per sample: forward and weight gradient of all, input gradient of all but the first; then an inference.
    assert found.macs == 5 * (2 * sum(macs) + sum(macs[1:])) + sum(macs)


def test_stores_are_as_full_as_their_buffers():
    memory_map = map_of("ds-cnn", {"cut": 4, "replay_bits": 7, "n_replays": 50})
    schedule = memory_map.schedule
    step = prepared_step(schedule, 3)
    executor = Executor(schedule, Separate(schedule), step.numbers.stages(), step.inputs)
    step.samples.fill(executor.buffers)
    elements = load_network("ds-cnn").cut_elements(4)
    size = -(-elements * 7 // 8)
    held = executor.buffers.bytes_of(Holds.REPLAYS, -1)
    assert held.size == 50 * size + 4
    assert held[-4:].view(np.float32)[0] == np.float32(step.inputs.levels.scale)
    rows = held[:-4].reshape(50, size)
    assert len(np.unique(rows, axis=0)) == 50
    labels = executor.buffers.bytes_of(Holds.REPLAY_LABELS, -1)
    assert labels.tolist() == step.inputs.samples.replay_labels.tolist()
    assert len(labels) == 50
    source = executor.stores.batch()[-1]
    expected = Levels(7, step.inputs.levels.scale, step.inputs.levels.signed).decoded(
        rows[source.row], load_network("ds-cnn").shape_of(load_network("ds-cnn").cut_layer(4))
    )
    assert np.array_equal(executor.stores.latent(source), expected)


def test_the_same_seed_gives_the_same_trial():
    memory_map = map_of(*CASES["int8"])
    assert trial(memory_map, seed=4) == trial(memory_map, seed=4)
    assert trial(memory_map, seed=4).loss != trial(memory_map, seed=5).loss


# --- what is said ---


def test_the_line_of_a_certificate():
    memory_map = map_of(*CASES["fp32 from the input"])
    network = memory_map.schedule.workload
    found = trial(memory_map)
    parameters = sum(unit.weight_params + unit.bias_params for unit in network.units)
    kib = memory_map.arena_bytes["ram"] / 1024
    assert found.text == (
        "executed on random numbers: one captured image, one mini-batch of 5 samples in 3 micro-batches and "
        f"one inference inside {kib:.4g} KiB of ram; {parameters:,} parameters updated, equal bit by bit to "
        "the same step outside the arenas"
    )


def test_the_line_names_every_level_and_labels_that_stood_outside():
    levels = (("L1", 20480), ("SRAM", 40960), ("flash", 10240))
    said = Trial(compared=True, samples=1, arenas=levels).text
    assert "inside 20 KiB of L1, 40 KiB of SRAM and 10 KiB of flash; " in said
    assert (
        "inside 40 KiB of SRAM (labels outside: the"
        in Trial(compared=True, arenas=levels[1:2], labels_held=False).text
    )


def test_what_nobody_executed_speaks_for_nothing():
    nothing = Trial()
    assert not any((nothing.executed, nothing.equal, nothing.failed))
    assert nothing.text.startswith("not executed: nobody asked")


@pytest.mark.parametrize(("name", "decisions", "reason"), [
    ("ds-cnn", {"learning_dtype": "fp16"}, "learning_dtype: 'fp16'"),
    ("resnet8", {"bn_mode": "group"}, "a bias of its own in front of a group norm"),
])  # fmt: skip
def test_what_cannot_be_executed_says_so_and_is_no_failure(name, decisions, reason):
    found = trial(map_of(name, {"cut": 2, **decisions}))
    assert not found.executed
    assert not found.equal
    assert not found.failed
    assert found.text.startswith("not executed: ")
    assert reason in found.text


def test_too_much_to_execute():
    memory_map = map_of(*CASES["recompute"])
    found = trial(memory_map, most_macs=1000)
    assert found.reason == f"{2 * found.macs:,} MACs inside and outside, and the limit is {1000 * PATIENCE:,}"


# --- maps that do not hold ---


def test_a_buffer_on_a_live_neighbour():
    memory_map = map_of(*CASES["fp32"])
    one = next(entry for entry in memory_map.entries if entry.buffer.holds == Holds.LEARNING_WEIGHT)
    other = next(entry for entry in memory_map.entries if entry.buffer.holds == Holds.GRADIENT)
    entries = tuple(
        Placed(other.buffer, "ram", one.offset) if entry is other else entry for entry in memory_map.entries
    )
    size = max(memory_map.arena_bytes["ram"], one.offset + other.buffer.size_bytes)
    found = trial(MemoryMap(memory_map.schedule, entries, {"ram": size}))
    assert found.failed
    assert f"begins on bytes {one.offset} to " in found.violation
    assert f"which belong to {one.buffer.id}" in found.violation
    assert found.text.startswith("execution failed: ")
    assert "\n" not in found.text


def test_a_lifespan_that_is_too_short_fails_even_outside():
    memory_map = map_of(*CASES["fp32"])
    buffers = tuple(
        replace(buffer, end=buffer.end - 1) if buffer.holds == Holds.MASK else buffer
        for buffer in memory_map.schedule.buffers
    )
    found = trial(first_fit(replace(memory_map.schedule, buffers=buffers)))
    assert found.failed
    assert found.violation.startswith("even outside of the arenas: ")


def outcome(**changes):
    parts = {"loss": 1.0, "weight": [1.0, 2.0], "word": [0.5], "head": [3.0], "logits": [4.0, 5.0]} | changes
    numbers = {key: np.array(value, np.float32) for key, value in parts.items() if key != "loss"}
    result = Result(
        parts["loss"], {"a.weight": numbers["weight"]}, {"a.weight": (numbers["word"],)},
        {"means": numbers["head"]},
    )  # fmt: skip
    return Outcome(result, numbers["logits"])


@pytest.mark.parametrize(("changes", "said"), [
    ({}, ""),
    ({"weight": [1.0, np.float32(2.0) + np.float32(2e-7)]}, "a.weight[1] is 2.0000002 instead of 2.0 "),
    ({"loss": 1.5, "weight": [3.0, 4.0]}, "loss[0] is 1.5 instead of 1.0 (1 of 1 numbers differ)"),
    ({"word": [np.nan]}, "optimiser state 0 of a.weight[0] is nan instead of 0.5"),
    ({"head": [-3.0], "logits": [0.0, 0.0]}, "head means[0] is -3.0 instead of 3.0"),
    ({"logits": [0.0, 5.0]}, "logits[0] is 0.0 instead of 4.0"),
    ({"logits": [4.0]}, "logits is float32 (1,) instead of float32 (2,)"),
])  # fmt: skip
def test_what_differs_first(changes, said):
    found = first_difference(outcome(**changes), outcome())
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_the_sign_of_zero_differs_and_nan_does_not():
    zero, minus = outcome(weight=[0.0, 1.0]), outcome(weight=[-0.0, 1.0])
    assert first_difference(minus, zero).startswith("a.weight[0] is -0.0 instead of 0.0")
    assert first_difference(outcome(weight=[np.nan, 1.0]), outcome(weight=[np.nan, 1.0])) == ""


# --- a shorter mini-batch ---

LONG = {"n_replays": 40, "new_per_batch": 5, "replays_per_batch": 15, "micro_batch": 3}


def test_two_micro_batches_stand_for_many():
    memory_map = map_of("har-cnn-1d", {"cut": 1, **LONG})
    whole = trial(memory_map)
    found = trial(memory_map, most_macs=2 * whole.macs - 1)
    assert (whole.micro_batches, found.micro_batches) == (7, 2)
    assert (whole.samples, found.samples) == (20, 5)  # the last micro-batch is one of two samples
    assert found.equal
    assert "2 of the 7 micro-batches (5 samples of 20) of one mini-batch with its update" in found.text
    assert found.macs < whole.macs
    assert found.arena_bytes == whole.arena_bytes
    assert found.parameters == whole.parameters


@pytest.mark.parametrize("changes", [
    {"micro_batch": 20}, {"micro_batch": 10}, {"micro_batch": 20, "update": "immediate"},
])  # fmt: skip
def test_what_cannot_be_shortened_runs_as_a_whole(changes):
    memory_map = map_of("har-cnn-1d", {"cut": 1, **LONG, **changes})
    assert shortened(memory_map.schedule) is None
    assert trial(memory_map, most_macs=2 * work_of(memory_map.schedule).macs - 1).samples == 20


@pytest.mark.parametrize("seed", range(20))
def test_a_shortened_plan_has_the_same_operations_and_buffers(seed):
    """Also with workspaces, which the product does not compare."""
    pair = random_pair(seed)
    network, plan = pair.workload, replace(pair.plan, new_per_batch=7, micro_batch=2, images_per_event=8)
    if plan.update != "accumulate" or plan.bn_mode == "batch_stats" or plan.head not in ("sgd", "cwr"):
        plan = replace(plan, update="accumulate", bn_mode="folded", head="sgd")
    plan = plan.canonical(network)

    def written(one):
        step = training_step(network, PlanBatch.from_plans(network, [one]), workspaces(network))
        return step_schedule(step, one, samples=sample_bytes(network, plan, 8))

    short = shortened(written(plan))
    assert short is not None
    assert short.new_per_batch + short.replays_per_batch in (3, 4)
    assert (short.replays_per_batch > 0) == (plan.replays_per_batch > 0)
    first, second = written(plan), written(short)
    assert first.operations == second.operations
    assert first.buffers == second.buffers
    assert any(operation.kind == Kind.UPDATE for operation in first.operations)
