"""From the tables of a board's file to a profile: lists expanded, names crossed, all problems noted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dse.errors import allowed_names
from dse.hardware.entries import (
    Battery,
    Dma,
    ElementCost,
    MemoryLevel,
    OperatingPoint,
    Overhead,
    Rate,
    SleepState,
    Supply,
    Workspace,
)
from dse.hardware.profile import HardwareProfile
from dse.hardware.quantity import Entry, Quantity
from dse.hardware.reader import Reader
from dse.vocabulary import DTYPES

T = TypeVar("T", bound=Entry)

SECTIONS: Final[dict[str, tuple[type[Entry], tuple[str, ...]]]] = {
    "memory": (MemoryLevel, ()),
    "rate": (Rate, ("operator", "pass", "dtype", "cores")),
    "element": (ElementCost, ("operation", "pass", "dtype", "cores")),
    "overhead": (Overhead, ("library", "cores")),
    "workspace": (Workspace, ("operator", "pass")),
    "operating_point": (OperatingPoint, ()),
    "sleep_state": (SleepState, ()),
}
"""Array of tables -> what an entry is, and the keys that may be lists and then stand for every element."""

_MAX_COMBINATIONS: Final = 1000
_SINGLE: Final = ("name", "title", "core", "cores", "note", "kernels", "dma", "supply", "battery", "sources")
_COMPULSORY: Final = ("memory", "rate", "element", "overhead", "operating_point", "sleep_state")


@dataclass
class Draft:
    """What could be read of a board, beside the rows of its file: a broken entry still has its names."""

    reader: Reader
    entries: dict[str, list[Any]]
    rows: dict[str, list[tuple[str, dict[str, Any]]]]
    kernels: dict[str, str]
    cores: Quantity | None


def read_board_tables(
    reader: Reader, tables: Mapping[str, Any], reference_battery: Callable[[Reader], Battery | None]
) -> HardwareProfile | None:
    """Return the profile of a board's file; None where it has problems, all of which are in the reader."""
    _top_level(reader, tables)
    draft = _draft(reader, tables)
    dma, supply = _table(reader, tables, "dma", Dma), _table(reader, tables, "supply", Supply)
    own = "battery" in tables
    battery = _table(reader, tables, "battery", Battery) if own else reference_battery(reader)
    cross_check(draft)
    _duplex(draft, dma)
    if reader.problems or not (draft.cores and dma and supply and battery):
        return None
    return HardwareProfile(
        name=tables["name"], title=tables["title"], core=tables["core"], note=tables.get("note", ""),
        worker_cores=draft.cores, default_libraries=tuple(draft.kernels.items()),
        levels=tuple(draft.entries["memory"]), rates=tuple(draft.entries["rate"]),
        elements=tuple(draft.entries["element"]), overheads=tuple(draft.entries["overhead"]),
        workspaces=tuple(draft.entries["workspace"]),
        operating_points=tuple(draft.entries["operating_point"]),
        sleep_states=tuple(draft.entries["sleep_state"]), dma=dma, supply=supply, battery=battery,
        bibliography=tuple((key, reader.known_sources[key]) for key in sorted(reader.used_sources)),
    )  # fmt: skip


def read_part_tables(reader: Reader, tables: Mapping[str, Any]) -> tuple[str, str, MemoryLevel] | None:
    """Return (name, title, level) of a part's file; None where it has problems."""
    known = ("name", "title", "memory", "sources", "note")
    for key in tables:
        if key not in known:
            reader.fault(key, "unknown key", allowed_names(key, known))
    _texts(reader, tables, ("name", "title"))
    level = _table(reader, tables, "memory", MemoryLevel, attached=True)
    return None if level is None else (str(tables.get("name")), str(tables.get("title")), level)


def _top_level(reader: Reader, tables: Mapping[str, Any]) -> None:
    known = (*_SINGLE, *SECTIONS)
    for key in tables:
        if key not in known:
            reader.fault(key, "unknown key", allowed_names(key, known))
    _texts(reader, tables, ("name", "title", "core"))
    for section in _COMPULSORY:
        if section not in tables:
            reader.fault(section, "missing", f"at least one [[{section}]]")


