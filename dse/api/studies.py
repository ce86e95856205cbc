"""Studies: grids of plans trained for real, and the claims that they decide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dse.report.files import require_new_folder
from dse.report.study import study_folder_name, write_study
from dse.training import require_torch
from dse.validation.store import RunStore
from dse.validation.study import Study, list_studies, load_study
from dse.validation.study_run import StudyResult, read_runs, run_study

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


def draw_study(result: StudyResult) -> Any:
    """Return a matplotlib figure of a study: accuracy over one decision, a line per value of another."""
    from dse.report.figures.study import study_figure

    return study_figure(result.study.title, result.study.figure, result.summary())


__all__ = ["StudyResult", "draw_study", "list_studies", "load_study", "read_runs", "study"]
