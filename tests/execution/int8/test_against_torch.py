"""Every option of int8 learning against ``Int8Learner``: two implementations, one in torch, one in numpy.

Forward integers and logits are equal bit by bit. Updated integers are equal bit by bit where errors are fp32
and both sum in fp32 or better: a sum that lies within float noise of a rounding tie could differ by one
step, and no case here has one. Where errors are narrow, an error itself may be rounded the other way.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares with the learner in PyTorch, which is not installed")

from dse.execution.int8 import groups  # noqa: E402
from dse.execution.int8.grid import Grid  # noqa: E402
from dse.execution.int8.prepare import prepared_learning  # noqa: E402
from dse.execution.int8.reference import Step  # noqa: E402
from dse.plan.operations import Holds  # noqa: E402
from dse.plan.policy import UpdatePolicy  # noqa: E402
from dse.training import integer_stage  # noqa: E402
from dse.training.parameters import fold, initial_parameters  # noqa: E402
from dse.workload import list_networks  # noqa: E402
from tests.execution.int8.against_torch import mine_of  # noqa: E402
from tests.plan.strategies import BRANCHES, TCN, UNEVEN, network  # noqa: E402
from tests.training.int8_cases import int8_learner, latents_of  # noqa: E402
from tests.training.reference_networks import lively  # noqa: E402

torch.set_num_threads(1)

RESNET, MCUNET = "resnet8@width=0.5,classes=5", "mcunet-5fps@resolution=32"
HALF = UpdatePolicy.parse({"ratio": {5: 0.5, 6: 0.5, 7: 0.5, 8: 0.25, 9: 1.0}, "bias": [6, 7, 8, 9]})


def learners(name, **changes):
    """A learner in torch, and this package's side of it; a mini-batch; all classes."""
    learner = int8_learner(name, **{"rate": 0.3, "schedule": "constant", "as_written": True, **changes})
    x, labels = latents_of(learner.workload, learner.plan.cut, 12, seed=2)
    return learner, mine_of(learner), x, labels, tuple(range(learner.workload.classes))


def differences(learner, mine):
    """Integers that differ, and by how many steps at most."""
    apart = [np.abs(q.astype(np.int64) - mine.numbers[key]).ravel() for key, q in learner.integers().items()]
    found = np.concatenate(apart) if apart else np.zeros(1, np.int64)
    return int((found > 0).sum()), int(found.max())


def run(name, steps=2, **changes):
    """Learn the same mini-batch in both; returns how many integers differ, by how many steps at most."""
    learner, mine, x, labels, seen = learners(name, **changes)
    before, rate = learner.parameters(), learner.optimiser.rate
    options = {key: changes[key] for key in ("momentum", "weight_decay") if key in changes}
    learner.start_event(steps)
    for number in range(1, steps + 1):
        loss = learner.step(x, labels, seen)
        found = mine.step(x, labels, seen, rate, step=number, **options)
        assert found.loss == pytest.approx(loss, rel=1e-5)
    assert any(not np.array_equal(value, before[key]) for key, value in learner.parameters().items())
    return learner, mine, differences(learner, mine)


# --- forward ---


@pytest.mark.parametrize(("name", "cut"), [
    (BRANCHES, -1), (BRANCHES, 2), (RESNET, -1), (RESNET, 5), ("har-cnn-1d", 0), (MCUNET, 20), ("ds-cnn", 2),
    ("mobilenet-v1-0.25@resolution=28,channels=1", 4), ("autoencoder", -1), (TCN, -1), (UNEVEN, -1),
    (TCN, 3), (UNEVEN, 2),
])  # fmt: skip
def test_forward_integers_are_equal_bit_by_bit(name, cut):
    learner, mine, x, _, _ = learners(name, cut=cut)
    arithmetic = mine.arithmetic(0.1)
    step = Step(mine.workload, mine.plan, arithmetic, mine.numbers)
    values, _ = step._forwards(arithmetic.entered(x))
    for layer, q in learner.module.trace(torch.from_numpy(x)).items():
        found = arithmetic.source(layer).q(values[layer])
        np.testing.assert_array_equal(found.reshape(12, -1), q.numpy().reshape(12, -1), err_msg=str(layer))
    np.testing.assert_array_equal(values[len(mine.workload.layers) - 1], learner.logits(x))


