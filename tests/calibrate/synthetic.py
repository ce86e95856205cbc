"""Measurements of a board whose true numbers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dse.calibrate import Measurement
from dse.calibrate.response import priced_entries
from dse.hardware import HardwareProfile, load_board

RATES = {"conv2d": "rate[pulp-fp32,conv2d,fwd,fp32,8].mac_per_cycle",
         "pointwise": "rate[pulp-fp32,pointwise,fwd,fp32,8].mac_per_cycle",
         "linear": "rate[pulp-fp32,linear,fwd,fp32,8].mac_per_cycle"}  # fmt: skip
OVERHEAD = "overhead[pulp-fp32,8].cycles_per_call"
RELU = "element[pulp-fp32,relu,fwd,fp32,8].cycles_per_element"


def vega() -> HardwareProfile:
    return load_board("vega")


def kernel(operator: str, size: float, *, calls: float = 1.0, cycles: float | None = None) -> Measurement:
    macs, elements = (0.0, size) if operator == "relu" else (size, 0.0)
    return Measurement(
        dtype="fp32", operator=operator, macs=macs, elements=elements, calls=calls, cores=8, cycles=cycles
    )


def kernel_cycles(row: Measurement, truth: Mapping[str, float]) -> float:
    """Cycles of one kernel, in plain words: MACs over the rate and the overhead of each call."""
    if row.operator == "relu":
        return row.elements * truth[RELU]
    return row.macs / truth[RATES[row.operator]] + row.calls * truth[OVERHEAD]


def measured(
    rows: Sequence[Measurement], truth: Mapping[str, float], noise: float, rng: np.random.Generator
) -> list[Measurement]:
    return [
        replace(row, cycles=kernel_cycles(row, truth) * float(rng.lognormal(0.0, noise)), line=line)
        for line, row in enumerate(rows, 2)
    ]


def numbers(board: HardwareProfile, *paths: str) -> dict[str, float]:
    known = priced_entries(board)
    return {path: known[path][1].value for path in paths}
