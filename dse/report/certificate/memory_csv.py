"""The memory map as CSV: the columns of MiniMalloc first, then what this project adds.

MiniMalloc (github.com/google/minimalloc) reads ``id,lower,upper,size``; a lifespan is half-open there, so
that ``upper`` is the operation behind the last one. A reader of that format has a single arena: offsets of
several levels in one file would overlap for it. ``memory_map.csv`` therefore holds every level, told apart
by the column ``level``, and where there is more than one level each has a file of its own besides, which any
reader of the format can check as one arena. The format knows no quotes: commas become semicolons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from dse.cost.arena.csv_file import csv_text
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
    ids = unquoted_ids(placed.buffer.id for placed in every)
    files = {ALL_LEVELS: table_text(every, ids)}
    if len(levels) > 1:
        names = level_file_names(levels)
        files |= {names[level]: table_text(on_level(memory_map, level), ids) for level in levels}
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


def table_text(entries: Iterable[Placed], ids: Mapping[str, str]) -> str:
    """Write ``entries`` in the order given, each under the id that ``ids`` has for it."""
    return csv_text(COLUMNS, [_row(placed, ids[placed.buffer.id]) for placed in entries])


def unquoted_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return ids as the format can hold them; those that coincide then get a number.

    >>> unquoted_ids(["a,b", "a;b"])
    {'a,b': 'a;b', 'a;b': 'a;b:2'}
    """
    found: dict[str, str] = {}
    for own in ids:
        stem, number = _unquoted(own), 2
        name = stem
        while name in found.values():
            name, number = f"{stem}:{number}", number + 1
        found[own] = name
    return found


def _row(placed: Placed, name: str) -> dict[str, str | int]:
    buffer = placed.buffer
    return {
        "id": name, "lower": buffer.start, "upper": buffer.end + 1, "size": buffer.size_bytes,
        "offset": placed.offset, "alignment": buffer.alignment, "role": buffer.role.value,
        "level": _unquoted(placed.level), "name": _unquoted(buffer.name), "reason": _unquoted(buffer.reason),
    }  # fmt: skip


def _unquoted(field: str) -> str:
    return " ".join(field.replace("\0", " ").replace(",", ";").replace('"', "'").split())
