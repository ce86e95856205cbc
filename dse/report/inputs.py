"""What a run folder was made from, in the folder itself, and the way back from a folder to its space.

``inputs/space.json`` holds the tables of the space, with copies of the user's own networks and boards beside
it; a model file, or a network with numbers, is saved there as the network that it becomes.
``inputs/where.json`` says where relative paths of the task's data started; with ``timing.json`` it is the
only file that may differ between runs of equal inputs, and is there only where such paths are.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.hardware import list_boards, list_parts
from dse.hardware.load import split_board
from dse.hardware.variant import split_variant
from dse.plan.policy import UpdatePolicy
from dse.report.provenance import FRONT, file_hashes
from dse.report.runs import RUNS, with_runs
from dse.report.space_file import space_text
from dse.search.networks import entry_name
from dse.search.space import Space
from dse.workload import Workload, list_networks
from dse.workload.names import is_model_file, split_name
from dse.workload.save import file_name, save_network

INPUTS: Final = "inputs"
TABLES: Final = "space.json"
SPACE: Final = "space.toml"
WHERE: Final = "where.json"
HERE: Final = "./"
"""What the name of a copied file begins with in the tables."""

REQUIRED: Final = ("run.json", FRONT, f"{INPUTS}/{TABLES}")
EXPLORE_AGAIN: Final = "explore the space again with this version"
CHANGED: Final = "not what run.json was written with: it was edited, or belongs to another run"

Columns = dict[str, NDArray[Any]]


# --- writing ---


@dataclass
class _Copies:
    """Files of the user that a space names, and the names under which they are copied."""

    start: Path | None
    names: dict[Path, str] = field(default_factory=dict)
    saved: dict[str, Workload] = field(default_factory=dict)
    """Networks that are more than one TOML file, and so are written anew, by the name of theirs."""

    def network(self, entry: Any, workload: Workload) -> Any:
        """Return the entry of ``workload`` with the path of a file replaced by that of its copy."""
        if isinstance(entry, Mapping):
            found = self.network(entry["name"], workload)
            return found if self._is_saved(entry["name"], workload) else {**entry, "name": found}
        path, changes = split_name(entry)
        if entry in list_networks() or path in list_networks():
            return entry
        if self._is_saved(path, workload):
            return HERE + self._save(workload)
        return self._copied(path) + (f"@{changes}" if changes else "")

    def _is_saved(self, name: str, workload: Workload) -> bool:
        return bool(workload.numbers) or is_model_file(split_name(name)[0])

    def _save(self, workload: Workload) -> str:
        stem = file_name(workload.name)
        name = self._free(stem)
        self.saved[name] = workload
        return name

    def board(self, name: str) -> str:
        """Return a board and its parts with the paths of files replaced by those of their copies."""
        known = (*list_boards(), *list_parts())
        pieces = []
        for piece in split_board(name):
            own, changes = split_variant(piece)
            copied = own if own in known else self._copied(own)
            pieces.append(f"{copied}@{changes}" if changes else copied)
        return " + ".join(pieces)

    def _copied(self, text: str) -> str:
        if not text.endswith(".toml") and "/" not in text and "\\" not in text:
            return text
        beside = self.start / text if self.start is not None and text.endswith(".toml") else None
        source = beside if beside is not None and beside.is_file() else Path(text)
        if source not in self.names:
            self.names[source] = self._free(source.stem)
        return HERE + self.names[source]

    def _free(self, stem: str) -> str:
        """Return the name of a copy that no other copy has."""
        taken = {*self.names.values(), *self.saved}
        numbered = (f"{stem}{'' if n == 1 else f'-{n}'}.toml" for n in range(1, len(taken) + 2))
        return next(name for name in numbered if name not in taken)


def write_inputs(space: Space, folder: Path) -> None:
    """Write what ``space`` was read from into ``folder``/inputs; nothing for one that was built by hand.

    The settings of the search are those in force, which options may have changed.
    """
    if not space.tables:
        return
    place = folder / INPUTS
    place.mkdir()
    copies, networks = _Copies(space.folder), dict(zip(space.network_names, space.networks, strict=True))
    tables = {
        **space.tables,
        "name": space.name,
        "networks": [
            copies.network(entry, networks[entry_name(entry)]) for entry in _listed(space.tables["networks"])
        ],
        "boards": [copies.board(entry) for entry in _listed(space.tables["boards"])],
        "search": vars(space.search),
    }
    for source, name in copies.names.items():
        shutil.copyfile(source, place / name)
    for name, workload in copies.saved.items():
        save_network(workload, place, name=name.removesuffix(".toml"))
    _write(place / TABLES, tables)
    if space.made:
        (folder / SPACE).write_text(_space_file(space, tables), encoding="utf-8", newline="\n")
    if space.folder is not None and _relative_data(space.tables.get("task")):
        _write(place / WHERE, {"folder": str(space.folder)})


def _space_file(space: Space, tables: Mapping[str, Any]) -> str:
    """Write a space that was made from options as a file that is explored from the run folder."""
    text = json.dumps({key: tables[key] for key in ("networks", "boards")}, ensure_ascii=False)
    copies = json.loads(re.sub(r'(?<=["+ ])\./', f"{INPUTS}/", text))
    comments = (
        "A space that was made from options. Edit it here, beside its inputs, and give it to `dse explore`.",
    )
    return space_text({**tables, **copies, **_absolute_data(space, tables)}, comments)


def _absolute_data(space: Space, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task with paths of data that hold wherever the file lies; nothing without such paths."""
    task: Any = tables.get("task")
    if space.folder is None or not _relative_data(task):
        return {}
    start = space.folder.absolute()
    data = {
        key: str(start / value) if key != "kind" and isinstance(value, str) else value
        for key, value in task["data"].items()
    }
    return {"task": {**task, "data": data}}


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else [found]


