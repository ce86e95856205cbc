"""Input that tries to break the program: always one clear answer, never a traceback, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dse import TrainingPlan, estimate
from dse.cli import run
from dse.errors import UserError
from dse.report import catalogue

HUGE = "9" * 23
SPACE = 'networks = ["har-cnn-1d"]\nboards = ["stm32l476rg"]\nobjectives = ["ram_peak_bytes", "event_j"]\n'


def dse(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dse.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )


@pytest.mark.parametrize(
    "option", ["n-replays", "epochs", "images-per-event", "persist-every", "micro-batch"]
)
def test_integers_beyond_reason_are_refused(option: str) -> None:
    done = dse("estimate", "har-cnn-1d", "stm32l476rg", "--no-intervals", f"--{option}", HUGE)
    assert done.returncode == 2, done.stderr
    assert "an integer from" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_epoch_count_that_would_overflow_is_refused() -> None:
    done = dse("estimate", "har-cnn-1d", "stm32l476rg", "--epochs", str(2**63 - 1))
    assert done.returncode == 2
    assert "epochs" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{SPACE}[choices]\nepochs = [4, {2**63 - 1}]\n", "choices.epochs[1]"),
        (f"{SPACE}[choices]\nn_replays = {'9' * 5000}\n", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
        (f"{SPACE}[search]\nseed = {HUGE}\n", "search.seed"),
        (f"{SPACE}[duty]\nevents_per_day = {'9' * 400}\n", "duty.events_per_day: 999"),
        (f"{SPACE}[budgets]\nevent_j = {'9' * 400}\n", "budgets.event_j: 999"),
        (f'{SPACE}[choices]\npolicy = "last-{"9" * 5000}"\n', "choices.policy"),
        (f'networks = ["har-cnn-1d"]\nboards = ["{"x" * 300}.toml"]\n', "File name too long"),
        (f"{SPACE}[choices]\nmicro_batch = [1000]\n", "no design is possible: "),
        (
            'networks = [{ name = "mobilenet-v1", width = -1 }]\nboards = ["vega"]\n',
            "space.toml: networks[0].width",
        ),
        ('networks = ["mobilenet-v1"]\nboards = ["stm32f746 + psram + psram"]\n', "space.toml: boards[0]"),
        (f'{SPACE}accuracy = "none"\n[choices]\ncut = 0\npolicy = "last-99"\n', "learns below its cut"),
    ],
)
def test_hostile_spaces_exit_with_2_and_write_nothing(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "space.toml").write_text(text)
    done = dse("explore", "space.toml", "--out", "runs", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_a_name_that_is_too_long_for_the_system(tmp_path: Path) -> None:
    done = dse("explore", "vega", "--out", "x" * 300, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        f"estimate har-cnn-1d vega --no-intervals --csv {'x' * 300}.csv",
        f"explain har-cnn-1d vega --figure {'x' * 300}.png",
        f"hw check {'x' * 300}.toml",
        f"estimate har-cnn-1d vega --cut {'9' * 5000}",
        f"estimate har-cnn-1d vega --batch {'9' * 5000}+1",
        "estimate har-cnn-1d vega --cut ²",
        "hw check ./folder.toml",
        "networks list foo",
        "explore vega --seed 4294967296",
        "explore vega --trials 10000001",
    ],
)
def test_hostile_arguments_exit_with_2(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    assert run(arguments.split()) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "did you mean 'list'" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["folder.toml"]


def test_a_crash_exits_with_70(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("nought")

    monkeypatch.setattr(catalogue, "boards_text", broken)
    monkeypatch.delenv("DSE_DEBUG", raising=False)
    assert run(["hw", "list"]) == 70
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("DSE_DEBUG", "1")
    assert run(["hw", "list"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_plan_from_python_is_held_to_the_same_range() -> None:
    with pytest.raises(UserError, match=r"epochs: .* an integer from 1 to 1000000"):
        estimate("har-cnn-1d", "vega", TrainingPlan(cut=0, epochs=2**62), intervals=False)


def test_a_board_of_absurd_size(tmp_path: Path) -> None:
    source = Path("hwprofiles/stm32l476rg.toml").read_text(encoding="utf-8")
    (tmp_path / "b.toml").write_text(source.replace("value = 96,", "value = 1e300,", 1))
    done = dse("hw", "check", str(tmp_path / "b.toml"))
    assert done.returncode == 2, done.stdout
    assert "no board has more than" in done.stdout + done.stderr


def test_more_trials_than_designs_end(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        f'{SPACE}accuracy = "none"\n[choices]\ncut = "last"\nreplay_bits = [7, 8]\n'
    )
    done = dse(
        "explore", "s.toml", "--method", "random", "--trials", "1000000", "--designs", "none", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_two_runs_of_the_same_space_at_once(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(f'{SPACE}accuracy = "none"\n[choices]\ncut = "last"\n')
    command = [sys.executable, "-m", "dse.cli", "explore", "s.toml", "--out", "runs"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    (folder,) = tmp_path.glob("runs/*")
    (folder / "notes.txt").write_text("mine")
    assert dse("explore", "s.toml", "--out", "runs", cwd=tmp_path).returncode == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.glob("runs/.*")] == []


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "dse.cli", "explore", "vega", "--out", "runs"], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/.*")) and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=60) == 130
    assert list(tmp_path.glob("runs/*")) == []
    assert list(tmp_path.glob("runs/.*")) == []


@pytest.mark.parametrize("name", ["a\x1b[31mb.onnx", "a\x9b2Jb.toml", "a\x07b.onnx"])
def test_names_of_files_do_not_steer_the_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "show", name]) == 2
    said = capsys.readouterr().err
    assert "a_" in said
    assert all(letter == "\n" or letter.isprintable() for letter in said)
