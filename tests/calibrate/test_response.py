"""A response is what the cost model says, at any numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.calibrate import Measurement
from dse.calibrate.resolve import Resolver
from dse.calibrate.response import cost_of, priced_entries, with_clock
from dse.cost.context import Context, Duty
from dse.cost.model import price
from dse.cost.passes import pass_work
from dse.hardware import HardwareProfile, load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.workload import load_network

CASES = [
    ("stm32l4r5", "ds-cnn", "fwd", "int8"),
    ("stm32l4r5", "resnet8", "fwd", "fp32"),
    ("stm32l4r5", "ds-cnn", "bwd_weight", "fp32"),
    ("vega", "resnet8", "fwd", "int8"),
    ("vega", "ds-cnn", "bwd_input", "fp32"),
    ("vega", "ds-cnn", "update", "fp32"),
    ("vega", "ds-cnn", "fwd", "fp16"),
]


def varied(board: HardwareProfile, paths: tuple[str, ...], rng: np.random.Generator) -> dict[str, float]:
    known = priced_entries(board)
    return {path: known[path][1].value * float(rng.lognormal(0.0, 0.8)) for path in paths}


@pytest.mark.parametrize(("name", "network", "pass_", "dtype"), CASES)
def test_it_is_the_price_of_the_cost_model_at_any_numbers(
    name: str, network: str, pass_: str, dtype: str
) -> None:
    board, rng, clock = load_board(name), np.random.default_rng(1), 91e6
    row = Measurement(dtype=dtype, passes=(pass_,), network=network, clock_hz=clock, latency_s=1.0)
    found, problems = Resolver(board).row(row)
    assert found is not None, problems
    context = Context(load_network(network), with_clock(board, clock, board.cores))
    work = pass_work(context, pass_, dtype)
    for _ in range(3):
        values = varied(board, found.response.paths, rng)
        costs = np.array([cost_of(path, value) if value else 0.0 for path, value in values.items()])
        priced = work.unit_seconds(context.board.with_values(values)).sum()
        assert found.response.seconds(costs) == pytest.approx(priced, rel=1e-8)


@pytest.mark.parametrize("name", ["stm32l4r5", "vega"])
def test_an_inference_takes_as_long_as_in_an_event(name: str) -> None:
    """Against the estimate of a plan: the seconds that each of its inferences adds to the day."""
    board, workload = load_board(name), load_network("ds-cnn")
    plan = PlanBatch.from_plans(workload, [TrainingPlan(cut=len(workload.units) - 1, replay="none")])
    often = price(Context(workload, board, Duty(inferences_per_day=1.0)), plan)
    row = Measurement(dtype="int8", network="ds-cnn", clock_hz=board.operating_points[0].clock_hz.value,
                      latency_s=1.0)  # fmt: skip
    found, problems = Resolver(board).row(row)
    assert found is not None, problems
    assert found.prior_s == pytest.approx(float(often.inference_s[0]), rel=1e-9)


def test_the_layers_of_a_network_add_up_to_it() -> None:
    resolver = Resolver(load_board("vega"))
    row = Measurement(dtype="fp32", network="resnet8", clock_hz=375e6, latency_s=1.0)
    whole, _ = resolver.row(row)
    assert whole is not None
    units = len(load_network("resnet8").units)
    layers = [resolver.row(replace(row, layer=str(unit)))[0] for unit in range(units)]
    assert sum(layer.prior_s for layer in layers if layer) == pytest.approx(whole.prior_s, rel=1e-9)
    assert sum(layer.macs for layer in layers if layer) == whole.macs == 12_501_632


def test_both_backward_passes_take_the_sum_of_each() -> None:
    resolver = Resolver(load_board("vega"))
    row = Measurement(dtype="fp32", network="ds-cnn", clock_hz=375e6, latency_s=1.0)
    one, other, both = (
        resolver.row(replace(row, passes=passes))[0]
        for passes in (("bwd_input",), ("bwd_weight",), ("bwd_input", "bwd_weight"))
    )
    assert one is not None
    assert other is not None
    assert both is not None
    assert both.prior_s == pytest.approx(one.prior_s + other.prior_s, rel=1e-9)


def test_the_layer_at_the_input_has_no_input_gradient() -> None:
    row = Measurement(dtype="fp32", passes=("bwd_input",), network="ds-cnn", layer="0", clock_hz=375e6,
                      latency_s=1.0, line=4, columns={"layer": "layer"})  # fmt: skip
    found, problems = Resolver(load_board("vega")).row(row)
    assert found is None
    assert str(problems[0]) == "measurements: line 4, layer: layer 0 has no bwd_input; a step has none"


def test_a_board_without_a_price_says_the_nearest() -> None:
    row = Measurement(dtype="fp16", network="ds-cnn", clock_hz=120e6, latency_s=1.0)
    found, problems = Resolver(load_board("stm32l4r5")).row(row)
    assert found is None
    assert "stm32l4r5 computes nothing in fp16; did you mean 'fp32'? allowed: fp32, int8" in str(problems[0])


def test_two_passes_of_a_kernel_are_two_calls_as_those_of_a_layer_are() -> None:
    board = load_board("vega")
    both = Measurement(
        dtype="fp32", operator="linear", passes=("bwd_input", "bwd_weight"), macs=2e5, cores=8, clock_hz=375e6
    )
    alone = [replace(both, passes=(pass_,), macs=1e5) for pass_ in both.passes]
    resolver = Resolver(board)
    seconds = [row.prior_s for row in (resolver.row(each)[0] for each in (both, *alone)) if row is not None]
    assert seconds[0] == pytest.approx(seconds[1] + seconds[2])


def test_an_inference_runs_to_the_softmax_and_pays_its_elements() -> None:
    row = Measurement(dtype="fp32", network="ds-cnn", layer="classifier", clock_hz=120e6)
    found, _ = Resolver(load_board("stm32l4r5")).row(row)
    assert found is not None
    cycles = dict(zip(found.response.paths, found.response.per_cost[0] * 120e6, strict=True))
    assert cycles["element[cm4-fp32,softmax_loss,fwd,fp32,1].cycles_per_element"] == pytest.approx(12)
    assert cycles["rate[cm4-fp32,linear,fwd,fp32,1].mac_per_cycle"] == pytest.approx(64 * 12)


@pytest.mark.parametrize(
    ("board", "dtype", "pass_", "library", "macs"),
    [
        ("vega", "fp16", "fwd", "pulp-fp16", 264_192),
        ("vega", "fp16", "bwd_weight", "pulp-fp16", 264_192),
        ("stm32f746", "int8", "bwd_input_int8", "tinyengine", 264_192 - 640 * 128),
        ("stm32f746", "int8", "bwd_weight_int8", "tinyengine", 264_192),
    ],
)
def test_a_pass_is_priced_by_the_rate_of_that_pass_and_counts_its_macs(
    board: str, dtype: str, pass_: str, library: str, macs: int
) -> None:
    """The autoencoder is linear layers alone; its first one needs no input gradient."""
    profile = load_board(board)
    clock = profile.operating_points[0].clock_hz.value
    row = Measurement(dtype=dtype, network="autoencoder", passes=(pass_,), clock_hz=clock)
    found, problems = Resolver(profile).row(row)
    assert found is not None, problems
    rates = [path for path in found.response.paths if path.startswith("rate[")]
    assert rates == [f"rate[{library},linear,{pass_},{dtype},{profile.cores}].mac_per_cycle"]
    assert found.macs == macs


def test_an_update_multiplies_no_weights_with_activations() -> None:
    row = Measurement(dtype="fp32", network="autoencoder", passes=("update",), clock_hz=375e6)
    found, _ = Resolver(load_board("vega")).row(row)
    assert found is not None
    assert found.macs == 0
    assert found.response.paths == ("element[pulp-fp32,update_sgd,update,fp32,8].cycles_per_element",)
