"""Segments of a recording in the rows that lack power, and a board calibrated from both, by command."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from dse.api.traces import calibrate_with_trace
from dse.calibrate import calibrated_board
from dse.calibrate.joining import join_trace
from dse.calibrate.trace_segments import Cut
from dse.calibrate.traces import read_trace
from dse.cli import run
from dse.errors import UserError
from dse.hardware import load_board
from tests.calibrate.recordings import bench

BOARD = "stm32l4r5"
HEADER = "operator,pass,dtype,library,operating_point,macs,elements,calls,cycles,power_mw,note\n"
TABLE = (
    "# a comment\n"
    + HEADER
    + 'conv2d,fwd,int8,,120MHz,1000000,,1,1600000,,"3x3, ""dense"""\n'
    + "conv2d,fwd,int8,,120MHz,2000000,,1,3100000,48,known\n"
    + "# conv2d: minimum 1, median 2\n"
    + "linear,bwd_weight,fp32,,120MHz,640,,1,,,power alone\n"
    + "# sleep stop2\n"
)
POWERS = (0.045, 0.05, 8e-6)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "measurements.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return bench(POWERS).write(tmp_path / "trace.csv", "time_s,current_a,D0")


CUT = Cut(3.0, "D0")


def test_segments_go_to_the_rows_without_power_in_order(table: Path, trace: Path) -> None:
    found = join_trace(table, read_trace(trace, CUT))
    changed = TABLE.splitlines()
    changed[2] = changed[2].replace('1600000,,"3', '1600000,45,"3')
    changed[5] = changed[5].replace("1,,,power", "1,,50,power")
    assert found.text.splitlines() == changed
    ((sleep,),) = (found.sleeps,)
    assert (sleep.state, sleep.line) == ("stop2", 7)
    assert sleep.segment.power_w == pytest.approx(8e-6)
    assert found.notes[0].startswith("line 3: 45 mW for 500 ms, 22.5 mJ (before 3 mW, after 3 mW)")
    assert found.notes[2].startswith("sleep stop2: 8 µW for 500 ms")


def test_a_column_of_power_is_added(tmp_path: Path, trace: Path) -> None:
    path = tmp_path / "m.csv"
    rows = ("resnet8,int8,250", "autoencoder,int8,9", "ds-cnn,int8,60")
    path.write_text("\n".join(["network,dtype,latency_ms", *rows, ""]), encoding="utf-8")
    assert join_trace(path, read_trace(trace, CUT)).text == (
        "network,dtype,latency_ms,power_w\nresnet8,int8,250,0.045\nautoencoder,int8,9,0.05\nds-cnn,int8,60,8e-06\n"
    )


def test_a_row_with_an_energy_takes_no_segment(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "network,dtype,latency_ms,energy_uj\nresnet8,int8,250,9000\nds-cnn,int8,60,\n", encoding="utf-8"
    )
    trace = bench(POWERS[:1]).write(tmp_path / "one.csv", "time_s,current_a,D0")
    assert join_trace(path, read_trace(trace, CUT)).text.splitlines()[1:] == [
        "resnet8,int8,250,9000,",
        "ds-cnn,int8,60,,0.045",
    ]


def test_counts_that_differ_are_both_told(table: Path, tmp_path: Path) -> None:
    few = bench(POWERS[:2]).write(tmp_path / "few.csv", "time_s,current_a,D0")
    with pytest.raises(UserError, match=r"2 segments, for 3 rows without power or energy of .* last 500 ms"):
        join_trace(table, read_trace(few, CUT))