def _relative_data(task: Any) -> bool:
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        return False
    return any(isinstance(value, str) and not Path(value).is_absolute() for key, value in data.items()
               if key != "kind")  # fmt: skip


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, default=_plain)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _plain(value: Any) -> Any:
    """Write what tables that were made in Python may hold beside what TOML has."""
    if isinstance(value, UpdatePolicy):
        return value.plain()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a space holds {value!r}, which no file can hold")


# --- reading ---


@dataclass(frozen=True)
class ExploredRun:
    """A run folder that was read back: its space, and the columns of front.csv, all boards, (k,) each.

    ``data_hash`` is that of the data behind a measured accuracy, empty where none was measured; ``named`` are
    the designs that have a name, by board.
    """

    folder: Path
    space: Space
    front: Columns
    data_hash: str = ""
    named: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.front["design"])


def load_run(folder: str | Path) -> ExploredRun:
    """Read the folder of an exploration back.

    Raises UserError where it is none, was written by a version that kept less, or was changed since.
    """
    place = Path(folder)
    missing = [name for name in REQUIRED if not (place / name).is_file()]
    if missing:
        raise UserError(_no_run(place, missing))
    run = _json(place / "run.json")
    space = _space(place)
    expected = run.get("inputs", {}).get("space_sha256") if isinstance(run.get("inputs"), dict) else None
    if expected != space.content_hash:
        found = "its inputs do not make the space that it reports: they, or the program, have changed since"
        raise UserError(Problem(str(place), INPUTS, found, EXPLORE_AGAIN))
    _require_unchanged(place, run, space)
    space = _named_as_written(space, run)
    front = _front(place / FRONT, space)
    return ExploredRun(place, with_runs(space, place), front, _data_hash(run), _named(run))


