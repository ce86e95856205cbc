"""Validating a run: its plans are trained for real, and what they reach is set beside what was predicted."""

from __future__ import annotations

import csv
import re
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dse.api.explorations import MEASURED_DEFAULT, list_explorations, load_space
from dse.errors import Problem, UserError
from dse.files import require_writable_file
from dse.report.document import DESIGNS, folder_name, slug
from dse.report.inputs import ExploredRun, load_run
from dse.report.runs import RUNS, with_runs
from dse.report.validation import FILE, write_validation
from dse.search import method_for
from dse.training import Task, require_torch
from dse.training.data import Dataset, load_data
from dse.validation.comparison import Validation
from dse.validation.networks import trained_networks
from dse.validation.rates import Scheme
from dse.validation.sample import draw_designs, has_table
from dse.validation.select import (
    Chosen,
    Left,
    Trained,
    comparisons,
    front_networks,
    front_plans,
    others_in_space,
)
from dse.validation.store import RunStore
from dse.validation.validate import Campaign, Stages, run_validation

SAMPLE_SEED: Final = 0
"""Draws the plans of the space that are trained beside the front."""

LARGEST_FILE: Final = 1 << 20  # bytes
_LIMITS: Final = {
    "runs": (1, 10**7), "plans": (1, 10**6), "space_plans": (0, 10**6), "seeds": (1, 1000),
    "workers": (0, 1024),
}  # fmt: skip


def validate(
    run: str | Path | None = None,
    out: str | Path = "runs",
    *,
    runs: int | None = None,
    budget_s: float | None = None,
    plans: int | None = None,
    space_plans: int | None = None,
    seeds: int | None = None,
    task: str | Path | Mapping[str, Any] | None = None,
    network: str | None = None,
    workers: int = 0,
    progress: Stages | None = None,
) -> tuple[Validation, Path]:
    """Train plans of a run with paired seeds; returns what was found, and the report in the run folder.

    Completed runs are kept in the folder: what is interrupted goes on from there when it is called again.

    Parameters
    ----------
    run: a folder that an exploration wrote, or the name of an exploration that was written under ``out``;
        None: the exploration by measured accuracy that comes with the program.
    runs: training runs in all, those that choose learning rates included; None: as ``seeds`` say.
    budget_s: no run starts that would probably end later than this [s].
    plans: of the front; those that add most hypervolume. None: all.
    space_plans: others of the space; as many as of the front where None.
    seeds: by plan; 3 where neither runs nor time are given.
    task: a TOML file with a table ``task``, or that table; None: that of the run, else the default task.
    network: what is trained in place of a network that does not take the data: predictions are then compared
        by rank alone.
    workers: training processes; 0: one per core.
    progress: receives each stage by name.

    Raises UserError with every problem.

    """
    require_torch()
    _require_options(budget_s, runs=runs, plans=plans, space_plans=space_plans, seeds=seeds, workers=workers)
    deadline = None if budget_s is None else time.monotonic() + budget_s
    explored = load_run(explored_folder(MEASURED_DEFAULT if run is None else run, out))
    if len(explored) == 0:
        raise UserError(Problem(str(explored.folder), "front.csv", "no design is on the front", ""))
    require_writable_file(explored.folder / f"{FILE}.csv")
    learned = read_task(task, explored)
    dataset = load_data(learned.data, file="task", folder=learned.folder or None)
    if task is None:
        _require_same_data(explored, dataset)
    networks = _networks(explored, dataset, network)
    chosen, left = choose(explored, networks, plans, space_plans)
    known = {} if task is not None or networks.stand_in else rates_of_run(explored)
    campaign = Campaign(
        chosen=chosen, task=learned, data_hash=dataset.content_hash, seeds=seeds or 0, runs=runs or 0,
        deadline=deadline, known=known, title=explored.space.name, left=left, stand_in=networks.stand_in,
        prediction=_prediction(explored),
    )  # fmt: skip
    found = run_validation(campaign, RunStore(explored.folder / FILE), workers=workers, progress=progress)
    written = write_validation(found, explored.folder)
    found.require_held()
    return found, written


def _require_options(budget_s: float | None, **given: int | None) -> None:
    problems = [
        Problem("option", name, str(value), "an integer from {} to {}".format(*_LIMITS[name]))
        for name, value in given.items()
        if value is not None and not _LIMITS[name][0] <= value <= _LIMITS[name][1]
    ]
    if budget_s is not None and not 0 < budget_s < float("inf"):
        problems.append(Problem("option", "budget", f"{budget_s:g} s", "a time above 0"))
    if problems:
        raise UserError(problems)


def explored_folder(run: str | Path, out: str | Path) -> Path:
    """Return the folder of a run: ``run`` itself, or that of the exploration of this name under ``out``.

    Of an exploration that comes with the program it is the run with the program's own settings; of any other
    the only one under ``out``. Raises UserError where there is none, or more than one.
    """
    place = Path(run)
    try:
        there = place.exists()
    except OSError:  # a name that the system refuses
        there = False
    name = str(run)
    if there or name not in list_explorations():
        return place if there else _only_run(name, out)
    space = load_space(name)
    settings = space.search
    folder = folder_name(space, method_for(space), settings.seed, settings.trials, DESIGNS[0])
    if not (Path(out) / folder).is_dir():
        raise UserError(
            Problem(name, "", f"not explored yet under {out} with its own settings", _others(name, out))
        )
    return Path(out) / folder


