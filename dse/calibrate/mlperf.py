"""Inference runs of MLPerf Tiny: one software on one board, with its latency and energy by task.

Source: result repositories of mlcommons, rounds v0.5 to v1.3, closed division, single-core CPU rows
(``dse/reference/mlperf_tiny.csv``). ``kernels`` names the kernel library with its version, ``core`` the CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from dse.reference import Row, load_table
from dse.workload import Workload, load_network

NETWORKS: Final = {"ad": "autoencoder", "ic": "resnet8", "vww": "mobilenet-v1-0.25-vww"}
"""Task -> network of the zoo."""

CALIBRATION_TASKS: Final = ("ad", "ic")
PREDICTED_TASK: Final = "vww"


@dataclass(frozen=True)
class Run:
    """One submission: latency [s], power [W] and energy [J] by task."""

    round: str
    organisation: str
    label: str
    board: str
    core: str
    kernels: str
    dtype: str
    clock_hz: float
    source: str
    latency_s: Mapping[str, float]
    power_w: Mapping[str, float]
    energy_j: Mapping[str, float]

    @property
    def name(self) -> str:
        """Round, organisation, its own label of the run, and kernels."""
        return f"{self.round} {self.organisation} {self.label} {self.kernels}"

    @property
    def complete(self) -> bool:
        """Whether all three tasks were measured."""
        return self.latency_s.keys() >= NETWORKS.keys()

    def cycles_per_mac(self, task: str) -> float:
        """Cycles per MAC over the whole network of ``task``."""
        return self.latency_s[task] * self.clock_hz / task_macs(task)

    @property
    def linear(self) -> float:
        """Cycles per MAC of linear layers, from the own ``ad`` row (linear layers alone)."""
        return self.cycles_per_mac("ad")

    @property
    def dense(self) -> float:
        """Cycles per MAC of dense convolutions, from the own ``ic`` row less its linear layer."""
        macs = operator_macs("ic")
        cycles = self.latency_s["ic"] * self.clock_hz - macs["linear"] * self.linear
        return cycles / (macs["conv2d"] + macs["pointwise"])

    @property
    def separable_ratio(self) -> float:
        """Cycles per MAC of depthwise and pointwise layers together, over those of dense convolutions.

        From the ``vww`` row: what is left after its first convolution and its linear layer. One latency
        cannot tell depthwise from pointwise, nor either from call overhead.
        """
        macs = operator_macs(PREDICTED_TASK)
        cycles = self.latency_s[PREDICTED_TASK] * self.clock_hz
        rest = cycles - macs["conv2d"] * self.dense - macs["linear"] * self.linear
        return rest / (separable_macs() * self.dense)


def macs_by_operator(workload: Workload) -> Mapping[str, int]:
    """Return the MACs of one forward pass of one sample by operator."""
    macs: Counter[str] = Counter()
    for unit in workload.units:
        macs[unit.operator] += unit.macs
    return macs


@cache
def operator_macs(task: str) -> Mapping[str, int]:
    """Return the MACs of the network of ``task`` by operator."""
    return macs_by_operator(load_network(NETWORKS[task]))


def task_macs(task: str) -> int:
    """Return all MACs of the network of ``task``."""
    return sum(operator_macs(task).values())


def separable_macs() -> int:
    """Return the depthwise and pointwise MACs of the predicted network."""
    macs = operator_macs(PREDICTED_TASK)
    return macs["depthwise"] + macs["pointwise"]


def load_runs() -> tuple[Run, ...]:
    """Return every run of the reference table, in its order."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in load_table("mlperf_tiny"):
        key = tuple(row[name] for name in ("round", "organisation", "run", "board", "dtype"))
        groups.setdefault(key, []).append(row)
    return tuple(_run(rows) for rows in groups.values())


def _run(rows: list[Row]) -> Run:
    first = rows[0]
    return Run(
        round=first["round"],
        organisation=first["organisation"],
        label=first["run"].rpartition("/")[2],
        board=first["board"],
        core=first["core"],
        kernels=first["kernels"],
        dtype=first["dtype"],
        clock_hz=float(first["clock_mhz"]) * 1e6,
        source=f"{first['source']}: {first['run']}",
        latency_s=_column(rows, "latency_ms", 1e-3),
        power_w=_column(rows, "power_mw", 1e-3),
        energy_j=_column(rows, "energy_uj", 1e-6),
    )


def _column(rows: Iterable[Row], name: str, factor: float) -> dict[str, float]:
    return {row["task"]: float(row[name]) * factor for row in rows if row[name]}
