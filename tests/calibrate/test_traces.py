"""Recordings cut at their marker, against energies in closed form; and recordings that are none."""

from __future__ import annotations

import math
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dse.calibrate import traces
from dse.calibrate.trace_columns import quantity_of
from dse.calibrate.trace_segments import Cut, Trace
from dse.calibrate.traces import parse_trace, read_trace, split_trace
from dse.errors import UserError
from tests.calibrate.recordings import Piece, Recording, bench

VOLTS = Cut(voltage_v=3.0)


def wrong(path: Path, cut: Cut = VOLTS) -> list[str]:
    trace, problems = parse_trace(path, cut)
    assert trace is None
    assert problems
    return [str(problem) for problem in problems]


def test_steps_have_the_energy_of_rectangles(tmp_path: Path) -> None:
    path = bench([0.03, 0.12]).write(tmp_path / "a.csv", "time_s,current_a,marker")
    found = read_trace(path, VOLTS)
    assert [segment.duration_s for segment in found.segments] == pytest.approx([0.5, 0.5], rel=1e-9)
    assert [segment.energy_j for segment in found.segments] == pytest.approx([0.015, 0.06], rel=1e-9)
    assert [segment.mean_current_a for segment in found.segments] == pytest.approx([0.01, 0.04], rel=1e-9)
    assert [segment.samples for segment in found.segments] == [500, 500]
    assert [segment.start_s for segment in found.segments] == pytest.approx([0.3, 1.1])
    for segment in found.segments:
        assert segment.before_w == pytest.approx(0.003, rel=1e-9)
        assert segment.after_w == pytest.approx(0.003, rel=1e-9)
    assert found.notes == ()


def test_a_ramp_has_the_energy_of_a_trapezium(tmp_path: Path) -> None:
    # 10 to 20 mA over a second at 2 V: 30 mJ; sampled unevenly, where a mean of the samples would be wrong.
    inner = np.sort(np.concatenate([np.linspace(1.0, 1.4, 4001), np.linspace(1.401, 2.0, 600)]))
    times = np.concatenate([np.linspace(0, 0.9999, 1000), inner, np.linspace(2.0001, 3, 1000)])
    high = (times >= 1.0) & (times <= 2.0)
    amperes = np.where(high, 0.01 + 0.01 * (times - 1.0), 0.0)
    path = Recording(times, amperes, high.astype(np.int64)).write(
        tmp_path / "a.csv", "time_s,current_a,marker"
    )
    (segment,) = read_trace(path, Cut(voltage_v=2.0)).segments
    assert segment.energy_j == pytest.approx(0.030, rel=2e-4)
    assert abs(float(np.mean(amperes[high])) * 2.0 - 0.030) > 0.001


def test_noise_averages_out(tmp_path: Path) -> None:
    made = bench([0.03], step_s=1e-4)
    made.amperes += np.random.default_rng(7).normal(0.0, 0.005, len(made.amperes))
    (segment,) = read_trace(made.write(tmp_path / "a.csv", "time_s,current_a,marker"), VOLTS).segments
    # 5000 samples: the mean scatters by 5 mA / sqrt(5000), four of which are 2.8 % of 10 mA.
    assert segment.power_w == pytest.approx(0.03, rel=4 * 0.005 / math.sqrt(5000) / 0.01)
    assert segment.power_w != pytest.approx(0.03, rel=1e-6)


@pytest.mark.parametrize(
    ("header", "time_unit", "current_unit", "extra", "cut"),
    [
        ("Timestamp(ms),Current(uA),D0", 1e-3, 1e-6, "", Cut(3.0, "D0")),
        ("time_us,current_ma,marker", 1e-6, 1e-3, "", VOLTS),
        ("#time (s),current (A),gpi0,voltage (V)", 1.0, 1.0, ",3.0", Cut(marker="gpi0")),
        ('"Time [s]","Main current [mA]",Sync,"Main voltage [mV]"', 1.0, 1e-3, ",3000", Cut(marker="sync")),
        ("time_ns,current_na,marker,temperature", 1e-9, 1e-9, ",21.5", VOLTS),
    ],
)
def test_forms_of_instruments(
    tmp_path: Path, header: str, time_unit: float, current_unit: float, extra: str, cut: Cut
) -> None:
    path = bench([0.03]).write(tmp_path / "a.csv", header, time=time_unit, current=current_unit, extra=extra)
    (segment,) = read_trace(path, cut).segments
    assert segment.power_w == pytest.approx(0.03, rel=1e-6)
    assert segment.duration_s == pytest.approx(0.5, rel=1e-6)