def test_an_fp32_classifier_reads_the_same_integers_up_to_float_noise():
    learner, mine, x, _, _ = learners(RESNET, classifier_dtype="fp32")
    arithmetic = mine.arithmetic(0.1)
    values, _ = Step(mine.workload, mine.plan, arithmetic, mine.numbers)._forwards(arithmetic.entered(x))
    np.testing.assert_allclose(values[len(mine.workload.layers) - 1], learner.logits(x), rtol=2e-6, atol=2e-6)


# --- a step with fp32 errors: every integer equal ---

FP32_ERRORS = {
    "residual network": (RESNET, {}),
    "from the input": (RESNET, {"cut": -1}),
    "every kind of branch": (BRANCHES, {"cut": -1}),
    "depthwise": ("ds-cnn", {"cut": 2}),
    "time series": ("har-cnn-1d", {"cut": 0}),
    "dilated windows": (TCN, {"cut": -1}),
    "windows padded at one end": (UNEVEN, {"cut": -1}),
    "many residuals": (MCUNET, {"cut": 20}),
    "micro-batches": (BRANCHES, {"cut": 2, "micro_batch": 4}),
    "no scaling": (BRANCHES, {"cut": -1, "gradient_scaling": "none", "rate": 300.0}),
    "momentum": (RESNET, {"optimiser": "momentum", "rate": 0.1}),
    "other momentum": (RESNET, {"optimiser": "momentum", "rate": 0.1, "momentum": 0.5}),
    "adam": (RESNET, {"optimiser": "adam", "rate": 3e3, "gradient_scaling": "none"}),
    "lars": (RESNET, {"optimiser": "lars", "rate": 30.0}),
    "weight decay": (RESNET, {"weight_decay": 0.01}),
    "lars with weight decay": (RESNET, {"optimiser": "lars", "rate": 30.0, "weight_decay": 0.01}),
    "int8 accumulators": (RESNET, {"accumulator_dtype": "int8", "micro_batch": 3}),
    "an int8 gradient that waits": (BRANCHES, {"cut": -1, "accumulator_dtype": "int8"}),
    "fp32 classifier": (RESNET, {"classifier_dtype": "fp32"}),
    "fp32 classifier, int8 accumulators": (
        RESNET, {"classifier_dtype": "fp32", "accumulator_dtype": "int8", "micro_batch": 4},
    ),
    "biases alone": (RESNET, {"cut": -1, "policy": "bias"}),
    "the last two": (MCUNET, {"cut": 20, "policy": "last-2"}),
    "some channels": (RESNET, {"cut": -1, "policy": HALF, "optimiser": "momentum"}),
    "some channels of depthwise layers": ("ds-cnn", {"cut": 0, "policy": HALF}),
    "some channels, lars": ("ds-cnn", {"cut": 0, "policy": HALF, "optimiser": "lars", "rate": 30.0}),
    "some channels, int8 accumulators": (
        "ds-cnn", {"cut": 0, "policy": HALF, "accumulator_dtype": "int8", "micro_batch": 4},
    ),
    "nothing in place": (BRANCHES, {"cut": -1, "in_place": "none"}),
    "saved at 4 bits": (BRANCHES, {"cut": -1, "saved_bits": 4, "micro_batch": 4}),
    "saved at 2 bits": (MCUNET, {"cut": 20, "saved_bits": 2}),
    "some channels at 4 bits": ("ds-cnn", {"cut": 0, "policy": HALF, "saved_bits": 4}),
}  # fmt: skip


@pytest.mark.parametrize("case", FP32_ERRORS)
def test_with_fp32_errors_every_integer_is_equal(case):
    name, changes = FP32_ERRORS[case]
    learner, mine, (differing, most) = run(name, **changes)
    assert (differing, most) == (0, 0)
    for key, value in mine.numbers.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(value, learner.parameters()[key], rtol=1e-4, atol=1e-5)


def test_stochastic_rounding_takes_the_draws_that_it_is_given():
    learner, mine, x, labels, seen = learners(BRANCHES, cut=-1, weight_rounding="stochastic", rate=0.05)
    state, generator = learner.state, torch.Generator().set_state(learner._draw.get_state())
    flat = torch.rand(state.integers, generator=generator).double()
    draws = {piece.key: state.of(flat, piece).numpy() for piece in learner.learning.pieces}
    learner.start_event(1)
    learner.step(x, labels, seen)
    nearest = mine_of(int8_learner(BRANCHES, cut=-1))
    nearest.step(x, labels, seen, 0.05)
    mine.step(x, labels, seen, 0.05, draws=lambda key, shape: draws[key].reshape(shape))
    assert differences(learner, mine) == (0, 0)
    assert differences(learner, nearest)[0] > 500


