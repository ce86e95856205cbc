"""Who overwrites whom, by hand: element-wise layers, nobody, or depthwise layers plane by plane."""

from __future__ import annotations

import pytest

from dse.plan.tensors import overwrites_depthwise
from tests.plan.lives import differences, live, small, step_of

PLANES, TINY = small("planes"), small("two-linear")


def test_depthwise_layers_overwrite_an_input_that_nobody_else_reads():
    """Frame 16 B, int8 tensors of 32 B, planes of 16 B. ``shared`` must leave its input to the addition."""
    frozen = {"cut": 3, "frozen_bits": 8}
    step = step_of(PLANES, in_place="depthwise", **frozen)
    expected = {
        "spread": 16 + 32,
        "alone": 32 + 16,
        "alone.relu": 32,
        "shared": 32 + 32,
        "sum": 32 + 32 + 32,
        "gap": 32 + 2,
    }
    assert not differences(step, {f"frozen {name}": size for name, size in expected.items()})
    assert not differences(
        step, {f"infer {name}": size for name, size in expected.items()} | {"infer fc": 2 + 4 * 2}
    )
    plain = step_of(PLANES, **frozen)
    assert live(plain)["frozen alone"] == 32 + 32
    assert live(plain)["frozen shared"] == 32 + 32


def test_dilated_and_unevenly_padded_layers_overwrite_where_positions_stay():
    """The plane holds a channel until all of it is computed, wherever the taps reach; see a2 below."""
    found = {
        layer.name for network in map(small, ("tcn", "uneven")) for index, layer in enumerate(network.layers)
        if overwrites_depthwise(network, index)
    }  # fmt: skip
    assert found == {"a2", "b1", "dw1", "dw3", "dw4"}
    steps = {mode: live(step_of(small("tcn"), in_place=mode, cut=6, frozen_bits=8)) for mode in
             ("elementwise", "depthwise")}  # fmt: skip
    # The frame of 60 B goes with the stem; its output, 8 x 20, waits for the addition.
    assert steps["elementwise"]["frozen a2"] == 160 + 160 + 160
    assert steps["depthwise"]["frozen a2"] == 160 + 160 + 20


def test_the_plane_has_the_width_of_the_frozen_stage():
    step = step_of(PLANES, in_place="depthwise", cut=3, frozen_bits=32)
    assert live(step)["frozen alone"] == 128 + 64


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_the_learning_stage_keeps_the_inputs_of_depthwise_layers(dtype):
    """Their weight gradients may read them: both modes have the same learning stage, clamp masks included."""
    decisions = {"learning_dtype": dtype, "checkpoints": "every 1"}
    steps = [step_of(PLANES, in_place=mode, **decisions) for mode in ("elementwise", "depthwise")]
    curves = [{k: v for k, v in live(step).items() if not k.startswith("infer")} for step in steps]
    assert curves[0] == curves[1]
    assert steps[0].macs.tolist() == steps[1].macs.tolist()


def test_without_sharing_every_layer_but_a_view_writes_a_tensor_of_its_own():
    """4 -> 3 -> 2 with a ReLU, two samples in fp32; errors are apart as well."""
    two = {"new_per_batch": 2, "images_per_event": 2, "micro_batch": 2}
    step = step_of(TINY, in_place="none", **two)
    assert not differences(step, {
        "fwd fc1": 32 + 24,
        "fwd fc1.relu": 32 + 24 + 24 + 1,
        "fwd fc2": 32 + 24 + 1 + 16,
        "bwd_input fc2": 32 + 24 + 1 + 16 + 24,
        "bwd_input fc1.relu": 32 + 1 + 24 + 24,
        "bwd_weight+update fc1": 32 + 24,
        "infer fc1": 4 + 3,
        "infer fc1.relu": 3 + 3,
        "infer fc2": 3 + 4 * 2,
    })  # fmt: skip


def test_inference_is_a_schedule_of_its_own_behind_the_update():
    """One image, int8: nothing of the training step is left, and the frame goes with its last reader."""
    step = step_of(TINY)
    assert not differences(
        step, {"infer flat": 4 + 4, "infer fc1": 4 + 3, "infer fc1.relu": 3, "infer fc2": 3 + 4 * 2}
    )
