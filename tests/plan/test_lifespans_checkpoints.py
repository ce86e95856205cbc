"""Checkpoint segments by hand: a chain, a residual block; and the two ways to name the same places.

fp32, one sample, in-place updates. The frame is stored as captured, 8 bits per element.
"""

from __future__ import annotations

import numpy as np
import pytest

from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.step import training_step
from tests.oracles import NaiveStep
from tests.plan.lives import ONE, differences, live, small, step_of
from tests.plan.strategies import NAMES, checkpoint_places, network, resolve

CHAIN, RESIDUAL, LENET, PLANES = small("chain"), small("residual"), small("lenet"), small("planes")


def test_a_chain_of_four_layers_by_hand():
    """Split behind fc2 (units 0 and 1 run twice): tensors of 16, 24, 20, 12 and 8 B, masks of 1 B.

    The flattened input is made from the latents again, which stand whole at 8 bits (4 B) until then.
    """
    step = step_of(CHAIN, checkpoints="units 1")
    assert not differences(step, {
        "load micro-batch": 4 + 16,
        "fwd flat": 4 + 16 + 16,
        "fwd fc1": 4 + 16 + 24,
        "fwd fc1.relu": 4 + 24,  # neither the input nor the mask stays
        "fwd fc2": 4 + 24 + 20,
        "fwd fc2.relu": 4 + 20,
        "fwd fc3": 4 + 20 + 12,
        "fwd fc3.relu": 4 + 20 + 12 + 1,  # the last segment saves as usual
        "fwd fc4": 4 + 20 + 12 + 1 + 8,
        "loss": 4 + 20 + 12 + 1 + 8 + 8,
        "bwd_input fc4": 4 + 20 + 12 + 1 + 8 + 12,
        "bwd_input fc3": 4 + 20 + 12 + 20,
        "bwd_weight+update fc3": 4 + 20 + 12 + 20,  # reads what crossed, which ends here
        "recompute fwd flat": 4 + 20 + 16 + 16,
        "recompute fwd fc1": 20 + 16 + 24,
        "recompute fwd fc1.relu": 20 + 16 + 24 + 1,
        "recompute fwd fc2": 20 + 16 + 24 + 1 + 20,
        "recompute fwd fc2.relu": 20 + 16 + 24 + 1 + 20 + 1,
        "bwd_input fc2.relu": 20 + 16 + 24 + 1 + 1,
        "bwd_input fc2": 20 + 24 + 16 + 24 + 1,
        "bwd_weight+update fc2": 20 + 24 + 16 + 24 + 1,
        "bwd_input fc1.relu": 24 + 16 + 1,
        "bwd_weight+update fc1": 24 + 16,
    })  # fmt: skip
    assert step.macs[0, :, 0].tolist() == [2 * 24, 2 * 30, 15, 6]


def test_what_crosses_between_two_segments_that_run_again_stays_for_the_second_pass():
    """Behind fc1 and fc2: the tensor of fc1 (24 B) crosses, and unit fc2 needs it for its weights as well."""
    step = step_of(CHAIN, checkpoints="units 0 1")
    assert not differences(step, {
        "fwd fc2.relu": 4 + 24 + 20,
        "loss": 4 + 24 + 20 + 12 + 1 + 8 + 8,
        "recompute fwd fc2": 4 + 24 + 20 + 20,
        "recompute fwd fc2.relu": 4 + 24 + 20 + 20 + 1,
        "bwd_input fc2": 4 + 24 + 20 + 24,
        "recompute fwd flat": 4 + 24 + 16 + 16,
        "recompute fwd fc1.relu": 24 + 16 + 24 + 1,
    })  # fmt: skip


def test_biases_need_masks_but_no_inputs_of_a_segment():
    """The mask of fc1 and fc2 makes both run again; inputs are dropped as soon as they are read."""
    step = step_of(CHAIN, checkpoints="units 1", policy="bias")
    assert not differences(step, {
        "fwd fc3": 4 + 20 + 12,
        "bwd_input fc3": 4 + 12 + 20,  # nobody reads what crossed any more
        "recompute fwd fc1": 20 + 16 + 24,
        "recompute fwd fc2": 20 + 24 + 1 + 20,
        "bwd_input fc2": 20 + 24 + 1,
    })  # fmt: skip


def test_a_residual_block_by_hand():
    """Tensors of 32 B, 64 B inside the block; only the first unit's weights learn below the classifier.

    The mask inside the block (2 B) makes the ReLU run again, hence both units below it, and not the rest.
    """
    policy = UpdatePolicy.of_scheme(0, {"before": 1})
    step = step_of(RESIDUAL, policy=policy, checkpoints="units 2")
    assert not differences(step, {
        "load micro-batch": 8 + 32,
        "fwd before": 8 + 32 + 32,
        "fwd wide": 8 + 32 + 64,
        "fwd wide.relu": 8 + 32 + 64,
        "fwd narrow": 8 + 32 + 64 + 32,
        "fwd sum": 8 + 32 + 32 + 32,
        "fwd gap": 8 + 32 + 8,
        "loss": 8 + 8 + 8 + 8,
        "bwd_input gap": 8 + 8 + 32,
        "recompute fwd before": 8 + 32 + 32 + 32,
        "recompute fwd wide": 8 + 32 + 32 + 64,  # nobody runs again that reads the skip path
        "recompute fwd wide.relu": 8 + 32 + 64 + 2,
        "bwd_input sum": 8 + 2 + 32 + 32,
        "bwd_input narrow": 8 + 2 + 32 + 64 + 32,
        "bwd_input wide": 8 + 64 + 32,
        "bwd_weight+update before": 8 + 32 + 32,
    })  # fmt: skip
    assert step.macs[0, :, 0].tolist() == [2 * 16, 2 * 32, 32, 4]