def test_a_board_from_a_table_and_a_recording(table: Path, trace: Path, tmp_path: Path) -> None:
    found = calibrate_with_trace(BOARD, table, f"{trace}:voltage=3.0", marker="D0")
    point = load_board(BOARD).operating_points[0]
    powers = {power.path: power for power in found.powers}
    assert set(powers) == {
        "operating_point.120MHz.inference_power_w", "operating_point.120MHz.training_power_w",
        "sleep_state.stop2.power_w",
    }  # fmt: skip
    inference = powers["operating_point.120MHz.inference_power_w"]
    assert inference.rows == 2  # 45 mW of the recording and 48 mW of the table
    assert 0.044 < inference.value_w < 0.049
    training = powers["operating_point.120MHz.training_power_w"]
    assert abs(training.value_w - 0.05) < abs(point.training_power_w.value - 0.05)
    asleep = powers["sleep_state.stop2.power_w"]
    assert asleep.low_w < 8e-6 < asleep.high_w
    energy = [row.energy_j for row in found.rows]
    assert energy[0] == pytest.approx(0.045 * 1600000 / 120e6)
    board = calibrated_board(found)
    assert board.sleep_state("stop2").power_w.value == pytest.approx(asleep.value_w, rel=1e-5)
    assert board.sleep_state("stop2").power_w.kind == "measured"
    assert found.source == str(table)


def test_the_command_writes_the_board(
    table: Path, trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.toml"
    options = ["--trace", f"{trace}:voltage=3.0", "--marker", "D0", "--out", str(out)]
    assert run(["hw", "calibrate", BOARD, str(table), *options]) == 0
    printed = capsys.readouterr().out
    assert "power at work and asleep" in printed
    assert "sleep stop2: 8 µW" in printed
    board = load_board(str(out))
    asleep = board.sleep_state("stop2").power_w
    assert asleep.value == pytest.approx(8e-6, rel=0.5)
    assert "was" in asleep.note
    assert board.sleep_state("standby") == load_board(BOARD).sleep_state("standby")
    shipped = (files("hwprofiles") / f"{BOARD}.toml").read_text(encoding="utf-8")
    comments = {line for line in shipped.splitlines() if line.startswith("#")}
    assert comments
    assert comments <= set(out.read_text(encoding="utf-8").splitlines())


def test_a_slip_of_the_unit_is_flagged_by_physics(table: Path, tmp_path: Path) -> None:
    # Milliamperes under a header of microamperes: a thousandth of what the board draws.
    slipped = bench(POWERS).write(tmp_path / "slip.csv", "time_s,current_ua,D0", current=1e-3)
    with pytest.raises(UserError) as error:
        calibrate_with_trace(BOARD, table, slipped, voltage_v=3.0, marker="D0")
    said = [str(problem) for problem in error.value.problems]
    assert any("line 7: 8 nW asleep" in each for each in said)
    path = tmp_path / "awake.csv"
    path.write_text(TABLE.replace("# sleep stop2\n", ""), encoding="utf-8")
    awake = bench(POWERS[:2]).write(tmp_path / "awake_trace.csv", "time_s,current_ua,D0", current=1e-3)
    with pytest.raises(UserError) as error:
        calibrate_with_trace(BOARD, path, awake, voltage_v=3.0, marker="D0")
    said = [str(problem) for problem in error.value.problems]
    assert any("line 3, power_mw: 45 µW, where the profile says" in each for each in said)
    assert calibrate_with_trace(
        BOARD, path, awake, voltage_v=3.0, marker="D0", keep_implausible=True
    ).implausible


def test_problems_of_both_files_come_together(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(HEADER + "conv2d,fwd,int9,,120MHz,1000000,,1,1600000,,\n", encoding="utf-8")
    trace = tmp_path / "trace.csv"
    trace.write_text("time,current_a,D0\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        calibrate_with_trace(BOARD, path, trace, voltage_v=3.0, marker="D0")
    said = " / ".join(str(problem) for problem in error.value.problems)
    assert "no known unit" in said
    assert "unknown dtype 'int9'" in said


def test_an_unknown_state_of_sleep(table: Path, trace: Path) -> None:
    table.write_text(TABLE.replace("stop2", "stop3"), encoding="utf-8")
    with pytest.raises(UserError, match=r"unknown sleep state 'stop3'.*did you mean 'stop2'"):
        calibrate_with_trace(BOARD, table, trace, voltage_v=3.0, marker="D0")


def test_a_trace_needs_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hw", "calibrate", BOARD, "--trace", "a.csv"]) == 2
    assert "without a table of measurements" in capsys.readouterr().err
