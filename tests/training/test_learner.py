"""The learning stage against plain PyTorch: gradients, optimisers, policies, micro-batches, batch norms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dse.errors import IllegalPlan, UserError
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.learning import learning_of
from dse.plan.techniques import build_spec
from dse.training.executable import require_executable, unexecuted
from dse.training.learner import Learner
from dse.training.network import build_module, infer
from dse.training.optimiser import Optimiser
from dse.training.parameters import fold, initial_parameters
from dse.training.policy import LearningParameters
from tests.plan.strategies import network, random_plans
from tests.training.reference_networks import REFERENCES, lively, named, reference

torch.set_num_threads(1)
SMALL = "resnet8@width=0.5,classes=5"
SEEN = (0, 1, 2, 4)


def batch(workload, cut, count=12, seed=0, seen=SEEN):
    """Latents at ``cut`` and labels of the classes ``seen``."""
    draw = np.random.default_rng(seed)
    latents = draw.standard_normal((count, *workload.cut_shape(cut))).astype(np.float32)
    return latents, np.array([seen[i % len(seen)] for i in range(count)])


def learner(name=SMALL, plan=None, **options):
    workload = network(name)
    plan = plan or TrainingPlan(cut=2)
    return Learner(
        workload, lively(workload, initial_parameters(workload, 1)), plan, **{"rate": 0.1, **options}
    )


def fused(module):
    """Put every batch norm of a network by hand into its convolution, as PyTorch's own tool does."""
    for conv, norm in module.units():
        if norm is not None:
            parts = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *parts)
            conv.bias.requires_grad_(True)
            norm.reset_parameters()  # scale 1, shift 0, mean 0, variance 1
            norm.eps = 0.0
    return module


def cross_entropy(logits, labels, seen):
    """Over the classes seen alone: other outputs are cut away before the softmax."""
    places = torch.tensor([seen.index(label) for label in labels.tolist()])
    return torch.nn.functional.cross_entropy(logits[:, list(seen)], places)


def both_gradients(name, cut, bn_mode, count, dtype):
    """Gradients of the learner and of the network by hand on the same mini-batch, and both losses."""
    workload = network(name)
    parameters = lively(workload, initial_parameters(workload, 2))
    seen = tuple(range(workload.classes - 1))
    latents, labels = batch(workload, cut, count, seen=seen)
    by_hand = reference(name, workload, parameters).to(dtype)
    by_hand = fused(by_hand).eval() if bn_mode == "folded" else by_hand.train(bn_mode == "batch_stats")
    loss = cross_entropy(by_hand.after(torch.from_numpy(latents).to(dtype), cut), labels, seen)
    loss.backward()
    plan = TrainingPlan(cut=cut, replay="raw" if cut < 0 else "latent", bn_mode=bn_mode, micro_batch=128)
    mine = Learner(workload, parameters, plan, rate=0.1, dtype=dtype)
    assert mine.accumulate(latents, labels, seen) == pytest.approx(float(loss.detach()), rel=1e-5)
    found, expected = mine.gradients(), named(by_hand, workload, gradient=True)
    assert len(found) >= 2 * (len(workload.units) - cut - 1)
    return found, {key: expected[key].numpy().reshape(found[key].shape) for key in found}


MODES = ("folded", "frozen_stats", "batch_stats")


@pytest.mark.parametrize("bn_mode", MODES)
@pytest.mark.parametrize(("name", "cut"), [(name, cut) for name in REFERENCES for cut in (-1, 0, 2)])
def test_gradients_are_those_of_an_ordinary_autograd_step(name, cut, bn_mode):
    """In fp64, where no rectifier flips by rounding; folded weights themselves are fp32 (1e-7)."""
    found, expected = both_gradients(name, cut, bn_mode, 24, torch.float64)
    for key, value in found.items():
        largest = np.abs(expected[key]).max()
        assert largest > 1e-6, key
        assert np.abs(value - expected[key]).max() <= (1e-4 if bn_mode == "folded" else 1e-9) * largest, key