def test_other_classes_than_those_seen_get_no_error():
    learner, mine, x, labels, _ = learners(RESNET)
    seen = (1, 3, 4)
    labels = np.array(seen)[labels % 3]
    learner.start_event(1)
    learner.step(x, labels, seen)
    mine.step(x, labels, seen, 0.3)
    assert differences(learner, mine) == (0, 0)


# --- int8 errors ---


@pytest.mark.parametrize(("name", "cut", "micro"), [
    ("ds-cnn", 2, 12), ("ds-cnn", -1, 4), ("har-cnn-1d", 0, 4), ("autoencoder", -1, 4),
])  # fmt: skip
def test_with_int8_errors_a_chain_differs_where_an_error_was_a_tie(name, cut, micro):
    learner, _, (differing, most) = run(name, 1, cut=cut, micro_batch=micro, backward_dtype="int8")
    assert most <= 1
    assert differing <= 0.002 * sum(q.size for q in learner.integers().values())


@pytest.mark.parametrize(("name", "cut"), [(RESNET, 5), (BRANCHES, -1), (MCUNET, 20)])
def test_with_int8_errors_the_error_of_several_readers_is_rounded_more_often(name, cut):
    """Memory holds it in a byte between two readers; the learner adds all of them up and rounds once."""
    learner, _, (differing, most) = run(name, 1, cut=cut, backward_dtype="int8", rate=0.03)
    assert differing <= 0.01 * sum(q.size for q in learner.integers().values())
    assert most <= 1


# --- what both start from ---


@pytest.mark.parametrize(("name", "cut"), [(BRANCHES, -1), (RESNET, 2), ("har-cnn-1d", 0), ("ds-cnn", 2)])
@pytest.mark.parametrize("classifier", ["learning", "fp32"])
def test_grids_and_integers_are_prepared_as_in_training(name, cut, classifier):
    learner, mine, _, _, _ = learners(name, cut=cut, classifier_dtype=classifier)
    workload = learner.workload
    folded = fold(workload, lively(workload, initial_parameters(workload, 1)))
    known = latents_of(workload, cut, 40, 9)[0]
    ready = prepared_learning(workload, learner.plan, folded, known)
    for layer, grid in ready.constants.grids.items():
        theirs = learner.grids.get(layer)
        if theirs is None:  # the softmax at the end
            assert layer == len(workload.layers) - 1
            continue
        # ranges are those of fp32 sums, which the two add up in another order
        assert grid.scale == pytest.approx(theirs.scale, rel=1e-5)
        assert (grid.low, grid.high) == (theirs.low, theirs.high)
    exact = {layer: Grid(grid.scale, grid.low, grid.high) for layer, grid in learner.grids.items()}
    again = prepared_learning(workload, learner.plan, folded, known, exact[-1])
    assert again.constants.grids[-1] == exact[-1]
    for key, value in mine.numbers.items():
        off = np.abs(again.numbers[key].astype(float) - value)
        assert off.max() <= (1e-5 * np.abs(value).max() if key.endswith("bias") else 0)


@pytest.mark.parametrize("name", [BRANCHES, *list_networks()])
def test_layers_are_grouped_as_in_training(name):
    workload = network(name)
    for cut in (-1, *workload.legal_cuts):
        edge = workload.cut_layer(cut) + 1
        for span in (range(edge), range(edge, len(workload.layers))):
            assert groups.Groups.of(workload, span).members == integer_stage.groups(workload, span)


def test_a_saved_input_at_fewer_bits_is_read_as_bytes_where_errors_are_narrow():
    learner, mine, *_ = learners("ds-cnn", cut=2, saved_bits=4, backward_dtype="int8")
    arithmetic = mine.arithmetic(0.1)
    layer = learner.workload.units[4].layer
    widened = np.array([[-3.4, 0.5, 2.5, 1e4]], np.float32)
    operand = arithmetic.operand(layer, widened)
    grid = arithmetic.source(learner.workload.inputs[layer][0])
    assert operand.dtype == arithmetic.dtype(Holds.OPERAND, layer) == np.uint8
    assert grid.q(operand).tolist() == [[max(-3.0, grid.low), 1.0, 3.0, grid.high]]
