"""Weights of an archive: tables of JSON and one file of raw bytes per storage; pickled ones are refused."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Final

from dse.workload.model import limits
from dse.workload.model.graph import Constant
from dse.workload.torch.archive import SAVE_ANEW, Archive
from dse.workload.torch.structure import Malformed, mapping, text
from dse.workload.torch.tensors import Meta, decode, meta

FOLDERS: Final = ("weights", "constants")


def read_weights(
    archive: Archive, graph: str, held: Mapping[str, str], tables: Mapping[str, Meta]
) -> dict[str, Constant]:
    """Return the constants of a graph by their name in it.

    Parameters
    ----------
    archive: where they are.
    graph: name of the model, which begins the names of the tables.
    held: name in the graph -> name in the tables.
    tables: what the graph says of them, which must agree.

    Raises UserError on pickled weights and on bytes that are missing, Malformed on contradictions.

    """
    entries = _entries(archive, graph)
    storages: dict[str, bytes] = {}
    found: dict[str, Constant] = {}
    numbers = 0
    for name, path in held.items():
        table, place = _entry(archive, entries, path)
        numbers += _count(table, path)
        if numbers > limits.MOST_VALUES:
            raise Malformed(f"{path[:60]}: more than {limits.MOST_VALUES} weights with it")
        if place not in storages:
            storages[place] = archive.read(place)
        found[name] = decode(limits.clean_name(path), table, storages[place])
        _compare(name, found[name], tables.get(name))
    return found


def _entries(archive: Archive, graph: str) -> dict[str, tuple[str, Any]]:
    """Return every row of both tables with the folder that it belongs to."""
    found: dict[str, tuple[str, Any]] = {}
    for folder in FOLDERS:
        path = f"data/{folder}/{graph}_{folder}_config.json"
        if path not in archive.entries and folder == "constants":
            continue
        rows = mapping(mapping(archive.json(path), path).get("config"), f"{path}: config")
        found |= {name: (folder, row) for name, row in rows.items()}
    return found


def _entry(archive: Archive, entries: Mapping[str, tuple[str, Any]], path: str) -> tuple[Meta, str]:
    """Return what the tables say of one tensor, and the entry of the archive that holds its bytes."""
    if path not in entries:
        raise archive.refusal(path, "has no row in the tables of weights", SAVE_ANEW)
    folder, row = entries[path]
    row = mapping(row, path[:60])
    if row.get("use_pickle") is not False:
        found = "is pickled: unpickling runs code, so it is not read"
        raise archive.refusal(path, found, "save plain tensors, " + SAVE_ANEW)
    place = text(row.get("path_name"), f"{path[:60]}: path_name")
    return meta(row.get("tensor_meta"), path[:60]), f"data/{folder}/{place}"


def _count(table: Meta, path: str) -> int:
    try:
        return prod(table.shape({}))
    except Malformed as error:
        raise Malformed(f"{path[:60]}: {error}") from None


def _compare(name: str, constant: Constant, stated: Meta | None) -> None:
    """Raise Malformed where the graph says something else of a constant than its table."""
    if stated is None:
        return
    shape = stated.shape({})
    if shape != constant.shape or stated.type_name != constant.stored_type:
        held = f"{constant.stored_type} {list(constant.shape)}"
        raise Malformed(f"{name[:60]}: the graph states {stated.type_name} {list(shape)}, the table {held}")
