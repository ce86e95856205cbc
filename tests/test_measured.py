"""An exploration by measured accuracy, with real training runs, from the file to the folder and back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dse
from dse.api import measured as api
from dse.api.explorations import MEASURED_DEFAULT, run_folder, with_settings
from dse.cli import run
from dse.cli.explore import possible
from dse.errors import UserError
from dse.report.inputs import load_run
from dse.report.runs import COLUMNS, RUNS
from dse.search import explore_exact
from tests.report.spaces import seal

TINY = Path(__file__).parent / "training" / "data" / "tiny.toml"

SPACE: dict[str, Any] = {
    "name": "tiny",
    "networks": [str(TINY)],
    "boards": ["stm32l476rg", "nrf52840"],
    "accuracy": "measured",
    "choices": {
        "head": ["sgd", "tinyol"],
        "cut": "all",
        "n_replays": [20, 60],
        "batch": [[8, 24]],
        "images_per_event": 64,
        "epochs": 1,
        "optimiser": "momentum",
        "micro_batch": [1, "batch"],
    },
    "task": {
        "data": {"kind": "shapes", "size": 12, "classes": 7, "train_per_class": 80, "noise": 5},
        "first": 3, "step": 2, "pretrain_per_class": 60, "per_class": 40, "pretrain_epochs": 2,
        "pretrain_batch": 16, "rates": [0.01, 0.1],
    },
    "measure": {"runs": 10, "seeds": 2},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, written by the command."""
    place = tmp_path_factory.mktemp("explored")
    space = dse.load_space(SPACE)
    folder = run_folder(space, place / "runs")
    found = dse.explore(space, folder=folder, workers=2)
    return dse.write_run(found, place / "runs")


def test_the_folder_holds_runs_trials_and_what_was_found(explored: Path) -> None:
    runs = pd.read_csv(explored / RUNS)
    assert tuple(runs.columns) == COLUMNS
    assert len(runs) == 10
    assert not runs.duplicated(["key", "seed"]).any()
    assert set(runs["phase"]) <= {"start", "explore", "seeds"}
    assert runs["accuracy"].between(0, 1).all()
    assert set(runs.loc[runs["head"] == "sgd", "rate"]) <= {0.01, 0.1}
    assert (explored / "trials.journal").is_file()
    said = json.loads((explored / "run.json").read_text(encoding="utf-8"))["measured"]
    assert (said["runs"], said["runs_done"], said["failures"]) == (10, 10, {})
    front = pd.read_csv(explored / "front.csv")
    assert set(front["accuracy_status"]) <= {"measured", "fitted"}
    assert ((front["accuracy_runs"] > 0) == (front["accuracy_status"] == "measured")).all()


def test_the_mean_of_a_measured_point_is_that_of_its_runs(explored: Path) -> None:
    runs, front = pd.read_csv(explored / RUNS), pd.read_csv(explored / "front.csv")
    rows = front[front["accuracy_runs"] == 2]
    assert len(rows)
    for _, row in rows.iterrows():
        same = runs[(runs["head"] == row["head"]) & (runs["cut"] == row["cut"])]
        same = same[same["n_replays"] == row["n_replays"]]
        assert same["accuracy"].mean() == pytest.approx(row["accuracy"])


def test_the_report_says_what_was_run(explored: Path) -> None:
    report = (explored / "report.md").read_text(encoding="utf-8")
    assert "10 training runs of" in report
    assert "Front of stm32l476rg: " in report
    assert "(measured, 2 runs)" in report
    assert "A seed moves all plans together, by" in report
    assert "mean over the seeds, seed effects taken out, with" in report
    assert "reached the 2 seeds asked for." in report


def test_a_run_that_is_read_back_predicts_what_it_predicted(explored: Path) -> None:
    back = load_run(explored)
    frame = explore_exact(back.space).to_frame()
    assert frame["accuracy"].tolist() == pytest.approx(back.front["accuracy"].tolist())
    assert frame["design"].tolist() == back.front["design"].tolist()


def test_runs_that_do_not_belong_to_the_space_are_refused(explored: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(explored, tmp_path / "copy"))
    text = (copy / RUNS).read_text(encoding="utf-8")
    (copy / RUNS).write_text(text.replace(",sgd,latent,", ",sgd,raw,"), encoding="utf-8")
    with pytest.raises(UserError, match=r"runs\.csv: not what run\.json was written with"):
        load_run(copy)
    seal(copy)
    with pytest.raises(UserError, match="no runs of this space"):
        load_run(copy)
    (copy / RUNS).unlink()
    with pytest.raises(UserError, match=r"runs\.csv: missing"):
        load_run(copy)


