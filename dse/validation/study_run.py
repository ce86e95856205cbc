"""Runs a study and puts what was observed into one table: a row per run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

from dse.errors import Problem, UserError
from dse.plan.decisions import AS_COMPUTED, INT8_NEUTRAL
from dse.training.data import load_data
from dse.training.record import RunRecord
from dse.validation.claims import Verdict, decide, paired_interval
from dse.validation.planned import planned_replay_bytes
from dse.validation.pool import Pool, run_jobs
from dse.validation.rates import Scheme, scheme_of
from dse.validation.statistics import without_seed_effects
from dse.validation.store import RunStore
from dse.validation.study import COLUMNS, GridPlan, Study, plan_row

DECISIONS: Final = COLUMNS
MEASURES: Final = ("accuracy", "average_accuracy", "forgetting", "backward_transfer", "replay_bytes", "cpu_s")


@dataclass(frozen=True)
class StudyResult:
    """All runs of a study: ``rows`` hold decisions, seed and metrics of one run each."""

    study: Study
    data_hash: str
    rates: Mapping[Scheme, float]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What the runs say of each claim."""
        return tuple(decide(claim, self.rows) for claim in self.study.claims)

    def summary(self) -> list[dict[str, Any]]:
        """Return one row per plan: decisions, mean accuracy, and the half-width of its 90 % interval.

        A seed that is good or bad for every plan says nothing about their differences: its effect is taken
        out before the interval (``statistics.without_seed_effects``).
        """
        groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for row in self.rows:
            groups.setdefault(_identity(row), []).append(row)
        ordered = [sorted(rows, key=lambda row: int(row["seed"])) for rows in groups.values()]
        table = np.array([[row["accuracy"] for row in rows] for rows in ordered], dtype=float)
        within = without_seed_effects(table)
        return [_summary(rows, values) for rows, values in zip(ordered, within, strict=True)]

    def to_frame(self) -> Any:
        """Return the runs as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("grid", "reference", *DECISIONS))


def _summary(rows: Sequence[Mapping[str, Any]], within: Any) -> dict[str, Any]:
    """Put the runs of one plan into one row; ``within`` (S,) are its accuracies without seed effects."""
    first = rows[0]
    found = {name: first[name] for name in ("grid", "reference", *DECISIONS, "rate", "replay_bytes")}
    mean, half = paired_interval(within)
    found |= {"seeds": len(rows), "accuracy": mean, "accuracy_half": half}
    for name in ("average_accuracy", "forgetting", "backward_transfer", "cpu_s"):
        found[name] = float(np.mean([row[name] for row in rows]))
    several, plain = len(rows) > 1, [row["accuracy"] for row in rows]
    found["std"] = float(np.std(within, ddof=1)) if several else float("nan")
    found["std_over_seeds"] = float(np.std(plain, ddof=1)) if several else float("nan")
    return found


_WHOLE: Final = (
    "seed", "cut", "n_replays", "replay_bits", "frozen_bits", "new_per_batch", "replays_per_batch",
    "micro_batch", "epochs", "images_per_event", "replay_bytes", "planned_replay_bytes", "saved_bits",
)  # fmt: skip
_REAL: Final = ("rate", "accuracy", "average_accuracy", "forgetting", "backward_transfer", "cpu_s")


def read_runs(study: Study, path: str | Path | None = None) -> StudyResult:
    """Return the result of ``study`` from a table of runs that was written before.

    Without ``path``, the runs that come with the program. Raises UserError where there is no table, where
    columns are missing or hold something else, and where plans or seeds are not those of the study.
    """
    file: Any = Path(path) if path is not None else files("dse") / "studies" / f"{study.name}.csv"
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = [_typed(row) for row in csv.DictReader(stream)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        found = f"no table of runs: {error}"
        raise UserError(Problem(str(path or study.name), "", found, "runs.csv of a study")) from None
    rates: dict[Scheme, float] = {}
    for each in study.plans:
        same = [row for row in rows if _is_of(row, each)]
        if len({row["seed"] for row in same}) != study.seeds:
            found = f"{len(same)} runs of {each.grid}, {each.plan.head}, cut {each.plan.cut}"
            raise UserError(Problem(str(path or study.name), "", found, f"{study.seeds} seeds of each plan"))
        rates.setdefault(scheme_of(study.workload, each.plan), same[0]["rate"])
    return StudyResult(study, "", rates, tuple(rows))


_LATER: Final = {"learning_dtype": "fp32", **INT8_NEUTRAL, "saved_bits": AS_COMPUTED}
"""Columns that tables of earlier runs may lack, and what they then mean."""


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    known = {**_LATER, **row}
    whole = {name: int(known[name]) for name in _WHOLE}
    return {**known, **whole, **{name: float(row[name] or "nan") for name in _REAL}}


def _is_of(row: Mapping[str, Any], each: GridPlan) -> bool:
    return all(row[name] == value for name, value in plan_row(each).items())


def run_study(
    study: Study,
    store: RunStore,
    *,
    workers: int = 0,
    progress: Any = None,
    rate_progress: Any = None,
) -> StudyResult:
    """Run what ``store`` does not have yet, and return all of it.

    Raises UserError where data or plans do not fit, RuntimeError where a buffer held other bytes than
    planned.
    """
    task = study.task
    data_hash = load_data(task.data, file=study.name, folder=task.folder or None).content_hash
    search = study.rates(data_hash)
    with Pool(workers) as pool:
        tried = run_jobs(search.jobs(), store, pool=pool, progress=rate_progress)
        rates = search.chosen({record.key: record for record in tried})
        jobs = list(study.jobs(rates, data_hash))
        list(run_jobs([job for _, job in jobs], store, pool=pool, progress=progress))
    rows = []
    for each, job in jobs:
        record = store.get(job.key)
        assert record is not None  # run_jobs raises where one failed
        rows.append(_row(study, each, record))
    return StudyResult(study, data_hash, rates, tuple(rows))


def _row(study: Study, each: GridPlan, record: RunRecord) -> dict[str, Any]:
    plan = each.plan
    row = plan_row(each) | {"seed": record.seed, "rate": record.rate}
    row |= {name: getattr(record, name) for name in MEASURES}
    row["cpu_s"] -= record.pretrain_s
    planned = planned_replay_bytes(study.workload, plan)
    if not each.reference and planned != record.replay_bytes:
        raise RuntimeError(f"{plan}: the buffer held {record.replay_bytes} B, planned were {planned} B")
    row["planned_replay_bytes"] = planned
    return row
