"""Many plans: explore a space, price all of it into a table, draw what was found, write the run folder."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from dse.cost.acceptance import require_some_price
from dse.errors import IllegalPlan, Problem, UserError
from dse.files import atomic_path, require_new_folder, require_writable_file
from dse.hardware.accept import Bound, read_accept
from dse.report.designs import DesignWriter, arrow_table, design_chunks, design_schema
from dse.report.document import DESIGNS, Progress, Stopwatch, folder_name
from dse.report.document import write_run as write_folder
from dse.search import SearchResult, Space, method_for
from dse.search import explore as search
from dse.search.blocks import TOO_FEW_IMAGES
from dse.search.settings import LARGEST_SEED, MOST_RUNS, MOST_TRIALS
from dse.search.space import read_tables
from dse.training.task import Task

MEASURED_DEFAULT: Final = "shapes"
"""The exploration whose accuracy is measured by training runs on data that come along."""

DEFAULT: Final = (
    "vega", "small-boards", "small-boards-extended", "small-mobilenet", "small-mcunet", "small-mcunet-96",
    "small-heads", MEASURED_DEFAULT,
)  # fmt: skip
"""Explorations that answer the first question of a newcomer, one after the other."""

ENDINGS: Final = (".csv", ".parquet")


def list_explorations() -> tuple[str, ...]:
    """Return the names of the explorations that come with the program."""
    folder = files("dse") / "explorations"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_space(
    name_or_path: str | Path | Mapping[str, Any], *, accept: Iterable[str] | Mapping[str, Any] = ()
) -> Space:
    """Return a space: one that comes with the program, a TOML file, or tables like those of a file.

    ``accept`` adds to the operations of its table ``accept``, as in ``context_of``. Raises UserError with
    every problem at once.
    """
    asked = accept_table(read_accept(accept, file="option", key="--accept"))
    if isinstance(name_or_path, Mapping):
        return _space(_with_accepted(name_or_path, asked), "space", None)
    name = str(name_or_path)
    if name in list_explorations():
        text = (files("dse") / "explorations" / f"{name}.toml").read_text(encoding="utf-8")
        return _space(_with_accepted(tomllib.loads(text), asked), f"{name}.toml", None)
    exists = False
    with suppress(OSError):  # a name that the system refuses
        exists = Path(name).exists()
    if not name.endswith(".toml") and not exists:
        known = ", ".join(list_explorations())
        raise UserError(Problem(name, "", "no such file or exploration", f"a TOML file, or one of: {known}"))
    return _space(_with_accepted(read_tables(name), asked), name, Path(name).parent)


def accept_table(asked: Mapping[str, Bound | None]) -> dict[str, Any]:
    """Return accepted operations as a space file has them."""
    return {name: True if bound is None else [bound.low, bound.high] for name, bound in asked.items()}


def _with_accepted(tables: Mapping[str, Any], asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``tables`` with more accepted operations; what is no table is refused where it is read."""
    own = tables.get("accept", {})
    return {**tables, "accept": {**own, **asked}} if asked and isinstance(own, Mapping) else tables


def _space(tables: Mapping[str, Any], file: str, folder: Path | None) -> Space:
    """Read a space and its task, whose problems come together."""
    problems: list[Problem] = []
    try:
        space = Space.from_dict(tables, file=file, folder=folder)
    except UserError as error:
        problems += error.problems
    if isinstance(tables.get("task"), Mapping):
        try:
            Task.from_dict(tables["task"], file=file, folder=folder)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return space


def explore(
    space: Space | str | Path | Mapping[str, Any],
    *,
    method: str = "",
    seed: int | None = None,
    trials: int | None = None,
    runs: int | None = None,
    folder: str | Path | None = None,
    storage: str = "",
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    stages: Callable[[str], Callable[[int, int], None]] | None = None,
) -> SearchResult:
    """Search a space for the designs that no other design beats.

    Parameters
    ----------
    space: one that was loaded, a name of ``list_explorations()``, the path of a TOML file, or its tables.
    method: ``auto``, ``exact``, ``nsga2``, ``tpe`` or ``random``; as the space says where empty.
    seed, trials: of a sampled search; as the space says where None.
    runs: training runs, where accuracy is measured; as the space says where None.
    folder, storage, workers: where runs are kept and how many train at once; see
        ``dse.api.measured.explore_runs``.
    progress: called with (done, in all) as the search goes on; with training runs, where there are any.
    stages: receives each long stage by name and returns what is called in place of ``progress``.

    Raises UserError with every problem, IllegalPlan where no design is possible. Where nothing fits, the
    result says so: see ``SearchResult.require_front``.

    """
    wanted = with_settings(space, seed, trials, runs)
    require_some_price(wanted.contexts.values(), wanted.choices.values["frozen_bits"])
    if wanted.measure is None:
        found = search(wanted, method=method, progress=stages("searching") if stages else progress)
    else:
        from dse.api.measured import explore_runs

        def only_runs(what: str) -> Callable[[int, int], None]:
            return progress if progress and what == "training" else lambda done, total: None

        found = explore_runs(
            wanted, folder=None if folder is None else Path(folder), storage=storage, workers=workers,
            method=method, stages=stages or only_runs,
        )  # fmt: skip
    _require_possible(found)
    return found


