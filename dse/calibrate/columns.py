"""The columns of a table of measurements: words, counts, and quantities whose header carries the unit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from dse.errors import Problem, allowed_names
from dse.units import SUFFIXES, to_si

WORDS: Final = ("network", "layer", "operator", "pass", "dtype", "library", "operating_point", "note")
COUNTS: Final = ("cores", "repeats", "macs", "elements", "calls", "cycles", "mac_per_cycle")
QUANTITIES: Final = {"clock": "_hz", "latency": "_s", "energy": "_j", "power": "_w"}
"""Quantity -> its SI suffix; a header says ``latency_ms``, ``latency_us`` or ``latency_s``."""

PROVENANCE: Final = (
    "source", "locator", "evidence", "platform", "measured_on", "l1_kb", "shape", "matmul", "date",
    "software", "board", "uncertainty", "step_ms",
)  # fmt: skip
"""Columns of published tables that say where a figure comes from; read over."""

WHOLE: Final = ("cores", "repeats")
ONE_AT_LEAST: Final = ("macs", "elements", "calls", "cycles")
LARGEST, SMALLEST = 1e15, 1e-15
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def units_of(quantity: str) -> tuple[str, ...]:
    """Return the headers under which ``quantity`` is known, SI first.

    >>> units_of("latency")
    ('latency_s', 'latency_ms', 'latency_us', 'latency_ns')
    """
    si = QUANTITIES[quantity]
    return (quantity + si, *(quantity + suffix for suffix, (base, _) in SUFFIXES.items() if base == si))


def known_columns() -> tuple[str, ...]:
    """Return every column that a table may have."""
    quantities = [name for quantity in QUANTITIES for name in units_of(quantity)]
    return (*WORDS, *COUNTS, *quantities, *PROVENANCE)


def read_header(file: str, cells: Sequence[str]) -> tuple[dict[int, tuple[str, float, str]], list[Problem]]:
    """Return place -> (SI name, factor to SI, header as written) of each column, and what is wrong."""
    columns: dict[int, tuple[str, float, str]] = {}
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    known = known_columns()
    for place, cell in enumerate(cells):
        header = cell.strip()
        name, factor = to_si(header.lower())
        if header.lower() not in known:
            problems.append(_unknown(file, header, place, known))
        elif header.lower() in PROVENANCE:
            continue
        elif name in seen:
            found = f"says the same as {seen[name]}"
            problems.append(Problem(file, f"header, {header}", found, "one column for each quantity"))
        else:
            seen[name] = header
            columns[place] = (name, factor, header)
    return columns, problems


def _unknown(file: str, header: str, place: int, known: Sequence[str]) -> Problem:
    """Say what is wrong with one header: a quantity without its unit, or a name that nothing answers to."""
    if not header:
        return Problem(file, f"header, column {place + 1}", "empty", "each column needs a name")
    quantity = header.lower().partition("_")[0].partition(" ")[0].partition("(")[0].partition("[")[0]
    if quantity in QUANTITIES:
        unit = header[len(quantity) :].strip("_ ()[]")
        found = f"unknown unit {shown(unit)}" if unit else "no unit"
        return Problem(file, f"header, {shown(header)}", found, f"one of {', '.join(units_of(quantity))}")
    near = allowed_names(header.lower(), [name for name in known if name not in PROVENANCE])
    return Problem(file, f"header, {shown(header)}", "unknown column", near)


def shown(text: str, most: int = 40) -> str:
    """Return ``text`` fit for one line of a message."""
    return repr(text if len(text) <= most else text[:most] + "...")


def read_number(cell: str, name: str) -> tuple[float | None, str, str]:
    """Return (number, what was found, what is allowed); the number is None where there is a mistake."""
    if re.fullmatch(r"[+-]?\d+,\d+", cell):
        return None, shown(cell), "a point, not a comma, before the decimals"
    if not _NUMBER.fullmatch(cell):
        return None, shown(cell), "must be a plain number; the unit stands in the header"
    value = float(cell)
    if value <= 0 or not math.isfinite(value):
        return None, shown(cell), "must be finite and above zero"
    if not SMALLEST <= value <= LARGEST:
        return None, shown(cell), f"must be within {SMALLEST:g} to {LARGEST:g}"
    if name in WHOLE and value % 1:
        return None, shown(cell), "must be a whole number"
    if name in ONE_AT_LEAST and value < 1:
        return None, shown(cell), "must be 1 at least"
    return value, "", ""


def written_in(columns: Mapping[int, tuple[str, float, str]]) -> dict[str, str]:
    """Return SI name -> header as written."""
    return {name: header for name, _, header in columns.values()}
