"""The schedule against a case worked out by hand, and its buffers against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import training_step
from dse.vocabulary import Role
from dse.workload import load_network

TINY = load_network(str(Path(__file__).parent / "data" / "two-linear.toml"))
PLAIN = {"replay": "none", "new_per_batch": 2, "replays_per_batch": 0, "images_per_event": 2}


def step_of(**decisions):
    plans = PlanBatch.from_plans(TINY, [TrainingPlan(**(PLAIN | {"cut": 0} | decisions))])
    return training_step(TINY, plans)


def live_by_operation(step):
    names = step.schedule.clock.names(TINY)
    return dict(zip(names, step.schedule.live_bytes().sum(axis=0)[:, 0], strict=True))


def test_full_training_by_hand():
    """Accumulators (12 + 3 + 6 + 2) x 4 = 92 B live through the mini-batch of two micro-batches.

    fp32 activations: input 4, hidden 3, logits 2 elements. The flattened input (16 B) and the hidden vector
    (12 B) are saved whole for the weight gradients; the mask of the ReLU takes one byte.
    """
    step = step_of(cut=-1)
    live = live_by_operation(step)
    assert live["load micro-batch"] == 92 + 16
    assert live["fwd flat"] == 92 + 16 + 16
    assert live["fwd fc1"] == 92 + 16 + 12
    assert live["fwd fc1.relu"] == 92 + 16 + 12 + 1
    assert live["fwd fc2"] == 92 + 16 + 12 + 1 + 8
    assert live["loss"] == 92 + 16 + 12 + 1 + 8 + 8
    assert live["bwd_weight fc2"] == 92 + 16 + 12 + 1 + 8
    assert live["bwd_input fc2"] == 92 + 16 + 1 + 8 + 12
    assert live["bwd_input fc1.relu"] == 92 + 16 + 1 + 12
    assert live["bwd_weight fc1"] == 92 + 16 + 12
    assert live["update"] == 92
    assert max(live.values()) == 137


def test_last_unit_only_by_hand():
    """Cut behind the hidden unit: one frozen image passes in int8, then only fc2 learns."""
    step = step_of(cut=1, micro_batch=2, update="immediate", replay_bits=8)
    live = live_by_operation(step)
    assert live["frozen fc1"] == 4 + 3  # the frame is the flattened input; hidden vector at one byte
    assert live["load micro-batch"] == 2 * 12 + 2 * 3
    assert live["loss"] == 2 * 3 + 2 * 8 + 2 * 8  # stored latents, logits, error
    assert live["bwd_weight+update fc2"] == 2 * 8 + 2 * 3 + 2 * 12 + (6 + 2) * 4
    assert step.macs[0].sum(axis=0).tolist() == [2 * 6, 0, 2 * 6]


def test_bias_only_saves_no_input():
    full, biases = step_of(cut=-1), step_of(cut=-1, policy="bias")
    saved = [
        sum(int(b.size[0]) for b in step.schedule.buffers if b.role == Role.SAVED_ACTIVATIONS)
        for step in (full, biases)
    ]
    assert saved[1] < saved[0]
    assert biases.macs[0, 0, 2] == 0  # no weight gradient below the classifier
    assert biases.macs[0, 1, 1] > 0  # but its error passes on to the bias below


@pytest.mark.parametrize(("mode", "extra"), [("sgd", 0), ("momentum", 1), ("adam", 2)])
def test_optimiser_state(mode, extra):
    assert step_of(cut=-1, optimiser=mode).static_bytes[Role.OPTIMISER_STATE][0] == 23 * 4 * extra


def test_every_buffer_has_a_lifespan_and_a_reason():
    step = step_of(cut=-1)
    for buffer in step.schedule.buffers:
        # Inference runs behind the update, on the same operations.
        assert 0 <= buffer.start <= buffer.end <= step.schedule.clock.count - 1
        assert buffer.reason
        assert all(buffer.start <= op <= buffer.end for op in buffer.reads), buffer
        assert np.all(buffer.size >= 0)


def test_traffic_counts_only_operations_that_are_executed():
    """The lowest learning unit computes no input gradient: nothing is read for one."""
    step = step_of(cut=1, micro_batch=2, update="immediate", replay_bits=8)
    assert step.traffic[Role.TRANSIENT_ACTIVATIONS][0, :, 1].sum() == 0
    # Weight gradient: two errors of 8 B, two widened inputs of 12 B.
    assert step.traffic[Role.TRANSIENT_ACTIVATIONS][0, 1, 2, 0] == 2 * 8 + 2 * 12
    assert step.traffic[Role.SAVED_ACTIVATIONS][0, 1, 2, 0] == 2 * 3
