"""One image through the frozen stage and through the whole network: stored latents, logits, patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.errors import UserError
from dse.execution.memory import Arena
from dse.execution.packing import Levels
from dse.execution.step import Executor
from dse.plan.operations import Holds, Phase
from dse.plan.techniques import plan_problems
from tests.execution import by_torch
from tests.execution.cases import first_fit, inputs_of, network_of, plan_of, schedule_of, stages_of
from tests.execution.random_plans import SMALL
from tests.plan.strategies import TCN, UNEVEN
from tests.plan.window_networks import window_network

networks = pytest.importorskip("dse.training.network", reason="the reference network is PyTorch")

INFERENCES = {
    "folded": ("ds-cnn", {"cut": 5}),
    "norms by running statistics": ("resnet8", {"cut": 5, "bn_mode": "frozen_stats"}),
    "after batch statistics": ("har-cnn-1d", {"cut": 1, "bn_mode": "batch_stats", "micro_batch": 4}),
    "nothing in place": (SMALL[0], {"cut": 2, "in_place": "none"}),
    "depthwise in place": ("ds-cnn", {"cut": 6, "in_place": "depthwise"}),
    "patches of a chain": ("ds-cnn", {"cut": 5, "patches": "3x3 to 2"}),
    "patches of a series": ("har-cnn-1d", {"cut": 3, "patches": "4x4 to 2"}),
    "patches of a block": ("resnet8", {"cut": 5, "patches": "2x2 to 5"}),
    "patches of dilated windows": (TCN, {"cut": 6, "patches": "3x3 to 6"}),
    "patches of causal windows in two halves": (TCN, {"cut": 3, "patches": "2x2 to 3"}),
    "patches of uneven windows": (UNEVEN, {"cut": 5, "patches": "3x3 to 5"}),
    "dilated depthwise in place": (TCN, {"cut": 6, "in_place": "depthwise"}),
    "uneven depthwise in place": (UNEVEN, {"cut": 5, "in_place": "depthwise"}),
    "patches of inverted bottlenecks": ("mobilenet-v2-w0.35", {"cut": 50, "patches": "2x2 to 8"}),
}


def begun(name, decisions):
    network = network_of(name)
    plan = plan_of(network, **decisions)
    schedule = schedule_of(network, plan)
    inputs = inputs_of(network, plan)
    executor = Executor(schedule, Arena(first_fit(schedule)), stages_of(network, plan), inputs)
    frame = np.random.default_rng(6).integers(0, 256, network.input_shape).astype(np.uint8)
    return network, plan, inputs, executor, frame


@pytest.mark.parametrize("name", INFERENCES)
def test_inference_uses_what_was_learned(name):
    network, plan, inputs, executor, frame = begun(*INFERENCES[name])
    learned = executor.learn().parameters
    logits = executor.infer(frame)
    given = replace(inputs, parameters=replace(inputs.parameters, learning=learned))
    module = networks.build_module(network, by_torch.parameters_of(network, plan, given))
    image = inputs.frames.decoded(frame.reshape(-1), (1, *frame.shape))
    expected = networks.infer(module, image)[0]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.array_equal(executor.infer(frame), logits)  # the second finds the memory as the first did


@pytest.mark.parametrize("decisions", [{}, {"patches": "2x2 to 1"}, {"in_place": "none"}], ids=str)
@pytest.mark.parametrize("bits", [8, 6])
def test_captured_images_become_latents_at_replay_bits(decisions, bits):
    network, _, inputs, executor, frame = begun("ds-cnn", {"cut": 3, "replay_bits": bits, **decisions})
    executor.capture(frame, 2)
    elements = network.cut_elements(3)
    size = -(-elements * bits // 8)
    row = executor.buffers.bytes_of(Holds.NEW_SAMPLES, -1)[2 * size : 3 * size]
    stage = by_torch.stages.FrozenStage(network, inputs.parameters.frozen, 3, 32)
    latent = stage.features(inputs.frames.decoded(frame.reshape(-1), (1, *frame.shape)))
    stored = inputs.levels.decoded(row, latent.shape)
    top = inputs.levels.scale * (2**bits - 1)
    assert np.abs(stored - np.clip(latent, 0, top)).max() <= 0.5001 * inputs.levels.scale
    assert executor.learn().loss > 0  # the other rows are still there, and the step still runs


def test_a_frame_is_stored_as_it_is_at_the_network_input():
    _, _, _, executor, frame = begun("har-cnn-1d", {"cut": -1, "replay": "raw"})
    executor.capture(frame, 1)
    stored = executor.buffers.bytes_of(Holds.NEW_SAMPLES, -1)[frame.size : 2 * frame.size]
    assert np.array_equal(stored, frame.reshape(-1))


def test_images_that_pass_inside_the_mini_batch_are_not_captured():
    _, _, _, executor, frame = begun("har-cnn-1d", {"cut": 1, "new_samples": "recompute"})
    with pytest.raises(UserError, match="new_samples = recompute; cache_latent"):
        executor.capture(frame, 0)


def test_patches_hold_parts_only():
    """The map's early tensors are smaller than whole ones, and what comes out is the same."""
    network = network_of("ds-cnn")
    found = {}
    for patches in ("none", "3x3 to 2"):
        plan = plan_of(network, cut=5, patches=patches)
        schedule = schedule_of(network, plan)
        early = [
            buffer.size_bytes for buffer in schedule.buffers
            if buffer.holds == Holds.INFERRED and buffer.place < network.units[2].layer
        ]  # fmt: skip
        _, _, _, executor, frame = begun("ds-cnn", {"cut": 5, "patches": patches})
        found[patches] = max(early), executor.infer(frame)
        assert {item.phase for item in schedule.operations} == set(Phase)
    assert found["3x3 to 2"][0] < found["none"][0]
    np.testing.assert_allclose(found["3x3 to 2"][1], found["none"][1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_patches_of_random_windows_compute_what_whole_layers_do(first):
    """Dilated, strided, padded at each end by itself; every unit that two patches can end at."""
    ran = 0
    for seed in range(first, first + 20):
        network = window_network(seed)
        for unit in network.legal_cuts[:-1]:
            plans = [plan_of(network, cut=unit, patches=patches) for patches in ("none", f"2x2 to {unit}")]
            if plan_problems(network, plans[1], "plan"):
                continue
            whole, parts = (infer_once(network, plan) for plan in plans)
            np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())
            ran += 1
    assert ran > 20


def infer_once(network, plan):
    """Logits of one frame in an arena."""
    schedule = schedule_of(network, plan)
    stages, inputs = stages_of(network, plan), inputs_of(network, plan)
    executor = Executor(schedule, Arena(first_fit(schedule)), stages, inputs)
    frame = np.random.default_rng(6).integers(0, 256, network.input_shape).astype(np.uint8)
    return executor.infer(frame)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 7, 8, 16, 32])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
def test_levels_are_those_of_the_replay_buffer(bits, signed, rounding):
    packing = pytest.importorskip("dse.training.packing", reason="the reference lies beside PyTorch code")
    x = np.random.default_rng(bits).normal(0.2, 1, (1, 37)).astype(np.float32)
    scale = 0.37 if bits < 8 else 3 / 2**bits
    theirs = packing.Quantiser(bits, rounding, scale, signed, 37)
    mine = Levels(bits, scale, signed, rounding)
    assert np.array_equal(mine.encoded(x), theirs.encode(x)[0])
    assert np.array_equal(mine.decoded(mine.encoded(x), x.shape), theirs.quantised(x))