def _require_possible(found: SearchResult) -> None:
    """Raise IllegalPlan where every design of the space is known to be impossible."""
    reasons: Counter[str] = Counter()
    for number, board in enumerate(found.boards):
        illegal = Counter(board.counts.illegal)
        if not found.complete:  # a sampled search never meets these
            illegal[TOO_FEW_IMAGES] += sum(block.dropped for block in found.space.board_blocks(number))
        if illegal.total() < board.counts.total:
            return
        reasons += illegal
    raise IllegalPlan(
        Problem(found.space.name, "choices", f"no design is possible: {reason}", f"{count:,} designs")
        for reason, count in reasons.items()
    )


def with_settings(
    space: Space | str | Path | Mapping[str, Any], seed: int | None, trials: int | None,
    runs: int | None = None,
) -> Space:  # fmt: skip
    """Return the space with another seed, number of trials or number of training runs where given."""
    loaded = space if isinstance(space, Space) else load_space(space)
    pairs = (("seed", seed), ("trials", trials), ("runs", runs))
    given = {name: value for name, value in pairs if value is not None}
    limits = {"seed": (0, LARGEST_SEED), "trials": (1, MOST_TRIALS), "runs": (1, MOST_RUNS)}
    problems = [
        Problem("option", name, f"{value}", "an integer from {} to {}".format(*limits[name]))
        for name, value in given.items()
        if not limits[name][0] <= value <= limits[name][1]
    ]
    if runs is not None and loaded.measure is None:
        problems.append(Problem("option", "runs", f"{loaded.name} needs no runs", 'accuracy = "measured"'))
    if problems:
        raise UserError(problems)
    settings = loaded.search
    if seed is not None:
        settings = replace(settings, seed=seed)
    if trials is not None:
        settings = replace(settings, trials=trials)
    changed: dict[str, Any] = {
        name: value for name, value in (("seed", seed), ("runs", runs)) if value is not None
    }
    if loaded.measure is None or not changed:
        return replace(loaded, search=settings)
    # A run folder says what it was made from by the tables, so that they change with it.
    tables = {**loaded.tables, "measure": {**loaded.tables.get("measure", {}), **changed}}
    return replace(loaded, search=settings, measure=replace(loaded.measure, **changed), tables=tables)


def run_folder(space: Space, out: str | Path, *, method: str = "", designs: str = "feasible") -> Path:
    """Return the folder of a run under ``out``; raises UserError where it cannot be written."""
    if designs not in DESIGNS:
        raise UserError(Problem("option", "designs", repr(designs), f"one of {', '.join(DESIGNS)}"))
    settings = space.search
    name = folder_name(space, method_for(space, method), settings.seed, settings.trials, designs)
    return require_new_folder(Path(out) / name)


def write_run(
    found: SearchResult,
    out: str | Path = "runs",
    *,
    designs: str = "feasible",
    progress: Progress | None = None,
    watch: Stopwatch | None = None,
) -> Path:
    """Write front, designs, figures and report of a search into a folder of its own under ``out``.

    Returns the folder, which appears complete or not at all. ``designs`` is "feasible", "all" or "none".
    """
    folder = run_folder(found.space, out, method=found.method, designs=designs)
    return write_folder(found, folder, designs=designs, progress=progress, watch=watch)


@dataclass(frozen=True)
class Sweep:
    """Every design of a space with its prices: in memory, or in the file ``path``."""

    count: int
    path: Path | None
    table: Any

    def to_frame(self) -> Any:
        """Return the designs as a pandas DataFrame."""
        import pandas as pd

        if self.table is not None:
            return self.table.to_pandas()
        assert self.path is not None
        return pd.read_csv(self.path) if self.path.suffix == ".csv" else pd.read_parquet(self.path)


def sweep(
    space: Space | str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    feasible_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Price every design of a space; the column ``status`` says which are feasible, and why others are not.

    Parameters
    ----------
    space: as in ``explore``.
    out: a .csv or .parquet file, written as the designs stream by; without it they are kept in memory.
    feasible_only: leave out what a budget rejects.
    progress: called with (done, in all).

    Raises UserError with every problem, and where ``out`` cannot be written.

    """
    loaded = space if isinstance(space, Space) else load_space(space)
    if out is None:
        return _kept(loaded, feasible_only, progress)
    path = Path(out)
    if path.suffix not in ENDINGS:
        raise UserError(Problem(str(path), "", f"ending {path.suffix!r}", f"one of {', '.join(ENDINGS)}"))
    require_writable_file(path)
    with atomic_path(path) as partial:
        writer = DesignWriter(loaded, partial)
        try:
            for chunk in _chunks(loaded, feasible_only, progress):
                writer.add(chunk)
        finally:
            writer.close()
    return Sweep(writer.count, path, None)


def _kept(space: Space, feasible_only: bool, progress: Callable[[int, int], None] | None) -> Sweep:
    import pyarrow as pa

    schema = design_schema(space)
    tables = [arrow_table(chunk, schema) for chunk in _chunks(space, feasible_only, progress)]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    return Sweep(len(table), None, table.unify_dictionaries())


def _chunks(space: Space, feasible_only: bool, progress: Callable[[int, int], None] | None) -> Any:
    for board in range(len(space.boards)):
        for chunk in design_chunks(space, board, everything=not feasible_only):
            yield chunk
            if progress is not None:
                progress(chunk.last, space.size)
