"""Which numbers of a board decide how sure a price is, and which of them a program on it can measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dse.calibrate.response import priced_entries
from dse.cost.intervals import Influence, Intervals
from dse.hardware import ElementCost, HardwareProfile, Overhead, Rate
from dse.vocabulary import OPERATORS

RESULTS: Final = ("event_s", "event_j", "lifetime_s")
"""What a benchmark is to make surer: time and energy of an event, and battery life."""

FP32_OPERATIONS: Final = (
    "relu", "relu6", "hard_swish", "batch_norm", "add", "concat", "avg_pool", "max_pool", "softmax_loss",
)  # fmt: skip
INT8_OPERATIONS: Final = ("relu", "relu6", "hard_swish", "add", "concat", "avg_pool", "max_pool")
ANY_OPERATIONS: Final = (
    "quantise", "dequantise", "unpack", "update_sgd", "update_momentum", "update_adam", "update_lars",
)  # fmt: skip

BY_HAND: Final[Mapping[str, str]] = {
    "reserve_bytes": "read it off the map file of your firmware: stack, drivers, operating system",
    "size_bytes": "data sheet",
    "bytes_per_access": "time a loop that reads constants from flash, with and without prefetch and caches",
    "read_bytes_per_s": "time the vendor's driver while it reads a block of known size",
    "read_bytes_per_cycle": "time the vendor's driver while it reads a block of known size",
    "write_bytes_per_s": "time the vendor's driver while it programs a block of known size",
    "write_bytes_per_cycle": "time the vendor's driver while it programs a block of known size",
    "erase_s": "time the vendor's driver while it erases one block",
    "erase_block_bytes": "data sheet of the memory",
    "read_j_per_byte": "record the power while the vendor's driver reads, less the same loop without reading",
    "write_j_per_byte": "record the power while the vendor's driver programs and erases, less idling as long",
    "endurance_cycles": "data sheet of the memory",
    "standby_power_w": "measure the part's own supply current while it is selected and idle",
    "retention_power_w": "measure the part's own supply current while the board sleeps",
    "voltage_v": "measure it at the pins, under load",
    "clock_hz": "the clock tree of your firmware",
    "wake_s": "set a pin in the interrupt that wakes and one where computing starts; take the time between",
    "wake_j": "record the current from the interrupt that wakes to the first instruction of your work",
    "efficiency_active_fraction": "power at the board over power at the battery, while it computes",
    "efficiency_sleep_fraction": "power at the board over power at the battery, while it sleeps",
    "quiescent_w": "battery current with the load taken off the regulator",
    "charge_c": "data sheet of the battery, at your temperature and load",
    "usable_fraction": "data sheet of the battery: charge above your cut-off voltage",
    "self_discharge_per_year": "data sheet of the battery",
    "setup_cycles": "time many short transfers with the vendor's driver",
    "duplex_fraction": "time transfers both ways, one after the other and at once",
    "worker_cores": "data sheet",
}
"""Last part of a path -> how to measure what no program of this kind can."""

_OTHER: Final = "no program of this kind can measure it: data sheet, or a measurement of your own"


@dataclass(frozen=True)
class Subject:
    """One number of the board under one path: what measures it.

    ``kind`` is "rate", "element", "overhead", "power" or "sleep"; ``entry`` is set for the first three,
    ``name`` (operating point or sleep state) and ``field`` for the others.
    """

    path: str
    kind: str
    entry: Rate | ElementCost | Overhead | None = None
    name: str = ""
    field: str = ""


@dataclass(frozen=True)
class Chosen:
    """A number that a program measures, most influential first: its paths that the plan uses."""

    influence: Influence
    subjects: tuple[Subject, ...]


@dataclass(frozen=True)
class ByHand:
    """A number that moves the results as much, and how to measure it."""

    influence: Influence
    how: str


def choose(
    board: HardwareProfile, intervals: Intervals, top: int, uses: Callable[[str], bool]
) -> tuple[tuple[Chosen, ...], tuple[ByHand, ...]]:
    """Return the ``top`` numbers that a program can measure, and those before the last that none can.

    Parameters
    ----------
    board: the profile.
    intervals: of the plan's results.
    top: how many to measure.
    uses: whether a path moves a result of the plan by itself; one number can stand at paths it does not run.

    """
    chosen: list[Chosen] = []
    by_hand: list[ByHand] = []
    for influence in intervals.most_important(RESULTS, len(intervals.influences)):
        if len(chosen) == top:
            break
        found = [measured_by(board, path) for path in influence.paths if uses(path)]
        subjects = tuple(each for each in found if isinstance(each, Subject))
        if subjects:
            chosen.append(Chosen(influence, subjects))
        else:
            by_hand.append(ByHand(influence, next((each for each in found if isinstance(each, str)), _OTHER)))
    return tuple(chosen), tuple(by_hand)


def measured_by(board: HardwareProfile, path: str) -> Subject | str:
    """Return what measures the number under ``path``, or in words how to do it by hand."""
    section, _, field = path.rpartition(".")
    if path.startswith("operating_point.") and field in ("inference_power_w", "training_power_w"):
        return Subject(path, "power", name=section.removeprefix("operating_point."), field=field)
    if path.startswith("sleep_state.") and field == "power_w":
        return Subject(path, "sleep", name=section.removeprefix("sleep_state."), field=field)
    if not path.startswith(("rate[", "element[", "overhead[")):
        return BY_HAND.get(field, _OTHER)
    entry, _ = priced_entries(board)[path]
    refused = next(_refusals(entry), "")
    if refused:
        return f"{refused}; give `dse hw calibrate` a row of a kernel that you time yourself"
    kind = {Rate: "rate", ElementCost: "element", Overhead: "overhead"}[type(entry)]
    return Subject(path, kind, entry=entry)


def _refusals(entry: Rate | ElementCost | Overhead) -> Iterator[str]:
    """Yield why no loop in C is written for ``entry``."""
    if entry.cores > 1:
        yield f"the loops run on one core, not on {entry.cores}"
    if isinstance(entry, Overhead):
        return
    word = entry.operator if isinstance(entry, Rate) else entry.operation
    if entry.dtype not in ("fp32", "int8"):
        yield f"no loop is written in {entry.dtype}"
    if isinstance(entry, Rate) and word not in OPERATORS:
        yield f"no loop is written for {word}"
    if isinstance(entry, ElementCost):
        own = FP32_OPERATIONS if entry.dtype == "fp32" else INT8_OPERATIONS
        if word not in (*own, *ANY_OPERATIONS):
            yield f"no loop is written for {word} in {entry.dtype}"
        elif entry.dtype == "int8" and entry.pass_ == "bwd_input":
            yield f"no loop is written for {word} {entry.pass_} in int8"
