"""Writes fitted numbers into the text of a board's file: comments and everything else stay as they are.

An entry that stands for several kernels is split where only some of them were fitted. The edited text is
read again and compared number by number; a file whose form the editor does not master is written anew from
the profile, without its comments.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from dse.calibrate.calibration import Calibration
from dse.calibrate.profile import fitted_quantities, source_key, source_text, with_quantities
from dse.errors import UserError
from dse.hardware import HardwareProfile, Quantity, list_boards
from dse.hardware.bibliography import shipped_sources
from dse.hardware.load import read_board, split_board
from dse.hardware.variant import split_variant
from dse.hardware.write import board_toml, toml_text
from dse.units import to_si

_LISTS: Final = {
    "rate": ("library", "operator", "pass", "dtype", "cores"),
    "element": ("library", "operation", "pass", "dtype", "cores"),
    "overhead": ("library", "cores"),
}
_FIELDS: Final = {
    "rate": "mac_per_cycle", "element": "cycles_per_element", "overhead": "cycles_per_call",
}  # fmt: skip
_POWERS: Final = {"operating_point": ("inference_power_w", "training_power_w"), "sleep_state": ("power_w",)}

Combination = tuple[Any, ...]


class _NotEditableError(Exception):
    """The text has a form that the editor does not master."""


@dataclass(frozen=True)
class Written:
    """The text of a calibrated board, and whether it kept the comments of the file that it comes from."""

    text: str
    edited: bool


def calibrated_toml(found: Calibration, board: str, name: str) -> Written:
    """Return the file of ``board`` (a name or path, parts ignored) with the fitted numbers, as ``name``.

    Raises UserError where ``board`` cannot be read.
    """
    base, changes = split_variant(split_board(board)[0])
    profile, problems = read_board(split_board(board)[0])
    if profile is None or problems:
        raise UserError(problems)
    quantities = fitted_quantities(found)
    expected = with_quantities(profile, quantities).model_copy(update={"name": name})
    header = f"C{source_text(found)[1:]}; all else as in the profile {base}."
    try:
        text = _edited(_text_of(base), found, expected, quantities, header)
        if changes:
            raise _NotEditableError("a variant has other default libraries than its file")
        _verify(text, expected)
    except (_NotEditableError, tomllib.TOMLDecodeError):
        own = {key: words for key, words in profile.bibliography if key not in shipped_sources()}
        sources = own | ({source_key(found.source): source_text(found)} if quantities else {})
        return Written(board_toml(expected, header=(header,), sources=sources), False)
    return Written(text, True)


def _text_of(board: str) -> str:
    place = files("hwprofiles").joinpath(f"{board}.toml") if board in list_boards() else Path(board)
    return place.read_bytes().decode("utf-8")


def _edited(
    text: str, found: Calibration, expected: HardwareProfile, quantities: Mapping[str, Quantity], header: str
) -> str:
    tables = tomllib.loads(text)
    lines = text.splitlines()
    changes: list[tuple[int, int, list[str]]] = []
    for section in (*_LISTS, *_POWERS):
        blocks = _blocks(lines, section)
        rows = tables.get(section, [])
        if len(blocks) != len(rows):
            raise _NotEditableError(section)
        for (start, end), row in zip(blocks, rows, strict=True):
            block = lines[start:end]
            change = _powered if section in _POWERS else _priced
            new = change(block, section, row, quantities)
            if new != block:
                changes.append((start, end, new))
    for start, end, new in sorted(changes, reverse=True):
        lines[start:end] = new
    _rename(lines, expected.name)
    if quantities:
        _add_source(lines, source_key(found.source), source_text(found))
    return "\n".join([f"# {header}", *lines]) + "\n"


def _blocks(lines: Sequence[str], section: str) -> list[tuple[int, int]]:
    """Return (first line, line behind the last) of every ``[[section]]``, less comments above the next."""
    heads = [place for place, line in enumerate(lines) if re.match(r"\s*\[", line)]
    found = []
    for place, after in itertools.pairwise([*heads, len(lines)]):
        if re.match(rf"\s*\[\[\s*{section}\s*\]\]\s*(#.*)?$", lines[place]):
            end = after
            while end > place + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
                end -= 1
            found.append((place, end))
    return found


def _priced(
    block: list[str], section: str, row: Mapping[str, Any], quantities: Mapping[str, Quantity]
) -> list[str]:
    """Return the block with its fitted numbers, split where they are some of those that it stands for."""
    keys = _LISTS[section]
    values = [_listed(row.get(key)) for key in keys]
    everything = list(itertools.product(*values))
    field = _FIELDS[section]
    paths = {each: f"{section}[{','.join(map(str, each))}].{field}" for each in everything}
    fitted = [each for each in everything if paths[each] in quantities]
    if not fitted:
        return block
    rest = [each for each in everything if each not in set(fitted)]
    parts = []
    for product in _products(rest):
        parts.append(_with_lists(block, keys, product, values))
    for each in fitted:
        lone = _with_lists(block, keys, [[value] for value in each], values)
        parts.append(_with_line(lone, field, _inline(quantities[paths[each]], 1.0)))
    return [line for part in parts for line in (*part, "")][:-1]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _products(rest: Sequence[Combination]) -> Iterator[list[list[Any]]]:
    """Cover combinations by as few products of lists as splitting along the keys in order gives."""
    if not rest:
        return
    if not rest[0]:
        yield []
        return
    tails: dict[Any, tuple[Combination, ...]] = {}
    for first in dict.fromkeys(each[0] for each in rest):
        tails[first] = tuple(each[1:] for each in rest if each[0] == first)
    for tail in dict.fromkeys(tails.values()):
        firsts = [first for first, own in tails.items() if own == tail]
        for product in _products(tail):
            yield [firsts, *product]


def _with_lists(
    block: list[str], keys: Sequence[str], product: Sequence[list[Any]], values: Sequence[list[Any]]
) -> list[str]:
    for key, chosen, whole in zip(keys, product, values, strict=True):
        if chosen != whole:
            items = [json.dumps(item, ensure_ascii=False) for item in chosen]
            block = _with_line(block, key, items[0] if len(items) == 1 else f"[{', '.join(items)}]")
    return block


def _powered(
    block: list[str], section: str, row: Mapping[str, Any], quantities: Mapping[str, Quantity]
) -> list[str]:
    for key in row:
        field, factor = to_si(key)
        path = f"{section}.{row.get('name')}.{field}"
        if field in _POWERS[section] and path in quantities:
            block = _with_line(block, key, _inline(quantities[path], factor))
    return block


def _with_line(block: list[str], key: str, value: str) -> list[str]:
    """Return ``block`` with another value on the one line of ``key``."""
    places = [place for place, line in enumerate(block) if re.match(rf"\s*{re.escape(key)}\s*=", line)]
    if len(places) != 1:
        raise _NotEditableError(key)
    return [*block[: places[0]], f"{key} = {value}", *block[places[0] + 1 :]]


def _inline(quantity: Quantity, factor: float) -> str:
    def number(value: float) -> str:
        return f"{value / factor:.7g}"

    items = [f"value = {number(quantity.value)}"]
    items += [f"low = {number(quantity.low_value)}", f"high = {number(quantity.high_value)}"]
    texts = {"kind": quantity.kind.value, "source": quantity.source, "note": quantity.note}
    items += [f"{key} = {toml_text(text)}" for key, text in texts.items() if text]
    return f"{{ {', '.join(items)} }}"


def _rename(lines: list[str], name: str) -> None:
    for place, line in enumerate(lines):
        if re.match(r"\s*\[", line):
            break
        if re.match(r"\s*name\s*=", line):
            lines[place] = f"name = {toml_text(name)}"
            return
    raise _NotEditableError("name")


def _add_source(lines: list[str], key: str, text: str) -> None:
    entry = f"{key} = {toml_text(text)}"
    for place, line in enumerate(lines):
        if re.match(r"\s*\[\s*sources\s*\]", line):
            following = itertools.takewhile(lambda each: not re.match(r"\s*\[", each), lines[place + 1 :])
            again = [at for at, each in enumerate(following) if re.match(rf"\s*{re.escape(key)}\s*=", each)]
            if again:
                lines[place + 1 + again[0]] = entry
            else:
                lines.insert(place + 1, entry)
            return
    lines += ["", "[sources]", entry]


def _verify(text: str, expected: HardwareProfile) -> None:
    """Refuse a text that does not read back as ``expected``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "board.toml"
        path.write_text(text, encoding="utf-8")
        board, problems = read_board(str(path))
    if board is None or problems or board.name != expected.name or board.workspaces != expected.workspaces:
        raise _NotEditableError("the whole")
    numbers, wanted = dict(board.numbers()), dict(expected.numbers())
    if numbers.keys() != wanted.keys() or not all(_same(numbers[path], wanted[path]) for path in wanted):
        raise _NotEditableError("a number")


def _same(one: Quantity, other: Quantity) -> bool:
    texts = (one.kind, one.source, one.note) == (other.kind, other.source, other.note)
    return texts and all(
        math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-6)
        for name in ("value", "low_value", "high_value")
    )
