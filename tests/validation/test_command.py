"""``dse validate`` from a run folder to its report, with runs that train nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dse
from dse import cli
from dse.api import validation as api
from dse.cli.validate import seconds
from dse.errors import UserError
from dse.report import figures
from dse.report.figures import validation as validation_figures
from tests.report.spaces import seal
from tests.validation import fake_command, fake_runs
from tests.validation.spaces import CORE, COSTS_ONLY


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dse.write_run(dse.explore(CORE), tmp_path_factory.mktemp("runs"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def drawn() -> None:
    """Let the figure be drawn."""


@pytest.fixture(autouse=True)
def _pretend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn" not in request.fixturenames:  # drawing takes longer than everything else
        monkeypatch.setattr(figures, "save_all", lambda *_: None)
        monkeypatch.setattr(validation_figures, "validation_figure", lambda _: None)
    for name in ("run_validation", "load_data"):
        monkeypatch.setattr(api, name, getattr(api, name))  # put back afterwards
    fake_command.pretend()


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run(["validate", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.usefixtures("drawn")
def test_a_run_is_validated_and_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, out, err = run(capsys, folder, "--seeds", 2, "--jobs", 2)
    assert (code, err) == (0, "")
    assert "paired seeds" in out
    assert f"{folder}/validation.md" in out
    assert {path: path.read_bytes() for path in before} == before, "what explore wrote stays as it is"
    table = pd.read_csv(folder / "validation.csv", dtype={"designs": str})
    assert set(table["role"]) == {"front", "head", "reference", "space"}
    assert (table["seeds"] == 2).all()
    assert table["bytes_equal"].all()
    front = pd.read_csv(folder / "front.csv")
    designs = [
        int(each) for row in table.loc[table["role"] == "front", "designs"] for each in str(row).split()
    ]
    assert sorted(designs) == sorted(front["design"])
    for name in ("validation.md", "figures/validation.png", "figures/validation.svg"):
        assert (folder / name).stat().st_size > 0
    records = sorted((folder / "validation").glob("*.json"))
    assert len(records) == 2 * len(table)
    assert {json.loads(path.read_text())["split"] for path in records} == {"test"}
    run(capsys, folder, "--seeds", 3)
    again = pd.read_csv(folder / "validation.csv")
    assert (again["seeds"] == 3).all()
    assert set(records) < set((folder / "validation").glob("*.json"))


@pytest.mark.usefixtures("drawn")
def test_the_same_inputs_make_the_same_validation(made: Path, tmp_path: Path) -> None:
    content = []
    for name, workers in (("a", 1), ("b", 2)):
        place = Path(shutil.copytree(made, tmp_path / name))
        api.validate(place, plans=2, space_plans=2, seeds=2, workers=workers)
        files = ("validation.csv", "validation.md", "figures/validation.png", "figures/validation.svg")
        content.append([(place / file).read_bytes() for file in files])
    assert content[0] == content[1]


def test_plans_and_runs_limit_what_is_trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = api.validate(folder, plans=1, space_plans=0, runs=7)
    roles = [each.role for each in found.trained]
    assert roles.count("front") == 1
    assert "space" not in roles
    assert len(found.records) == 7
    first = found.trained[0]
    everything, _ = api.validate(folder, seeds=1)
    assert everything.trained[0].key == first.key, "the one that adds most hypervolume"


def test_a_budget_stops_in_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, folder, "--budget", "0.001s")
    assert code == 1
    assert "0 plans trained" in out
    assert "goes on from here" in out
    code, out, _ = run(capsys, folder, "--budget", "3", "--plans", "1", "--space-plans", "0")
    assert code == 0
    assert "goes on from here" in out or "10 paired seeds" in out


def test_a_stand_in_is_said_everywhere(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "mobilenet-v1@width=0.25,resolution=32,classes=10"
    monkeypatch.setattr(api, "load_data", lambda *_, **__: fake_runs.dataset(other))
    code, _, err = run(capsys, folder)
    assert code == 2
    assert "--network NAME@resolution=32" in err
    code, out, _ = run(capsys, folder, "--network", other, "--seeds", "2")
    assert code == 0
    assert "Stand-in network" in out
    assert "by rank alone" in (folder / "validation.md").read_text()
    table = pd.read_csv(folder / "validation.csv")
    assert table["difference"].isna().all()
    assert table.loc[table["role"] == "front", "predicted"].notna().all()
    assert table["bytes_equal"].all()


def test_a_run_without_predictions_is_validated_all_the_same(tmp_path: Path) -> None:
    folder = dse.write_run(dse.explore(COSTS_ONLY), tmp_path, designs="none")
    found, report = api.validate(folder, plans=2, space_plans=1, seeds=2)
    text = report.read_text()
    assert "The run predicted no accuracy" in text
    assert "not enough" in text
    assert found.agreement["front"].plans == 0
    assert found.best >= 0


def test_a_mistake_in_the_bytes_is_loud(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from functools import partial

    from dse.validation.validate import run_validation

    monkeypatch.setattr(
        api, "run_validation", partial(run_validation, run=fake_runs.run_with_a_byte_too_many)
    )
    code, _, err = run(capsys, folder, "--plans", "1", "--space-plans", "0", "--seeds", "1")
    assert code == cli.CRASHED
    assert "internal error" in err
    assert "BytesDiffer" in err
    assert "REPLAY BYTES DIFFER" in (folder / "validation.md").read_text()


TASK_FILES: dict[str, tuple[str, str]] = {
    "nothing there": ("", "no table [task]"),
    "no toml": ("= 3", "not TOML"),
    "unknown key": ("[task]\nfirts = 3", "did you mean 'first'"),
    "several": ("[task]\nfirst = 0\nstep = -1", "task.step"),
}


@pytest.mark.parametrize("case", TASK_FILES)
def test_wrong_tasks_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    text, says = TASK_FILES[case]
    (tmp_path / "task.toml").write_text(text)
    code, _, err = run(capsys, folder, "--task", tmp_path / "task.toml")
    assert code == 2
    assert says in err
    assert "task.toml" in err


def test_a_task_file_is_used(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text("[task]\nfirst = 7\n[other]\nx = 1\n")
    found, _ = api.validate(folder, task=tmp_path / "task.toml", plans=1, space_plans=0, seeds=1)
    assert found.task.first == 7
    found, _ = api.validate(folder, task={"first": 8}, plans=1, space_plans=0, seeds=1)
    assert found.task.first == 8


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "no such folder or exploration"),
        (["vega", "--out", "nowhere"], "`dse explore vega` first"),
        (["x" * 300], "no such folder or exploration"),
        ([".", "--runs", "0"], "runs: 0; an integer from 1"),
        ([".", "--seeds", "0", "--plans", "-1"], "plans: -1"),
        ([".", "--budget", "soon"], "--budget: 'soon'"),
        ([".", "--budget", "0s"], "a time above 0"),
        ([".", "--jobs", "-3"], "workers: -3"),
        (["."], "no folder of an exploration"),
    ],
)
def test_wrong_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_an_exploration_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "vega-0123456789"
    made.mkdir()
    monkeypatch.setattr(api, "folder_name", lambda *_: made.name)
    assert api.explored_folder("vega", tmp_path) == made
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vega").mkdir()
    assert api.explored_folder("vega", tmp_path) == Path("vega"), "a folder of that name comes first"


def test_runs_with_other_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "vega-0123456789").mkdir()
    (tmp_path / "vega.md").touch()
    with pytest.raises(UserError, match=r"or name a run: .*vega-0123456789$"):
        api.explored_folder("vega", tmp_path)


def test_a_front_without_designs_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = (folder / "front.csv").read_text().splitlines()[0]
    (folder / "front.csv").write_text(header + "\n")
    seal(folder)
    code, _, err = run(capsys, folder)
    assert code == 2
    assert "no design is on the front" in err


def test_data_that_changed_since_they_were_measured_on_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "run.json"
    same = fake_runs.dataset().content_hash
    for data_hash, expected in (("0" * 64, 2), (same, 0), (None, 0)):
        content = {**json.loads(path.read_text()), "measured": {"data_sha256": data_hash}}
        path.write_text(json.dumps(content))
        code, _, err = run(capsys, folder, "--plans", 1, "--space-plans", 0, "--seeds", 1)
        assert code == expected
        assert ("measured on other data than black" in err) == (expected == 2)


def test_without_torch_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dse.training

    monkeypatch.setattr(dse.training, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"tinyml-dse\[train\]"):
        api.validate(folder)


@pytest.mark.parametrize(
    ("text", "found"), [("30s", 30), ("10m", 600), ("10 min", 600), ("1h", 3600), ("0.5h", 1800), ("45", 45)]
)
def test_times(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "m", "-3s", "3d", "1e9", "0", "1" * 12, "nan", "inf"])
def test_wrong_times(text: str) -> None:
    with pytest.raises(UserError, match="--budget"):
        seconds(text)


def test_help_names_every_option() -> None:
    import typer

    assert any(command.name == "validate" for command in cli.app.registered_commands)
    assert isinstance(cli.app, typer.Typer)


def test_interrupting_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "run_validation", interrupted)
    code, _, err = run(capsys, folder)
    assert code == cli.INTERRUPTED
    assert "the same command goes on" in err


def test_a_run_of_ones_own_space_is_found_by_its_name(tmp_path: Path) -> None:
    first = tmp_path / "kws-0123456789"
    for name in ("kws-0123456789", "kws-more-0123456789", "kws-abc"):
        (tmp_path / name).mkdir()
    assert api.explored_folder("kws", tmp_path) == first
    assert api.explored_folder("kws-0123456789", tmp_path) == first
    (tmp_path / "kws-abcdef0123").mkdir()
    with pytest.raises(UserError, match=r"2 runs under .*; name one: .*kws-0123456789, .*kws-abcdef0123"):
        api.explored_folder("kws", tmp_path)
    assert api.explored_folder("kws-0123456789", tmp_path) == first
    with pytest.raises(UserError, match="no such folder or exploration; a run folder, a space"):
        api.explored_folder("kw", tmp_path / "nothing")
