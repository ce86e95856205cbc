"""``dse explore NETWORK --board ...``: a space made from options, and the file of it in the run folder."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd
import pytest

import dse
from dse.api.explorations import run_folder
from dse.api.quick import is_network, network_space
from dse.cli import run
from dse.errors import UserError
from dse.search.quick import FIXED, FREE
from tests.workload.recurrent import GATED, write

BASED = 'name = "small"\ntitle = "t"\nsource = "s"\nbase = "resnet8"\nwidth = 0.5\n'


def test_what_is_a_network_and_what_a_space(tmp_path: Path) -> None:
    layered, based, space = (tmp_path / f"{name}.toml" for name in ("layered", "based", "space"))
    layered.write_text(GATED, encoding="utf-8")
    based.write_text(BASED, encoding="utf-8")
    space.write_text('networks = ["resnet8"]\nboards = ["vega"]\n', encoding="utf-8")
    for name in ("resnet8", "resnet8@width=0.5", "own.onnx", "own.tflite@classes=3", "a/b.pt2", str(layered),
                 str(based), f"{based}@classes=4"):  # fmt: skip
        assert is_network(name), name
    for name in ("small-boards", "vega", "shapes", str(space), "nowhere.toml", "nothing"):
        assert not is_network(name), name


def test_every_listed_exploration_stays_a_space() -> None:
    assert not any(map(is_network, dse.list_explorations()))
    assert all(map(is_network, dse.list_networks()))


def test_options_become_the_tables_of_a_space() -> None:
    found = network_space(
        "resnet8", ["stm32l4r5", "nrf52840"], classes=5, duty={"events_per_day": 4},
        budgets={"ram_peak_kib": 256, "nvm_kib": 1024, "event_s": 60, "lifetime_days": 30},
    )  # fmt: skip
    assert found.name == "resnet8"
    assert [board.name for board in found.boards] == ["stm32l4r5", "nrf52840"]
    assert found.networks[0].classes == 5
    assert found.objectives == ("ram_peak_bytes", "event_j", "event_s")
    limits = {budget.name: budget.limit for budget in found.budgets}
    assert limits == {
        "ram_peak_kib": 256 * 1024, "nvm_kib": 1024 * 1024, "event_s": 60, "lifetime_days": 30 * 86400
    }  # fmt: skip
    assert found.duty.events_per_day == 4
    assert found.accuracy is None


def test_what_accuracy_depends_on_is_as_the_spaces_for_small_boards_fix_it() -> None:
    shipped = dse.load_space("small-mcunet").tables["choices"]
    assert shipped == {**FIXED, **FREE}


def test_the_front_is_that_of_the_same_space_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(BASED, encoding="utf-8")
    options = ["--board", "nrf52840", "--ram-kib", "128", "--designs", "none", "--classes", "4"]
    assert run(["explore", "small.toml", *options]) == 0
    shown = capsys.readouterr().out
    assert "accuracy is no axis, so what it depends on is fixed: the last unit learns, 375 latent" in shown
    (folder,) = (tmp_path / "runs").iterdir()
    made = folder / "space.toml"
    assert f"runs/{folder.name}/space.toml: the space that was made" in shown
    assert tomllib.loads(made.read_text(encoding="utf-8"))["networks"] == [
        {"name": "inputs/small.toml", "classes": 4}
    ]
    again = dse.load_space(made)
    assert run_folder(again, "runs", designs="none").name == folder.name  # edited in nothing, named alike
    front = pd.read_csv(folder / "front.csv")
    assert dse.explore(again).to_frame()["design"].tolist() == front["design"].tolist()
    given = network_space("small.toml", ["nrf52840"], classes=4, budgets={"ram_peak_kib": 128})
    assert again.content_hash == given.content_hash


def test_a_network_with_an_lstm_needs_its_price_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, out = str(write(GATED, tmp_path)), ["--out", str(tmp_path / "runs"), "--designs", "none"]
    assert run(["explore", network, "--board", "stm32l4r5", *out]) == 2
    assert "--accept lstm=LOW..HIGH in MAC/cycle" in capsys.readouterr().err
    found = network_space(network, ["stm32l4r5"], accept=["lstm", "sigmoid"])
    assert found.tables["accept"] == {"lstm": True, "sigmoid": True}
    assert dse.explore(found).boards[0].counts.feasible


def test_every_mistake_is_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explore", "resnet8@wdth=2", "--ram-kib", "-3", "--event-s", "nan", "--events-per-day", "-1",
                "--accept", "x=", "--task", "nowhere.toml"]) == 2  # fmt: skip
    error = capsys.readouterr().err
    for key in ("wdth", "--ram-kib", "--event-s", "--events-per-day", "--accept", "nowhere.toml", "--board"):
        assert key in error, key
    assert run(["explore", "resnet8", "--board", "nowhere", "--classes", "0"]) == 2
    error = capsys.readouterr().err
    assert "unknown board 'nowhere'" in error
    assert "classes" in error


@pytest.mark.parametrize(
    "given",
    [["--board", "vega"], ["--classes", "3"], ["--ram-kib", "3"], ["--flash-kib", "3"], ["--event-s", "3"],
     ["--event-j", "3"], ["--battery-days", "3"], ["--events-per-day", "3"], ["--inferences-per-day", "3"],
     ["--task", "t.toml"]],
)  # fmt: skip
def test_options_of_a_network_do_not_go_with_a_space(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (["small-boards"], []):
        assert run(["explore", *name, *given]) == 2
        expected = f"option: {given[0]}: goes with a network; a space file says this itself"
        assert capsys.readouterr().err.strip() == expected


def test_acceptance_alone_goes_with_no_newcomers_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explore", "--accept", "lstm"]) == 2
    assert "--accept: goes with a network" in capsys.readouterr().err


# --- measured ---


def test_a_task_makes_accuracy_an_axis(tmp_path: Path) -> None:
    task = tmp_path / "task.toml"
    task.write_text('[task]\ndata = "shapes"\n', encoding="utf-8")
    network = "mobilenet-v1@width=0.125,resolution=20,channels=1"
    found = network_space(network, ["nrf52840"], classes=10, task=task)
    assert found.objectives == ("accuracy", "ram_peak_bytes", "event_j")
    assert found.measure is not None
    assert found.task == {"data": "shapes"}
    cuts = found.choices.values["cut"]
    assert cuts[-1] == "last"
    assert len(cuts) == 5
    assert set(cuts[:-1]) <= set(found.networks[0].cuts)
    assert min(cuts[:-1]) >= (len(found.networks[0].units) - 1) // 2


def test_a_file_without_a_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        network_space("resnet8", ["vega"], task=path)
    assert "no table [task]" in str(caught.value)


def test_accuracy_of_what_runs_forward_only_is_not_measured(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    task = tmp_path / "task.toml"
    task.write_text('[task]\ndata = "shapes"\n', encoding="utf-8")
    found = network_space(str(write(GATED, tmp_path)), ["stm32l4r5"], task=task, accept=["lstm", "sigmoid"])
    with pytest.raises(UserError) as caught:
        dse.explore(found)
    assert "it has layers that run forward only, which no training executes (cells (lstm))" in str(
        caught.value
    )


TASK = """
[task]
first = {first}
step = 2
per_class = {per_class}
pretrain_per_class = 60
pretrain_epochs = 0
data = {{ kind = "shapes", size = 12, classes = 7, train_per_class = 80, test_per_class = 20, noise = 5 }}
"""


@pytest.mark.parametrize(
    ("first", "per_class", "images", "replays"), [(3, 40, 80, [50, 150, 180]), (4, 40, 40, [50, 150, 240])]
)
def test_events_and_buffers_are_as_large_as_the_task_has_samples_for(
    tmp_path: Path, first: int, per_class: int, images: int, replays: list[int]
) -> None:
    """Three classes, and two at a time; or four, two, and one that is left over."""
    task = tmp_path / "task.toml"
    task.write_text(TASK.format(first=first, per_class=per_class), encoding="utf-8")
    choices = network_space("resnet8", ["stm32l4r5"], classes=7, task=task).tables["choices"]
    assert (choices["images_per_event"], choices["n_replays"]) == (images, replays)
    large = tmp_path / "large.toml"
    large.write_text('[task]\ndata = "shapes"\n', encoding="utf-8")
    choices = network_space("resnet8", ["stm32l4r5"], task=large).tables["choices"]
    assert choices["images_per_event"] <= 400
    assert choices["n_replays"] == [50, 150, 500]


def test_a_task_without_data_keeps_the_usual_sizes(tmp_path: Path) -> None:
    task = tmp_path / "task.toml"
    task.write_text('[task]\ndata = { kind = "npz", path = "nowhere.npz" }\n', encoding="utf-8")
    choices = network_space("resnet8", ["stm32l4r5"], task=task).tables["choices"]
    assert (choices["images_per_event"], choices["n_replays"]) == (400, [50, 150, 500])


def test_cuts_are_spread_over_the_upper_half(tmp_path: Path) -> None:
    task = tmp_path / "task.toml"
    task.write_text(TASK.format(first=3, per_class=40), encoding="utf-8")
    found = network_space("mobilenet-v1", ["stm32l4r5"], task=task).tables["choices"]["cut"]
    assert found == [13, 16, 20, 23, "last"]  # of 28 units


def test_a_task_of_few_samples_is_asked_for_one_mini_batch(tmp_path: Path) -> None:
    task = tmp_path / "task.toml"
    few = TASK.format(first=3, per_class=2).replace("pretrain_per_class = 60", "pretrain_per_class = 5")
    task.write_text(few, encoding="utf-8")
    choices = network_space("resnet8", ["stm32l4r5"], classes=7, task=task).tables["choices"]
    assert (choices["images_per_event"], choices["n_replays"]) == (10, [30])
