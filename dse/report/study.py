"""A study as files: every run, one line per plan, the verdicts on its claims, and a figure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dse.files import atomic_path
from dse.report.document import slug
from dse.report.text import markdown
from dse.validation.claims import Verdict
from dse.validation.rates import Scheme
from dse.validation.study import Study
from dse.validation.study_run import DECISIONS, StudyResult

POINTS: Final = 100


def study_folder_name(study: Study) -> str:
    """Return ``study-<name>-<hash of everything that determines the content>``."""
    content = [study.workload.training_hash, study.task.content(), study.task.rates, study.seeds]
    plans = [[each.grid, each.reference, repr(each.plan)] for each in study.plans]
    digest = hashlib.sha256(json.dumps([*content, plans], sort_keys=True, default=str).encode()).hexdigest()
    return f"study-{slug(study.name)}-{digest[:10]}"


def write_study(result: StudyResult, folder: Path) -> Path:
    """Write runs.csv, summary.csv, study.md and figures/study.png into ``folder``; each file atomically."""
    import pandas as pd

    from dse.report.figures import save_all
    from dse.report.figures.study import study_figure

    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("runs.csv", result.to_frame()), ("summary.csv", pd.DataFrame(result.summary()))):
        with atomic_path(folder / name) as partial:
            frame.to_csv(partial, index=False, lineterminator="\n", float_format="%.6g")
    (folder / "figures").mkdir(exist_ok=True)
    save_all(
        study_figure(result.study.title, result.study.figure, result.summary()), folder / "figures" / "study"
    )
    with atomic_path(folder / "study.md") as partial:
        partial.write_text(study_text(result), encoding="utf-8", newline="\n")
    return folder


def study_text(result: StudyResult) -> str:
    """Return the study as Markdown."""
    study = result.study
    lines = [
        f"# {study.title}", "", study.question, "",
        f"Network {study.workload.name}; {study.seeds} seeds, paired: the same seed gives the same "
        "pretrained network, the same samples and the same order to every plan. Intervals (90 %, t) and "
        "noise are those of differences between plans: what a seed adds to all plans alike is taken out.",
        f"Learning rates by scheme: {rates_text(result.rates) or 'none'}.", "",
        "![accuracy](figures/study.png)", "",
    ]  # fmt: skip
    if result.study.claims:
        lines += ["## Claims", "", verdict_table(result.verdicts), ""]
    return "\n".join([*lines, "## Plans", "", plan_table(result.summary()), ""])


def rates_text(rates: Mapping[Scheme, float]) -> str:
    """Return the rate of every scheme that has one, each named by what it does not share with all others."""
    shown = [name for name in Scheme._fields if len({getattr(each, name) for each in rates}) > 1]
    named = {
        " ".join(getattr(scheme, name) for name in shown or ["head"]): rate for scheme, rate in rates.items()
    }
    return ", ".join(f"{name} {rate:g}" for name, rate in named.items() if rate > 0)


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Return one line per claim: verdict, difference in points with its interval."""
    rows = [
        [each.claim.text, each.claim.source, each.verdict, _difference(each), each.seeds] for each in verdicts
    ]
    return markdown(["claim", "published in", "verdict", "difference (points)", "seeds"], rows)


def _difference(verdict: Verdict) -> str:
    if math.isnan(verdict.low):
        return "not enough seeds"
    return f"{verdict.difference:+.2f} ({verdict.low:+.2f} to {verdict.high:+.2f})"


def plan_table(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return one line per plan; decisions that never vary are left out."""
    names = ("grid", "reference", *DECISIONS)
    varied = [name for name in names if len({str(row[name]) for row in summary}) > 1]
    rows = [[*(row[name] for name in varied), *_measured(row)] for row in summary]
    header = [
        *varied, "accuracy (%)", "noise (points)", "std over seeds (points)", "forgetting (points)",
        "replay bytes", "CPU s",
    ]  # fmt: skip
    return markdown(header, rows)


def _measured(row: Mapping[str, Any]) -> list[Any]:
    points = (row["std"], row["std_over_seeds"], row["forgetting"])
    texts = [f"{POINTS * value:.2f}" for value in points]
    return [_accuracy(row), *texts, row["replay_bytes"], f"{row['cpu_s']:.1f}"]


def _accuracy(row: Mapping[str, Any]) -> str:
    half = "" if math.isnan(row["accuracy_half"]) else f" ± {POINTS * row['accuracy_half']:.2f}"
    return f"{POINTS * row['accuracy']:.2f}{half}"