def test_a_slice_is_taken_from_a_tensor_that_is_still_there():
    """Half of the input of ``narrow`` learns; it saves nothing else, and does not compute a second time.

    Its slice (32 B) is taken when the tensor (64 B) is final in the second pass, beside an error (32 B).
    """
    policy = UpdatePolicy.of_scheme(0, {"narrow": 0.5})
    step = step_of(RESIDUAL, policy=policy, checkpoints="units 2")
    assert live(step)["recompute fwd wide.relu"] == 64 + 32 + 32
    assert live(step)["bwd_weight narrow"] == 32 + 32
    assert step.macs[0, :, 0].tolist() == [2 * 16, 2 * 32, 32, 4]


def test_a_slice_of_what_crosses_is_taken_before_it_goes():
    """Behind ``alone`` 128 B cross; half of them are needed by ``shared``, which does not compute again.

    They are taken in the first pass, when the tensor is final, so that the rest of it can go.
    """
    policy = UpdatePolicy.of_scheme(0, {"shared": 0.5})
    step = step_of(PLANES, policy=policy, checkpoints="units 1 2")
    assert not differences(step, {
        "fwd alone.relu": 128 + 64,
        "fwd gap": 64 + 128 + 8,
        "loss": 64 + 8 + 8 + 8,
        "bwd_input gap": 64 + 8 + 128,
        "bwd_weight+update shared": 64 + 128,  # the error of the addition went over into that of ``shared``
    })  # fmt: skip


def test_latents_are_widened_again_for_those_who_run_again():
    """``sum`` reads the latents (8 elements) too, but runs once: they go when ``wide`` has read them."""
    step = step_of(RESIDUAL, cut=0, policy=UpdatePolicy.of_scheme(2, {}), checkpoints="units 2")
    assert not differences(step, {
        "fwd wide.relu": 8 + 32 + 64,
        "recompute fwd wide": 32 + 8 + 32 + 64,
        "recompute fwd wide.relu": 32 + 64 + 2,
        "bwd_input sum": 32 + 2,
    })  # fmt: skip


def test_a_tensor_is_made_again_where_only_its_flattening_lies_above():
    """lenet, split between hard-swish and flatten: the tensor of c2 (48 elements) is written a second time.

    Masks take 18 B, indices 36 B; the error that waits is that of the flattened tensor.
    """
    step = step_of(LENET, checkpoints="units 1", policy="bias")
    assert not differences(step, {
        "recompute fwd c1": 192 + 128 + 512 + 576,
        "recompute fwd c1.relu": 192 + 576 + 18,
        "recompute fwd p1": 192 + 576 + 18 + 144 + 36,
        "recompute fwd c2": 192 + 18 + 144 + 36 + 192,
        "recompute fwd c2.batch_norm": 192 + 18 + 36 + 192,
        "recompute fwd c2.hard_swish": 192 + 18 + 36 + 192 + 192,
        "bwd_input c2.hard_swish": 192 + 18 + 36 + 192,
    })  # fmt: skip


@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_a_list_of_units_and_every_kth_place_are_the_same_split(name, every):
    workload = network(name)
    for cut in (-1, workload.legal_cuts[0]):
        places = checkpoint_places(workload, cut)[every - 1 :: every]
        if not places:
            continue
        words = [f"every {every}", f"units {' '.join(map(str, places))}"]
        plans = [TrainingPlan(**(ONE | {"cut": cut, "checkpoints": word})) for word in words]
        apart = [training_step(workload, PlanBatch.from_plans(workload, [plan])) for plan in plans]
        together = training_step(workload, PlanBatch.from_plans(workload, plans))
        assert apart[0].schedule.clock == apart[1].schedule.clock == together.schedule.clock
        curves = [step.schedule.live_bytes() for step in apart]
        assert np.array_equal(curves[0], curves[1])
        assert np.array_equal(together.schedule.live_bytes()[:, :, 0], curves[0][:, :, 0])
        assert np.array_equal(together.macs[0], together.macs[1])


def test_a_split_lowers_the_peak_of_a_deep_network_and_costs_one_forward_pass():
    workload = network("mobilenet-v1@width=0.25,resolution=32")
    plans = [
        TrainingPlan(**(ONE | {"update": "in_place", "checkpoints": word})) for word in ("none", "every 5")
    ]
    before, after = (NaiveStep(workload, plan, *resolve(workload, plan)) for plan in plans)
    assert after.peak_bytes < before.peak_bytes
    assert before.macs["fwd"] < after.macs["fwd"] <= 2 * before.macs["fwd"]
    assert before.macs["bwd_input"] == after.macs["bwd_input"]