@pytest.mark.parametrize("bn_mode", MODES)
@pytest.mark.parametrize(("name", "cut"), list(zip(REFERENCES, (16, 5, 2, 3, 4), strict=True)))
def test_with_nothing_quantised_gradients_equal_autograd_to_1e_5(name, cut, bn_mode):
    found, expected = both_gradients(name, cut, bn_mode, 8, torch.float32)
    largest = max(np.abs(value).max() for value in expected.values())
    assert largest > 1e-3
    for key, value in found.items():
        assert np.abs(value - expected[key]).max() <= 1e-5 * largest, key


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_updates_equal_those_of_pytorch(kind, schedule):
    draw = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(50, generator=draw), torch.randn(6, 50, generator=draw)
    theirs = torch.nn.Parameter(start.clone())
    if kind == "adam":
        optimiser = torch.optim.Adam([theirs], lr=0.1, weight_decay=0.01)
    else:
        momentum = 0.8 if kind == "momentum" else 0.0
        optimiser = torch.optim.SGD([theirs], lr=0.1, momentum=momentum, weight_decay=0.01)
    mine = Optimiser(kind, start.clone(), torch.zeros(50), None, 0.1, 0.8, 0.01, schedule)
    mine.start(6)
    for step, gradient in enumerate(gradients):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 6 if schedule == "linear" else 1)
        theirs.grad = gradient.clone()
        optimiser.step()
        mine.gradient.copy_(gradient)
        mine.step()
    torch.testing.assert_close(mine.parameters, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_the_rate_falls_to_zero_and_an_event_starts_afresh():
    parameters = torch.zeros(1)
    optimiser = Optimiser("momentum", parameters, torch.ones(1), None, rate=1.0, momentum=0.5)
    optimiser.start(2)
    optimiser.step()
    assert parameters.item() == -1.0
    optimiser.step()
    assert parameters.item() == -1.0 - 0.5 * 1.5
    with pytest.raises(ValueError, match="step 3 of an event of 2 steps"):
        optimiser.step()
    optimiser.start(1)
    optimiser.step()
    assert parameters.item() == -1.75 - 1.0  # no momentum left


def test_steps_outside_an_event_are_refused():
    mine = learner()
    latents, labels = batch(mine.workload, 2)
    with pytest.raises(ValueError, match="step 1 of an event of 0 steps"):
        mine.step(latents, labels, SEEN)


# --- what learns ---


@given(random_plans())
def test_what_learns_is_what_the_plan_counts(drawn):
    name, plan = drawn
    workload = network(name)
    plan = replace(plan, learning_dtype="fp32", bn_mode="folded" if plan.bn_mode == "group" else plan.bn_mode)
    batch_ = PlanBatch.from_plans(workload, [plan])
    counted = learning_of(workload, build_spec(workload, batch_))
    try:
        found = Learner(workload, initial_parameters(workload, 0), plan, rate=0.1).learning
    except IllegalPlan:
        assert not counted.parameters.any()
        return
    np.testing.assert_array_equal(found.trained_weights, counted.trained_weights[0])
    np.testing.assert_array_equal(found.trained_affine, counted.trained_affine[0])


def changed(before, after):
    """How many numbers of each tensor differ."""
    return {key: int((before[key] != after[key]).sum()) for key in before}


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("bn_mode", MODES)
def test_only_what_learns_changes(bn_mode, optimiser):
    """Unit 3: two of 8 input channels; unit 4: its bias alone; unit 6: everything; weight decay on."""
    policy = {"ratio": {"3": 0.25}, "weights": [6, 9], "bias": [4, 6]}
    plan = TrainingPlan(cut=2, policy=policy, bn_mode=bn_mode, optimiser=optimiser, micro_batch=128)
    mine = learner(plan=plan, weight_decay=0.1)
    before = mine.parameters()
    strength = (before["stack2/conv1.weight"] ** 2).sum((0, 2, 3))
    latents, labels = batch(mine.workload, 2, 40)
    mine.start_event(3)
    for _ in range(3):
        mine.step(latents, labels, SEEN)
    after = mine.parameters()
    moved = {key: count for key, count in changed(before, after).items() if count}
    affine = ["batch_norm.gamma", "batch_norm.beta"] if bn_mode != "folded" else ["bias"]
    wanted = {"stack2/conv1.weight", "stack3/conv1.weight", "classifier.weight", "classifier.bias"}
    wanted |= {
        f"{unit}.{part}" for unit in ("stack2/conv1", "stack2/conv2", "stack3/conv1") for part in affine
    }
    if bn_mode == "batch_stats":
        norms = ("stack2/conv1", "stack2/conv2", "stack3/conv1", "stack3/conv2")
        wanted |= {f"{unit}.batch_norm.{part}" for unit in norms for part in ("mean", "variance")}
    assert set(moved) == wanted
    channels = (before["stack2/conv1.weight"] != after["stack2/conv1.weight"]).any((0, 2, 3))
    assert set(np.flatnonzero(channels)) == set(np.argsort(strength)[-2:])
    assert moved["stack2/conv1.weight"] == 2 * 16 * 9


def test_a_policy_under_which_nothing_learns_is_refused():
    workload = network(SMALL)
    module = build_module(workload, initial_parameters(workload, 0), first_layer=workload.cut_layer(8) + 1)
    with pytest.raises(IllegalPlan, match="nothing above cut 8 of resnet8@"):
        LearningParameters(workload, TrainingPlan(cut=8, policy={"weights": [3]}), module)


# --- mini-batches ---


@pytest.mark.parametrize("bn_mode", ["folded", "frozen_stats"])
@pytest.mark.parametrize("micro", [1, 5])
def test_micro_batches_give_the_gradients_of_the_mini_batch(bn_mode, micro):
    plan = TrainingPlan(cut=2, bn_mode=bn_mode, micro_batch=micro)
    whole, pieces = learner(plan=plan), learner(plan=plan, as_written=True)
    latents, labels = batch(whole.workload, 2)
    loss = whole.accumulate(latents, labels, SEEN)
    assert pieces.accumulate(latents, labels, SEEN) == pytest.approx(loss, rel=1e-6)
    expected = whole.gradients()
    for key, value in pieces.gradients().items():
        np.testing.assert_allclose(value, expected[key], atol=1e-5 * np.abs(expected[key]).max())


def test_batch_statistics_take_the_whole_mini_batch():
    plan = TrainingPlan(cut=2, bn_mode="batch_stats", new_per_batch=3, replays_per_batch=0, micro_batch=3)
    whole, written = learner(plan=plan), learner(plan=plan, as_written=True)
    latents, labels = batch(whole.workload, 2)
    assert whole.accumulate(latents, labels, SEEN) == written.accumulate(latents, labels, SEEN)


def test_arrays_may_be_read_only_strided_and_of_other_types():
    mine = learner(plan=TrainingPlan(cut=2))
    latents, labels = batch(mine.workload, 2)
    loss, outputs = mine.accumulate(latents, labels, SEEN), mine.logits(latents)
    fixed = latents.astype(np.float64)
    fixed.flags.writeable = False
    assert mine.accumulate(fixed, labels.astype(np.int32), SEEN) == loss
    assert mine.accumulate(torch.from_numpy(latents), labels, SEEN) == loss
    assert np.array_equal(mine.logits(np.flip(latents[::-1], 0)), outputs)
    backwards = np.flip(mine.logits(latents[::-1]), 0)
    np.testing.assert_allclose(backwards, outputs, rtol=1e-4, atol=1e-5)


def test_classes_that_were_not_seen_get_no_gradient():
    mine = learner(plan=TrainingPlan(cut=9))
    latents, labels = batch(mine.workload, 9)
    mine.accumulate(latents, labels, SEEN)
    gradient = mine.gradients()
    assert np.all(gradient["classifier.weight"][3] == 0)
    assert gradient["classifier.bias"][3] == 0
    assert np.all(gradient["classifier.bias"][[0, 1, 2, 4]] != 0)


def test_batch_statistics_move_and_frozen_ones_stay():
    latents, labels = batch(network(SMALL), 2, 40)
    key = "stack3/conv2.batch_norm.mean"
    for bn_mode, moves in (("batch_stats", True), ("frozen_stats", False)):
        mine = learner(plan=TrainingPlan(cut=2, bn_mode=bn_mode, micro_batch=128))
        before = mine.parameters()[key]
        mine.start_event(1)
        mine.step(latents, labels, SEEN)
        assert np.any(mine.parameters()[key] != before) == moves
        still = mine.parameters()
        mine.logits(latents)
        assert all(np.array_equal(still[name], value) for name, value in mine.parameters().items())


def test_parameters_can_be_put_back_into_a_network():
    for bn_mode in MODES:
        mine = learner(plan=TrainingPlan(cut=2, bn_mode=bn_mode, micro_batch=128))
        latents, labels = batch(mine.workload, 2, 40)
        mine.start_event(2)
        for _ in range(2):
            mine.step(latents, labels, SEEN)
        whole = build_module(mine.workload, mine.parameters(), first_layer=mine.module.span.start)
        np.testing.assert_allclose(infer(whole, latents), mine.logits(latents), rtol=1e-5, atol=1e-5)
        everything = fold(mine.workload, mine.parameters())
        assert all(np.all(np.isfinite(value)) for value in everything.values())


def test_the_same_start_gives_the_same_bits():
    def outcome():
        mine = learner(plan=TrainingPlan(cut=0, optimiser="adam"), rate=0.01)
        mine.start_event(4)
        losses = [mine.step(*batch(mine.workload, 0, 16, seed), SEEN) for seed in range(4)]
        return losses, mine.logits(batch(mine.workload, 0)[0])

    first, again = outcome(), outcome()
    assert first[0] == again[0]
    assert np.array_equal(first[1], again[1])


def test_learning_lowers_the_loss():
    mine = learner(plan=TrainingPlan(cut=2, optimiser="adam"), rate=0.003)
    noise, labels = batch(mine.workload, 2, 32)
    latents = batch(mine.workload, 2, 5, seed=9)[0][labels] + 0.3 * noise  # a pattern per class
    mine.start_event(40)
    losses = [mine.step(latents, labels, SEEN) for _ in range(40)]
    assert losses[-1] < 0.1 * losses[0]
    seen = np.array(SEEN)
    assert np.mean(seen[mine.logits(latents)[:, seen].argmax(1)] == labels) == 1.0


# --- refusals ---


def test_decisions_that_are_not_executed_are_refused_all_at_once():
    plan = TrainingPlan(cut=2, learning_dtype="fp16", bn_mode="group")
    with pytest.raises(UserError) as refused:
        learner(plan=plan)
    assert [str(problem) for problem in refused.value.problems] == [
        "plan: learning_dtype: 'fp16'; fp32 or int8: fp16 is priced, but not trained",
        "plan: bn_mode: 'group'; folded, frozen_stats or batch_stats",
    ]
    assert [problem.key for problem in unexecuted(TrainingPlan(cut=2, head="ncm"))] == ["head"]
    assert not unexecuted(TrainingPlan(cut=2))


def test_floating_point_never_stands_in_for_integers():
    with pytest.raises(UserError, match="learning_dtype: 'int8'; fp32: integers learn by Int8Learner"):
        learner(plan=TrainingPlan(cut=2, learning_dtype="int8"))


@pytest.mark.parametrize(("changes", "found"), [
    ({"micro_batch": 0}, "a micro-batch of no samples"),
    ({"policy": {"weights": [1, 9]}}, r"plan learns below its cut.*\(unit 1 does, 1 in all below cut 2\)"),
    ({"policy": "last-8"}, r"unit 2 does, 1 in all below cut 2\); a cut of at most 0"),
    ({"policy": "sparse 2 3:0.1"}, r"less than one input channel: 0\.1 of 8 in unit 3 \(stack2/conv1\)"),
    ({"bn_mode": "batch_stats", "micro_batch": 3}, "batch statistics need the whole mini-batch at once"),
    ({"update": "in_place"}, "in-place update needs micro_batch = mini-batch"),
])  # fmt: skip
def test_steps_that_no_device_can_execute_are_refused(changes, found):
    with pytest.raises(IllegalPlan, match=found):
        learner(plan=TrainingPlan(cut=2, **changes))


def test_every_reason_is_told_and_a_frozen_classifier_is_none_for_a_step():
    plan = TrainingPlan(cut=2, micro_batch=0, policy={"weights": [1]})
    with pytest.raises(IllegalPlan) as refused:
        learner(plan=plan)
    assert [problem.key for problem in refused.value.problems] == ["cut", ""]
    workload, frozen = network(SMALL), TrainingPlan(cut=2, policy={"weights": [5]})
    assert not learner(plan=frozen).learning.trained_weights[9]
    with pytest.raises(IllegalPlan, match="the last unit must learn"):
        require_executable(workload, frozen)


def test_a_cut_that_is_not_legal_is_refused():
    with pytest.raises(IllegalPlan, match="2 tensors cross at unit 1"):
        learner(plan=TrainingPlan(cut=1))


def test_folded_parameters_have_no_batch_norms_to_train():
    workload = network(SMALL)
    parameters = fold(workload, initial_parameters(workload, 0))
    assert Learner(workload, parameters, TrainingPlan(cut=5), rate=0.1).learning.trained_affine[6] > 0
    with pytest.raises(UserError) as refused:
        Learner(workload, parameters, TrainingPlan(cut=5, bn_mode="frozen_stats"), rate=0.1)
    assert [str(problem) for problem in refused.value.problems] == [
        f"parameters: stack3/conv{n}.batch_norm.gamma: missing; "
        "frozen_stats needs batch norms that are not folded"
        for n in (1, 2)
    ]


def test_labels_and_batches_that_cannot_be_learned_are_refused():
    mine = learner(plan=TrainingPlan(cut=8, bn_mode="batch_stats", micro_batch=128))
    latents, labels = batch(mine.workload, 8)
    with pytest.raises(UserError, match=r"labels: labels 4; classes seen: 0, 1, 2"):
        mine.accumulate(latents, labels, (0, 1, 2))
    with pytest.raises(UserError, match="12 samples with 11 labels; one label each, and 2 or more for batch"):
        mine.accumulate(latents, labels[:-1], SEEN)
    with pytest.raises(UserError, match="1 samples with 1 labels"):
        mine.accumulate(latents[:1], labels[:1], SEEN)


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_rate():
    mine = learner(plan=TrainingPlan(cut=2), rate=1e30)
    latents, labels = batch(mine.workload, 2)
    mine.start_event(20)

    def all_steps():
        for _ in range(20):
            mine.step(latents, labels, SEEN)

    with pytest.raises(
        UserError, match=r"training: rate: the loss is (nan|inf) at rate 1e\+30; a lower rate"
    ):
        all_steps()
