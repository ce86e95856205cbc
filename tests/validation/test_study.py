"""Studies: what is read, what is run, and what is made of the runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.plan.policy import UpdatePolicy
from dse.training import Job, RunRecord
from dse.validation import study_run
from dse.validation.claims import decide
from dse.validation.planned import planned_replay_bytes
from dse.validation.store import RunStore
from dse.validation.study import Study, list_studies, load_study, plan_row
from dse.validation.study_run import StudyResult, read_runs, run_study

STUDY = """
name = "small"
title = "a small study"
question = "which is better?"
network = "{network}"
seeds = 3
[task]
data = {{ kind = "shapes", size = 12, classes = 7, train_per_class = 40, test_per_class = 10 }}
first = 3
step = 2
pretrain_per_class = 20
per_class = 12
pretrain_epochs = 1
[common]
images_per_event = 24
batch = [[8, 16]]
[[grids]]
name = "replay"
cut = [2, "last"]
n_replays = [16, 40]
[[grids]]
name = "heads"
head = ["ncm", "slda"]
[[grids]]
name = "references"
cut = 2
n_replays = 40
references = ["naive", "joint"]
[[claims]]
text = "more replays are better"
source = "hand"
better = {{ n_replays = 40, cut = [2, 4] }}
worse = {{ n_replays = 16, cut = [2, 4] }}
[figure]
x = "n_replays"
series = "cut"
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = STUDY, **changes: str) -> Path:
        network = Path(__file__).parents[1] / "training" / "data" / "tiny.toml"
        text = text.format(network=network)
        for old, new in changes.items():
            text = text.replace(old, new)
        path = tmp_path / "small.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def fake_runs(monkeypatch: pytest.MonkeyPatch, accuracy: Callable[[Job], float], off: int = 0) -> list[Job]:
    """Replace training by ``accuracy``; returns the jobs that were asked for."""
    asked: list[Job] = []

    def answer(jobs: list[Job], store: RunStore, **_: Any) -> Any:
        for job in jobs:
            asked.append(job)
            held = 0 if job.reference else planned_replay_bytes(job.workload, job.plan) + off
            record = RunRecord(
                key=job.key, plan_key="", data_hash="", seed=job.seed, rate=job.rate, split=job.split,
                reference=job.reference, accuracy=accuracy(job), average_accuracy=0.5, forgetting=0.1,
                backward_transfer=-0.1, matrix=(), per_experience=(), test_samples=1, replay_bytes=held,
                state_bytes=0, cpu_s=2.0, pretrain_s=0.5, wall_s=2.0,
            )  # fmt: skip
            store.put(record)
            yield record

    monkeypatch.setattr(study_run, "run_jobs", answer)
    return asked


def result(written: Callable[..., Path], tmp_path: Path) -> StudyResult:
    return run_study(load_study(written()), RunStore(tmp_path / "runs"))


