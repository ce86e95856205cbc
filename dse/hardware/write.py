"""Writes a profile as a board's file: the units of data sheets, evidence beside every number, comments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dse.hardware.entries import WaitStates
from dse.hardware.profile import HardwareProfile
from dse.hardware.quantity import Entry, Quantity
from dse.hardware.reader import FILE_NAMES
from dse.units import SUFFIXES

UNITS: Final = (
    "_kib", "_mhz", "_mw", "_us", "_uj", "_kb_per_s", "_nj_per_byte", "_percent", "_percent_per_year", "_mah"
)  # fmt: skip
"""Units that files use; what has no suffix among their SI names is written as it is."""

SECTIONS: Final = {
    "levels": "memory", "rates": "rate", "elements": "element", "overheads": "overhead",
    "workspaces": "workspace", "operating_points": "operating_point", "sleep_states": "sleep_state",
}  # fmt: skip
_LISTED: Final = {"rate": "operator", "element": "operation", "workspace": "operator"}
"""Section -> the key whose values share one entry where everything else is the same."""

_SI: Final = {SUFFIXES[unit][0]: (unit, SUFFIXES[unit][1]) for unit in UNITS}


def board_toml(
    board: HardwareProfile,
    header: Iterable[str] = (),
    comments: Mapping[str, str] | None = None,
    sources: Mapping[str, str] | None = None,
) -> str:
    """Return ``board`` as the text of a file that reads back as the same profile.

    Parameters
    ----------
    board: the profile, without attached parts.
    header: lines of comment at the top.
    comments: section of the file (``memory``, ``rate``, ``dma`` ...) -> a comment above its first entry.
    sources: keys and texts of sources that ``references.bib`` does not have.

    """
    said = dict(comments or {})
    blocks = ["\n".join(f"# {line}".rstrip() for line in header), _head(board), _kernels(board)]
    for field, section in SECTIONS.items():
        entries = _merged(section, [_pairs(entry) for entry in getattr(board, field)])
        tables = [_table(f"[[{section}]]", pairs) for pairs in entries]
        blocks += [_commented(said.get(section), tables[0]), *tables[1:]] if tables else []
    for field in ("dma", "supply", "battery"):
        blocks.append(_commented(said.get(field), _table(f"[{field}]", _pairs(getattr(board, field)))))
    if sources:
        own = [(key, toml_text(entry)) for key, entry in sources.items()]
        blocks.append(_table("[sources]", own))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(board: HardwareProfile) -> str:
    texts = {"name": board.name, "title": board.title, "core": board.core}
    lines = [f"{key} = {toml_text(value)}" for key, value in texts.items()]
    lines.append(f"cores = {_quantity(board.worker_cores, 1.0)}")
    return "\n".join(lines + ([f"note = {toml_text(board.note)}"] if board.note else []))


def _kernels(board: HardwareProfile) -> str:
    return _table("[kernels]", [(dtype, toml_text(library)) for dtype, library in board.default_libraries])


def _table(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join([title, *(f"{key} = {value}" for key, value in pairs)])


def _commented(comment: str | None, table: str) -> str:
    return "\n".join([*(f"# {line}" for line in comment.splitlines()), table]) if comment else table


def _merged(section: str, entries: list[list[tuple[str, str]]]) -> list[list[tuple[str, str]]]:
    """Join entries that differ in one key only: that key then lists the values of all of them."""
    key = _LISTED.get(section)
    if key is None:
        return entries
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for pairs in entries:
        rest = tuple(pair if pair[0] != key else (key, "") for pair in pairs)
        found.setdefault(rest, []).append(dict(pairs)[key])
    return [
        [(name, value if name != key else _several(values)) for name, value in rest]
        for rest, values in found.items()
    ]


def _several(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"[{', '.join(values)}]"


def _pairs(entry: Entry) -> list[tuple[str, str]]:
    """Return the keys and values of an entry as its file has them; what is as by default is left out."""
    return list(_fields(entry))


def _fields(entry: Entry) -> Iterator[tuple[str, str]]:
    for field, info in type(entry).model_fields.items():
        value = getattr(entry, field)
        if field == "attached" or (value == info.default and not info.is_required()):
            continue
        name, factor = _file_name(field)
        yield FILE_NAMES.get(name, name), _value(value, factor)


def _file_name(field: str) -> tuple[str, float]:
    """Return the name of a field with the unit that files use, and the SI value of that unit."""
    for si in sorted(_SI, key=len, reverse=True):
        if field.endswith(si):
            unit, factor = _SI[si]
            return field[: -len(si)] + unit, factor
    return field, 1.0


def _value(value: Any, factor: float) -> str:
    if isinstance(value, Quantity):
        return _quantity(value, factor)
    if isinstance(value, WaitStates):
        name, each = _file_name("thresholds_hz")
        steps = ", ".join(_number(step / each) for step in value.thresholds_hz)
        return f"{{ {name} = [{steps}], bytes_per_access = {_quantity(value.bytes_per_access, 1.0)} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(_value(item, factor) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return toml_text(value) if isinstance(value, str) else _number(value / factor)


def _quantity(quantity: Quantity, factor: float) -> str:
    if quantity.included:
        return f"{{ included = {toml_text(quantity.note)}, source = {toml_text(quantity.source)} }}"
    bounds = {"value": quantity.value, "low": quantity.low, "high": quantity.high}
    items = [f"{name} = {_number(bound / factor)}" for name, bound in bounds.items() if bound is not None]
    items += [f"kind = {toml_text(quantity.kind.value)}", f"source = {toml_text(quantity.source)}"]
    items += [f"note = {toml_text(quantity.note)}"] if quantity.note else []
    return f"{{ {', '.join(items)} }}"


def _number(value: float) -> str:
    """Write a number: whole ones without a point, others with the digits that hold them."""
    rounded = float(f"{value:.12g}")
    return str(int(rounded)) if rounded == int(rounded) and abs(rounded) < 1e15 else repr(rounded)


def toml_text(value: str) -> str:
    """Return ``value`` as a TOML string; what UTF-8 cannot hold, as of names of files, becomes "?"."""
    held = value.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(held, ensure_ascii=False).replace("\x7f", "\\u007f")
