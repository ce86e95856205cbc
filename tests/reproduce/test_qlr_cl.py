"""The quirks of arXiv 2110.10486, each on its own."""

from __future__ import annotations

import dataclasses

import pytest

from dse.cost.accounting import DEFAULT, QLR_CL
from dse.hardware import load_board
from dse.reproduce import qlr_cl, qlr_memory, qlr_paper
from dse.reproduce.qlr_paper import STM32, VEGA
from dse.workload import load_network

WORKLOAD = load_network("mobilenet-v1")


STUDY = qlr_cl.reproduce()


def learning_s(**changes: object) -> list[float]:
    costs = qlr_paper.table_iv_costs(qlr_paper.paper_board(VEGA), **changes)  # type: ignore[arg-type]
    return [float(value) for value in costs.seconds["learning"]]


def test_the_paper_changes_three_units() -> None:
    changed = {
        unit.index: unit.macs
        for unit, own in zip(qlr_paper.paper_workload().units, WORKLOAD.units, strict=True)
        if unit != own
    }
    assert changed == {23: 8 * 8 * 512 * 9, 25: 4 * 4 * 512 * 9, 26: 4 * 4 * 512 * 1024}


def test_rows_are_named_by_the_first_layer_that_is_retrained() -> None:
    assert [qlr_paper.cut_of(row) for row in (20, 26, 27)] == [19, 25, 27]


@pytest.mark.parametrize("row", qlr_paper.ROWS)
def test_a_row_is_macs_over_rates(row: int) -> None:
    """The paper's formula written out; it shares nothing with the cost model but the MACs."""
    rates = {"pointwise": (1.708, 1.336, 0.965), "depthwise": (0.19,) * 3}
    board = qlr_paper.paper_board(VEGA)
    linear = [
        board.rate("linear", pass_, "fp32").mac_per_cycle.value
        for pass_ in ("fwd", "bwd_input", "bwd_weight")
    ]
    cycles = 0.0
    for unit in qlr_paper.paper_workload().units[row:]:
        cycles += sum(unit.macs / rate for rate in rates.get(unit.operator, linear))
    expected = cycles * 128 * 14 * 4 / 375e6
    assert learning_s()[row - 20] == pytest.approx(expected, rel=1e-9)


def test_the_default_saves_the_input_gradient_of_the_lowest_unit() -> None:
    without = dataclasses.replace(QLR_CL, lowest_unit_bwd_input=False)
    saved = [a - b for a, b in zip(learning_s(), learning_s(accounting=without), strict=True)]
    unit = qlr_paper.paper_workload().units[20]
    assert saved[0] == pytest.approx(unit.macs * 128 * 56 / 1.336 / 375e6)


def test_the_default_streams_learning_weights() -> None:
    board = load_board("vega + hyperram-64")
    joules = qlr_paper.table_iv_costs(board, WORKLOAD, DEFAULT).joules["learning"]
    power_alone = qlr_paper.table_iv_costs(board, WORKLOAD, DEFAULT).seconds["learning"] * 0.062
    assert joules[0] > 1.5 * power_alone[0]  # 8.7 MB of weights lie outside the chip
    assert joules[-1] < 1.1 * power_alone[-1]  # 0.2 MB lie inside


def test_rows_with_depthwise_units_are_calibrated_on_vega() -> None:
    rows = [row for row in STUDY.rows if row.name.startswith(VEGA)]
    predicted = {row.name for row in rows if row.quantity == qlr_cl.ADAPTIVE and not row.calibrated}
    assert predicted == {"VEGA row 26", "VEGA row 27"}
    units = {row.name for row in rows if row.quantity == qlr_cl.UNIT_TIME and not row.calibrated}
    assert units == {*(f"VEGA unit {unit} (pointwise)" for unit in (20, 22, 24, 26)), "VEGA unit 27 (linear)"}


def test_the_unit_that_the_stm32_rate_comes_from_is_calibrated() -> None:
    rows = [row for row in STUDY.rows if row.name.startswith(STM32)]
    fitted = {row.name for row in rows if row.quantity == qlr_cl.UNIT_TIME and row.calibrated}
    assert fitted == {f"{STM32} unit 22 (pointwise)"}


def test_designs_below_64_mb() -> None:
    best = qlr_memory.best_below()
    assert (best.cut, best.n_replays, best.replay_bits) == (23, 3000, 8)
    roles = qlr_memory.roles_of(best)
    assert sum(roles.values()) == pytest.approx(best.total_bytes)
    assert roles["replay samples"] == 3000 * 8192
    assert roles["learning weights"] == roles["gradients"]
    over = {design.name for design in qlr_memory.designs() if design.total_bytes >= 64e6}
    assert "LR layer 19, N 1500, 8 bits" in over  # 49 MB of replays, and what learns on them


def test_no_bound_counts_a_fitted_row() -> None:
    assert "predicted row 26 of VEGA within 1 %" in [bound.text for bound in STUDY.bounds]
    assert any(line.startswith("fitted rows 20 to 25 of Table IV") for line in STUDY.summary)