def test_eight_channels_in_one_cell(tmp_path: Path) -> None:
    # As the Power Profiler exports them: D0 first, X where a channel changed within the sample.
    made = bench([0.03])
    cells = [f"00{level}01000" for level in made.high]
    cells[299], cells[300] = "00X01000", "00-01000"
    rows = zip(made.time * 1e3, made.amperes * 1e6, cells, strict=True)
    text = "".join(f"{t:.6f},{i:.3f},{c}\n" for t, i, c in rows)
    path = tmp_path / "ppk.csv"
    path.write_text("Timestamp(ms),Current(uA),D0-D7\n" + text, encoding="utf-8")
    (segment,) = read_trace(path, Cut(3.0, "D2")).segments
    assert segment.samples == 499  # both undecided samples count as the level before them
    assert segment.power_w == pytest.approx(0.03, rel=1e-6)
    assert "never high" in wrong(path, Cut(3.0, "D1"))[0]
    assert "it ends under the marker" in wrong(path, Cut(3.0, "D4"))[-1]


def test_power_that_was_recorded_needs_no_voltage(tmp_path: Path) -> None:
    path = bench([0.03]).write(tmp_path / "a.csv", "time_s,power_mw,marker", current=1e-3 / 3.0)
    (segment,) = read_trace(path, Cut()).segments
    assert segment.power_w == pytest.approx(0.03)
    assert segment.mean_current_a is None


def test_a_threshold_takes_the_place_of_a_marker(tmp_path: Path) -> None:
    path = bench([0.03, 0.05]).write(tmp_path / "a.csv", "time_s,current_a,other")
    found = read_trace(path, Cut(3.0, threshold_a=0.005))
    assert [segment.power_w for segment in found.segments] == pytest.approx([0.03, 0.05], rel=1e-6)
    assert "above 5 mA" in found.notes[-1]
    # Never guessed: without a threshold and without a marker there is nothing to go by.
    assert "no column marker; --marker with a digital channel" in wrong(path)[0]
    assert "allowed: other" in wrong(path, Cut(3.0, marker="D0"))[0]
    assert "one of the two" in wrong(path, Cut(3.0, marker="other", threshold_a=0.005))[0]


def test_glitches_shorter_than_stated_are_left_out_and_said(tmp_path: Path) -> None:
    made = bench([0.03, 0.03], step_s=1e-4)
    made.high[3400:3405] = 0  # 0.5 ms low within the first segment
    made.high[9000:9004] = 1  # 0.4 ms high between the segments
    path = made.write(tmp_path / "a.csv", "time_s,current_a,marker")
    found = read_trace(path, VOLTS)
    assert [segment.duration_s for segment in found.segments] == pytest.approx([0.5, 0.5])
    assert found.notes == ("2 changes of the marker shorter than 1 ms left out",)
    assert len(read_trace(path, Cut(3.0, glitch_s=4.5e-4)).segments) == 3
    assert "samples; at least 10" in wrong(path, Cut(3.0, glitch_s=0.0))[0]


def test_a_ceiling_is_said(tmp_path: Path) -> None:
    made = bench([0.03])
    made.amperes += np.random.default_rng(1).normal(0, 2e-3, len(made.amperes))
    made.amperes = np.minimum(made.amperes, np.where(made.high == 1, 0.008, 0.007))
    made.amperes[400:450] = 0.008
    found = read_trace(made.write(tmp_path / "a.csv", "time_s,current_a,marker"), VOLTS)
    assert "was the range exceeded?" in found.notes[0]


def test_a_gap_matters_under_the_marker_alone(tmp_path: Path) -> None:
    made = bench([0.03])
    # Marker from sample 300 to 800: before it, within it, over its rise, over its fall.
    for first, last, fine in ((50, 200, True), (500, 600, False), (250, 350, False), (750, 850, False)):
        kept = np.r_[0:first, last : len(made.time)]
        some = Recording(made.time[kept], made.amperes[kept], made.high[kept])
        path = some.write(tmp_path / "a.csv", "time_s,current_a,marker")
        if fine:
            assert read_trace(path, VOLTS).segments[0].power_w == pytest.approx(0.03)
        else:
            assert f"line {first + 2}: no samples for 101 ms in segment 1" in wrong(path)[0]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    lines = [f"{t},10,{int(20 <= t < 60)}" for t in range(80)]
    lines[5], lines[9], lines[33], lines[40] = "5,nan,0", "9,,0", "33,ten,1", "40,10,7"
    path = tmp_path / "a.csv"
    path.write_text("time_ms,current_ma,marker\n" + "\n".join(lines) + "\n", encoding="utf-8")
    found = wrong(path)
    assert len(found) == 4
    for line, text in ((7, "'nan'"), (11, "'nan'"), (35, "'ten'"), (42, "'7'; 0 or 1")):
        assert any(f"line {line}, " in each and text in each for each in found), found


