"""What the default accounting says for the rows of Table IV, and which rule moves them by how much."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Final

from dse.cost.accounting import DEFAULT, QLR_CL, Accounting
from dse.cost.model import Costs
from dse.hardware import HardwareProfile, load_board
from dse.reproduce.base import Comparison
from dse.reproduce.qlr_paper import ROWS, VEGA, macs_alone, paper_board, table_iv, table_iv_costs
from dse.vocabulary import ReferenceEvidence
from dse.workload import Workload, load_network

BOARD: Final = "vega + hyperram-64"
NO_TRANSFERS: Final = replace(DEFAULT, name="default without transfers", transfers=False)
COMPLETE: Final = replace(QLR_CL, name="qlr-cl with element operations", elements=True)
BATCH: Final = 128


@cache
def _workload() -> Workload:
    return load_network("mobilenet-v1")


@cache
def _board() -> HardwareProfile:
    return load_board(BOARD)


def _priced(board: HardwareProfile, accounting: Accounting, **choices: int) -> Costs:
    return table_iv_costs(board, _workload(), accounting, **choices)


def default_contrasts() -> tuple[Comparison, ...]:
    """Adaptive time and energy of each row under the default accounting, one image at a time."""
    costs = _priced(_board(), DEFAULT)
    times, energies = table_iv(VEGA, "adaptive", "latency"), table_iv(VEGA, "per learning event", "energy")
    rows = []
    for index, row in enumerate(ROWS):
        seconds, joules = float(costs.seconds["learning"][index]), float(costs.joules["learning"][index])
        rows.append(_contrast(row, "adaptive time, default accounting", "s", seconds, times[row]["value"]))
        rows.append(
            _contrast(row, "energy of an event, default accounting", "J", joules, energies[row]["value"])
        )
    return tuple(rows)


def _contrast(row: int, quantity: str, unit: str, model: float, published: str) -> Comparison:
    return Comparison(
        name=f"{VEGA} row {row}",
        quantity=quantity,
        unit=unit,
        model=model,
        published=float(published),
        evidence=ReferenceEvidence.ARITHMETIC,
        calibrated=False,
        source="arXiv:2110.10486v1, Table IV",
        note=f"{BOARD}; true shapes, rates of Fig. 8, learning weights streamed where they do not fit L2",
    )


def default_summary() -> tuple[str, ...]:
    """Take the default apart for the largest row, rule by rule, in the order in which they are applied."""
    names_and_costs = (
        ("Table IV as the paper counts", table_iv_costs(paper_board(VEGA))),
        ("with the true shapes", _priced(paper_board(VEGA), QLR_CL)),
        ("with depthwise rates of Fig. 8", _priced(macs_alone(load_board("vega"), "pulp-fp32"), QLR_CL)),
        (
            "with element operations, bias gradients, calls and the update",
            _priced(load_board("vega"), COMPLETE),
        ),
        ("without the input gradient of the lowest unit", _priced(load_board("vega"), NO_TRANSFERS)),
        ("with transfers between levels", _priced(_board(), DEFAULT)),
    )
    lines = [_line(f"row {row}", names_and_costs, ROWS.index(row)) for row in (20, 26)]
    return (*lines, _batched())


def _line(label: str, costs: tuple[tuple[str, Costs], ...], index: int) -> str:
    steps = (
        f"{name} {float(cost.seconds['learning'][index]):.0f} s, {float(cost.joules['learning'][index]):.0f} "
        "J"
        for name, cost in costs
    )
    return f"default accounting, {label}: " + "; ".join(steps)


def _batched() -> str:
    """Weights that are streamed once per image weigh most; a larger micro-batch reads them less often."""
    single, batched = _priced(_board(), DEFAULT), _priced(_board(), DEFAULT, micro_batch=BATCH)
    return (
        f"default accounting, row 20 in micro-batches of {BATCH}: "
        f"{float(batched.seconds['learning'][0]):.0f} s and "
        f"{float(batched.joules['learning'][0]):.0f} J with a RAM peak of "
        f"{float(batched.ram_peak_bytes[0]) / 1e6:.0f} MB; "
        f"one image at a time {float(single.seconds['learning'][0]):.0f} s and "
        f"{float(single.joules['learning'][0]):.0f} J with "
        f"{float(single.ram_peak_bytes[0]) / 1e6:.0f} MB"
    )
