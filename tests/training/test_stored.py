"""What a learning step saves is what the plan says, byte by byte, and the gradients are those of autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import Function

from dse.errors import UserError
from dse.plan.decisions import PlanBatch
from dse.plan.learning import learning_of
from dse.plan.policy import UpdatePolicy
from dse.plan.techniques import build_spec
from dse.training import stored
from dse.training.network import build_module
from dse.training.parameters import initial_parameters
from dse.workload import load_network
from tests.plan.strategies import BRANCHES, TCN, UNEVEN, network
from tests.training.freezing import (
    CORNERS,
    MODES,
    NETWORKS,
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

torch.set_num_threads(1)


# --- bytes ---


@pytest.mark.parametrize("name", NETWORKS)
def test_observed_bytes_are_the_planned_ones_for_100_random_freeze_patterns(name):
    draw = np.random.default_rng(0)
    totals = set()
    for _ in range(100):
        plan = random_plan(name, draw)
        observed = observed_bytes(learner(name, plan), mini_batch(name, plan)[0])
        assert observed == planned_bytes(name, plan), plan
        totals.add(observed)
    assert len(totals) > 40


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", ["all", "bias", "last-2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_policies_by_name_can_save_as_planned_as_well(name, policy, mode):
    for cut in (-1, network(name).legal_cuts[1]):
        plan = plan_of(cut, policy, mode, 2)
        mine = learner(name, plan, stored=True)
        assert observed_bytes(mine, mini_batch(name, plan)[0]) == planned_bytes(name, plan)


def test_saved_bytes_by_hand():
    """Half of 16 channels of 6x6 for unit 3, a bias in unit 2, two samples, fp32.

    Below unit 2 nothing learns and nothing is saved. The rectifiers behind units 2 and 3 leave one bit per
    element: 2 x 16 x 6 x 6 / 8 and 2 x 24 x 3 x 3 / 8 bytes; the pool and the frozen classifier nothing.
    """
    plan = plan_of(-1, UpdatePolicy.parse({"ratio": {"3": 0.5}, "bias": [2]}), "folded", 2)
    observed = observed_bytes(learner(TINY, plan), mini_batch(TINY, plan)[0])
    assert observed == 2 * 8 * 36 * 4 + 144 + 54 == planned_bytes(TINY, plan)


def test_an_input_that_two_layers_need_whole_is_saved_once():
    """The tensor before b1 and bs (branches.toml): 8 x 16 x 16 numbers, and one bit per output of b1.relu."""
    both, one = (plan_of(2, UpdatePolicy.parse({"weights": weights})) for weights in (["b1", "bs"], ["b1"]))
    masks = (16 * 8 * 8 + 16 * 8 * 8 + 8 * 4 * 4 + 4 * 4 * 4) // 8  # b1, b, mid and c1
    for plan in (both, one):
        observed = observed_bytes(learner(BRANCHES, plan), mini_batch(BRANCHES, plan)[0])
        assert observed == planned_bytes(BRANCHES, plan) == 4 * 8 * 16 * 16 + masks + 16 * 4 * 4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [BRANCHES, CORNERS, TCN, UNEVEN])
def test_the_allocator_sees_the_planned_bytes_too(name, mode):
    """Not by autograd's hooks: what a forward pass takes and keeps, wherever a Function may hide it."""
    draw = np.random.default_rng(1)
    for _ in range(4):
        plan = random_plan(name, draw, mode, 3)
        kept = allocated_bytes(learner(name, plan), mini_batch(name, plan)[0])
        assert kept == planned_bytes(name, plan) - mask_bytes(name, plan), plan


class SavesItsInput(Function):
    """A ReLU that keeps four bytes per element where one bit would do."""

    @staticmethod
    def forward(ctx, x, plain, limit):
        ctx.save_for_backward(x)
        return plain(x)

    @staticmethod
    def backward(ctx, error):
        return error * (ctx.saved_tensors[0] > 0), None, None


class HidesItsInput(SavesItsInput):
    """The same behind autograd's back."""

    @staticmethod
    def forward(ctx, x, plain, limit):
        ctx.x = x
        return plain(x)


def test_a_function_that_saves_too_much_is_caught(monkeypatch):
    plan = plan_of(2, "all", count=3)
    latents = mini_batch(BRANCHES, plan)[0]
    planned = planned_bytes(BRANCHES, plan)
    monkeypatch.setattr(stored, "Masked", SavesItsInput)
    assert observed_bytes(learner(BRANCHES, plan, stored=True), latents) > planned
    monkeypatch.setattr(stored, "Masked", HidesItsInput)
    assert allocated_bytes(learner(BRANCHES, plan, stored=True), latents) > planned


def test_pytorch_itself_saves_more():
    plan = random_plan(RESIDUAL, np.random.default_rng(2), "folded", 1)
    latents = mini_batch(RESIDUAL, plan)[0]
    assert observed_bytes(learner(RESIDUAL, plan, stored=False), latents) > planned_bytes(RESIDUAL, plan)


def test_a_micro_batch_does_not_keep_its_mini_batch():
    last = len(network(TINY).units) - 1
    plan = plan_of(last, UpdatePolicy.parse({"weights": [last]}), count=2)
    latents = torch.ones((8, *network(TINY).cut_shape(last)))
    assert observed_bytes(learner(TINY, plan), latents[2:4]) == planned_bytes(TINY, plan) == 2 * 24 * 4


# --- gradients ---


