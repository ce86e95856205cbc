"""How long a measured thing takes, as a function of the numbers that the board prices it with.

Nothing is priced here: the cost model is asked with unit values. A unit of a network takes the longer of
its computing, which is linear in the costs (cycles per MAC, per call, per element), and of the bytes that
move meanwhile; on a board whose DMA does not run beside the cores the bytes are part of the constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.measurement import Measurement
from dse.cost.context import Context
from dse.cost.cycles import kernel_cycles
from dse.cost.passes import pass_work
from dse.hardware import ElementCost, HardwareProfile, Overhead, Quantity, Rate
from dse.vocabulary import OPERATORS
from dse.workload import Workload

FloatArray = NDArray[np.float64]

_PROBE: Final = 1e5
"""Cycles per MAC, call and element at which computing outlasts every transfer of bytes."""
_ROUNDING: Final = 1e-12
_SIDE_OPERATIONS: Final = ("add", "quantise", "dequantise", "unpack", "softmax_loss", "update_sgd")
"""Element operations that a pass may run although no layer of the network is called so."""


@dataclass(frozen=True)
class Response:
    """Seconds of U units as a function of J costs: max(fixed + per_cost @ costs, floor), summed.

    ``per_cost`` (U, J) [s per cycle of cost], ``fixed_s`` and ``floor_s`` (U,); ``paths`` names the costs.
    """

    paths: tuple[str, ...]
    per_cost: FloatArray
    fixed_s: FloatArray
    floor_s: FloatArray
    macs: FloatArray  # (U,)
    units: tuple[str, ...]

    def of_unit(self, unit: int) -> Response:
        """Return the response of one unit alone."""
        rows = slice(unit, unit + 1)
        return Response(
            self.paths, self.per_cost[rows], self.fixed_s[rows], self.floor_s[rows], self.macs[rows],
            self.units[rows],
        )  # fmt: skip

    def seconds(self, costs: FloatArray) -> float:
        """Return the seconds at ``costs`` (J,)."""
        return float(np.maximum(self.fixed_s + self.per_cost @ costs, self.floor_s).sum())


def path_of(entry: Rate | ElementCost | Overhead) -> str:
    """Return the path of the one number of ``entry``, as ``HardwareProfile.numbers`` writes it."""
    section, field = _NUMBERS[type(entry)]
    return f"{section}[{','.join(map(str, entry.key))}].{field}"


_NUMBERS: Final = {
    Rate: ("rate", "mac_per_cycle"),
    ElementCost: ("element", "cycles_per_element"),
    Overhead: ("overhead", "cycles_per_call"),
}


def priced_entries(board: HardwareProfile) -> dict[str, tuple[Rate | ElementCost | Overhead, Quantity]]:
    """Return path -> (entry, its number) of every rate, element cost and call overhead."""
    entries: Sequence[Rate | ElementCost | Overhead] = (*board.rates, *board.elements, *board.overheads)
    return {path_of(entry): (entry, getattr(entry, _NUMBERS[type(entry)][1])) for entry in entries}


def cost_of(path: str, value: float) -> float:
    """Return the cost [cycles per MAC, call or element] that a number of the board stands for."""
    return 1.0 / value if path.startswith("rate[") else value


def with_clock(board: HardwareProfile, clock_hz: float, cores: int) -> HardwareProfile:
    """Return ``board`` with ``clock_hz`` at its first operating point and ``cores`` at work."""
    point = board.operating_points[0].name
    workers = board.worker_cores.model_copy(update={"value": float(cores), "low": None, "high": None})
    changed = board.with_values({f"operating_point.{point}.clock_hz": clock_hz})
    return changed.model_copy(update={"worker_cores": workers})


@dataclass(frozen=True)
class Setting:
    """On what a measurement ran: the board at a clock, its cores and the kernel library."""

    board: HardwareProfile
    dtype: str
    library: str
    cores: int
    clock_hz: float


def network_response(workload: Workload, pass_: str, setting: Setting) -> Response:
    """Return the response of one pass of one sample, unit by unit. Raises IllegalPlan and Unpriced."""
    board = with_clock(setting.board, setting.clock_hz, setting.cores)
    context = Context(workload, board, kernels={setting.dtype: setting.library})
    work = pass_work(context, pass_, setting.dtype)
    work.unit_seconds(board)  # raises here where a price is missing
    paths = tuple(_candidates(board, workload, setting))
    high = dict.fromkeys(paths, _PROBE)
    computing = work.unit_seconds(_probed(board, paths, high))
    twice = [work.unit_seconds(_probed(board, paths, high | {path: 2 * _PROBE})) for path in paths]
    per_cost = np.stack([_rounded(more - computing, computing) for more in twice], axis=1) / _PROBE
    fixed = _rounded(computing - _PROBE * per_cost.sum(axis=1), computing)
    floor = work.unit_seconds(_probed(board, paths, {}))
    used = np.asarray((per_cost > 0).any(axis=0))
    kept = tuple(path for path, seen in zip(paths, used.tolist(), strict=True) if seen)
    names = tuple(unit.name for unit in workload.units)
    return Response(kept, per_cost[:, used], np.minimum(fixed, floor), floor, work.macs, names)


def _candidates(board: HardwareProfile, workload: Workload, setting: Setting) -> Iterator[str]:
    """Yield the numbers that may price a pass of ``workload``."""
    operators = {unit.operator for unit in workload.units}
    operations = {layer.element_operation for layer in workload.layers} | set(_SIDE_OPERATIONS)
    for path, (entry, _) in priced_entries(board).items():
        if (entry.library, entry.cores) != (setting.library, setting.cores):
            continue
        if isinstance(entry, Overhead):
            yield path
        elif entry.dtype == setting.dtype:
            named = entry.operator in operators if isinstance(entry, Rate) else entry.operation in operations
            yield from (path,) if named else ()


def _probed(board: HardwareProfile, paths: Sequence[str], costs: dict[str, float]) -> HardwareProfile:
    """Return ``board`` with ``costs`` [cycles] under their paths, and no cost under the other ``paths``."""
    values = {}
    for path in paths:
        cost = costs.get(path, 0.0)
        values[path] = (np.inf if cost == 0 else 1.0 / cost) if path.startswith("rate[") else cost
    return board.with_values(values)


def _rounded(difference: FloatArray, of: FloatArray) -> FloatArray:
    """Return ``difference``, 0 where it is what rounding leaves of numbers as large as ``of``."""
    return np.where(difference > _ROUNDING * of, difference, 0.0)


def kernel_response(row: Measurement, setting: Setting) -> Response:
    """Return the response of single kernels: one unit for each pass. Raises Unpriced."""
    board, count = setting.board, len(row.passes)
    found: list[dict[str, float]] = []
    for pass_ in row.passes:
        if row.operator in OPERATORS:
            entry: Any = board.rate(row.operator, pass_, setting.dtype, setting.library, setting.cores)
            calls = board.overhead(setting.library, setting.cores)
            cycles = float(kernel_cycles(row.macs / count, 1.0))
            found.append({path_of(entry): cycles, path_of(calls): row.calls})
        else:
            entry = board.element_cost(row.operator, pass_, setting.dtype, setting.library, setting.cores)
            found.append({path_of(entry): row.elements / count})
    paths = tuple(dict.fromkeys(path for one in found for path in one))
    per_cost = np.array([[one.get(path, 0.0) for path in paths] for one in found]) / setting.clock_hz
    nothing = np.zeros(count)
    macs = np.full(count, row.macs / count)
    return Response(paths, per_cost, nothing, nothing, macs, tuple(row.passes))


def joined(responses: Sequence[Response]) -> Response:
    """Return the response of several passes run one after the other."""
    if len(responses) == 1:
        return responses[0]
    paths = tuple(dict.fromkeys(path for each in responses for path in each.paths))
    place = {path: index for index, path in enumerate(paths)}
    blocks = []
    for each in responses:
        block = np.zeros((len(each.per_cost), len(paths)))
        block[:, [place[path] for path in each.paths]] = each.per_cost
        blocks.append(block)
    return Response(
        paths, np.concatenate(blocks), np.concatenate([each.fixed_s for each in responses]),
        np.concatenate([each.floor_s for each in responses]),
        np.concatenate([each.macs for each in responses]),
        tuple(name for each in responses for name in each.units),
    )  # fmt: skip
