"""Dynamic axes: which symbol stands for the batch (1), and which sizes the user gives for the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dse.errors import Problem, UnknownName, UserError
from dse.workload.torch.structure import Malformed, integer
from dse.workload.torch.symbols import symbol
from dse.workload.torch.tensors import Meta

LARGEST_AXIS = 2**31


@dataclass
class Axes:
    """Sizes of symbols, and the batch axis of each input (None: the input has none)."""

    symbols: dict[str, int] = field(default_factory=dict)
    batch: dict[str, int | None] = field(default_factory=dict)
    dynamic_batch: bool = False


def resolve(
    file: str,
    inputs: Collection[str],
    tables: Mapping[str, Meta],
    batch: Mapping[str, int | None],
    given: Mapping[str, int],
    ranges: Any,
) -> Axes:
    """Return the size of every symbol of the inputs; the batch is 1 unless ``given`` says otherwise.

    A symbol answers to its own name (``s0``) and to input and axis (``x.2``). Raises UserError that names
    every axis without a size, every name that nothing answers to, and every size out of the file's range.
    """
    names = {name: _symbols(tables[name]) for name in inputs if name in tables}
    _check_names(file, names, given)
    axes = Axes(batch={name: batch.get(name) for name in names})
    missing: list[Problem] = []
    for name, places in names.items():
        for axis, found in places.items():
            own = f"{name}.{axis}"
            size = given.get(own, given.get(found))
            if axis == axes.batch[name] and size is None:
                axes.symbols.setdefault(found, 1)
                axes.dynamic_batch = True
            elif size is not None:
                _set(axes, found, size, file, own)
                _check_range(file, own, size, found, ranges)
                axes.batch[name] = None if axis == axes.batch[name] and size != 1 else axes.batch[name]
            elif found not in axes.symbols:
                missing.append(_missing(file, own, found))
    unresolved = [problem for problem in missing if problem.found.split()[-1] not in axes.symbols]
    if unresolved:
        raise UserError(unresolved)
    return axes


def _symbols(table: Meta) -> dict[int, str]:
    found = {axis: symbol(entry, "a size") for axis, entry in enumerate(table.sizes)}
    return {axis: name for axis, name in found.items() if name is not None}


def _check_names(file: str, names: Mapping[str, Mapping[int, str]], given: Mapping[str, int]) -> None:
    own = {f"{name}.{axis}" for name, places in names.items() for axis in places}
    known = sorted(own | {found for places in names.values() for found in places.values()})
    for name, size in given.items():
        if name not in known:
            raise UnknownName("dynamic axis", name, known, file=file, key="axes")
        if not 1 <= size <= LARGEST_AXIS:
            raise UserError(Problem(file, f"axes: {name}", f"found {size!r}", "a whole number from 1"))


def _set(axes: Axes, found: str, size: int, file: str, own: str) -> None:
    if axes.symbols.setdefault(found, size) != size:
        raise UserError(
            Problem(file, own, f"{size}, but the same symbol {found} is {axes.symbols[found]}", "")
        )


def _check_range(file: str, own: str, size: int, found: str, ranges: Any) -> None:
    bounds = ranges.get(found) if isinstance(ranges, dict) else None
    if not isinstance(bounds, dict):
        return
    for key, wrong in (("min_val", int.__lt__), ("max_val", int.__gt__)):
        try:
            limit = integer(bounds.get(key), key)
        except Malformed:
            continue
        if wrong(size, limit):
            what = "at least" if key == "min_val" else "at most"
            raise UserError(Problem(file, f"axes: {own}", f"found {size}", f"{what} {limit} in this file"))


def _missing(file: str, own: str, found: str) -> Problem:
    return Problem(file, f"axis {own}", f"has no size: it is the symbol {found}", f"give a size to {own}")
