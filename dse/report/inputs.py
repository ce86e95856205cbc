"""What a run folder was made from, in the folder itself, and the way back from a folder to its space.

``inputs/space.json`` holds the tables of the space, with copies of the user's own networks and boards beside
it. ``inputs/where.json`` says where relative paths of the task's data started; with ``timing.json`` it is the
only file that may differ between runs of equal inputs, and is there only where such paths are.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from dse.search.space import Space
from dse.workload import list_networks

INPUTS: Final = "inputs"
TABLES: Final = "space.json"
WHERE: Final = "where.json"
HERE: Final = "./"
"""What the name of a copied file begins with in the tables."""

REQUIRED: Final = ("run.json", FRONT, f"{INPUTS}/{TABLES}")
EXPLORE_AGAIN: Final = "explore the space again with this version"
CHANGED: Final = "not what run.json was written with: it was edited, or belongs to another run"
_VARIANT: Final = re.compile(r"(?P<path>.+?)(?P<changes>@\w+=.*)?", re.DOTALL)

Columns = dict[str, NDArray[Any]]


# --- writing ---


@dataclass
class _Copies:
    """Files of the user that a space names, and the names under which they are copied."""

    start: Path | None
    names: dict[Path, str] = field(default_factory=dict)

    def network(self, name: str) -> str:
        """Return ``name`` with the path of a file replaced by that of its copy."""
        match = _VARIANT.fullmatch(name)
        assert match is not None  # anything matches
        if name in list_networks() or match["path"] in list_networks():
            return name
        return self._copied(match["path"]) + (match["changes"] or "")

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
            taken = set(self.names.values())
            numbered = (f"{source.stem}{'' if n == 1 else f'-{n}'}.toml" for n in range(1, len(taken) + 2))
            self.names[source] = next(name for name in numbered if name not in taken)
        return HERE + self.names[source]


def write_inputs(space: Space, folder: Path) -> None:
    """Write what ``space`` was read from into ``folder``/inputs; nothing for one that was built by hand.

    The settings of the search are those in force, which options may have changed.
    """
    if not space.tables:
        return
    place = folder / INPUTS
    place.mkdir()
    copies = _Copies(space.folder)
    tables = {
        **space.tables,
        "name": space.name,
        "networks": [_network(copies, entry) for entry in _listed(space.tables["networks"])],
        "boards": [copies.board(entry) for entry in _listed(space.tables["boards"])],
        "search": vars(space.search),
    }
    for source, name in copies.names.items():
        shutil.copyfile(source, place / name)
    _write(place / TABLES, tables)
    if space.folder is not None and _relative_data(space.tables.get("task")):
        _write(place / WHERE, {"folder": str(space.folder)})


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else [found]


def _network(copies: _Copies, entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {**entry, "name": copies.network(entry["name"])}
    return copies.network(entry)


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