def _texts(reader: Reader, tables: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        if not isinstance(tables.get(key), str) or not tables[key].strip():
            found = f"{tables[key]!r}" if key in tables else "missing"
            reader.fault(key, found, "must be text")


def _table(reader: Reader, tables: Mapping[str, Any], key: str, model: type[T], **given: Any) -> T | None:
    if key not in tables:
        reader.fault(key, "missing", f"a table [{key}] is required")
        return None
    return reader.entry(model, tables[key], key, **given)


def _draft(reader: Reader, tables: Mapping[str, Any]) -> Draft:
    draft = Draft(reader, {section: [] for section in SECTIONS}, {}, _kernels(reader, tables), None)
    if "cores" in tables:
        draft.cores = reader.quantity(tables["cores"], 1.0, "cores")
    else:
        reader.fault("cores", "missing", "the number of cores that kernels run on")
    for section, (model, lists) in SECTIONS.items():
        draft.rows[section] = list(_rows(reader, tables, section))
        for trail, raw in draft.rows[section]:
            for single in _expanded(reader, raw, lists, trail):
                entry = reader.entry(model, single, trail)
                draft.entries[section] += [] if entry is None else [entry]
    return draft


def _rows(reader: Reader, tables: Mapping[str, Any], section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = tables.get(section, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        reader.fault(section, "not a list of tables", f"written [[{section}]]")
        return
    for index, row in enumerate(rows):
        name = row.get("name")
        yield (f"{section}.{name}" if isinstance(name, str) and name else f"{section}[{index}]"), row


def _expanded(
    reader: Reader, raw: dict[str, Any], lists: tuple[str, ...], trail: str
) -> Iterator[dict[str, Any]]:
    """Yield one table per combination of the keys that hold lists."""
    options = {key: raw[key] for key in lists if isinstance(raw.get(key), list) and raw[key]}
    count = math.prod(len(values) for values in options.values())
    if count > _MAX_COMBINATIONS:
        reader.fault(trail, f"stands for {count} entries", f"at most {_MAX_COMBINATIONS}")
        return
    for combination in itertools.product(*options.values()):
        yield {**raw, **dict(zip(options, combination, strict=True))}


def _kernels(reader: Reader, tables: Mapping[str, Any]) -> dict[str, str]:
    kernels = tables.get("kernels")
    if not isinstance(kernels, dict) or not kernels:
        reader.fault("kernels", "missing", 'a table of default libraries, such as fp32 = "my-kernels"')
        return {}
    for dtype, library in kernels.items():
        if dtype not in DTYPES:
            reader.fault(f"kernels.{dtype}", f"unknown dtype {dtype!r}", allowed_names(dtype, DTYPES))
        if not isinstance(library, str):
            reader.fault(f"kernels.{dtype}", f"{library!r}", "must be the name of a kernel library")
    return {dtype: str(library) for dtype, library in kernels.items()}


# -- what holds between entries ------------------------------------------------------------------


def cross_check(draft: Draft) -> None:
    """Note what single entries cannot know: doubled and unknown names, missing libraries, reserves."""
    _doubles(draft)
    _level_names(draft)
    _included_energy(draft)
    _libraries(draft)
    _core_counts(draft)
    _program(draft)


def _program(draft: Draft) -> None:
    """Code and stack must be somewhere, with a reserve; asked only where every level could be read."""
    levels = draft.entries["memory"]
    if not levels or len(levels) < len(draft.rows["memory"]):
        return
    for word in ("code", "stack"):
        if not any(word in level.holds for level in levels):
            draft.reader.fault("memory", f"no level holds the {word}", f'one needs holds = ["{word}"]')


def _duplex(draft: Draft, dma: Dma | None) -> None:
    """Tiles come and go through one port: a board with a scratchpad says whether at the same time."""
    tiled = any(raw.get("access") == "tile" for _, raw in draft.rows["memory"])
    if tiled and dma is not None and dma.duplex_fraction is None:
        draft.reader.fault("dma.duplex_fraction", "missing", "a board with a level for tiles needs it")


def _doubles(draft: Draft) -> None:
    for section, (model, _) in SECTIONS.items():
        seen: set[object] = set()
        for entry in draft.entries[section]:
            key = entry.key if hasattr(model, "key") else entry.name
            text = ", ".join(map(str, key)) if isinstance(key, tuple) else key
            if key in seen:
                draft.reader.fault(section, f"{text} is there twice", "each entry once")
            seen.add(key)


def _level_names(draft: Draft) -> None:
    """Names of levels and domains, as the rows give them: a mistake elsewhere in an entry hides none here."""
    levels = [str(raw.get("name")) for _, raw in draft.rows["memory"]]
    domains = [*(str(raw.get("domain")) for _, raw in draft.rows["memory"]), *levels]
    uses = (
        ("sleep_state", "retains", "memory level", levels),
        ("rate", "weights_in", "memory level", levels),
        ("operating_point", "domains", "domain", domains),
    )
    for section, key, what, known in uses:
        allowed = tuple(dict.fromkeys(known))
        for trail, raw in draft.rows[section]:
            for name in _words(raw.get(key)):
                if name not in allowed:
                    found = f"unknown {what} {name!r}"
                    draft.reader.fault(f"{trail}.{key}", found, allowed_names(name, allowed))


def _words(raw: object) -> list[str]:
    """Return the text or texts under a key; what is no text is reported where the types are checked."""
    return [word for word in (raw if isinstance(raw, list) else [raw]) if isinstance(word, str) and word]


def _included_energy(draft: Draft) -> None:
    """An access may cost nothing only where the power of every operating point already holds it."""
    for level in draft.entries["memory"]:
        for name in ("read_j_per_byte", "write_j_per_byte"):
            outside = [
                point.name
                for point in draft.entries["operating_point"]
                if not {level.domain, level.name} & set(point.domains)
            ]
            if getattr(level, name).included and outside:
                found = f"included, but domain {level.domain!r} is outside {', '.join(outside)}"
                draft.reader.fault(f"memory.{level.name}.{name}", found, "a figure in joules per byte")


def _libraries(draft: Draft) -> None:
    priced = {(rate.library, rate.dtype) for rate in draft.entries["rate"]}
    for dtype, library in draft.kernels.items():
        if priced and (library, dtype) not in priced:
            known = tuple(dict.fromkeys(name for name, _ in priced))
            draft.reader.fault(
                f"kernels.{dtype}", f"{library!r} has no {dtype} rate", allowed_names(library, known)
            )
    called = {entry.library for entry in draft.entries["overhead"]}
    complete = len(draft.entries["overhead"]) >= len(draft.rows["overhead"])
    for library in dict.fromkeys(name for name, _ in sorted(priced)):
        if complete and library not in called:
            draft.reader.fault(
                "overhead", f"none for library {library!r}", "each library with rates needs one"
            )


def _core_counts(draft: Draft) -> None:
    if draft.cores is None:
        return
    if draft.cores.value < 1 or draft.cores.value % 1:
        draft.reader.fault("cores", f"{draft.cores.value:g}", "must be a whole number, at least 1")
    for section in ("rate", "element", "overhead"):
        for entry in draft.entries[section]:
            if entry.cores > draft.cores.value:
                found = f"{entry.library}: {entry.cores} cores"
                draft.reader.fault(f"{section}.cores", found, f"the board has {draft.cores.value:g}")