def test_grids_become_plans(written: Callable[..., Path]) -> None:
    study = load_study(written())
    found = [
        (each.grid, each.plan.head, each.plan.cut, each.plan.n_replays, each.reference)
        for each in study.plans
    ]
    assert found == [
        ("replay", "sgd", 2, 16, ""), ("replay", "sgd", 2, 40, ""),
        ("replay", "sgd", 4, 16, ""), ("replay", "sgd", 4, 40, ""),
        ("heads", "ncm", 4, 0, ""), ("heads", "slda", 4, 0, ""),
        ("references", "sgd", 2, 40, "naive"), ("references", "sgd", 2, 40, "joint"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", list_studies())
def test_every_study_that_comes_along_can_be_read(name: str) -> None:
    study = load_study(name)
    assert study.plans
    assert study.title
    rows = [plan_row(each) | {"seed": seed, "accuracy": 0.5} for each in study.plans for seed in (0, 1)]
    for claim in study.claims:
        assert set(claim.better) | set(claim.worse) <= set(rows[0])
        assert decide(claim, rows).seeds == 2, f"{claim.text}: a side matches no plan"


def test_seeds_are_outermost_and_paired(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_runs(monkeypatch, lambda job: 0.5)
    result(written, tmp_path)
    assert [job.seed for job in asked] == [0] * 8 + [1] * 8 + [2] * 8
    assert all(job.split == "test" and job.data_hash for job in asked)


def test_what_a_seed_adds_to_all_plans_leaves_the_interval(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, lambda job: 0.5 + 0.1 * job.seed + 0.001 * job.plan.n_replays)
    found = result(written, tmp_path)
    for row in found.summary():
        assert row["accuracy_half"] == pytest.approx(0, abs=1e-12)
        assert row["std_over_seeds"] == pytest.approx(0.1)
        assert row["accuracy"] == pytest.approx(0.6 + 0.001 * row["n_replays"])
        assert row["cpu_s"] == pytest.approx(1.5)
    assert found.verdicts[0].verdict == "holds"
    assert found.verdicts[0].difference == pytest.approx(2.4)


def test_other_bytes_than_planned_are_an_error(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, lambda job: 0.5, off=1)
    with pytest.raises(RuntimeError, match="planned were"):
        result(written, tmp_path)


def test_the_table_has_a_row_per_run(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, lambda job: 0.5)
    frame = result(written, tmp_path).to_frame()
    assert len(frame) == 24
    assert (
        frame.loc[frame.reference == "", "replay_bytes"] == frame.planned_replay_bytes[frame.reference == ""]
    ).all()
    assert np.isfinite(frame.accuracy).all()


def test_every_mistake_of_a_study_is_reported_at_once(written: Callable[..., Path]) -> None:
    path = written(**{
        "seeds = 3": "seeds = 0", "first = 3": "frist = 3", 'head = ["ncm"': 'head = ["nmc"',
        '"joint"]': '"jont"]', "n_replays = [16": "n_replays = [-16", 'x = "n_replays"': 'axis = "n_replays"',
    })  # fmt: skip
    with pytest.raises(UserError) as caught:
        load_study(path)
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {
        "seeds", "task.frist", "grids[0].n_replays[0]", "grids[1].head[0]", "grids[2].references[1]",
        "figure.axis",
    }  # fmt: skip


def test_an_illegal_plan_is_refused(written: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="fewer images per event"):
        load_study(written(**{"batch = [[8, 16]]": "batch = [[30, 16]]"}))


@pytest.mark.parametrize("name", ["no-such-study", "/", "x" * 5000, "a\0b"])
def test_a_name_that_nothing_answers_to_lists_what_there_is(name: str) -> None:
    with pytest.raises(UserError, match="fashion-cuts"):
        load_study(name)


def test_the_path_of_the_data_can_be_replaced() -> None:
    study = load_study("fashion-cuts", data="somewhere", seeds=1)
    assert isinstance(study, Study)
    assert study.seeds == 1
    assert Path(study.task.data["path"]).is_absolute()  # type: ignore[index]


def test_a_table_of_runs_can_be_read_back(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, lambda job: 0.5 + 0.125 * job.seed)
    found = result(written, tmp_path)
    found.to_frame().to_csv(tmp_path / "runs.csv", index=False)
    back = read_runs(found.study, tmp_path / "runs.csv")
    assert [dict(row) for row in back.rows] == [dict(row) for row in found.rows]
    assert back.summary() == found.summary()


ONE_REFERENCE = """
name = "joint"
title = "joint"
question = "what learns?"
network = "{network}"
seeds = 2
[task]
data = "shapes"
first = 2
step = 2
rates = [0.1, 0.2]
[common]
cut = "input"
replay = "none"
batch = [[4, 0]]
images_per_event = 8
[[grids]]
name = "joint"
references = ["joint"]
policy = ["all", "bias"]
[[claims]]
text = "all is better than biases"
source = "hand"
better = {{ policy = "all" }}
worse = {{ policy = "bias" }}
"""


def policy_of(job: Job) -> str:
    return UpdatePolicy.parse(job.plan.policy).name


def test_a_study_of_one_reference_chooses_rates_by_it_and_claims_are_of_it(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_runs(monkeypatch, lambda job: 0.9 if policy_of(job) == "all" else 0.5)
    study = load_study(written(ONE_REFERENCE))
    found = run_study(study, RunStore(tmp_path / "runs"))
    assert {job.reference for job in asked if job.split == "validation"} == {"joint"}
    assert found.verdicts[0].difference == pytest.approx(40)


def test_a_table_without_the_runs_of_a_policy_is_refused(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, lambda job: 0.5)
    found = run_study(load_study(written(ONE_REFERENCE)), RunStore(tmp_path / "runs"))
    frame = found.to_frame()
    frame[frame.policy == "all"].to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(UserError, match="2 seeds of each plan"):
        read_runs(found.study, tmp_path / "runs.csv")


def test_what_is_no_table_of_runs_is_refused(written: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("seed,cut\n1,x\n", encoding="utf-8")
    for name in ("runs.csv", "absent.csv"):
        with pytest.raises(UserError, match=r"runs\.csv of a study"):
            read_runs(load_study(written()), tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('x = "n_replays"', 'x = "replays"', "figure.x"),
        ('series = "cut"', 'series = "cuts"', "figure.series"),
        ('series = "cut"', 'series = "cut"\ngrids = ["reply"]', "figure.grids[0]"),
        ("worse = {{ n_replays = 16", "worse = {{ n_replays = 17", "claims[0].worse"),
    ],
)
def test_what_no_plan_has_is_refused_before_anything_runs(
    written: Callable[..., Path], old: str, new: str, key: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_study(written(STUDY.replace(old, new)))
    assert [problem.key for problem in caught.value.problems] == [key]