def test_time_goes_forward(tmp_path: Path) -> None:
    lines = [f"{t},10,{int(20 <= t < 60)}" for t in range(80)]
    lines[30], lines[31] = lines[31], lines[30]
    path = tmp_path / "a.csv"
    path.write_text("time_ms,current_ma,marker\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert wrong(path) == [f"{path}: line 33, time_ms: time goes back to 0.03 s; it rises"]


@pytest.mark.parametrize(
    ("text", "cut", "said"),
    [
        ("", VOLTS, "no header in the first 50 lines"),
        ("a,b,c\n1,2,3\n", VOLTS, "no header in the first 50 lines"),
        ("time_s;current_a;marker\n1;2;3\n", VOLTS, "with commas"),
        ("time,current_a,marker\n1,2,3\n", VOLTS, "'time': no known unit; time_s, time_ms or time_us"),
        ("time_s,current_furlong,marker\n1,2,3\n", VOLTS, "no known unit; current_a"),
        ("time_s,current_a,current_ma,marker\n", VOLTS, "a second current"),
        ("time_s,current_a,marker\n", Cut(), "neither voltage nor power"),
        ("time_s,current_a,voltage_v,marker\n", VOLTS, "one of the two"),
        ("time_s,current_a,marker\n", VOLTS, "0 samples; a recording"),
        ("time_s,current_a,marker\n1,1,1\n2,1,1\n3,1,0\n", VOLTS, "it begins under the marker"),
        ("time_s,current_a,marker\n1,1,0\n2,1,1\n3,1,1\n", VOLTS, "it ends under the marker"),
        ("time_s,current_a,marker\n1,1,0\n2,1,0\n3,1,0\n", VOLTS, "never high"),
        ("time_s,current_a,marker\n1,1,0\n2,1,0,5,6,7\n3,1,0\n", VOLTS, "Expected 3 fields in line 3, saw 6"),
        ("time_s,current_a,marker\n0,5,0,01,1\n", VOLTS, "not CSV"),
        ("time_s,power_w,marker\n1,1,0\n", Cut(threshold_a=1.0), "no current for --threshold-ma"),
        ("time_s,current_a,marker\n1,1,0\n", Cut(3.0, threshold_a=-1.0), "above zero"),
        ("time_s,current_a,marker\n1,1,0\n", Cut(3.0, glitch_s=float("nan")), "0 to 10000"),
        ("x" * 200_000, VOLTS, "no header"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, text: str, cut: Cut, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    assert any(said in each for each in wrong(path, cut)), wrong(path, cut)


def test_a_current_that_flows_backwards(tmp_path: Path) -> None:
    made = bench([0.03])
    made.amperes *= -1
    path = made.write(tmp_path / "a.csv", "time_s,current_a,marker")
    assert "is the sign of the current right?" in wrong(path)[0]


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is a folder" in wrong(tmp_path)[0]
    assert "cannot be read" in wrong(tmp_path / "none.csv")[0]
    path = bench([0.03]).write(tmp_path / "a.csv", "time_s,current_a,marker")
    monkeypatch.setattr(traces, "MOST_BYTES", 100)
    assert "at most 100" in wrong(path)[0]


@pytest.mark.parametrize("seed", range(30))
def test_broken_bytes_are_an_error_or_a_recording(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(
        bench([0.03], step_s=1e-2).write(tmp_path / "a.csv", "time_s,current_a,marker").read_bytes()
    )
    for place in random.integers(0, len(data), random.integers(1, 20)):
        data[place] = random.choice(np.frombuffer(b'\x00\xff",\n9e-;', np.uint8))
    path = tmp_path / "b.csv"
    path.write_bytes(bytes(data[: random.integers(10, len(data))]))
    trace, problems = parse_trace(path, VOLTS)
    assert bool(problems) == (trace is None)
    assert trace is None or isinstance(trace, Trace)


def test_a_voltage_stands_behind_the_path() -> None:
    assert split_trace("c:/traces/a.csv") == ("c:/traces/a.csv", None)
    assert split_trace("a.csv:voltage=1.8") == ("a.csv", 1.8)
    for text in ("a.csv:voltage=", "a.csv:voltage=3000", "a.csv:voltage=nan", "a.csv:voltage=-3"):
        with pytest.raises(UserError, match=r"0\.1 to 100 V"):
            split_trace(text)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("Timestamp(ms)", ("time", 1e-3)), ("#time (s)", ("time", 1.0)), ("Current [µA]", ("current", 1e-6)),
        ("current_ua", ("current", 1e-6)), ("Value (A)", ("current", 1.0)),
        ("Main voltage (V)", ("voltage", 1.0)),
        ("power_mw", ("power", 1e-3)), ("current (V)", ("current", None)), ("time", ("time", None)),
        ("offset_ms", ("", None)), ("D0", ("", None)), ("marker", ("", None)),
    ],
)  # fmt: skip
def test_units_of_headers(header: str, meant: tuple[str, float | None]) -> None:
    assert quantity_of(header) == meant


@pytest.mark.slow
def test_millions_of_lines_stay_in_bounded_memory(tmp_path: Path) -> None:
    made = Recording.of([Piece(20, 0.001, False), Piece(20, 0.01, True), Piece(20, 0.001, False)], 2e-5)
    path = made.write(tmp_path / "a.csv", "time_s,current_a,marker")
    assert len(made.time) == 3_000_000
    del made
    begun = time.monotonic()
    tracemalloc.start()
    (segment,) = read_trace(path, VOLTS).segments
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert segment.energy_j == pytest.approx(0.6, rel=1e-7)
    assert segment.before_w == pytest.approx(0.003, rel=1e-3)
    assert peak < 200e6
    assert time.monotonic() - begun < 60
