"""What arXiv 2110.10486 prices, with its own quirks, expressed through the cost model.

Table IV follows from kernel rates and MACs alone. Its quirks are made here and nowhere else:

- rows are named by the first *retrained* layer, so row l is a cut behind unit l - 1 (row 27: the last
  unit);
- unit 23 is counted at its input resolution, units 25 and 26 at half their channels;
- depthwise units run at 0.19 MAC/cycle in every pass, not at the rates of Fig. 8;
- nothing but MACs takes time: element operations and kernel calls cost nothing.

An input gradient for the lowest unit, no off-chip traffic and bare replay bytes belong to the preset
``qlr-cl``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from dse.cost.accounting import QLR_CL, Accounting
from dse.cost.model import Context, Costs, price
from dse.hardware import HardwareProfile, load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.reference import Row, load_table
from dse.workload import Unit, Workload, load_network

NETWORK: Final = "mobilenet-v1"
ROWS: Final = tuple(range(20, 28))
"""Rows of Table IV: the first layer that is retrained."""

LAST: Final = 27
DEPTHWISE_MAC_PER_CYCLE: Final = 0.19  # fitted to rows 21, 23 and 25 of Table IV
IMAGES_PER_MINIBATCH: Final = 21
MINIBATCHES_PER_EPOCH: Final = 14
EPOCHS: Final = 4
VEGA: Final = "VEGA"
STM32: Final = "STM32L476RG"


def cut_of(row: int) -> int:
    """Return the cut at which ``row`` of Table IV retrains its layers."""
    return row - 1 if row < LAST else LAST


@cache
def paper_workload() -> Workload:
    """Return MobileNet-V1 with the MACs and weights that Table IV charges for units 23, 25 and 26."""
    workload = load_network(NETWORK)
    units = list(workload.units)
    units[23] = replace(units[23], macs=units[23].macs * 4)
    for index in (25, 26):
        units[index] = _halved(units[index])
    return replace(workload, units=tuple(units))


def _halved(unit: Unit) -> Unit:
    return replace(unit, macs=unit.macs // 2, weight_params=unit.weight_params // 2)


def macs_alone(board: HardwareProfile, library: str, depthwise: float | None = None) -> HardwareProfile:
    """Return ``board`` with nothing but MACs taking time in ``library``, and another depthwise rate."""
    values: dict[str, float] = {}
    for path, _ in board.numbers():
        if path.startswith((f"element[{library},", f"overhead[{library},")):
            values[path] = 0.0
        if depthwise is not None and path.startswith(f"rate[{library},depthwise,"):
            values[path] = depthwise
    return board.with_values(values)


@cache
def paper_board(platform: str) -> HardwareProfile:
    """Return the board of ``platform`` as Table IV prices it."""
    if platform == VEGA:
        return macs_alone(load_board("vega"), "pulp-fp32", DEPTHWISE_MAC_PER_CYCLE)
    return macs_alone(load_board("stm32l476rg"), "cm4-fp32")


def at_ends(board: HardwareProfile, library: str, end: str) -> HardwareProfile:
    """Return ``board`` with every dense rate of ``library`` at its ``low_value`` or ``high_value``."""
    return board.with_values(
        {
            path: getattr(quantity, end)
            for path, quantity in board.numbers()
            if path.startswith(f"rate[{library},") and ",depthwise," not in path
        }
    )


def table_iv_costs(
    board: HardwareProfile, workload: Workload | None = None, accounting: Accounting = QLR_CL, **choices: int
) -> Costs:
    """Price the rows of Table IV at the first operating point; arrays have one entry per row."""
    network = workload or paper_workload()
    plans = [TrainingPlan(cut=cut_of(row), **choices) for row in ROWS]  # type: ignore[arg-type]
    return price(Context(network, board, accounting=accounting), PlanBatch.from_plans(network, plans))


def row_macs(row: int) -> int:
    """MACs of one forward pass of one sample through the layers that ``row`` retrains."""
    return sum(unit.macs for unit in paper_workload().units[row:])


def table_rows() -> tuple[Row, ...]:
    """Rows of the reference table of this paper."""
    return load_table("qlrcl_table4")


def table_iv(platform: str, what: str, quantity: str) -> Mapping[int, Row]:
    """Return Table IV for one platform and pass, by row; values in seconds or joules."""
    return {
        int(row["row"]): row
        for row in table_rows()
        if row["locator"] == "Table IV"
        and row["platform"] == platform
        and row["pass"].startswith(what)
        and row["quantity"].startswith(quantity)
    }


def printed(quantity: str) -> Row:
    """Return the row of a figure that is printed in the text; raises KeyError."""
    for row in table_rows():
        if row["quantity"] == quantity:
            return row
    raise KeyError(quantity)


def differences(cumulative: Sequence[float]) -> list[float]:
    """What each row adds to the next: the cost of its first retrained layer."""
    return [here - after for here, after in zip(cumulative, (*cumulative[1:], 0.0), strict=True)]
