"""The memory map as CSV: the columns of MiniMalloc first, then what this project adds.

MiniMalloc (github.com/google/minimalloc) reads ``id,lower,upper,size``; a lifespan is half-open there, so
that ``upper`` is the operation behind the last one. A reader of that format has a single arena: offsets of
several levels in one file would overlap for it. ``memory_map.csv`` therefore holds every level, told apart
by the column ``level``, and where there is more than one level each has a file of its own besides, which any
reader of the format can check as one arena.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

from dse.plan.memory_map import MemoryMap, Placed
from dse.report.certificate.data import on_level
from dse.report.document import slug

COLUMNS: Final = (
    "id", "lower", "upper", "size", "offset", "alignment", "role", "level", "name", "reason",
)  # fmt: skip

ALL_LEVELS: Final = "memory_map.csv"


def csv_files(memory_map: MemoryMap) -> dict[str, str]:
    """Return file name -> content: all levels in one file, and one file per level where there are several."""
    levels = [level for level in memory_map.arena_bytes if on_level(memory_map, level)]
    every = [placed for level in levels for placed in on_level(memory_map, level)]
    files = {ALL_LEVELS: csv_text(every)}
    if len(levels) > 1:
        names = level_file_names(levels)
        files |= {names[level]: csv_text(on_level(memory_map, level)) for level in levels}
    return files


def level_file_names(levels: Iterable[str]) -> dict[str, str]:
    """Return a file name per level; levels whose names differ in signs only get a number.

    >>> level_file_names(["L2", "flash"])
    {'L2': 'memory_map-l2.csv', 'flash': 'memory_map-flash.csv'}
    """
    names: dict[str, str] = {}
    for level in levels:
        stem, number = f"memory_map-{slug(level)}", 2
        name = f"{stem}.csv"
        while name in names.values():
            name, number = f"{stem}-{number}.csv", number + 1
        names[level] = name
    return names


def csv_text(entries: Iterable[Placed]) -> str:
    """Write ``entries`` in the order given."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(placed) for placed in entries)
    return text.getvalue()


def _row(placed: Placed) -> tuple[str | int, ...]:
    buffer = placed.buffer
    return (
        buffer.id, buffer.start, buffer.end + 1, buffer.size_bytes, placed.offset, buffer.alignment,
        buffer.role.value, placed.level, buffer.name, buffer.reason,
    )  # fmt: skip
