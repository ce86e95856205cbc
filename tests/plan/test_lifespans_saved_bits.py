"""Narrow saved activations by hand: who is packed when, what is widened, and what stays as it is."""

from __future__ import annotations

from dse.plan.policy import UpdatePolicy
from tests.plan.lives import differences, live, small, step_of

TINY, NORMED, RESIDUAL, LENET = small("two-linear"), small("normed"), small("residual"), small("lenet")
TWO = {"new_per_batch": 2, "images_per_event": 2, "micro_batch": 2}


def test_whole_inputs_at_four_bits():
    """Two samples of 4, 3 and 2 elements: inputs take 4 + 4 and 3 + 4 B (values, scale), the mask 1 B.

    A tensor is packed when its values are final, freed behind its last reader, and widened to be multiplied.
    """
    step = step_of(TINY, saved_bits=4, **TWO)
    assert not differences(step, {
        "load micro-batch": 32,
        "fwd flat": 32 + 32 + 8,
        "fwd fc1": 8 + 32 + 24,  # a ReLU will still change this tensor
        "fwd fc1.relu": 8 + 24 + 1 + 7,
        "fwd fc2": 8 + 1 + 7 + 24 + 16,
        "loss": 8 + 1 + 7 + 16 + 16,
        "bwd_input fc2": 8 + 1 + 7 + 16 + 24,
        "bwd_weight+update fc2": 8 + 1 + 7 + 16 + 24 + 24,
        "bwd_input fc1.relu": 8 + 1 + 24,
        "bwd_weight+update fc1": 8 + 24 + 32,
    })  # fmt: skip


def test_a_slice_is_packed_when_its_unit_runs():
    """Two of four channels: 2 x 2 values at 4 bits and a scale; the classifier keeps all of its input."""
    step = step_of(TINY, saved_bits=4, policy=UpdatePolicy.of_scheme(0, {0: 0.5}), **TWO)
    assert not differences(step, {
        "fwd flat": 32 + 32,
        "fwd fc1": 32 + 6 + 24,
        "fwd fc1.relu": 6 + 24 + 1 + 7,
        "bwd_weight+update fc1": 6 + 24 + 16,
    })  # fmt: skip


def test_odd_counts_are_rounded_up_over_the_micro_batch():
    """3 elements at 2 bits: one byte for one sample, two for two of them."""
    one, two = step_of(TINY, saved_bits=2), step_of(TINY, saved_bits=2, **TWO)
    assert live(one)["fwd fc2"] == (1 + 4) + (1 + 4) + 1 + 12 + 8
    assert live(two)["fwd fc2"] == (2 + 4) + (2 + 4) + 1 + 24 + 16


def test_latents_at_the_replay_bits_stay_as_they_are_and_dequantised_ones_are_packed():
    """The first unit learns from 8 elements: at 8 bits as they were stored, or packed to 4 on loading."""
    stored = step_of(RESIDUAL, saved_bits=4, policy=UpdatePolicy.of_scheme(0, {0: 1}))
    packed = step_of(
        RESIDUAL, saved_bits=4, policy=UpdatePolicy.of_scheme(0, {0: 1}), first_input="dequantised"
    )
    for step, held in ((stored, 8), (packed, 4 + 4)):
        assert live(step)["load micro-batch"] == 32 + held
        assert live(step)["fwd wide"] == held + 32 + 64
        assert live(step)["bwd_weight+update before"] == held + 32 + 32
    wide = step_of(RESIDUAL, policy=UpdatePolicy.of_scheme(0, {0: 1}), first_input="dequantised")
    assert live(wide)["bwd_weight+update before"] == 32 + 32  # as computed: read in place


def test_the_inputs_of_norms_and_hard_swish_are_packed_and_statistics_are_not():
    """6 elements of the norm at 8 bits, then its mean and deviation (8 B per channel)."""
    step = step_of(NORMED, saved_bits=8, bn_mode="batch_stats", policy="bias", **TWO)
    assert live(step)["fwd fc1.batch_norm"] == 24 + (6 + 4) + 3 * 8
    frozen = step_of(NORMED, saved_bits=8, bn_mode="frozen_stats", policy="bias", **TWO)
    assert live(frozen)["fwd fc1.batch_norm"] == 24 + (6 + 4)
    swish = step_of(LENET, saved_bits=2, policy="bias")
    assert live(swish)["fwd c2.hard_swish"] - live(swish)["fwd c2.batch_norm"] == 48 * 2 // 8 + 4


def test_int8_activations_can_be_saved_narrower_still():
    """The input of fc2 (3 elements, int8) at 4 bits; int8 errors multiply it as widened to a byte."""
    step = step_of(TINY, learning_dtype="int8", backward_dtype="int8", saved_bits=4)
    assert not differences(step, {
        "fwd fc1.relu": (2 + 4) + 3 + 1 + (2 + 4),
        "bwd_weight+update fc2": (2 + 4) + 1 + (2 + 4) + 2 + 3 + 3,
        "bwd_weight+update fc1": (2 + 4) + 3 + 4,
    })  # fmt: skip


def test_a_segment_that_runs_again_packs_the_second_time():
    """The chain behind fc2: what crosses is packed at once, what lies inside when it is made again."""
    step = step_of(small("chain"), saved_bits=8, checkpoints="units 1")
    assert not differences(step, {
        "fwd fc1": 4 + 16 + 24,
        "fwd fc2.relu": 4 + 20 + (5 + 4),  # for the weights of fc3
        "loss": 4 + (5 + 4) + (3 + 4) + 1 + 8 + 8,
        "recompute fwd flat": 4 + 20 + 16 + 16 + (4 + 4),
        "recompute fwd fc1": 20 + (4 + 4) + 16 + 24,
        "recompute fwd fc1.relu": 20 + (4 + 4) + 24 + 1 + (6 + 4),
        "recompute fwd fc2": 20 + (4 + 4) + 1 + (6 + 4) + 24 + 20,
        "bwd_weight+update fc2": 20 + 24 + 1 + (4 + 4) + (6 + 4) + 24,
    })  # fmt: skip
