"""``dse hw calibrate``: from a table to a report, a figure and a board that checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.cli import run
from dse.hardware import check_board, load_board

TABLE = (
    "network,layer,pass,dtype,clock_mhz,latency_ms,power_mw,note\n"
    "resnet8,,fwd,int8,120,165.1,41.5,whole\n"
    "autoencoder,,fwd,int8,120,5.02,42.1,whole\n"
    "ds-cnn,,,int8,120,33.0,,empty pass is fwd\n"
    "mobilenet-v1-0.25-vww,1,fwd,int8,120,4.6,,one layer\n"
)


def write(folder: Path, text: str = TABLE) -> Path:
    path = folder / "rows.csv"
    path.write_text(text)
    return path


def test_from_a_table_to_a_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, board, figure, csv = write(tmp_path), *(tmp_path / name for name in ("my.toml", "f.png", "r.csv"))
    arguments = ["--out", str(board), "--figure", str(figure), "--csv", str(csv)]
    assert run(["hw", "calibrate", "stm32l4r5", str(rows), *arguments]) == 0
    said = capsys.readouterr().out
    for words in (
        "4 rows",
        "numbers (90 % intervals)",
        "held out",
        "one factor",
        "power at work",
        "in the MAC",
    ):
        assert words in said, said
    assert not check_board(board)
    assert load_board(board).name == "my"
    assert figure.stat().st_size > 10_000
    lines = csv.read_text().splitlines()
    assert len(lines) == 5
    assert "held_out_error" in lines[0]
    assert run(["hw", "check", str(board)]) == 0
    assert run(["estimate", "ds-cnn", str(board), "--no-intervals"]) == 0


def test_a_published_run_with_other_boards(capsys: pytest.CaptureFixture[str]) -> None:
    name = "Krai/NUCLEO-L4R5ZI/x-cube-ai-7.3"
    assert run(["hw", "calibrate", "stm32l4r5", "--mlperf", name, "--other-boards"]) == 0
    said = capsys.readouterr().out
    assert "as on other boards" in said
    assert "vww of this run, not fitted: " in said


@pytest.mark.parametrize("form", ["mlperf", "network", "kernels"])
def test_a_template_goes_in_again(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hw", "calibrate", "--template", form]) == 0
    path = write(tmp_path, capsys.readouterr().out)
    assert run(["hw", "calibrate", "vega" if form == "kernels" else "stm32l4r5", str(path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "BOARD: missing"),
        (["stm32l4r5"], "neither measurements nor a run"),
        (["stm32l4r6", "{rows}"], "did you mean 'stm32l4r5'"),
        (["stm32l4r5", "{rows}", "--mlperf", "a/b/c"], "both measurements and a run"),
        (["stm32l4r5", "--mlperf", "a/b/c"], "unknown run 'a/b/c'"),
        (["stm32l4r5", "{rows}", "--out", "/nowhere/x.toml"], "cannot be written"),
        (["stm32l4r5", "{rows}", "--out", "x.json"], "one of .toml"),
        (["stm32l4r5", "missing.csv"], "missing.csv: cannot be read"),
        (["--template", "x"], "unknown template 'x'"),
        (["stm32l4r5@int8=plumerai", "{rows}"], "line 2, power_mw"),
    ],
)
def test_what_is_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TABLE.replace(",41.5,", ",41500000,") if "plumerai" in "".join(arguments) else TABLE
    rows = write(tmp_path, text)
    given = [each.format(rows=rows) for each in arguments]
    assert run(["hw", "calibrate", *given]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert not printed.out


def test_an_implausible_row_is_refused_and_kept_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path, TABLE.replace("165.1", "0.1651"))
    assert run(["hw", "calibrate", "stm32l4r5", str(rows)]) == 2
    assert "line 2, latency_ms: 631 MAC/cycle" in capsys.readouterr().err
    assert run(["hw", "calibrate", "stm32l4r5", str(rows), "--keep-implausible"]) == 0
    assert "implausible, and kept" in capsys.readouterr().out
