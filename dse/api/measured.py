"""Explorations whose accuracy is measured: training runs, then every design with what they say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from dse.errors import Problem, UserError
from dse.search import SearchResult, Space, candidates_of, explore_measured, require_exact
from dse.training import EXTRA, Task

Step = Callable[[int, int], None]
Stages = Callable[[str], Step]
"""Given what is being done, returns what is to be called with (done, in all)."""

RECORDS: Final = "measured"
"""Folder within that of a run that keeps the record of every training run."""

JOURNAL: Final = "journal"
MEMORY: Final = "memory"
MOST_WORKERS: Final = 1024
NEEDED: Final = {"torch": "PyTorch", "sklearn": "scikit-learn", "scipy": "SciPy"}
"""Packages of the extra without which no accuracy is measured."""


def missing() -> str:
    """Return which packages of the extra are not installed, in words; empty where all are."""
    return ", ".join(name for package, name in NEEDED.items() if find_spec(package) is None)


def require_packages() -> None:
    """Raise UserError, naming the extra, where training runs are not possible."""
    if missing():
        raise UserError(Problem("training", "", f"not installed: {missing()}", EXTRA))


def task_of(space: Space) -> Task:
    """Return the task of ``space``; raises UserError with every problem of its table."""
    return Task.from_dict(space.task or {}, file=space.name, folder=space.task_folder)


def explore_runs(
    space: Space,
    *,
    folder: Path | None = None,
    storage: str = "",
    workers: int = 0,
    method: str = "",
    stages: Stages | None = None,
) -> SearchResult:
    """Search ``space`` by training runs.

    Parameters
    ----------
    space: one with ``accuracy = "measured"``.
    folder: that of the run; keeps the records, so that a search that was stopped goes on. None: nothing is
        kept.
    storage: where trials live: "journal" (a file in ``folder``), "memory", or the URL of a storage of Optuna,
        which several processes may share. Empty: the journal, or memory without a folder.
    workers: training processes; 0: one per core.
    method: "auto" or "exact", as the space says where empty.
    stages: receives each long stage by name.

    Raises UserError with every problem, and where PyTorch is missing.

    """
    require_packages()
    require_exact(space, method)
    if not 0 <= workers <= MOST_WORKERS:
        raise UserError(Problem("option", "workers", str(workers), f"an integer from 0 to {MOST_WORKERS}"))
    from dse.search.trials import open_storage
    from dse.training.data import load_data
    from dse.validation.measure import Trainer, require_measurable
    from dse.validation.store import RunStore

    say = stages or (lambda _: lambda done, total: None)
    task = task_of(space)
    dataset = load_data(task.data, file=space.name, folder=task.folder or None)
    require_measurable(space, task, dataset)
    opened = open_storage(storage or (MEMORY if folder is None else JOURNAL), folder)
    candidates = candidates_of(space, say("pricing"))
    points = [entry.point for entry in candidates.entries]
    with _kept(folder) as records:
        store = RunStore(records)
        with Trainer(points, task, dataset, store, workers=workers, rate_progress=say("rates")) as trainer:
            return explore_measured(
                space, candidates, trainer, opened, method=method, data=dataset.content_hash,
                progress=say("training"),
            )  # fmt: skip


def _kept(folder: Path | None) -> AbstractContextManager[str]:
    return TemporaryDirectory() if folder is None else nullcontext(str(folder / RECORDS))
