"""A study as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dse.plan.decisions import TrainingPlan
from dse.report.study import plan_table, study_folder_name, study_text, verdict_table, write_study
from dse.training import Task
from dse.validation.claims import Claim
from dse.validation.rates import scheme_of
from dse.validation.study import GridPlan, Study
from dse.validation.study_run import DECISIONS, StudyResult
from dse.workload import load_network

NETWORK = load_network("resnet8")
PLANS = [GridPlan("replay", TrainingPlan(cut=cut, n_replays=n)) for cut in (5, 8) for n in (100, 500)]
HEAD = GridPlan("heads", TrainingPlan(cut=9, head="ncm").canonical(NETWORK))
CLAIM = Claim("more replays | are better", "Table 1", {"n_replays": 500}, {"n_replays": 100})


def made(seeds: int = 3) -> StudyResult:
    study = Study(
        "a study", "What was studied", "Which is better?", NETWORK, Task(), seeds, (*PLANS, HEAD), (CLAIM,),
        {"x": "n_replays", "series": "cut"},
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(study.plans):
        for seed in range(seeds):
            row = {"grid": each.grid, "reference": "", "seed": seed, "rate": 0.05}
            row |= {name: getattr(each.plan, name) for name in DECISIONS}
            row |= {
                "accuracy": 0.5 + 0.03 * number + 0.01 * ((seed * 7 + number) % 3),
                "average_accuracy": 0.6,
            }
            row |= {"forgetting": 0.1, "backward_transfer": -0.1, "replay_bytes": 10, "cpu_s": 1.0}
            rows.append(row)
    rates = {scheme_of(NETWORK, each.plan): 0.05 for each in study.plans}
    return StudyResult(study, "hash", rates, tuple(rows))


def test_all_files_are_written_and_the_same_twice(tmp_path: Path) -> None:
    folders = [write_study(made(), tmp_path / name) for name in ("a", "b")]
    names = ["runs.csv", "summary.csv", "study.md", "figures/study.png", "figures/study.svg"]
    for name in names:
        first, second = (folder / name for folder in folders)
        assert first.read_bytes() == second.read_bytes()
    assert len(pd.read_csv(folders[0] / "runs.csv")) == 15
    assert len(pd.read_csv(folders[0] / "summary.csv")) == 5


def test_the_report_states_verdicts_and_plans() -> None:
    text = study_text(made())
    assert "# What was studied" in text
    assert "more replays \\| are better" in text
    assert "| holds |" in text
    assert "3 seeds, paired" in text


def test_decisions_that_never_vary_are_left_out() -> None:
    header = plan_table(made().summary()).splitlines()[0]
    assert "n_replays" in header
    assert "cut" in header
    assert "optimiser" not in header


def test_a_single_seed_has_no_interval() -> None:
    result = made(seeds=1)
    assert "±" not in plan_table(result.summary())
    assert "not enough seeds" in verdict_table(result.verdicts)


@pytest.mark.parametrize("change", [{"seeds": 4}, {"task": Task(per_class=7)}, {"plans": tuple(PLANS)}])
def test_the_folder_is_named_by_what_decides_its_content(change: dict[str, Any]) -> None:
    from dataclasses import replace

    study = made().study
    assert study_folder_name(study) == study_folder_name(made().study)
    assert study_folder_name(replace(study, **change)) != study_folder_name(study)
    assert study_folder_name(study).startswith("study-a-study-")
