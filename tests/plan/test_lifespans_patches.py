"""Patches by hand: intervals of windows, the tensors that hold them, and what stays whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import training_step
from dse.plan.techniques import illegal
from dse.plan.timeline import Holds
from tests.oracles import patch_shapes
from tests.plan.lives import ONE, differences, live, small, step_of
from tests.plan.strategies import NAMES, network
from tests.plan.window_networks import window_network

STRIDED = small("strided")
FRAME, OUTPUT = 8 * 12, 3 * 4 * 6


@pytest.mark.parametrize(
    ("tiles", "part"),
    [
        # b has stride 2, "same" pads 0 before and 1 behind: output [i, j) reads [2 i, 2 j + 1) of 8 and 12.
        (2, (5, 7)),  # [0, 2) -> [0, 5), [2, 4) -> [4, 8); [0, 3) -> [0, 7), [3, 6) -> [6, 12)
        (3, (4, 5)),  # [0, 1), [1, 2), [2, 4) -> 3, 3, 4; pairs of 6: [0, 5), [4, 9), [8, 12)
        (4, (3, 5)),  # single rows; columns [0, 1), [1, 3), [3, 4), [4, 6) -> 3, 5, 3, 4
    ],
)
def test_a_stride_two_convolution_by_hand(tiles, part):
    """a's tensor holds the largest part that a patch needs; b's fills up from the first operation on."""
    step = step_of(STRIDED, cut=1, patches=f"{tiles}x{tiles} to 1")
    held = 2 * part[0] * part[1]
    assert patch_shapes(STRIDED, tiles, 3)[0] == (2, *part)
    for stage in ("frozen", "infer"):
        assert not differences(step, {
            f"{stage} a": FRAME + held + OUTPUT,
            f"{stage} a.relu": FRAME + held + OUTPUT,
            f"{stage} b": FRAME + held + OUTPUT,
            f"{stage} b.relu": FRAME + OUTPUT,  # the frame is read again by the next patch
        })  # fmt: skip
    assert live(step)["infer gap"] == OUTPUT + 3
    assert live(step)["infer fc"] == 3 + 4 * 2  # logits have 32 bits


def test_a_patch_of_a_convolution_without_stride_has_a_rim():
    """To unit 0: 2x2 patches of a; nothing lies below but the frame, and a is whole."""
    step = step_of(STRIDED, cut=1, patches="2x2 to 0")
    assert not differences(step, {
        "frozen a": FRAME + 2 * FRAME,
        "frozen a.relu": FRAME + 2 * FRAME,
        "frozen b": 2 * FRAME + OUTPUT,
    })  # fmt: skip


def test_tensors_have_the_width_of_the_frozen_stage():
    step = step_of(STRIDED, cut=1, patches="2x2 to 1", frozen_bits=32)
    assert live(step)["frozen b"] == FRAME + 4 * (2 * 5 * 7 + OUTPUT)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_below_holds_the_positions_that_a_patch_touches(name):
    """Against windows followed position by position, for every unit that the network can be patched to."""
    workload = network(name)
    assert parts_that_shrink(workload) or len(workload.input_shape) < 3


def test_windows_of_random_networks_touch_those_positions():
    """Dilated, strided, padded at each end by itself: some taps meet the padding alone."""
    assert sum(parts_that_shrink(window_network(seed)) for seed in range(80)) > 80


def parts_that_shrink(workload):
    """Compare the tensors of every patched plan with the oracle; how many are smaller than the whole."""
    base = TrainingPlan(**ONE | {"cut": workload.legal_cuts[-1], "frozen_bits": 8, "in_place": "none"})
    checked = 0
    for unit in workload.legal_cuts[:6]:
        plan = replace(base, patches=f"2x2 to {unit}")
        plans = PlanBatch.from_plans(workload, [plan])
        if len(workload.cut_shape(unit)) < 2 or illegal(workload, plans):
            continue
        edge = workload.cut_layer(unit)
        parts = patch_shapes(workload, 2, edge)
        held = [b for b in training_step(workload, plans).schedule.buffers if b.holds == Holds.FROZEN]
        sizes = {buffer.place: int(buffer.size[0]) for buffer in held if buffer.place < edge}
        assert sizes or edge == 0
        for layer, size in sizes.items():
            channels, *spans = parts[layer]
            expected = channels
            for span in spans:
                expected *= span
            assert size == expected, workload.layers[layer].name
            checked += size < workload.out_elements[layer]
    return checked
