"""The networks of a space file: names, variants, and files that lie beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dse.errors import UserError
from dse.search.reader import Reader, shown
from dse.workload import Workload, load_network
from dse.workload.names import AXIS, CHANGES, MODEL_CHANGES, is_model_file, split_name

AXES: Final = "axes"
NETWORK_KEYS: Final = tuple(dict.fromkeys((*CHANGES, *MODEL_CHANGES, AXES)))
"""What an entry may say beside its name."""


def read_networks(
    reader: Reader, data: Mapping[str, Any], folder: Path | None
) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    """Return the networks of a space and what it calls them; every problem goes to ``reader``."""
    found: dict[str, Workload] = {}
    for key, entry in listed_entries(reader, data, "networks"):
        table = entry if isinstance(entry, Mapping) else {"name": entry}
        reader.known_keys(table, ("name", *NETWORK_KEYS), key)
        options = {name: table[name] for name in NETWORK_KEYS if name in table}
        if not isinstance(table.get("name"), str):
            found_name = shown(table.get("name"))
            reader.wrong(f"{key}.name", found_name, "the name of a network, or the path of its file")
        elif not isinstance(options.get(AXES, {}), Mapping):
            reader.wrong(f"{key}.{AXES}", shown(options[AXES]), "a table, such as { T = 100 }")
        else:
            workload = _loaded(reader, key, network_beside(table["name"], folder), options)
            if workload is not None:
                found[network_name(table["name"], options)] = workload
    return tuple(found.values()), tuple(found)


def _loaded(reader: Reader, key: str, name: str, options: Mapping[str, Any]) -> Workload | None:
    try:
        return load_network(name, **options)
    except UserError as error:
        for problem in error.problems:  # a variant that this file asks for is a mistake of this file
            if problem.key in options:
                reader.wrong(f"{key}.{problem.key}", problem.found, problem.allowed)
            else:
                reader.adopt(UserError(problem), key)
        return None


def network_name(name: str, options: Mapping[str, Any]) -> str:
    """Return what a space calls a network: its name or path, and what the space changes in it.

    >>> network_name("own.onnx", {"classes": 10, "axes": {"T": 100}})
    'own.onnx@classes=10,axis.T=100'
    >>> network_name("own.onnx@output=gap", {"classes": 10})
    'own.onnx@output=gap,classes=10'
    """
    own, changes = split_name(name)
    sizes = {f"{AXIS}{axis}": size for axis, size in options.get(AXES, {}).items()}
    said = {key: value for key, value in options.items() if key != AXES} | sizes
    suffix = ",".join([*([changes] if changes else []), *(f"{key}={value}" for key, value in said.items())])
    return own + (f"@{suffix}" if suffix else "")


def entry_name(entry: Any) -> str:
    """Return what a space calls the network of an entry of its tables."""
    table = entry if isinstance(entry, Mapping) else {"name": entry}
    return network_name(table["name"], {name: table[name] for name in NETWORK_KEYS if name in table})


def network_beside(name: str, folder: Path | None) -> str:
    """Return a network, its file found beside the space file, with what is to differ from it."""
    own, changes = split_name(name)
    return file_beside(own, folder) + (f"@{changes}" if changes else "")


def file_beside(name: str, folder: Path | None) -> str:
    """Return the path of a file that lies beside the space file, else the name as it is."""
    with suppress(OSError, ValueError):  # a name that the system refuses is reported where it is read
        named = name.endswith(".toml") or is_model_file(name)
        if folder is not None and named and (folder / name).is_file():
            return str(folder / name)
    return name


def listed_entries(reader: Reader, data: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    """Return the entries under ``key``, one or a list, each with its place; nothing at all is a problem."""
    listed = data.get(key, [])
    listed = listed if isinstance(listed, list | tuple) else [listed]
    if not listed:
        reader.wrong(key, "nothing", f"a list of at least one of the {key}")
    return [(f"{key}[{number}]", entry) for number, entry in enumerate(listed)]
