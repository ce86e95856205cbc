"""The figure of a calibration: what it shows is what was fitted."""

from __future__ import annotations

import pytest

from dse.calibrate import Measurement, calibrate
from dse.hardware import load_board
from dse.report.calibration import calibration_text
from dse.report.figures.calibration import MOST, calibration_figure, calibration_info


@pytest.fixture(scope="module")
def found() -> object:
    rows = [
        Measurement(dtype="fp32", operator=operator, macs=size, cores=8, cycles=size / rate)
        for operator, rate in (("linear", 1.4), ("conv2d", 1.1), ("pointwise", 1.9))
        for size in (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7)
    ]
    return calibrate(load_board("vega"), rows, source="some/kernels.csv")


def test_the_points_are_the_rows(found) -> None:  # type: ignore[no-untyped-def]
    info = calibration_info(found)
    figure = calibration_figure(info)
    times, errors = figure.axes
    drawn = {tuple(line.get_color() for line in times.lines)}
    assert drawn
    points = [line for line in times.lines if line.get_marker() == "o"]
    assert sorted(points[1].get_ydata()) == pytest.approx(sorted(info.fitted))
    assert sorted(points[0].get_ydata()) == pytest.approx(sorted(info.held_out))
    assert (times.get_xscale(), times.get_yscale()) == ("log", "log")
    assert len(errors.get_yticks()) == MOST < len(info.names)
    assert "16 of 21" in errors.get_title(loc="left")
    assert figure.get_suptitle() == "vega calibrated from kernels.csv"


def test_the_named_rows_are_the_worst_held_out(found) -> None:  # type: ignore[no-untyped-def]
    info = calibration_info(found)
    figure = calibration_figure(info)
    named = {label.get_text() for label in figure.axes[1].get_yticklabels()}
    size = abs(info.held_out / info.measured - 1)
    worst = max(range(len(size)), key=lambda row: size[row])
    assert info.names[worst] in named


def test_the_text_counts_rows_and_names_each(found) -> None:  # type: ignore[no-untyped-def]
    said = calibration_text(found, ["written: x"])
    assert "vega calibrated from some/kernels.csv: 21 rows" in said
    assert said.count("conv2d, ") >= 7
    assert said.endswith("  - written: x")


def test_errors_beyond_the_frame_are_written_beside_each_other() -> None:
    rows = [
        Measurement(dtype="fp32", operator=operator, macs=1e6, cores=8, cycles=cycles)
        for operator, cycles in (("linear", 2e5), ("conv2d", 2e6))
    ]
    figure = calibration_figure(calibration_info(calibrate(load_board("vega"), rows)))
    places = {text.get_text(): (text.xy[1], text.xyann[0]) for text in figure.axes[1].texts}
    assert len(places) >= 2
    assert len(set(places.values())) == len(places)
