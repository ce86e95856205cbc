"""Backward lifespans by hand: clamp masks, errors that additions hand on, gradients of norms."""

from __future__ import annotations

import pytest

from dse.plan.policy import UpdatePolicy
from tests.plan.lives import differences, live, small, step_of

NORMED, RESIDUAL = small("normed"), small("residual")
PLANES, TWICE = small("planes"), small("twice")
TWO = {"new_per_batch": 2, "images_per_event": 2, "micro_batch": 2}
WHOLE = UpdatePolicy.of_scheme(0, {"before": 1})


def test_a_clamp_mask_ends_with_the_first_backward_operation_of_its_layer():
    """int8, fp32 errors; masks of sum, narrow and before take 1 B each, that of the ReLU 2 B, the frame 8 B.

    ``before`` passes no error on: its mask ends with its weight gradient, whenever the update comes.
    """
    late = step_of(RESIDUAL, policy=WHOLE, learning_dtype="int8")
    early = step_of(RESIDUAL, policy=WHOLE, learning_dtype="int8", update="accumulate")
    waiting = (4 + 2) * 4  # gradient of the classifier
    assert not differences(late, {
        "bwd_input sum": 8 + 2 + 3 + 32 + 32,
        "bwd_input narrow": 8 + 2 + 2 + 32 + 64 + 32,
        "bwd_weight+update before": 8 + 1 + 32 + 32,
    })  # fmt: skip
    assert not differences(early, {
        "bwd_input sum": 8 + 2 + 3 + 32 + 32 + waiting,
        "bwd_weight before": 8 + 1 + 32 + 32 + waiting + 4 * 4,
        "update": waiting + 4 * 4,
    })  # fmt: skip


def test_a_unit_that_learns_early_frees_its_mask_before_its_input_gradient():
    """``narrow`` learns too: with updates at the end its mask (1 B) is gone when it passes its error on."""
    policy = UpdatePolicy.of_scheme(0, {"before": 1, "narrow": 1})
    late = step_of(RESIDUAL, policy=policy, learning_dtype="int8")
    early = step_of(RESIDUAL, policy=policy, learning_dtype="int8", update="accumulate")
    held = (
        8 + 2 + 32 + 64 + 32
    )  # frame, mask of the ReLU, errors of narrow, of what it reads, of the skip path
    assert live(late)["bwd_input narrow"] == held + 2 + 16  # both masks, and what ``narrow`` reads
    assert live(early)["bwd_input narrow"] == held + 1 + (4 + 2) * 4 + 8 * 4  # one mask, two gradients


def test_an_addition_hands_its_error_to_the_input_that_it_read_last():
    """The addition reads ``shared`` and ``alone``: the first takes its error over, the other gets a copy."""
    both = live(step_of(PLANES, policy=UpdatePolicy.of_scheme(0, {"spread": 1, "shared": 1})))
    mask = 4
    stored, read = 16, 128  # the frame at 8 bits; what ``shared`` reads, whole
    assert both["bwd_input gap"] == stored + mask + read + 8 + 128
    assert both["bwd_input sum"] == stored + mask + read + 128 + 128
    assert both["bwd_input shared"] == stored + mask + read + 128 + 128


def test_an_addition_hands_its_error_on_alone_where_the_skip_path_needs_none():
    skip = live(step_of(RESIDUAL, policy=UpdatePolicy.of_scheme(0, {"wide": 0.5})))
    assert skip["bwd_input sum"] == 16 + 2 + 32  # a slice, the mask of the ReLU, one error


def test_an_addition_without_an_heir_keeps_its_error_beside_what_it_makes():
    """The error of ``learns`` begins at ``second``: ``first`` adds to it and cannot hand its own on."""
    step = step_of(TWICE, policy=UpdatePolicy.of_scheme(0, {"learns": 1}))
    assert not differences(step, {
        "bwd_input gap": 8 + 8 + 32,
        "bwd_input second": 8 + 32 + 32,
        "bwd_input first": 8 + 32 + 32,
        "bwd_weight+update learns": 8 + 32 + 32,  # widened: ``rests`` and its error are not there
    })  # fmt: skip


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ("accumulate", {
            "bwd_weight fc2": 32 + 24 + 24 + 1 + 16 + 32,
            "bwd_input fc2": 32 + 24 + 1 + 16 + 24 + 32,
            "bwd_input fc1.relu": 32 + 24 + 1 + 24 + 32,
            "bwd_weight fc1.batch_norm": 32 + 24 + 24 + 32 + 24,
            "bwd_input fc1.batch_norm": 32 + 24 + 32 + 24,
            "bwd_weight fc1": 32 + 24 + 32 + 24 + 48,
            "update": 32 + 24 + 48,
        }),
        ("immediate", {
            "bwd_input fc2": 32 + 24 + 24 + 1 + 16 + 24,
            "bwd_weight+update fc2": 32 + 24 + 24 + 1 + 16 + 24 + 32,
            "bwd_weight fc1.batch_norm": 32 + 24 + 24 + 24,
            "bwd_input fc1.batch_norm": 32 + 24 + 24,
            "bwd_weight+update fc1.batch_norm": 32 + 24 + 24,
            "bwd_weight+update fc1": 32 + 24 + 48,
            "update": 0,
        }),
        ("in_place", {
            "bwd_weight+update fc2": 32 + 24 + 24 + 1 + 16 + 24,
            "bwd_weight fc1.batch_norm": 32 + 24 + 24 + 24,
            "bwd_weight+update fc1.batch_norm": 32 + 24 + 24,
            "bwd_weight+update fc1": 32 + 24,
            "update": 0,
        }),
    ],
)  # fmt: skip
def test_the_gradient_of_a_norm_is_apart(update, expected):
    """Two samples, fp32, frozen statistics: flat 32 B, hidden 24 B, norm's input 24 B, mask 1 B, logits 16 B.

    Gradients: fc2 (6 + 2) x 4 B, the norm's 3 scales and shifts 24 B, the weights of fc1 48 B. With frozen
    statistics the norm's input gradient does not read its saved input.
    """
    step = step_of(NORMED, bn_mode="frozen_stats", update=update, **TWO)
    assert not differences(step, expected)


def test_the_gradient_of_a_norm_accumulates_like_all_others():
    step = step_of(NORMED, bn_mode="frozen_stats", update="accumulate", **TWO | {"micro_batch": 1})
    found = live(step)
    assert found["load micro-batch"] == 16 + 32 + 24 + 48
    assert found["update"] == 32 + 24 + 48
    assert found["store latent"] == 4  # the frozen stage runs before, when a sample is captured


def test_latents_wait_in_the_buffer_that_the_learning_stage_reads():
    """normed cut at the hidden vector, raw replays: images pass one by one, 3 x 4 B of latents each."""
    raw = {"replay": "raw", "n_replays": 8, "replays_per_batch": 1, "new_per_batch": 1, "cut": 1}
    frozen = {"frozen flat": 4 + 4, "frozen fc1": 4 + 3, "store latent": 3}
    several = step_of(NORMED, **raw, micro_batch=2)
    assert not differences(several, {name: size + 2 * 12 for name, size in frozen.items()})
    assert live(several)["load micro-batch"] == 2 * 12 + (0 if several.spec.latent_bits[0] == 32 else 2 * 3)
    gradient = (6 + 2) * 4
    single = step_of(NORMED, **raw, micro_batch=1, update="accumulate")
    waits = {"frozen flat": 0, "frozen fc1": 0, "store latent": 12}
    assert not differences(single, {name: frozen[name] + gradient + waits[name] for name in frozen})
