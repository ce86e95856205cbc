"""The header of a power analyser's recording: which column is time, current, voltage, power, the marker."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dse.calibrate.columns import shown
from dse.errors import Problem, allowed_names

UNITS: Final = {
    "s": ("time", 1.0), "ms": ("time", 1e-3), "us": ("time", 1e-6), "ns": ("time", 1e-9),
    "a": ("current", 1.0), "ma": ("current", 1e-3), "ua": ("current", 1e-6), "na": ("current", 1e-9),
    "v": ("voltage", 1.0), "mv": ("voltage", 1e-3), "uv": ("voltage", 1e-6),
    "w": ("power", 1.0), "mw": ("power", 1e-3), "uw": ("power", 1e-6), "nw": ("power", 1e-9),
}  # fmt: skip
"""Unit in a header -> (quantity, factor to SI)."""

ALLOWED: Final = {
    "time": "time_s, time_ms or time_us", "current": "current_a, current_ma or current_ua",
    "voltage": "voltage_v or voltage_mv", "power": "power_w, power_mw or power_uw",
}  # fmt: skip
PINS: Final = "d0-d7"
"""Eight channels in one cell, a letter each, D0 first."""

_PIN: Final = re.compile(r"d[0-7]")
_PARENTHESES: Final = re.compile(r"(.*?)\s*[(\[]\s*([^()\[\]]*?)\s*[)\]]")
_SUFFIX: Final = re.compile(r"(.+)[_ ]([a-z]{1,2})")
_WORDS: Final = {"time": "time", "timestamp": "time", "current": "current", "voltage": "voltage",
                 "power": "power"}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column of a recording: place, header as written, SI factor."""

    place: int
    header: str
    factor: float


@dataclass(frozen=True)
class Columns:
    """The columns of a recording; ``marker`` is None where a threshold takes its place.

    ``pin`` is the place of the marker's letter within its cell, -1 where the cell is the marker.
    """

    time: Column
    current: Column | None
    voltage: Column | None
    power: Column | None
    marker: Column | None
    pin: int = -1

    @property
    def numeric(self) -> tuple[Column, ...]:
        """The columns that hold numbers."""
        found = (self.time, self.current, self.voltage, self.power)
        return tuple(column for column in found if column is not None)


def quantity_of(header: str) -> tuple[str, float | None]:
    """Return (quantity, factor to SI) of a header; "" where it is none, None where the unit is missing.

    >>> quantity_of("Timestamp(ms)"), quantity_of("current_ua"), quantity_of("Power"), quantity_of("D0")
    (('time', 0.001), ('current', 1e-06), ('power', None), ('', None))
    """
    text = header.strip().lstrip("#").strip().lower().replace("µ", "u").replace("μ", "u")
    match = _PARENTHESES.fullmatch(text) or _SUFFIX.fullmatch(text)
    name, unit = (match[1], match[2]) if match else (text, "")
    words = [_WORDS[word] for word in re.findall(r"[a-z]+", name) if word in _WORDS]
    quantity, factor = UNITS.get(unit, ("", None))
    if quantity and (not words or quantity in words) and (quantity != "time" or "time" in words):
        return quantity, factor
    return (words[-1], None) if words else ("", None)


def is_header(cells: Sequence[str]) -> bool:
    """Return whether the cells name a time and something to measure, with or without units."""
    found = {quantity_of(cell)[0] for cell in cells}
    return "time" in found and bool(found & {"current", "power"})


def read_trace_header(
    file: str, cells: Sequence[str], marker: str, *, by_threshold: bool
) -> tuple[Columns | None, list[Problem]]:
    """Return the columns of a recording, or what is wrong with its header."""
    found: dict[str, Column] = {}
    problems: list[Problem] = []
    for place, cell in enumerate(cells):
        quantity, factor = quantity_of(cell)
        header = cell.strip()
        if not quantity:
            continue
        if factor is None:
            problems.append(Problem(file, f"header, {shown(header)}", "no known unit", ALLOWED[quantity]))
        elif quantity in found:
            also = f"a second {quantity}, beside {shown(found[quantity].header)}"
            problems.append(Problem(file, f"header, {shown(header)}", also, "one column for each"))
        else:
            found[quantity] = Column(place, header, factor)
    if not problems and "time" not in found:
        problems.append(Problem(file, "header", "no time", ALLOWED["time"]))
    if not problems and not found.keys() & {"current", "power"}:
        problems.append(Problem(file, "header", "neither current nor power", ALLOWED["current"]))
    column, pin, wrong = (None, -1, []) if by_threshold else _marker(file, cells, marker)
    problems += wrong
    if problems:
        return None, problems
    own = {name: found.get(name) for name in ("current", "voltage", "power")}
    return Columns(time=found["time"], marker=column, pin=pin, **own), []


def _marker(file: str, cells: Sequence[str], marker: str) -> tuple[Column | None, int, list[Problem]]:
    """Return the column of the marker and the place of its letter, or why there is none."""
    names = [cell.strip().lower() for cell in cells]
    wanted = marker.strip().lower() or "marker"
    if wanted in names:
        place = names.index(wanted)
        return Column(place, cells[place].strip(), 1.0), -1, []
    if _PIN.fullmatch(wanted) and PINS in names:
        place = names.index(PINS)
        return Column(place, cells[place].strip(), 1.0), int(wanted[1]), []
    digital = [cell.strip() for cell in cells if cell.strip() and not quantity_of(cell)[0]]
    found = f"no column {shown(marker)}" if marker else "no column marker"
    known = allowed_names(marker, digital)
    allowed = f"--marker with a digital channel ({known}), or --threshold-ma"
    return None, -1, [Problem(file, "header", found, allowed)]
