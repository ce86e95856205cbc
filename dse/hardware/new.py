"""A new board from a few facts: what is not given is borrowed from a shipped board of the same core.

Borrowed numbers are marked assumed, whatever they were on the board that lends them, and their intervals are
widened: the same core behind other flash, caches and regulators keeps its rates to within a factor, not more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dse.errors import Problem, UnknownName, UserError, allowed_names
from dse.hardware.entries import MemoryLevel, OperatingPoint
from dse.hardware.load import list_boards, load_board
from dse.hardware.profile import HardwareProfile
from dse.hardware.quantity import LARGEST, Entry, Quantity
from dse.vocabulary import Evidence

OWN: Final = "given"
"""Key of the source that the user names."""

WIDER: Final = 1.5
"""Factor by which the interval of a borrowed number grows at both ends.

In MLPerf Tiny, boards with the same Cortex-M core, library and task differ in cycles per MAC by 1.47 at most
(``dse/reference/mlperf_tiny.csv``).
"""

TRAINING_POWER: Final = (0.9, 1.25)
"""Power in training relative to inference: the interval that shipped boards assume."""

_SIZED: Final = ("size_bytes",)


@dataclass(frozen=True)
class Facts:
    """What the user knows: SI units, sizes in bytes by level (0: the board has no such level).

    ``sleep_power_w`` is of the first sleep state; None borrows it. ``source`` says where the numbers stand.
    """

    name: str
    like: str
    clock_hz: float
    level_bytes: Mapping[str, float]
    power_w: float
    source: str
    title: str = ""
    sleep_power_w: float | None = None


def cores() -> dict[str, tuple[str, ...]]:
    """Return the shipped boards by core: the boards that can lend their numbers."""
    found: dict[str, tuple[str, ...]] = {}
    for name in list_boards():
        core = load_board(name).core
        found[core] = (*found.get(core, ()), name)
    return found


def lender(core: str, like: str | None = None) -> HardwareProfile:
    """Return the board that lends its numbers: ``like``, or the one of ``core`` that knows most.

    Raises UnknownName for a core that no shipped board has, UserError where ``like`` has another core.
    """
    known = cores()
    if core not in known:
        raise UnknownName("core", core, known, file="dse hw new", key="--core")
    if like is None:
        return max((load_board(name) for name in known[core]), key=_known_numbers)
    board = load_board(like)
    if board.core != core:
        found = f"{like} has the core {board.core}"
        raise UserError(Problem("dse hw new", "--like", found, f"one of {', '.join(known[core])}"))
    return board


def _known_numbers(board: HardwareProfile) -> int:
    return sum(quantity.kind is not Evidence.ASSUMED for _, quantity in board.numbers())


def new_board(facts: Facts) -> HardwareProfile:
    """Return the board of ``facts``; raises UserError with everything that is wrong with them."""
    donor = load_board(facts.like)
    problems = _problems(facts, donor)
    if problems:
        raise UserError(problems)
    levels = tuple(_level(level, facts) for level in donor.levels if facts.level_bytes[level.name])
    kept = {level.name for level in levels}
    fields = {
        name: _borrowed(getattr(donor, name), donor.name)
        for name in ("rates", "elements", "overheads", "workspaces", "dma", "supply", "sleep_states")
    }
    rates = tuple(
        rate if rate.weights_in in kept else rate.model_copy(update={"weights_in": ""})
        for rate in fields["rates"]
    )
    return donor.model_copy(
        update={
            **fields, "rates": rates, "levels": levels, "name": facts.name, "note": "", "parts": (),
            "title": facts.title or f"{facts.name}, {donor.core}; what was not given as {donor.name}",
            "operating_points": (_point(facts, donor),),
            "sleep_states": _sleep(fields["sleep_states"], facts, kept),
        }
    )  # fmt: skip


def _problems(facts: Facts, donor: HardwareProfile) -> list[Problem]:
    """Return what is wrong with the facts: levels that are missing or unknown, numbers out of bounds."""
    known = [level.name for level in donor.levels]
    found = []
    for name in facts.level_bytes:
        if name not in known:
            found.append(("--level", f"unknown level {name!r}", allowed_names(name, known)))
    for name in known:
        if name not in facts.level_bytes:
            found.append(("--level", f"no size for {name}", f"{name}=KIB, or {name}=0 where there is none"))
    if not any(facts.level_bytes.get(level.name) and level.volatile for level in donor.levels):
        found.append(("--level", "no memory that can be written", "a board has some RAM"))
    holders = [level.name for level in donor.levels if "code" in level.holds]
    if not any(facts.level_bytes.get(name) for name in holders):
        found.append(("--level", "no memory for the program", f"a size for {' or '.join(holders)}"))
    found += [
        ("--level", f"{name}={size / 1024:g}", f"0, or a byte to {LARGEST:g} bytes, in KiB")
        for name, size in facts.level_bytes.items()
        if not (size == 0 or 1 <= size <= LARGEST)
    ]
    return [Problem("dse hw new", *each) for each in (*found, *_bounds(facts))]


def _bounds(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Yield which numbers no board has, and which texts are missing."""
    for key, value in (("--clock-mhz", facts.clock_hz), ("--power-mw", facts.power_w * TRAINING_POWER[1])):
        if not 0 < value <= LARGEST:
            yield key, f"{value:g} in SI units", f"a number above 0, at most {LARGEST:g}"
    if facts.sleep_power_w is not None and not 0 <= facts.sleep_power_w <= LARGEST:
        yield "--sleep-uw", f"{facts.sleep_power_w:g} W", f"0 to {LARGEST:g} W"
    for key, text in (("--source", facts.source), ("name", facts.name)):
        if not text.strip():
            yield key, "missing", "say where the numbers stand" if key == "--source" else "a name"


