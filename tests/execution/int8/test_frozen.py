"""The frozen stage and inference in integers, and latents at replay bits, against those of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares with stages in PyTorch, which is not installed")

from dse.execution.int8.constants import Constants  # noqa: E402
from dse.execution.int8.grid import Grid  # noqa: E402
from dse.execution.int8.learning import Int8, frozen, inference, learning  # noqa: E402
from dse.execution.int8.prepare import (  # noqa: E402
    Prepared,
    for_inference,
    integers_of,
    prepared_forward,
    prepared_learning,
)
from dse.execution.optimisers import Optimiser  # noqa: E402
from dse.execution.packing import Levels  # noqa: E402
from dse.training.frozen import FrozenStage  # noqa: E402
from dse.training.integer_stage import IntegerStage  # noqa: E402
from dse.training.network import build_module  # noqa: E402
from dse.training.packing import Quantiser  # noqa: E402
from dse.training.parameters import fold, initial_parameters  # noqa: E402
from dse.workload.graph import NETWORK_INPUT  # noqa: E402
from tests.plan.strategies import BRANCHES, TCN, UNEVEN, network  # noqa: E402
from tests.training.int8_cases import PLAN, latents_of  # noqa: E402
from tests.training.reference_networks import lively  # noqa: E402

torch.set_num_threads(1)
CASES = [
    (BRANCHES, 2), (BRANCHES, 8), ("resnet8@width=0.5", 5), ("har-cnn-1d", 2), ("ds-cnn", 6),
    ("mobilenet-v1-0.25@resolution=28,channels=1", 10), ("mcunet-5fps@resolution=32", 20), ("autoencoder", 4),
    (TCN, 6), (UNEVEN, 7),
]  # fmt: skip


def exactly(grids):
    """Grids of training as those of execution."""
    return {layer: Grid(grid.scale, grid.low, grid.high) for layer, grid in grids.items()}


def run(arithmetic, numbers, x, span):
    """Run the layers of ``span`` on real values; return what each wrote, as memory holds it."""
    workload, values = arithmetic.workload, {NETWORK_INPUT: arithmetic.entered(x)}
    for layer in span:
        name = workload.layers[layer].name
        own = {part: numbers[f"{name}.{part}"] for part in ("weight", "bias") if f"{name}.{part}" in numbers}
        inputs = [values[p if p in span else NETWORK_INPUT] for p in workload.inputs[layer]]
        values[layer] = arithmetic.forward(layer, inputs, own, keep=False).output
    return values


def parts(name, known_count=20):
    """A network, its folded parameters, known samples and others."""
    workload = network(name)
    folded = fold(workload, lively(workload, initial_parameters(workload, 1)))
    return workload, folded, latents_of(workload, -1, known_count, 9)[0], latents_of(workload, -1, 4, 4)[0]


def with_grids(workload, span, folded, grids):
    """Integers of ``span`` on the very grids of training: ranges of fp32 sums depend on their order."""
    steps, numbers = integers_of(workload, span, grids, folded, (), ())
    return Prepared(Constants(grids, steps), numbers)


@pytest.mark.parametrize(("name", "cut"), CASES)
def test_latents_are_those_of_the_frozen_stage_bit_by_bit(name, cut):
    workload, folded, known, x = parts(name)
    stage = FrozenStage(workload, folded, cut, 8, known)
    edge = workload.cut_layer(cut)
    span = range(edge + 1)
    ready = with_grids(workload, span, folded, exactly(stage._integer.grids))
    arithmetic = frozen(workload, replace(PLAN, cut=cut), ready.constants)
    found = arithmetic.real(edge, run(arithmetic, ready.numbers, x, span)[edge])
    np.testing.assert_array_equal(found.reshape(len(x), -1), stage.features(x).reshape(len(x), -1))
    own = prepared_forward(workload, span, folded, known)
    assert own.constants.grids[edge].scale == pytest.approx(stage.grid.scale, rel=1e-5)


@pytest.mark.parametrize("name", [BRANCHES, "resnet8@width=0.5", "ds-cnn", "har-cnn-1d", TCN, UNEVEN])
def test_an_inference_by_the_whole_network_is_that_of_an_integer_stage(name):
    workload, folded, known, x = parts(name)
    last = workload.units[-1].layer
    module = build_module(workload, folded)
    stage = IntegerStage(module, folded, known)
    span = range(len(workload.layers))
    ready = with_grids(workload, span, folded, exactly(stage.grids))
    arithmetic = Int8(workload, PLAN, ready.constants, span)  # its logits on a grid, as those of the stage
    values = run(arithmetic, ready.numbers, x, span)
    assert values[last].dtype == np.uint8
    np.testing.assert_array_equal(arithmetic.real(last, values[last]), stage.features(x))
    np.testing.assert_array_equal(values[len(workload.layers) - 1], values[last])


def test_learned_integers_go_into_an_inference_as_they_are():
    workload, folded, known, x = parts("resnet8@width=0.5")
    plan = replace(PLAN, cut=5)
    edge, last = workload.cut_layer(5), workload.units[-1].layer
    below = prepared_forward(workload, range(edge + 1), folded, known)
    stage = frozen(workload, plan, below.constants)
    grid = below.constants.grids[edge]
    latents = stage.real(edge, run(stage, below.numbers, known, range(edge + 1))[edge])
    above = prepared_learning(workload, plan, folded, latents, grid)
    whole = for_inference(workload, plan, below, above)
    arithmetic = inference(workload, plan, whole.constants)
    values = run(arithmetic, whole.numbers, x, range(len(workload.layers)))
    stopped = run(stage, below.numbers, x, range(edge + 1))[edge]
    np.testing.assert_array_equal(values[edge], stopped)
    upper = learning(workload, plan, above.constants, Optimiser())
    real = run(upper, above.numbers, stage.real(edge, stopped), range(edge + 1, len(workload.layers)))[last]
    np.testing.assert_array_equal(real, values[last])
    other = Constants({**above.constants.grids, -1: Grid(1.0, 0, 255)}, above.constants.steps)
    with pytest.raises(ValueError, match="another grid"):
        for_inference(workload, plan, below, replace(above, constants=other))


# --- latents at replay bits ---


@pytest.mark.parametrize("bits", [1, 3, 6, 7, 8, 16, 32])
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
@pytest.mark.parametrize("signed", [False, True])
def test_stored_latents_are_the_bytes_of_the_replay_buffer(bits, rounding, signed):
    draw = np.random.default_rng(bits)
    x = draw.normal(0, 1, (5, 37)).astype(np.float32)
    x = x if signed else np.abs(x)
    theirs = Quantiser.calibrated(bits, rounding, x[:3], signed)
    mine = Levels(bits, theirs.scale, signed, rounding)
    rows = theirs.encode(x)
    for row, values in zip(rows, x, strict=True):
        np.testing.assert_array_equal(mine.encoded(values), row)
        np.testing.assert_array_equal(mine.decoded(row, (37,)), theirs.decode(row[None])[0])
        np.testing.assert_array_equal(mine.encoded(mine.decoded(row, (37,))), row)
