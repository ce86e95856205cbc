"""The DMA study: its formula by hand, its model beside the cost model, its shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.cost.accounting import DEFAULT
from dse.cost.latency import step_time
from dse.cost.model import Context, describe
from dse.hardware import load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.reproduce import qlr_dma
from dse.reproduce.qlr_dma import BITS, CORES, FEWEST, PRINTED
from dse.workload import load_network

MACS_ALONE = replace(DEFAULT, name="MACs and transfers", elements=False, lowest_unit_bwd_input=True)


def test_a_printed_tile_by_hand() -> None:
    """1x1x512 | 1x1x512x8 | 1x1x8: 4096 MACs move 512 + 4096 + 8 floats."""
    unit = load_network("mobilenet-v1").units[20]
    assert unit.operator == "pointwise"
    assert qlr_dma.printed_bytes(unit, "fwd", 128) == pytest.approx(unit.macs * 4 * 4616 / 4096)


def test_a_pass_takes_the_longer_of_computing_and_moving() -> None:
    """One core at 8 bit/cycle: 4.508 B per pointwise MAC; only the forward pass waits for them."""
    rates = {"fwd": 0.239, "bwd_input": 0.19, "bwd_weight": 0.133}
    cycles = [max(1 / rate, 4 * 4616 / 4096) for rate in rates.values()]
    assert cycles[0] > 1 / rates["fwd"]
    assert cycles[1:] == [1 / 0.19, 1 / 0.133]
    # Pointwise units make all but 1.4 % of the MACs.
    assert qlr_dma.mac_per_cycle(PRINTED, 1, 8) == pytest.approx(3 / sum(cycles), rel=0.03)


def test_without_a_limit_the_rates_alone_decide() -> None:
    units, board = load_network("mobilenet-v1").units[20:], load_board("vega")
    for cores in CORES:
        cycles = sum(
            unit.macs / board.rate(unit.operator, pass_, "fp32", "pulp-fp32", cores).mac_per_cycle.value
            for unit in units
            for pass_ in qlr_dma.PASSES
        )
        expected = 3 * sum(unit.macs for unit in units) / cycles
        for tiles in (FEWEST, PRINTED):
            assert qlr_dma.mac_per_cycle(tiles, cores, 1e9) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bits", [1, 8, 64])
def test_fewest_bytes_are_those_that_the_cost_model_prices(bits: int) -> None:
    """The same passes through ``step_time``: L2 holds everything, its bandwidth is the DMA's."""
    network = load_network("mobilenet-v1")
    board = load_board("vega").with_values(
        {
            "memory.L2.size_bytes": 1e9, "dma.setup_cycles": 0.0,
            "memory.L2.read_bytes_per_cycle": bits / 8, "memory.L2.write_bytes_per_cycle": bits / 8,
        }
    )  # fmt: skip
    context = Context(network, board, accounting=MACS_ALONE)
    plan = TrainingPlan(cut=19, first_input="dequantised", replay_bits=32)
    step, placement = describe(context, PlanBatch.from_plans(network, [plan]))
    seconds = step_time(context, step, placement).seconds[0, 0, 20:-1, :3]
    samples = float(step.spec.samples[0])
    macs = 3 * samples * sum(unit.macs for unit in network.units[20:])
    model = macs / (seconds.sum() * context.clocks_hz[0])
    assert model == pytest.approx(qlr_dma.mac_per_cycle(FEWEST, 8, bits), rel=0.03)  # biases, loss, masks


def test_the_sweet_spot_is_the_first_bandwidth_near_the_plateau() -> None:
    assert qlr_dma.sweet_spot({8: 0.5, 16: 0.94, 32: 0.96, 64: 1.0}) == 32
    assert qlr_dma.sweet_spot({8: 1.0, 16: 1.0}) == 8


def test_the_digitised_figure_has_the_printed_sweet_spots() -> None:
    """The rule, applied to the published points, finds what the text prints."""
    spots = {
        cores: qlr_dma.sweet_spot(
            {bits: float(row["value"]) for bits, row in qlr_dma.published_curve(cores).items()}
        )
        for cores in CORES
    }
    assert spots == {1: 8, 2: 16, 4: 32, 8: 64}


def test_sweet_spots_come_out_of_the_printed_tiles_and_not_of_the_fewest_bytes() -> None:
    spots = {
        tiles: [qlr_dma.sweet_spot(qlr_dma.curve_of(tiles, cores)) for cores in CORES]
        for tiles in (PRINTED, FEWEST)
    }
    assert spots == {PRINTED: [8, 16, 32, 64], FEWEST: [8, 8, 8, 8]}


def test_curves_rise_and_the_search_is_no_slower_than_the_printed_tiles() -> None:
    for cores in CORES:
        fewest, printed = (
            np.array(list(qlr_dma.curve_of(tiles, cores).values())) for tiles in (FEWEST, PRINTED)
        )
        assert (np.diff(printed) >= 0).all()
        assert (np.diff(fewest) >= 0).all()
        assert (fewest >= 0.999 * printed).all()  # printed tiles do not read accumulators
    assert len(qlr_dma.published_curve(8)) == len(BITS)


def test_rows_are_unique_and_sourced() -> None:
    rows = qlr_dma.dma_rows()
    assert len({(row.name, row.quantity) for row in rows}) == len(rows)
    assert all(row.source.startswith("arXiv:2110.10486") and not row.calibrated for row in rows)