def _require_unchanged(place: Path, run: Mapping[str, Any], space: Space) -> None:
    """Raise UserError where a table is not the one that run.json was written with."""
    written, present = run.get("files_sha256"), file_hashes(place)
    wanted = [FRONT] if space.measure is None else [FRONT, RUNS]
    if not isinstance(written, Mapping) or not set(wanted) <= written.keys():
        found = f"written by an older version, which kept no hashes of {', '.join(wanted)}"
        raise UserError(Problem(str(place / "run.json"), "files_sha256", found, EXPLORE_AGAIN))
    problems = []
    for name in wanted:
        if present.get(name) != written[name]:
            found = CHANGED if name in present else "missing"
            problems.append(Problem(str(place / name), "", found, EXPLORE_AGAIN))
    if problems:
        raise UserError(problems)


def _named_as_written(space: Space, run: Mapping[str, Any]) -> Space:
    """Return ``space`` with its networks under the names that its tables use; copies have others."""
    names = run["inputs"].get("networks_sha256")
    hashes = [network.content_hash for network in space.networks]
    if not isinstance(names, Mapping) or list(names.values()) != hashes:
        return space
    return replace(space, network_names=tuple(names))


def _data_hash(run: Mapping[str, Any]) -> str:
    measured = run.get("measured")
    return str(measured.get("data_sha256") or "") if isinstance(measured, Mapping) else ""


def _named(run: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    boards = run.get("boards")
    found = {}
    for label, board in boards.items() if isinstance(boards, Mapping) else ():
        named = board.get("named") if isinstance(board, Mapping) else None
        if isinstance(named, Mapping) and all(isinstance(design, int) for design in named.values()):
            found[str(label)] = {str(name): design for name, design in named.items()}
    return found


def _no_run(place: Path, missing: list[str]) -> Problem:
    if not place.is_dir():
        found = "is a file" if place.exists() else "no such folder"
        return Problem(str(place), "", found, "a folder that `dse explore` wrote")
    if missing == [f"{INPUTS}/{TABLES}"]:
        return Problem(str(place), "", "written by an older version, which kept no inputs", EXPLORE_AGAIN)
    found = f"no folder of an exploration: {', '.join(missing)} missing"
    return Problem(str(place), "", found, "a folder that `dse explore` wrote")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(Problem(str(path), "", "cannot be read as JSON", EXPLORE_AGAIN)) from None
    if not isinstance(content, dict):
        raise UserError(Problem(str(path), "", "not a table", EXPLORE_AGAIN))
    return content


def _space(place: Path) -> Space:
    tables = _json(place / INPUTS / TABLES)
    inputs = place / INPUTS
    for key in ("networks", "boards"):
        tables[key] = [_found(inputs, entry) for entry in _listed(tables.get(key, []))]
    start = inputs
    if (inputs / WHERE).is_file():
        start = Path(str(_json(inputs / WHERE).get("folder", "")))
    return Space.from_dict(tables, file=str(inputs / TABLES), folder=start)


def _found(inputs: Path, entry: Any) -> Any:
    """Return an entry with the names of copies replaced by their paths."""
    if isinstance(entry, Mapping):
        return {**entry, "name": _found(inputs, entry.get("name"))}
    if not isinstance(entry, str):
        return entry
    return re.sub(r"(^|\s\+\s)\./", lambda match: f"{match[1]}{inputs}/", entry)


def _front(path: Path, space: Space) -> Columns:
    import pandas as pd

    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=["", "nan"])
    except (OSError, ValueError) as error:
        raise UserError(Problem(str(path), "", f"cannot be read: {error}", EXPLORE_AGAIN)) from None
    wanted = ("design", "board", "network", *(name for name in space.objectives))
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise UserError(Problem(str(path), "", f"no column {', '.join(missing)}", EXPLORE_AGAIN))
    designs = frame["design"].to_numpy()
    last = sum(block.size for block in space.blocks)
    if len(designs) and (designs.dtype.kind != "i" or designs.min() < 0 or designs.max() >= last):
        raise UserError(Problem(str(path), "design", "no index of this space", EXPLORE_AGAIN))
    return {name: frame[name].to_numpy() for name in frame.columns}