def _given(value: float, note: str) -> Quantity:
    return Quantity(value=value, kind=Evidence.DATASHEET, source=OWN, note=note)


def _level(level: MemoryLevel, facts: Facts) -> MemoryLevel:
    """Return a level of the lender with the given size; its reserve stays within it."""
    size = float(facts.level_bytes[level.name])
    borrowed = _borrowed_entry(level, facts.like, keep=_SIZED)
    reserve = borrowed.reserve_bytes
    if reserve is not None and reserve.high_value > size:
        share = size / reserve.high_value
        bounds = {name: getattr(reserve, name) * share for name in ("value", "low", "high")}
        reserve = reserve.model_copy(update=bounds)
    update = {"size_bytes": _given(size, ""), "reserve_bytes": reserve, "note": ""}
    changed: MemoryLevel = borrowed.model_copy(update=update)
    return changed


def _point(facts: Facts, donor: HardwareProfile) -> OperatingPoint:
    low, high = (facts.power_w * factor for factor in TRAINING_POWER)
    training = Quantity(
        value=facts.power_w, low=low, high=high, kind=Evidence.ASSUMED, source="estimate",
        note="as inference; 0.9 to 1.25 times",
    )  # fmt: skip
    return OperatingPoint(
        name=f"{facts.clock_hz / 1e6:g}MHz", clock_hz=_given(facts.clock_hz, ""),
        inference_power_w=_given(facts.power_w, "whole board or chip, as the source says"),
        training_power_w=training, domains=donor.operating_points[0].domains,
    )  # fmt: skip


def _sleep(states: tuple[Any, ...], facts: Facts, kept: set[str]) -> tuple[Any, ...]:
    found = [
        state.model_copy(update={"retains": tuple(name for name in state.retains if name in kept)})
        for state in states
    ]
    if facts.sleep_power_w is not None:
        found[0] = found[0].model_copy(update={"power_w": _given(facts.sleep_power_w, "")})
    return tuple(found)


def _borrowed(section: Any, donor: str) -> Any:
    if isinstance(section, tuple):
        return tuple(_borrowed_entry(entry, donor) for entry in section)
    return _borrowed_entry(section, donor)


def _borrowed_entry(entry: Any, donor: str, keep: tuple[str, ...] = ()) -> Any:
    """Return a copy of an entry whose numbers are assumed, as on the board that lends them."""
    update = {}
    for field in type(entry).model_fields:
        value = getattr(entry, field)
        if isinstance(value, Quantity) and field not in keep:
            update[field] = _widened(value, donor, field.endswith("_fraction"))
        elif isinstance(value, Entry) and not isinstance(value, Quantity):
            update[field] = _borrowed_entry(value, donor)
    return entry.model_copy(update=update)


def _widened(quantity: Quantity, donor: str, is_fraction: bool) -> Quantity:
    if quantity.included:
        return quantity
    high = quantity.high_value * WIDER
    bounds = {"low": quantity.low_value / WIDER, "high": min(high, 1.0) if is_fraction else high}
    note = f"as {donor}" + (f": {quantity.note}" if quantity.note else "")
    return quantity.model_copy(update={**bounds, "kind": Evidence.ASSUMED, "note": note})
