"""Saved activations at 8, 4 and 2 bits: gradients of a reference by hand, bytes of the plan, whole runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as f

from dse.errors import UserError
from dse.plan.policy import UpdatePolicy
from dse.training.engine import run
from dse.training.int8.learner import Int8Learner
from dse.training.keeping import AtBits
from dse.training.parameters import initial_parameters
from dse.training.saved import observe_saved
from dse.training.task import Job
from tests.plan.strategies import BRANCHES, network
from tests.training.freezing import (
    CORNERS,
    MODES,
    RESIDUAL,
    SERIES,
    TINY,
    allocated_bytes,
    learner,
    mask_bytes,
    mini_batch,
    observed_bytes,
    plan_of,
    planned_bytes,
    random_plan,
)
from tests.training.reference_networks import lively
from tests.training.saved_bits_reference import gradients_by_hand, on_grid
from tests.training.small import PLAN, TASK
from tests.training.small import network as tiny

torch.set_num_threads(1)

BITS = (8, 4, 2)
INT8 = {"learning_dtype": "int8", "bn_mode": "folded"}


# --- the grid ---


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("low", [0.0, -0.4, -3.0])
def test_a_tensor_is_kept_on_its_own_grid(bits, low):
    draw = np.random.default_rng(bits)
    x = torch.from_numpy(draw.uniform(low, 5.0, (3, 4, 2, 3)).astype(np.float32))
    keeper = AtBits(bits)
    kept = keeper.keep(x)
    assert [each.nbytes for each in kept] == [-(-x.numel() * bits // 8), 4]
    found = keeper.read(kept, x.shape, x.dtype)
    assert np.array_equal(found.numpy(), on_grid(x.numpy(), bits))
    step = (5.0 - low) / (2**bits - 1)
    assert float((found - x).abs().max()) <= 0.5 * step * (1 + 1e-3)
    assert len(np.unique(found.numpy())) <= 2**bits


def test_each_micro_batch_has_a_scale_and_bytes_of_its_own():
    x = torch.arange(1, 36, dtype=torch.float32).view(5, 7)
    keeper = AtBits(4, micro=2)
    data, words = keeper.keep(x)
    assert (data.nbytes, words.nbytes) == (7 + 7 + 4, 3 * 4)  # 14, 14 and 7 elements of half a byte
    found = keeper.read((data, words), x.shape, x.dtype)
    for first in (0, 2, 4):
        part = x[first : first + 2]
        assert np.array_equal(found[first : first + 2].numpy(), on_grid(part.numpy(), 4))


def test_one_tensor_is_kept_once_for_all_that_share_it():
    x = torch.ones(2, 3)
    keeper = AtBits(8)
    first = keeper.keep(x, shared=True)[0]
    assert keeper.keep(x, shared=True)[0] is first
    assert keeper.keep(x)[0] is not first
    assert keeper.keep(x.clone(), shared=True)[0] is not first


@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-45, 1e-38])
def test_tiny_tensors_stay_finite(value):
    x = torch.full((1, 5), value)
    keeper = AtBits(2)
    found = keeper.read(keeper.keep(x), x.shape, x.dtype)
    assert torch.isfinite(found).all()
    assert float((found - x).abs().max()) <= 2.0**-126


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, 3.4e38])
def test_what_is_not_finite_gives_no_number(odd):
    x = torch.tensor([[1.0, odd, -3.4e38]])
    keeper = AtBits(8)
    assert torch.isnan(keeper.read(keeper.keep(x), x.shape, x.dtype)).all()


# --- gradients ---


def require_close(mine, expected, close=1e-9):
    found = mine.gradients()
    assert found.keys() == expected.keys()
    largest = max(np.abs(value).max() for value in expected.values())
    assert largest > 0
    for key, value in found.items():
        assert np.abs(value - expected[key].reshape(value.shape)).max() <= close * largest, key


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", [BRANCHES, CORNERS, SERIES])
def test_gradients_are_those_of_a_reference_by_hand(name, bits):
    draw = np.random.default_rng(bits)
    for mode in MODES:
        for policy in ("all", None):
            plan = random_plan(name, draw, mode, 4)
            plan = replace(plan, saved_bits=bits, policy=policy or plan.policy)
            mine = learner(name, plan, dtype=torch.float64, seed=3)
            assert mine.module.stored
            latents, labels, seen = mini_batch(name, plan)
            mine.accumulate(latents, labels, seen)
            require_close(mine, gradients_by_hand(mine, latents, labels, bits, 4))


def test_the_reference_is_autograd_where_nothing_is_narrow():
    plan = plan_of(-1, "all", "batch_stats", 4)
    mine = learner(BRANCHES, plan, dtype=torch.float64)
    latents, labels, seen = mini_batch(BRANCHES, plan)
    mine.accumulate(latents, labels, seen)
    require_close(mine, gradients_by_hand(mine, latents, labels, 32, 4))


@pytest.mark.parametrize("as_written", [False, True])
def test_micro_batches_have_scales_of_their_own(as_written):
    plan = replace(plan_of(-1, "all", count=5), micro_batch=2, saved_bits=4)
    mine = learner(BRANCHES, plan, dtype=torch.float64, as_written=as_written)
    latents, labels, seen = mini_batch(BRANCHES, replace(plan, micro_batch=5))
    mine.accumulate(latents, labels, seen)
    expected = gradients_by_hand(mine, latents, labels, 4, 2)
    require_close(mine, expected)
    whole = gradients_by_hand(mine, latents, labels, 4, 5)
    assert any(not np.allclose(expected[key], whole[key], rtol=1e-6) for key in expected)


def test_an_input_at_replay_bits_is_not_narrowed_again():
    plan = replace(plan_of(2, "all", count=3), saved_bits=2, first_input="stored", replay_bits=8)
    mine = learner(BRANCHES, plan, dtype=torch.float64)
    latents, labels, seen = mini_batch(BRANCHES, plan)
    mine.accumulate(latents, labels, seen)
    require_close(mine, gradients_by_hand(mine, latents, labels, 2, 3, stored_input=True))
    other = learner(BRANCHES, replace(plan, first_input="dequantised"), dtype=torch.float64)
    other.accumulate(latents, labels, seen)
    assert not np.allclose(mine.gradients()["b1.weight"], other.gradients()["b1.weight"], rtol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_outputs_are_those_of_full_width(mode):
    plan = plan_of(-1, "all", mode, 4)
    latents = torch.from_numpy(mini_batch(BRANCHES, plan)[0])
    results = []
    for bits in (32, 2):
        mine = learner(BRANCHES, replace(plan, saved_bits=bits), stored=True)
        mine.module.train()
        results.append(mine.module(latents).detach())
    assert torch.equal(*results)


def test_fewer_bits_move_gradients_further():
    plan = plan_of(-1, "all", "folded", 4)
    latents, labels, seen = mini_batch(BRANCHES, plan)
    found = {}
    for bits in (32, *BITS):
        mine = learner(BRANCHES, replace(plan, saved_bits=bits), stored=True)
        mine.accumulate(latents, labels, seen)
        found[bits] = mine.gradients()["mid.weight"]
    errors = [np.abs(found[bits] - found[32]).max() for bits in BITS]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_what_pytorch_saves_is_never_narrow():
    with pytest.raises(UserError, match="saved_bits 4, to be saved by PyTorch"):
        learner(TINY, replace(plan_of(-1, "all"), saved_bits=4), stored=False)


# --- bytes ---


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", [BRANCHES, CORNERS, SERIES, "ds-cnn"])
def test_observed_bytes_are_the_planned_ones(name, bits):
    draw = np.random.default_rng(bits)
    totals = set()
    for _ in range(25):
        in_place = str(draw.choice(["elementwise", "none"]))
        plan = replace(random_plan(name, draw), saved_bits=bits, in_place=in_place)
        observed = observed_bytes(learner(name, plan), mini_batch(name, plan)[0])
        assert observed == planned_bytes(name, plan), plan
        totals.add(observed)
    assert len(totals) > 10


@pytest.mark.parametrize("policy", ["all", "bias", "last-2"])
@pytest.mark.parametrize("name", [RESIDUAL, BRANCHES])
def test_policies_by_name_save_as_planned(name, policy):
    plan = replace(plan_of(network(name).legal_cuts[1], policy, count=2), saved_bits=4)
    assert observed_bytes(learner(name, plan), mini_batch(name, plan)[0]) == planned_bytes(name, plan)


def test_saved_bytes_by_hand():
    """Half of 16 channels of 6x6 for unit 3, a bias in unit 2, two samples: 4 bits, and a scale."""
    policy = UpdatePolicy.parse({"ratio": {"3": 0.5}, "bias": [2]})
    plan = replace(plan_of(-1, policy, "folded", 2), saved_bits=4)
    observed = observed_bytes(learner(TINY, plan), mini_batch(TINY, plan)[0])
    assert observed == (2 * 8 * 36 * 4 // 8 + 4) + 144 + 54 == planned_bytes(TINY, plan)


def test_an_input_that_two_layers_need_whole_is_saved_once():
    masks = (16 * 8 * 8 + 16 * 8 * 8 + 8 * 4 * 4 + 4 * 4 * 4) // 8
    for weights in (["b1", "bs"], ["b1"]):
        plan = replace(plan_of(2, UpdatePolicy.parse({"weights": weights})), saved_bits=2)
        observed = observed_bytes(learner(BRANCHES, plan), mini_batch(BRANCHES, plan)[0])
        assert observed == (8 * 16 * 16 * 2 // 8 + 4) + masks + 16 * 4 * 4 == planned_bytes(BRANCHES, plan)


def test_nothing_is_hidden_from_the_hooks():
    """Only masks and packed bytes come from NumPy; the allocator sees what is kept beside them: nothing."""
    plan = replace(plan_of(2, "all", count=3), saved_bits=4)
    kept = allocated_bytes(learner(BRANCHES, plan), mini_batch(BRANCHES, plan)[0])
    assert kept <= planned_bytes(BRANCHES, plan) - mask_bytes(BRANCHES, plan)


# --- int8 ---


def int8_learner(name, plan):
    workload = network(name)
    known = mini_batch(name, replace(plan, micro_batch=2), 7)[0]
    return Int8Learner(workload, lively(workload, initial_parameters(workload, 0)), plan, known, rate=0.1)


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("name", [BRANCHES, CORNERS, SERIES])
def test_int8_saves_the_planned_bytes(name, bits):
    draw = np.random.default_rng(bits)
    for _ in range(15):
        plan = random_plan(name, draw, "folded", int(draw.choice([1, 3])))
        classifier = str(draw.choice(["learning", "fp32"]))
        plan = replace(plan, saved_bits=bits, classifier_dtype=classifier, **INT8)
        mine = int8_learner(name, plan)
        with observe_saved(()) as found:
            mine.module(torch.from_numpy(mini_batch(name, plan)[0]))
        assert found.total == planned_bytes(name, plan), plan


def test_int8_gradients_read_the_narrower_grid():
    """The classifier's weight gradient by hand: errors of the softmax times what was kept of its input."""
    plan = replace(plan_of(network(TINY).legal_cuts[-1], "last-1", count=4), saved_bits=4, **INT8)
    mine = int8_learner(TINY, plan)
    latents, labels, seen = mini_batch(TINY, plan)
    mine.accumulate(latents, labels, seen)
    kernel = mine.kernels[mine.workload.units[-1].layer]
    entered = mine.module.entered(torch.from_numpy(latents))
    q = entered.q.flatten(1) if kernel.place.shape == tuple(entered.q.shape[1:]) else None
    assert q is not None
    error = torch.softmax(torch.from_numpy(mine.logits(latents)), 1) - f.one_hot(
        torch.from_numpy(labels), mine.workload.classes
    )
    expected = (error / 4).t().numpy() @ (on_grid(q.numpy(), 4) * kernel.source.scale)
    name = mine.workload.units[-1].name
    found = mine.gradients()[f"{name}.weight"]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    exact = int8_learner(TINY, replace(plan, saved_bits=8))
    exact.accumulate(latents, labels, seen)
    assert not np.allclose(found, exact.gradients()[f"{name}.weight"], rtol=1e-3)


# --- whole runs ---


def test_a_run_learns_at_every_width_and_each_is_a_run_of_its_own():
    """Everything learns, from raw replays; the hardest width still learns what the others do."""
    plan = replace(PLAN, cut=-1, replay="raw", policy="all", first_input="dequantised", micro_batch=32)
    found = {bits: run(Job(tiny(), replace(plan, saved_bits=bits), TASK)) for bits in (32, *BITS)}
    assert len({record.plan_key for record in found.values()}) == 4
    naive = run(Job(tiny(), plan, TASK, reference="naive")).accuracy
    assert all(record.accuracy > max(naive, 0.4) for record in found.values())
    again = run(Job(tiny(), replace(plan, saved_bits=4), TASK))
    np.testing.assert_array_equal(again.matrix, found[4].matrix)


def test_loss_falls_at_two_bits():
    plan = replace(plan_of(-1, "all", "batch_stats", 8), saved_bits=2, optimiser="momentum")
    mine = learner(BRANCHES, plan)
    mine.start_event(60)
    losses = [mine.step(*mini_batch(BRANCHES, plan, seed % 2)) for seed in range(60)]
    assert losses[-1] < 0.75 * losses[0]