def _only_run(name: str, out: str | Path) -> Path:
    """Return the run under ``out`` of a space of the user's, by the name of the space or of the folder."""
    found = _runs_of(name, out)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(map(str, found))
        raise UserError(Problem(name, "", f"{len(found)} runs under {out}", f"name one: {listed}"))
    known = ", ".join(list_explorations())
    allowed = f"a run folder, a space explored under {out}, or one of: {known}"
    raise UserError(Problem(name, "", "no such folder or exploration", allowed))


def _runs_of(name: str, out: str | Path) -> list[Path]:
    """Return the run folders under ``out`` that are called ``name``, with or without their hash."""
    own = re.compile(rf"{re.escape(slug(name))}-[0-9a-f]{{10}}")
    try:
        folders = sorted(path for path in Path(out).iterdir() if path.is_dir())
    except OSError:  # there are none yet
        return []
    exact = [path for path in folders if path.name == name]
    return exact or [path for path in folders if own.fullmatch(path.name)]


def _others(name: str, out: str | Path) -> str:
    """Say what to do, naming the runs of an exploration that were made with other settings."""
    found = list(map(str, _runs_of(name, out)))
    return f"`dse explore {name}` first" + (f", or name a run: {', '.join(found)}" if found else "")


def read_task(task: str | Path | Mapping[str, Any] | None, explored: ExploredRun) -> Task:
    """Return the task that ``task`` says, else that of the run, else the default one."""
    if isinstance(task, Mapping):
        return Task.from_dict(task)
    if task is None:
        table = explored.space.tables.get("task")
        if table is None:
            return Task()
        return Task.from_dict(table, file=str(explored.folder), folder=explored.space.folder)
    return task_file(Path(task))


def task_file(path: Path) -> Task:
    """Read a task from a TOML file with a table [task]. Raises UserError with every problem."""
    try:
        data = path.read_bytes()
        if len(data) > LARGEST_FILE:
            raise UserError(Problem(str(path), "", f"{len(data)} bytes", f"at most {LARGEST_FILE}"))
        tables = tomllib.loads(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(Problem(str(path), "", f"cannot be read: {reason}", _TASK_FILE)) from None
    except (ValueError, RecursionError) as error:
        raise UserError(Problem(str(path), "", f"not TOML: {error}", "see toml.io")) from None
    if not isinstance(tables.get("task"), Mapping):
        raise UserError(Problem(str(path), "task", "no table [task]", _TASK_FILE))
    return Task.from_dict(tables["task"], file=str(path), folder=path.parent)


_TASK_FILE: Final = "a TOML file with a table [task], such as a space file"


def _require_same_data(explored: ExploredRun, dataset: Dataset) -> None:
    """Raise UserError where a run measured accuracy on other data than its task finds now."""
    if explored.data_hash not in ("", dataset.content_hash):
        found = f"accuracy was measured on other data than {dataset.name} has now"
        allowed = "explore the space again, or give the task that is meant with --task"
        raise UserError(Problem(str(explored.folder), "task.data", found, allowed))


def _networks(explored: ExploredRun, dataset: Dataset, wanted: str | None) -> Trained:
    needed = front_networks(explored.space, explored.front)
    return trained_networks(explored.space, needed, dataset, wanted, file=str(explored.folder))


def choose(
    explored: ExploredRun, networks: Trained, plans: int | None, space_plans: int | None
) -> tuple[tuple[Chosen, ...], tuple[Left, ...]]:
    """Return what to train, in that order, and what of the front cannot be.

    The front (``plans`` of it), cheap heads and references, ``space_plans`` others of the space.
    """
    front, left = front_plans(explored.space, explored.front, networks)
    if not front:
        raise UserError(Problem(str(explored.folder), "front.csv", each.reason, "a plan that is executed")
                        for each in left)  # fmt: skip
    front = front[:plans]
    compared = [*front, *comparisons(front)]
    count = len(front) if space_plans is None else space_plans
    space = explored.space
    if not has_table(explored.folder):
        space = with_runs(space, explored.folder)
    draws = draw_designs(space, explored.folder, SAMPLE_SEED)
    others = others_in_space(space, draws, count, networks, compared)
    return (*compared, *others), tuple(left)


def rates_of_run(explored: ExploredRun) -> dict[tuple[str, Scheme], float]:
    """Return the learning rates of the runs behind a measured accuracy, as ``Campaign`` takes them."""
    if explored.space.measure is None:
        return {}
    path = explored.folder / RUNS
    hashes = {
        name: network.training_hash
        for name, network in zip(explored.space.network_names, explored.space.networks, strict=True)
    }
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                (hashes[row["network"]], Scheme(*(row[name] for name in Scheme._fields))): float(row["rate"])
                for row in csv.DictReader(file)
            }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError) as error:
        raise UserError(
            Problem(str(path), "", f"cannot be read: {error}", "explore the space again")
        ) from None


def _prediction(explored: ExploredRun) -> str:
    source = explored.space.accuracy
    return source.name if source is not None and "accuracy" in explored.front else ""
