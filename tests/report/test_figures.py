"""Figures show what the results say, and the same bytes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import dse
from dse.report.bar_info import energy_info, memory_info, time_info, unit_info
from dse.report.figures import explanation_figure, front_figure, save_all
from dse.report.figures.labels import write_names
from dse.report.figures.style import linear_ticks, log_ticks
from dse.report.front_info import AXES, front_info, staircase
from tests.report.spaces import STUDIED


@pytest.fixture(scope="module")
def explanation() -> Any:
    return dse.explain("mobilenet-v1", "vega + hyperram-64", cut=25, n_replays=750)


@pytest.fixture(scope="module")
def found() -> Any:
    return dse.explore(STUDIED)


def test_bars_of_a_level_sum_to_what_the_level_holds(explanation: Any) -> None:
    info = memory_info("memory", {"plan": explanation})
    for level, groups in info.used.items():
        total = sum(part[0] for part in groups.values())
        assert total == pytest.approx(float(np.ravel(explanation.costs.level_bytes[level])[0]))


def test_levels_that_hold_nothing_are_not_drawn(explanation: Any) -> None:
    assert "L1" not in memory_info("memory", {"plan": explanation}).used


def test_causes_sum_to_the_event(explanation: Any) -> None:
    assert energy_info("", {"plan": explanation}).totals[0] == pytest.approx(explanation.costs.event_j[0])
    assert time_info("", {"plan": explanation}).totals[0] == pytest.approx(explanation.costs.event_s[0])


def test_units_learn_from_the_cut_on(explanation: Any) -> None:
    info = unit_info("plan", explanation)
    assert info.first_learning == 26
    assert not info.seconds["bwd_weight"][:26].any()
    assert not info.seconds["frozen fwd"][26:].any()


def test_front_is_drawn_in_its_own_sense(found: Any) -> None:
    result = found.boards[0]
    info = front_info(result, np.zeros((0, 3)), "title", "subtitle")
    np.testing.assert_array_equal(info.front[:, 0], result.front.columns["accuracy"])
    assert set(info.named) == {plan.position for plan in result.front.named}
    assert info.uncertain.tolist() == [
        status == "extrapolated" for status in result.front.columns["accuracy_status"]
    ]
    assert info.pairs == ((1, 2), (1, 0), (2, 0))


def test_one_panel_per_pair_of_objectives(found: Any) -> None:
    figure = front_figure(front_info(found.boards[0], np.zeros((0, 3)), "title", "subtitle"))
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels == [
        ("RAM peak (less is better)", "energy per event (less is better)"),
        ("RAM peak (less is better)", "accuracy (more is better)"),
        ("energy per event (less is better)", "accuracy (more is better)"),
    ]


def test_staircase_is_the_front_of_two_objectives() -> None:
    cost, gain = AXES["event_j"], AXES["accuracy"]
    x, y = np.array([3.0, 1.0, 2.0, 2.5]), np.array([0.9, 0.5, 0.4, 0.7])
    assert staircase(x, y, (cost, gain)).tolist() == [1, 3, 0]
    assert staircase(x, y, (cost, cost)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("unit", "low", "high", "wanted"),
    [
        ("B", 2**20, 2**26, ["1 MiB", "4 MiB", "16 MiB", "64 MiB"]),
        ("s", 40.0, 9000.0, ["1 min", "10 min", "1 h"]),
        ("J", 0.5, 90.0, ["1 J", "10 J"]),
    ],
)
def test_log_ticks_are_round_in_their_own_unit(unit: str, low: float, high: float, wanted: list[str]) -> None:
    labels = tick_labels(log_ticks, unit, low, high)
    assert set(wanted) <= set(labels)
    assert len(labels) <= 7


def tick_labels(ticks: Any, unit: str, low: float, high: float) -> list[str]:
    axes = Figure().subplots()
    axes.set_xscale("log" if ticks is log_ticks else "linear")
    axes.set_xlim(low, high)
    ticks(axes.xaxis, unit, low, high)
    return [str(axes.xaxis.get_major_formatter()(place)) for place in axes.xaxis.get_major_locator()()]


def test_linear_ticks_share_one_unit() -> None:
    axes = Figure().subplots()
    linear_ticks(axes.xaxis, "B", 1.6 * 2**20)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0", "0.5 MiB", "1 MiB", "1.5 MiB"]


def test_the_same_figure_twice_is_the_same_bytes(explanation: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_all(explanation_figure(explanation), tmp_path / name)
    for ending in ("png", "svg"):
        first, second = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("a", "b"))
        assert first == second
        assert len(first) > 10_000


def test_figures_leave_the_settings_of_the_user_alone(explanation: Any) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    explanation_figure(explanation)
    assert dict(mpl.rcParams) == before


def extents(figure: Figure, axes: Any) -> list[Any]:
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in axes.texts]


def named_panel(points: dict[str, tuple[float, float]]) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4, 4))
    axes = figure.subplots()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.plot(*zip((0.2, 0.8), (0.6, 0.2), strict=True), drawstyle="steps-post")
    axes.plot(*zip(*points.values(), strict=True), "o", markersize=9)
    figure.draw_without_rendering()
    write_names(axes, points, "red", "grey")
    return figure, axes


def test_names_cover_no_marker_and_no_line() -> None:
    points = {"smallest": (0.2, 0.8), "balanced": (0.6, 0.2), "most frugal": (0.66, 0.2)}
    figure, axes = named_panel(points)
    boxes = extents(figure, axes)
    path = [(x / 100, 0.8) for x in range(20, 61)] + [(0.6, y / 100) for y in range(20, 81)]
    places = axes.transData.transform([*points.values(), *path])
    assert len(boxes) == len(points)
    for box in boxes:
        assert not any(box.contains(*place) for place in places)
        assert sum(box.overlaps(other) for other in boxes) == 1


def test_designs_that_coincide_share_one_label() -> None:
    _, axes = named_panel({"balanced": (0.5, 0.5), "most frugal": (0.505, 0.5), "smallest": (0.1, 0.9)})
    assert [text.get_text() for text in axes.texts] == ["balanced, most frugal", "smallest"]
