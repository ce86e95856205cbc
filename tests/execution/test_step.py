"""One mini-batch in an arena: against PyTorch autograd, and bit for bit against separate memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.errors import UserError
from dse.execution.plain import arena_step, plain_step
from dse.plan.decisions import TrainingPlan
from dse.plan.techniques import plan_problems
from tests.execution import by_torch
from tests.execution.cases import (
    first_fit,
    inputs_of,
    network_of,
    plan_of,
    schedule_of,
    stages_of,
)
from tests.execution.random_plans import SMALL

BRANCHES = SMALL[0]
MOBILENET = "mobilenet-v1@width=0.25,resolution=32"

PLANS = {
    "zoo: ds-cnn": ("ds-cnn", {"cut": 4}),
    "zoo: autoencoder": ("autoencoder", {"cut": 3, "new_per_batch": 3}),
    "zoo: har-cnn-1d": ("har-cnn-1d", {"cut": 1}),
    "zoo: mobilenet-v1": (MOBILENET, {"cut": 24, "bn_mode": "batch_stats", "micro_batch": 4}),
    "zoo: mobilenet-v2": ("mobilenet-v2-w0.35", {"cut": 44}),
    "zoo: mcunet": ("mcunet-5fps", {"cut": 38, "micro_batch": 1}),
    "zoo: proxylessnas": ("proxylessnas-w0.3", {"cut": 53, "policy": "sparse 5 58:0.5"}),
    "everything learns": ("har-cnn-1d", {"cut": -1, "replay": "raw"}),
    "everything learns, residual": (
        "resnet8", {"cut": -1, "replay": "raw", "new_per_batch": 1, "replays_per_batch": 1},
    ),
    "branches": (BRANCHES, {"cut": 0}),
    "branches, nothing in place": (BRANCHES, {"cut": -1, "replay": "raw", "in_place": "none"}),
    "frozen statistics": ("resnet8", {"cut": 5, "bn_mode": "frozen_stats"}),
    "batch statistics": ("resnet8", {"cut": 5, "bn_mode": "batch_stats", "micro_batch": 4}),
    "micro-batches that do not divide": ("resnet8", {"cut": 5, "micro_batch": 3}),
    "raw replays pass the frozen stage": ("har-cnn-1d", {"cut": 1, "replay": "raw"}),
    "new samples pass it too": ("har-cnn-1d", {"cut": 1, "new_samples": "cache_raw", "micro_batch": 1}),
    "new samples captured again": ("har-cnn-1d", {"cut": 1, "new_samples": "recompute"}),
    "replay bits 6": ("ds-cnn", {"cut": 5, "replay_bits": 6, "rounding": "floor"}),
    "replay bits 1": ("ds-cnn", {"cut": 5, "replay_bits": 1}),
    "replay bits 16": ("ds-cnn", {"cut": 5, "replay_bits": 16}),
    "replay bits 32": ("ds-cnn", {"cut": 5, "replay_bits": 32}),
    "dequantised inputs": ("ds-cnn", {"cut": 5, "first_input": "dequantised"}),
    "momentum at once": (
        "ds-cnn", {"cut": 5, "optimiser": "momentum", "update": "immediate", "micro_batch": 4},
    ),
    "adam in place": ("ds-cnn", {"cut": 5, "optimiser": "adam", "update": "in_place", "micro_batch": 4}),
    "lars": ("ds-cnn", {"cut": 5, "optimiser": "lars"}),
    "biases alone": ("resnet8", {"cut": 2, "policy": "bias"}),
    "scales and shifts alone": (
        BRANCHES, {"cut": -1, "replay": "raw", "policy": "bias", "bn_mode": "frozen_stats"},
    ),
    "last two units": ("ds-cnn", {"cut": 5, "policy": "last-2"}),
    "channels": ("resnet8", {"cut": 5, "policy": "sparse 3 6:0.5 7:0.25", "bn_mode": "frozen_stats"}),
    "channels, grouped kernels": ("ds-cnn", {"cut": 3, "policy": "sparse 5 5:0.5 6:0.25 7:0.5"}),
    "channels at once": (
        "resnet8",
        {"cut": 5, "policy": "sparse 3 6:0.5", "update": "in_place", "micro_batch": 4, "optimiser": "adam"},
    ),
    "recompute": ("ds-cnn", {"cut": 1, "checkpoints": "every 2", "bn_mode": "frozen_stats"}),
    "recompute from the input": ("har-cnn-1d", {"cut": -1, "replay": "raw", "checkpoints": "every 1"}),
    "recompute of blocks": (BRANCHES, {"cut": -1, "replay": "raw", "checkpoints": "units 2 5"}),
    "recompute with batch statistics": (
        "ds-cnn", {"cut": 3, "checkpoints": "every 2", "bn_mode": "batch_stats", "micro_batch": 4},
    ),
    "saved at 8 bits": ("ds-cnn", {"cut": 5, "saved_bits": 8}),
    "saved at 4 bits": ("har-cnn-1d", {"cut": 2, "saved_bits": 4, "bn_mode": "frozen_stats"}),
    "saved at 2 bits": ("ds-cnn", {"cut": 6, "saved_bits": 2, "policy": "sparse 2 8:0.5"}),
    "patches": ("resnet8", {"cut": 5, "replay": "raw", "new_samples": "cache_raw", "patches": "2x2 to 2"}),
    "in-place depthwise": ("ds-cnn", {"cut": 6, "replay": "raw", "in_place": "depthwise"}),
}  # fmt: skip


def case(name, seed=0):
    network_name, decisions = PLANS[name]
    network = network_of(network_name)
    plan = plan_of(network, **decisions)
    assert not plan_problems(network, plan, "plan")
    inputs = by_torch.selected(network, plan, inputs_of(network, plan, seed))
    return network, plan, schedule_of(network, plan), stages_of(network, plan), inputs


def above_cut(network, plan, parameters):
    names = {layer.name for layer in network.layers[network.cut_layer(plan.cut) + 1 :]}
    return {key: value for key, value in parameters.items() if key.rsplit(".", 1)[0] in names}


@pytest.mark.parametrize("name", PLANS)
def test_updated_weights_are_those_of_autograd(name):
    """To 1e-5 of the largest number of each tensor, and the step moved them by much more than that."""
    network, plan, schedule, stages, inputs = case(name)
    mine = arena_step(first_fit(schedule), stages, inputs)
    loss, theirs = by_torch.torch_step(network, plan, inputs)
    assert mine.loss == pytest.approx(loss, rel=1e-5)
    learned = above_cut(network, plan, mine.parameters)
    assert by_torch.difference(learned, theirs) < 1e-5
    assert by_torch.difference(learned, above_cut(network, plan, inputs.parameters.learning)) > 1e-5


@pytest.mark.parametrize("name", PLANS)
def test_an_arena_changes_no_bit(name):
    _, _, schedule, stages, inputs = case(name)
    expected = plain_step(schedule, stages, inputs)
    found = arena_step(first_fit(schedule), stages, inputs)
    assert found.loss == expected.loss
    assert found.parameters.keys() == expected.parameters.keys()
    for key, value in expected.parameters.items():
        assert np.array_equal(found.parameters[key], value), key
    for key, words in expected.state.items():
        assert all(map(np.array_equal, found.state[key], words)), key


def test_what_does_not_learn_stays():
    """Weights of other input channels, biases of units that only learn weights, frozen statistics."""
    network, _, schedule, stages, inputs = case("channels")
    found = arena_step(first_fit(schedule), stages, inputs).parameters
    before = inputs.parameters.learning
    unit = network.units[6]
    channels = inputs.channels[6]
    rest = np.setdiff1d(np.arange(unit.in_channels), channels)
    key = f"{unit.name}.weight"
    assert np.array_equal(found[key][:, rest], before[key][:, rest])
    assert np.mean(found[key][:, channels] != before[key][:, channels]) > 0.9
    for part in ("mean", "variance"):
        name = f"{unit.name}.batch_norm.{part}"
        np.testing.assert_allclose(found[name], before[name], rtol=1e-6, atol=1e-6)


def test_state_goes_on_where_it_was():
    """Two steps, the second from what the first left, are two steps of one learner."""
    name = "momentum at once"
    network, plan, schedule, stages, inputs = case(name)
    memory_map = first_fit(schedule)
    first = arena_step(memory_map, stages, inputs)
    given = replace(inputs.parameters, learning=first.parameters, state=first.state)
    second = arena_step(memory_map, stages, replace(inputs, parameters=given))
    learner = by_torch.learners.Learner(
        network,
        by_torch.parameters_of(network, plan, inputs),
        plan,
        rate=0.05,
        momentum=0.9,
        schedule="constant",
    )
    learner.start_event(2)
    by_torch.put_state(learner, inputs.parameters.state)
    for _ in range(2):
        learner.step(*by_torch.latents_of(network, plan, inputs), tuple(inputs.seen))
    learned = above_cut(network, plan, second.parameters)
    assert by_torch.difference(learned, learner.parameters()) < 1e-5


# --- what cannot be executed ---


def test_fp16_is_refused():
    network = network_of("har-cnn-1d")
    plan = plan_of(network, cut=1, learning_dtype="fp16")
    schedule = schedule_of(network, plan)
    with pytest.raises(UserError, match="learning_dtype: 'fp16'; one of fp32, int8"):
        plain_step(schedule, stages_of(network, plan), inputs_of(network, plan))


def test_every_problem_of_the_inputs_is_told():
    network, _, schedule, stages, inputs = case("channels")
    with pytest.raises(UserError, match=r"labels [\d, ]+; classes seen: 0"):
        plain_step(schedule, stages, replace(inputs, seen=(0,)))
    with pytest.raises(UserError) as caught:
        plain_step(schedule, stages, replace(inputs, channels={6: np.array([1, 1])}))
    assert [problem.key for problem in caught.value.problems] == [
        f"channels of {network.units[index].name}" for index in (6, 7)
    ]
    short = {key: value for key, value in inputs.parameters.learning.items() if "classifier" not in key}
    with pytest.raises(UserError, match=r"parameters.classifier.weight: missing"):
        plain_step(schedule, stages, replace(inputs, parameters=replace(inputs.parameters, learning=short)))
    samples = replace(inputs.samples, rows=np.array([0, 99]))
    with pytest.raises(UserError, match=r"rows \[0, 99\] of 3 samples"):
        plain_step(schedule, stages, replace(inputs, samples=samples))


def test_a_bias_in_front_of_a_group_norm_is_refused():
    network = network_of("resnet8")
    plan = plan_of(network, cut=5, bn_mode="group")
    with pytest.raises(UserError, match="a bias of its own in front of a group norm"):
        plain_step(schedule_of(network, plan), stages_of(network, plan), inputs_of(network, plan))


def test_frames_are_bytes():
    network = network_of("har-cnn-1d")
    plan = plan_of(network, cut=-1, replay="raw")
    inputs = inputs_of(network, plan)
    samples = replace(inputs.samples, new=inputs.samples.new.astype(np.float32))
    with pytest.raises(UserError, match="float32; uint8, as captured"):
        plain_step(schedule_of(network, plan), stages_of(network, plan), replace(inputs, samples=samples))


def test_the_cases_are_as_different_as_they_say():
    """Every decision that an executor has to know occurs with every word that fp32 can have."""
    network = network_of("har-cnn-1d")
    seen = {}
    for name, decisions in PLANS.values():
        plan = plan_of(network_of(name), **decisions)
        for key in ("bn_mode", "optimiser", "update", "new_samples", "first_input", "in_place", "saved_bits"):
            seen.setdefault(key, set()).add(getattr(plan, key))
    assert seen["bn_mode"] == {
        "folded",
        "frozen_stats",
        "batch_stats",
    }  # group: no network of training has it
    assert seen["optimiser"] == {"sgd", "momentum", "adam", "lars"}
    assert seen["update"] == {"accumulate", "immediate", "in_place"}
    assert seen["new_samples"] == {"cache_latent", "cache_raw", "recompute"}
    assert seen["in_place"] == {"elementwise", "none", "depthwise"}
    assert seen["saved_bits"] == {32, 8, 4, 2}
    assert TrainingPlan(cut=0).canonical(network).saved_bits == 32
