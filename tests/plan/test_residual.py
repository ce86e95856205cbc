"""Errors through residual blocks: the skip path holds a buffer, and both paths count their MACs.

By hand for one block (tensors of 8 elements, 16 inside the block), fp32, one sample, in-place updates.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.step import TrainingStep, training_step
from dse.workload import Workload, load_network

BLOCK = load_network(str(Path(__file__).parent / "data" / "residual.toml"))
MCUNET = load_network("mcunet-5fps")


def step_of(workload: Workload, policy: UpdatePolicy, **decisions) -> TrainingStep:
    plan = TrainingPlan(
        cut=-1, replay="none", new_per_batch=1, replays_per_batch=0, images_per_event=1, update="in_place",
        policy=policy, **decisions,
    )  # fmt: skip
    return training_step(workload, PlanBatch.from_plans(workload, [plan]))


def live(step: TrainingStep) -> dict[str, float]:
    names = step.schedule.clock.names(step.workload)
    return dict(zip(names, step.schedule.live_bytes().sum(axis=0)[:, 0].tolist(), strict=True))


STORED = 8  # the captured frame, kept at 8 bits for the first unit's weight gradient
MASK = 2  # of the ReLU inside the block


def test_a_weight_before_the_block_needs_the_error_of_both_paths():
    step = step_of(BLOCK, UpdatePolicy.of_scheme(0, {"before": 1}))
    found = live(step)
    assert (
        found["bwd_input sum"] == STORED + MASK + 32 + 32
    )  # one input takes the buffer over, one gets a copy
    assert found["bwd_input narrow"] == STORED + MASK + 32 + 64 + 32  # output, input, and the skip path waits
    assert found["bwd_input wide"] == STORED + 64 + 32  # added to what the skip path brought
    assert found["bwd_weight+update before"] == STORED + 32 + 32  # the frame is widened
    assert step.macs[0, :, 1].tolist() == [0, 32, 32, 4]
    assert step.macs[0, :, 2].tolist() == [16, 0, 0, 4]


def test_a_weight_inside_the_block_needs_no_skip_path():
    step = step_of(BLOCK, UpdatePolicy.of_scheme(0, {"wide": 0.5}))
    found = live(step)
    piece = 16  # one of two input channels
    assert found["bwd_input sum"] == piece + MASK + 32
    assert found["bwd_input narrow"] == piece + MASK + 32 + 64
    assert found["bwd_weight+update wide"] == piece + 64
    assert step.macs[0, :, 1].tolist() == [0, 0, 32, 4]
    assert step.macs[0, :, 2].tolist() == [0, 16, 0, 4]


def test_an_addition_in_int8_clamps_and_keeps_a_mask():
    """Errors are fp32; masks of sum and narrow take a byte each, of before one, the frame is int8 already.

    A mask is read by the first backward operation of its layer that is executed: by the input gradient of the
    addition, and by the late weight gradient of ``before``, which passes no error on.
    """
    found = live(step_of(BLOCK, UpdatePolicy.of_scheme(0, {"before": 1}), learning_dtype="int8"))
    assert found["bwd_weight sum"] == STORED + MASK + 3 + 32
    assert found["bwd_input sum"] == STORED + MASK + 3 + 32 + 32
    assert found["bwd_weight before"] == STORED + 1 + 32
    assert found["bwd_weight+update before"] == STORED + 1 + 32 + 32


def descendants(workload: Workload, layer: int) -> set[int]:
    """Layers that a change of ``layer`` reaches."""
    found = {layer}
    for index, producers in enumerate(workload.inputs):
        if found & set(producers):
            found.add(index)
    return found


@pytest.mark.parametrize("lowest", [6, 7, 9, 10, 21, 24, 30, 40])
def test_mcunet_counts_every_path_above_a_weight(lowest):
    """All that the weight reaches passes an error down, and a skip path holds one until its block is done."""
    step = step_of(MCUNET, UpdatePolicy.of_scheme(0, {lowest: 1}), learning_dtype="int8")
    reached = descendants(MCUNET, MCUNET.units[lowest].layer)
    for unit in MCUNET.units:
        passes = any(producer in reached for producer in MCUNET.inputs[unit.layer])
        assert step.macs[0, unit.index, 1] == unit.macs * passes
        assert (step.macs[0, unit.index, 2] > 0) == (unit.index in (lowest, 42))
    errors = {buffer.name: buffer for buffer in step.schedule.buffers if buffer.name.startswith("error of ")}
    clock, checked = step.schedule.clock, 0
    for index, layer in enumerate(MCUNET.layers):
        if layer.element_operation == "add":
            skip = min(MCUNET.inputs[index])
            held = errors.get(f"error of {MCUNET.layers[skip].name}")
            if skip in reached:
                assert held is not None
                assert held.start == clock.backward(index, 1)
                assert held.end >= clock.backward(skip, 0)
                assert held.size[0] == 4 * MCUNET.out_elements[skip]
                checked += 1
            else:
                assert held is None
    assert checked > 0 or lowest > 36