def test_exploring_again_trains_nothing_and_writes_the_same(explored: Path) -> None:
    before = {path.name: path.read_bytes() for path in explored.iterdir() if path.is_file()}
    asked: list[tuple[int, int]] = []
    found = dse.explore(SPACE, folder=explored, progress=lambda *done: asked.append(done))
    assert asked == []
    dse.write_run(found, explored.parent)
    after = {path.name: path.read_bytes() for path in explored.iterdir() if path.is_file()}
    for name in ("front.csv", RUNS, "report.md", "run.json"):
        assert before[name] == after[name], name


def test_a_killed_exploration_goes_on(explored: Path, tmp_path: Path) -> None:
    """kill -9 in the middle: what was completed is kept, nothing counts twice, and the result is the same."""
    code = (
        "import json, sys, dse\n"
        "if __name__ == '__main__':\n"
        "    dse.explore(json.loads(sys.argv[1]), folder=sys.argv[2], workers=2)\n"
    )
    folder = tmp_path / explored.name
    script = tmp_path / "explore.py"
    script.write_text(code, encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script), json.dumps(SPACE), str(folder)])
    journal, until = folder / "trials.journal", time.monotonic() + 120
    while time.monotonic() < until and not (journal.exists() and b'"record"' in journal.read_bytes()):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = dse.explore(SPACE, folder=folder, workers=2)
    assert found.measurement is not None
    runs = pd.read_csv(explored / RUNS)
    mine = {(run.key, run.seed): run.accuracy for run in found.measurement.finished}
    assert mine == {(row.key, row.seed): row.accuracy for row in runs.itertuples()}
    assert found.to_frame()["accuracy"].tolist() == pd.read_csv(explored / "front.csv")["accuracy"].tolist()


# --- what is refused, and what is left out ---


def test_problems_of_space_and_task_come_together() -> None:
    with pytest.raises(UserError) as caught:
        dse.load_space({**SPACE, "boards": ["stm32l4"], "task": {"first": 0, "stream": "classes"}})
    assert [problem.key for problem in caught.value.problems] == ["boards[0]", "task.first", "task.stream"]


def test_settings_change_the_tables_with_them() -> None:
    found = with_settings(SPACE, 7, None, 20)
    assert found.measure is not None
    assert (found.measure.runs, found.measure.seed, found.search.seed) == (20, 7, 7)
    assert dse.load_space(found.tables).content_hash == found.content_hash
    with pytest.raises(UserError, match="needs no runs"):
        with_settings("small-heads", None, None, 20)
    with pytest.raises(UserError, match="runs: 0; an integer from 1"):
        with_settings(SPACE, None, None, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"storage": "journal"}, "with a run folder"),
        ({"storage": "nowhere"}, "'memory', 'journal'"),
        ({"workers": -1}, "workers: -1; an integer from 0 to 1024"),
        ({"method": "random"}, "random with measured accuracy"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        dse.explore(SPACE, **options)
    assert said in str(caught.value)


def test_data_that_do_not_fit_are_refused_before_training() -> None:
    with pytest.raises(UserError, match="3x32x32"):
        dse.explore({**SPACE, "networks": ["resnet8"]})


def test_without_packages_the_default_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert possible(("vega", MEASURED_DEFAULT)) == ("vega", MEASURED_DEFAULT)
    monkeypatch.setattr(api, "find_spec", lambda name: None if name == "torch" else object())
    assert possible(("vega", MEASURED_DEFAULT)) == ("vega",)
    out = capsys.readouterr().out
    assert "shapes: left out, not installed: PyTorch; pip install 'tinyml-dse[train]'" in out
    with pytest.raises(UserError, match="not installed: PyTorch"):
        dse.explore(SPACE)


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["explore", "small-heads", "--runs", "5", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == 'option: runs: small-heads needs no runs; accuracy = "measured"\n'
    assert run(["explore", "shapes", "--storage", "nowhere", "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_default_by_runs_has_what_a_validation_needs() -> None:
    space = dse.load_space(MEASURED_DEFAULT)
    assert space.measure is not None
    assert api.task_of(space).validation_share > 0
    assert {"sgd", "ncm", "slda", "cwr", "tinyol"} == set(space.tables["choices"]["head"])
