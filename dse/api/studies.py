"""Plans trained for real: one at a time, or grids of them with the claims that they decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dse.errors import UnknownName
from dse.files import require_new_folder
from dse.plan.decisions import TrainingPlan
from dse.report.study import study_folder_name, write_study
from dse.training import Job, RunRecord, Task, require_torch
from dse.training.task import REFERENCES, SPLITS
from dse.validation.store import RunStore
from dse.validation.study import Study, list_studies, load_study
from dse.validation.study_run import StudyResult, run_study
from dse.validation.study_run import read_runs as read_table
from dse.workload import Workload, load_network

Progress = Callable[[int, int], None]


def study(
    name_or_path: str | Path | Study,
    out: str | Path | None = "runs",
    *,
    data: str | None = None,
    seeds: int | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> tuple[StudyResult, Path | None]:
    """Train every plan of a study and write its table, report and figure into a folder under ``out``.

    Parameters
    ----------
    name_or_path: a name of ``list_studies()``, a TOML file, or a loaded study.
    out: the folder of the run is made in it; runs that it holds are not run again. None: nothing is kept.
    data: path of the data set, where not the study's own.
    seeds: number of seeds, where not the study's own.
    workers: training processes; 0: one per core.
    progress: called with (runs done, in all).

    Raises UserError with every problem.

    """
    require_torch()
    loaded = (
        name_or_path if isinstance(name_or_path, Study) else load_study(name_or_path, data=data, seeds=seeds)
    )
    if out is None:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as temporary:
            return run_study(loaded, RunStore(temporary), workers=workers, progress=progress), None
    folder = require_new_folder(Path(out) / study_folder_name(loaded))
    store = RunStore(folder / "runs")
    result = run_study(loaded, store, workers=workers, progress=progress, rate_progress=progress)
    return result, write_study(result, folder)


def read_runs(study: str | Path | Study, path: str | Path | None = None) -> StudyResult:
    """Return the result of a study from its table of runs; without ``path``, that which comes along.

    Raises UserError where there is none, or it holds other plans or seeds than the study.
    """
    return read_table(study if isinstance(study, Study) else load_study(study), path)


def train(
    network: str | Path | Workload,
    plan: TrainingPlan,
    *,
    task: Task | Mapping[str, Any] | str = "shapes",
    seed: int = 0,
    rate: float | None = None,
    split: str = "test",
    reference: str = "",
) -> RunRecord:
    """Train one plan for real, in this process, and return what was observed.

    Parameters
    ----------
    network: a name with its variant, a path, or a loaded network; it has to take the data.
    plan: what to execute.
    task: a task, the table of one, or the name of a data set.
    seed, rate: of the run; the first of the task's rates where None.
    split: samples that accuracy is measured on: "test", or "validation" (kept out of training for choosing).
    reference: "naive" leaves the replays out, "joint" learns from all data at once.

    Raises UserError where something does not fit, with what would.

    """
    require_torch()
    from dse.training.engine import run

    workload = network if isinstance(network, Workload) else load_network(network)
    if isinstance(task, str):
        task = {"data": task}
    chosen = task if isinstance(task, Task) else Task.from_dict(task)
    for name, value, allowed in (("split", split, SPLITS), ("reference", reference, REFERENCES)):
        if value not in allowed:
            raise UnknownName(name, value, [each or "''" for each in allowed], file="train", key=name)
    return run(Job(workload, plan, chosen, seed, chosen.rates[0] if rate is None else rate, split, reference))


__all__ = ["StudyResult", "list_studies", "load_study", "read_runs", "study", "train"]
