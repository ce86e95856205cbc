"""One plan on many boards: time, energy and battery life of each, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dse.report.comparison import BoardComparison, caption
from dse.report.estimate import RESULTS
from dse.report.figures.style import BLUE, GREY, INK, VERMILION, log_ticks, new_figure, quiet, styled

SHOWN: Final = ("event_s", "event_j", "lifetime_s")


@dataclass(frozen=True)
class ComparisonInfo:
    """Boards by energy per event, least first: per result value, low and high (3, B) [SI]."""

    title: str
    boards: tuple[str, ...]
    fits: tuple[bool, ...]
    results: dict[str, NDArray[np.float64]]


def comparison_info(found: BoardComparison) -> ComparisonInfo:
    """Return what the figure shows; boards without a price are left out."""
    priced = [price for price in found.prices if price.estimate is not None]
    priced.sort(key=lambda price: price.ends("event_j")[0])
    return ComparisonInfo(
        title=f"{found.network}: one plan on {len(priced)} boards",
        boards=tuple(price.board for price in priced),
        fits=tuple(price.estimate is not None and price.estimate.fits for price in priced),
        results={
            column: np.array([price.ends(column) for price in priced], dtype=float).reshape(-1, 3).T
            for column in SHOWN
        },
    )


def comparison_figure(info: ComparisonInfo) -> Figure:
    """Draw one panel per result, boards below each other; a board that the plan does not fit is hollow."""
    with styled():
        figure = new_figure(10.0, 1.6 + 0.34 * len(info.boards))
        panels = figure.subplots(1, len(SHOWN), sharey=True, squeeze=False)[0]
        for axes, column in zip(panels, SHOWN, strict=True):
            _panel(axes, info, column)
        panels[0].set_yticks(range(len(info.boards)), info.boards)
        panels[0].invert_yaxis()
        figure.suptitle(info.title, x=0.01, ha="left", fontsize=13)
        if not all(info.fits):
            figure.text(0.99, 0.005, "hollow: does not fit the board", ha="right", fontsize=9, color=GREY)
    return figure


def _panel(axes: Axes, info: ComparisonInfo, column: str) -> None:
    value, low, high = info.results[column]
    places = np.arange(len(value))
    axes.hlines(places, low, high, color=GREY, linewidth=1.6)
    fits = np.array(info.fits, dtype=bool)
    for mask, face in ((fits, BLUE), (~fits, "white")):
        edge = BLUE if face == BLUE else VERMILION
        axes.scatter(value[mask], places[mask], s=42, facecolor=face, edgecolor=edge, linewidth=1.4, zorder=3)
    axes.set_xscale("log")
    unit = RESULTS[column][1]
    finite = np.concatenate([low, high])[np.isfinite(np.concatenate([low, high]))]
    if len(finite):
        axes.set_xlim(finite.min() / 1.6, finite.max() * 1.6)
        log_ticks(axes.xaxis, unit, finite.min() / 1.6, finite.max() * 1.6, most=4)
    axes.set_title(caption(column), fontsize=11, color=INK)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.8)
    quiet(axes)


__all__ = ["ComparisonInfo", "comparison_figure", "comparison_info"]