def both(name, plan, dtype):
    """Gradients by what is stored as planned, by plain autograd with the same masks, and both losses."""
    found = []
    for as_planned in (True, False):
        mine = learner(name, plan, dtype=dtype, stored=as_planned, seed=3)
        loss = mine.accumulate(*mini_batch(name, plan))
        found.append((mine.gradients(), loss))
    return (*found[0], *found[1])


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_plain_autograd(name, dtype, close):
    draw = np.random.default_rng(4)
    for _ in range(6):
        plan = random_plan(name, draw, count=4)
        mine, my_loss, plain, loss = both(name, plan, dtype)
        assert my_loss == pytest.approx(loss, rel=close)
        assert mine.keys() == plain.keys()
        largest = max(np.abs(value).max() for value in plain.values())
        assert largest > 0
        for key, value in mine.items():
            assert np.abs(value - plain[key]).max() <= close * largest, (key, plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_many_more_patterns(name):
    draw = np.random.default_rng(5)
    for _ in range(100):
        plan = random_plan(name, draw)
        mine, _, plain, _ = both(name, plan, torch.float64)
        largest = max(np.abs(value).max() for value in plain.values())
        assert all(np.abs(value - plain[key]).max() <= 1e-10 * largest for key, value in mine.items()), plan


@pytest.mark.parametrize("name", [RESIDUAL, BRANCHES, CORNERS, SERIES, TCN, UNEVEN])
def test_no_gradient_is_worked_out_that_the_plan_does_without(name, monkeypatch):
    """Input gradients where errors pass, weight gradients where weights learn, and nowhere else."""
    draw, workload = np.random.default_rng(6), network(name)
    for _ in range(8):
        plan = random_plan(name, draw, count=2)
        learning = learning_of(workload, build_spec(workload, PlanBatch.from_plans(workload, [plan])))
        mine, calls = learner(name, plan), {"of_input": set(), "of_weight": set()}
        for layer, operation in mine.module._weighted.items():
            for what, seen in calls.items():
                noted(monkeypatch, operation._gradients, what, seen, layer)
        mine.accumulate(*mini_batch(name, plan))
        layers = [unit.layer for unit in workload.units if unit.layer in mine.module.span]
        assert calls["of_input"] == {layer for layer in layers if learning.error_passes[layer, 0]}
        learns = {unit.layer for unit in workload.units if learning.kept_channels[0, unit.index]}
        assert calls["of_weight"] == learns


def noted(monkeypatch, gradients, what, seen, layer):
    real = getattr(gradients, what)

    def run(*args):
        seen.add(layer)
        return real(*args)

    monkeypatch.setattr(gradients, what, run)


def test_steps_lead_where_plain_autograd_leads():
    """Ten steps of a sparse update with momentum and weight decay; frozen channels keep their bits."""
    plan = plan_of(-1, UpdatePolicy.of_scheme(8, {5: 0.25, 9: 0.5}), count=4)
    ends = []
    for as_planned in (True, False):
        mine = learner(RESIDUAL, plan, stored=as_planned, weight_decay=0.01)
        start = mine.parameters()
        mine.start_event(10)
        for seed in range(10):
            mine.step(*mini_batch(RESIDUAL, plan, seed))
        ends.append(mine.parameters())
    moved = {key for key in start if not np.array_equal(start[key], ends[0][key])}
    assert moved == {key for key in start if not np.array_equal(start[key], ends[1][key])}
    for key in moved:
        change = np.abs(ends[1][key] - start[key]).max()
        assert np.abs(ends[0][key] - ends[1][key]).max() <= 1e-3 * change
        assert np.array_equal(ends[0][key] == start[key], ends[1][key] == start[key])


# --- when ---


@pytest.mark.parametrize(
    ("policy", "expected"), [("all", False), ("bias", True), ("last-2", True), ("sparse 1 3:0.5", True)]
)
def test_all_policies_but_one_store_as_planned(policy, expected):
    assert learner(TINY, plan_of(-1, policy)).module.stored == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_the_same_bits(name):
    workload = network(name)
    x = np.random.default_rng(0).standard_normal((3, *workload.input_shape)).astype(np.float32)
    modules = [build_module(workload, initial_parameters(workload, 0), stored=way) for way in (True, False)]
    with torch.no_grad():
        without = modules[0](torch.from_numpy(x))
    results = [module(torch.from_numpy(x)) for module in modules]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], without)


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        ('{ kind = "max_pool", name = "m", kernel = 17 }', "289 elements, whose index is saved in one byte"),
        (
            '{ kind = "global_avg_pool", name = "g" }, { kind = "softmax", name = "m" }',
            "a softmax inside the network",
        ),
    ],
)
def test_layers_whose_bytes_no_plan_counts_are_refused(tmp_path, layer, found):
    path = tmp_path / "odd.toml"
    path.write_text(
        'name = "w"\ntitle = "t"\nsource = "s"\ninput = { channels = 2, height = 17, width = 17 }\n'
        'classes = 2\nlegal_cuts = [0]\nlayers = [{ kind = "pointwise", name = "a", out_channels = 2 },\n'
        f'{layer}, {{ kind = "flatten", name = "f" }}, '
        '{ kind = "linear", name = "b", out_features = "classes" }]\n',
        encoding="utf-8",
    )
    workload = load_network(path)
    parameters = initial_parameters(workload, 0)
    build_module(workload, parameters)
    with pytest.raises(UserError, match=rf"layers\.m.*{found}"):
        build_module(workload, parameters, stored=True)
