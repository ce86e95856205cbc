"""``dse hw new``, ``diff`` and ``compare`` from the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import dse
from dse.cli import run
from dse.errors import UserError
from dse.hardware import check_board, load_board

GIVEN = ["--core", "cortex-m4", "--clock-mhz", "80", "--level", "SRAM=128", "--level", "flash=512",
         "--power-mw", "24", "--source", "data sheet"]  # fmt: skip


def test_new_writes_a_board_that_has_no_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hw", "new", "mine", *GIVEN, "--sleep-uw", "3", "--out", str(tmp_path)]) == 0
    path = tmp_path / "mine.toml"
    assert check_board(path) == []
    board = load_board(path)
    assert board.operating_points[0].clock_hz.value == 80e6
    assert board.sleep_states[0].power_w.value == pytest.approx(3e-6)
    assert "assumed" in path.read_text(encoding="utf-8").splitlines()[2]
    assert "dse hw check" in capsys.readouterr().out
    assert dse.estimate("resnet8", str(path), cut="last", intervals=False).fits


def test_new_replaces_nothing_and_lists_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text("kept", encoding="utf-8")
    assert run(["hw", "new", "mine", *GIVEN, "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "mine.toml").read_text(encoding="utf-8") == "kept"
    assert run(["hw", "new", "other", "--level", "SRAM=x", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert all(key in error for key in ("--core", "--clock-mhz", "--power-mw", "--source", "'SRAM=x'"))
    assert run(["hw", "new", "../up", *GIVEN, "--out", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_new_asks_on_a_terminal(tmp_path: Path) -> None:
    from dse.api.boards import write_new_board

    answers = {"core": "cortex-m33", "clock": "100", "power": "20", "where": "data sheet", "SRAM": "256"}
    asked = []

    def ask(question: str, default: str | None) -> str:
        asked.append(question)
        return next((text for key, text in answers.items() if key in question), default or "")

    given = dict.fromkeys(("core", "like", "source"), "") | {
        "clock_mhz": None, "levels": ["flash=1024"], "power_mw": None, "sleep_uw": None,
    }  # fmt: skip
    write_new_board("asked", given, tmp_path, ask=ask)
    board = load_board(tmp_path / "asked.toml")
    sizes = {level.name: level.size_bytes.value / 1024 for level in board.levels}
    assert board.core == "cortex-m33"
    assert (sizes["SRAM"], sizes["flash"]) == (256, 1024)
    assert not any("flash (" in question for question in asked)


def asked_of(answers: dict[str, list[str]], folder: Path) -> list[str]:
    """Write a board from the answers to each question in turn; return the questions."""
    from dse.api.boards import write_new_board

    questions = []

    def ask(question: str, default: str | None) -> str:
        questions.append(question)
        return next(texts.pop(0) for key, texts in answers.items() if key in question)

    given = dict.fromkeys(("core", "like", "source"), "") | {
        "clock_mhz": None, "levels": [], "power_mw": None, "sleep_uw": None,
    }  # fmt: skip
    write_new_board("asked", given, folder, ask=ask)
    return questions


def test_new_asks_again_where_an_answer_cannot_be_used(tmp_path: Path) -> None:
    answers = {
        "core (": ["cortex-m5", "cortex-m4"], "clock [": ["80 MHz", "nan", "80"], "power": ["-1", "20"],
        "SRAM": ["128k", "128"], "flash": ["1,5", "512"], "where": ["", "data sheet"],
    }  # fmt: skip
    questions = asked_of(answers, tmp_path)
    board = load_board(tmp_path / "asked.toml")
    assert [level.size_bytes.value / 1024 for level in board.levels] == [128, 512]
    assert any(question.startswith("not '128k' but a number from 0") for question in questions)


def test_new_gives_up_on_the_third_answer_and_writes_nothing(tmp_path: Path) -> None:
    answers = {"core (": ["cortex-m4"], "clock [": ["80"], "power": ["20"], "SRAM": ["x", "y", "z"]}
    with pytest.raises(UserError, match="'z'"):
        asked_of(answers, tmp_path)
    assert not list(tmp_path.iterdir())


def test_new_ends_without_a_fuss_where_no_more_answers_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    def prompt(*_: object, **__: object) -> str:
        raise typer.Abort

    monkeypatch.setattr("typer.prompt", prompt)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert run(["hw", "new", "mine", "--out", str(tmp_path)]) == 130
    assert "nothing half-written is left" in capsys.readouterr().err


def test_new_says_which_folder_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hw", "new", "mine", *GIVEN, "--out", "/nonexistent"]) == 2
    assert capsys.readouterr().err.startswith("/nonexistent/mine.toml: cannot be written")


def test_diff_shows_numbers_and_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "diff.csv"
    assert run(["hw", "diff", "stm32l476rg", "stm32l4r5", "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    assert "only stm32l476rg has" in out
    assert "memory.SRAM.size_bytes" in out
    rows = {row["number"]: row for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())}
    assert float(rows["memory.SRAM.size_bytes"]["ratio"]) == pytest.approx(640 / 96)
    assert run(["hw", "diff", "stm32l4r5", "stm32l4r5"]) == 0
    assert "no number differs" in capsys.readouterr().out


def test_compare_prices_as_estimate_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, figure = tmp_path / "boards.csv", tmp_path / "boards.png"
    boards = ["stm32l4r5", "vega"]
    options = ["--cut", "last", "--replay", "latent", "--n-replays", "100"]
    assert (
        run(["hw", "compare", "resnet8", *boards, *options, "--csv", str(table), "--figure", str(figure)])
        == 0
    )
    assert figure.read_bytes().startswith(b"\x89PNG")
    rows = {row["board"]: row for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())}
    for board in boards:
        one = dse.estimate("resnet8", board, cut="last", replay="latent", n_replays=100)
        assert float(rows[board]["event_j"]) == pytest.approx(one.value("event_j"))
        record = next(each for each in one.records() if each["quantity"] == "event_s")
        assert float(rows[board]["event_s_low"]) == pytest.approx(record["low"])
        assert float(rows[board]["event_s_high"]) == pytest.approx(record["high"])


def test_compare_says_what_does_not_fit_or_has_no_price(capsys: pytest.CaptureFixture[str]) -> None:
    wide = ["hw", "compare", "mobilenet-v1", "stm32l476rg", "--cut", "last"]
    assert run(wide) == 1
    out = capsys.readouterr().out
    assert "does not fit: " in out
    assert run(["hw", "compare", "resnet8", "gap8", "--learning-dtype", "fp16", "--cut", "last"]) == 1
    assert "no price: gap8: " in capsys.readouterr().out


def test_compare_reports_every_unknown_board_and_fixed_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hw", "compare", "resnet8", "vegaa", "stm32l4r6"]) == 2
    error = capsys.readouterr().err
    assert "did you mean 'vega'" in error
    assert "did you mean 'stm32l4r5'" in error
    assert run(["hw", "compare", "resnet8", "vega", "--operating-point", "375MHz"]) == 2
    assert "points of their own" in capsys.readouterr().err
