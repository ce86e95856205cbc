"""Tables and numbers as plain text, for terminals and Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from dse.units import human, human_bytes, human_seconds

NUMERIC: Final = frozenset("0123456789-+∞")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, indent: str = "") -> str:
    """Lay ``rows`` out in columns under ``header``; columns that hold numbers are aligned to the right.

    >>> print(table(["level", "used"], [["L2", "663 KiB"], ["MRAM", "3.128 MiB"]]))
    level       used
    L2       663 KiB
    MRAM   3.128 MiB
    """
    cells = [[_cell(value) for value in row] for row in rows]
    columns = list(zip(header, *cells, strict=True))
    right = [_is_numeric(column[1:]) for column in columns]
    widths = [max(len(cell) for cell in column) for column in columns]
    return "\n".join(
        indent + "  ".join(_aligned(*part) for part in zip(row, widths, right, strict=True)).rstrip()
        for row in [list(header), *cells]
    )


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a Markdown table; columns that hold numbers are aligned to the right.

    >>> print(markdown(["level", "used"], [["L2", "663 KiB"]]))
    | level | used |
    |---|---:|
    | L2 | 663 KiB |
    """
    cells = [[_cell(value).replace("|", "\\|") for value in row] for row in rows]
    rules = ["---:" if _is_numeric(column[1:]) else "---" for column in zip(header, *cells, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in [list(header), *cells]]
    return "\n".join([lines[0], f"|{'|'.join(rules)}|", *lines[1:]])


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def _is_numeric(column: Sequence[str]) -> bool:
    filled = [cell for cell in column if cell not in ("", "-")]
    return bool(filled) and all(cell[0] in NUMERIC or cell.startswith("never") for cell in filled)


def _aligned(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


# --- numbers with the unit that a person would use ---


def joules(value: float) -> str:
    """Write an energy.

    >>> joules(376.67)
    '377 J'
    """
    return human(value, "J")


def percent(fraction: float) -> str:
    """Write a fraction as a percentage with three significant digits.

    >>> percent(0.7612)
    '76.1 %'
    """
    return "unknown" if math.isnan(fraction) else f"{fraction * 100:.3g} %"


def years(value: float) -> str:
    """Write a number of years; infinity is "never".

    >>> years(273.8)
    '274 years'
    """
    return "never" if math.isinf(value) else f"{value:.3g} years"


def count(value: float) -> str:
    """Write a count with separators between thousands.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{int(value):,}"


def rate(value: float) -> str:
    """Write a number of events per day."""
    return f"{value:.3g} per day"


WRITERS: Final[Mapping[str, Callable[[float], str]]] = {
    "B": human_bytes,
    "s": human_seconds,
    "J": joules,
    "W": lambda value: human(value, "W"),
    "fraction": percent,
    "years": years,
    "count": count,
    "per day": rate,
}
"""Unit of a column -> how its values are written."""


YEARLY: Final = "events per day for one year of battery"


def yearly(events: float) -> str:
    """Write how many events per day a battery sustains for a year."""
    return rate(events) if events > 0 else "0: idling alone empties it"


def written(value: float | None, unit: str) -> str:
    """Write ``value`` [unit] for people; "-" where there is none."""
    return "-" if value is None else WRITERS[unit](float(value))


def interval(low: float, high: float, unit: str) -> str:
    """Write ``low .. high`` [unit]; empty where the two are written alike.

    >>> interval(0.264, 0.613, "J")
    '264 mJ .. 613 mJ'
    """
    ends = written(low, unit), written(high, unit)
    return "" if ends[0] == ends[1] else " .. ".join(ends)


def plural(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun.

    >>> plural(2, "design"), plural(1, "board")
    ('2 designs', '1 board')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def wrapped(text: str, width: int = 100, indent: str = "") -> str:
    """Break a paragraph into lines of at most ``width`` characters."""
    import textwrap

    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)
