"""Predicted against measured accuracy, the front plan by plan, and replay bytes planned against held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dse.report.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILION,
    linear_ticks,
    log_ticks,
    new_figure,
    styled,
)
from dse.validation.comparison import FRONT, WHOLE, Validation
from dse.validation.statistics import Interval

Row = Mapping[str, Any]

SQUEEZED: Final = 2.5
"""Axes share a range unless it is this many times as wide as one of them needs."""

MOST_NAMED: Final = 16
"""Plans of the front that are drawn by name."""


def validation_figure(found: Validation) -> Figure:
    """Draw a validation: predictions beside observations, ties with the best, heads, and replay bytes."""
    rows = [row for row in found.rows if np.isfinite(row["measured"])]
    front = sorted((row for row in rows if row["role"] == "front"), key=lambda row: -row["measured"])
    named = front[:: max(-(-len(front) // MOST_NAMED), 1)]
    with styled():
        figure = new_figure(15.0, max(5.6, 1.9 + 0.27 * (len(named) + 6)))
        grid = figure.subplots(1, 3, width_ratios=(1.45, 1.35, 0.75))
        _predicted(grid[0], found)
        _plans(grid[1], found, named, len(front))
        _bytes(grid[2], [row for row in rows if row["planned_replay_bytes"] > 0], len(found.records))
        figure.suptitle(_title(found), x=0.01, ha="left", fontsize=12, linespacing=1.5)
        figure.legend(handles=_keys(found), loc="outside lower left", ncols=7, columnspacing=1.5,
                      handletextpad=0.4)  # fmt: skip
    return figure


def _title(found: Validation) -> str:
    network = ", ".join(dict.fromkeys(each.workload.name for each in found.trained))
    stand_in = " standing in for the run's own network" if found.stand_in else ""
    return (
        f"{found.title}: accuracy as predicted and as measured\n"
        f"{network}{stand_in}; {len(found.trained)} plans, {len(found.seeds)} paired seeds"
    )


def _predicted(axes: Axes, found: Validation) -> None:
    """Scatter: x predicted, y measured, with intervals; ranks agree along a rising line."""
    rows = [row for row in found.rows if np.isfinite(row["predicted"]) and np.isfinite(row["measured"])]
    axes.set_title(_correlations(found), fontsize=9.5)
    axes.set_xlabel("predicted accuracy, 90 % interval")
    axes.set_ylabel("measured accuracy, 90 % interval within seeds")
    if not rows:
        axes.text(0.5, 0.5, "nothing was predicted", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    for row in rows:
        x, y = row["predicted"], row["measured"]
        colour = BLUE if row["role"] == "front" else GREY
        axes.errorbar(x, y, xerr=_reach(row, "predicted"), yerr=_reach(row, "measured"), fmt="none",
                      ecolor=colour, elinewidth=0.8, alpha=0.35, zorder=2)  # fmt: skip
        axes.plot(x, y, "o", color=colour, markersize=5.5, zorder=4,
                  markerfacecolor=colour if row["role"] == "front" else "white")  # fmt: skip
    _rings(axes, rows)
    ends = _limits(axes, rows, bool(found.stand_in))
    if not found.stand_in:
        axes.plot(ends, ends, color=FAINT, linewidth=1.0, linestyle="--", zorder=1)
        if axes.get_xlim() != axes.get_ylim():
            gap = 100 * float(np.mean([row["difference"] for row in rows]))
            said = f"{abs(gap):.1f} points {'more' if gap > 0 else 'less'} than predicted on average"
            axes.text(0.98, 0.02, said, transform=axes.transAxes, ha="right", fontsize=9, color=GREY)


def _rings(axes: Axes, rows: Sequence[Row]) -> None:
    """Ring the plan that was predicted best and the one that was measured best."""
    for column, colour, size in (("predicted", VERMILION, 11.0), ("measured", GREEN, 15.0)):
        best = max(rows, key=lambda row: float(row[column]))
        axes.plot(best["predicted"], best["measured"], "o", markersize=size, markerfacecolor="none",
                  markeredgecolor=colour, markeredgewidth=1.6, zorder=5)  # fmt: skip


def _limits(axes: Axes, rows: Sequence[Row], apart: bool) -> tuple[float, float]:
    """Choose the range of both axes, with ticks in per cent; returns the ends of their diagonal.

    The range is the same for both, unless they are to be ``apart``, or one would be squeezed beyond reading.
    """
    ranges = []
    for column in ("predicted", "measured"):
        values = [row[column] for row in rows]
        reach = [_reach(row, column) for row in rows]
        low = min(value - ends[0][0] for value, ends in zip(values, reach, strict=True))
        high = max(value + ends[1][0] for value, ends in zip(values, reach, strict=True))
        low, high = _clipped(min(values), max(values), low, high)
        ranges.append((max(low, 0.0), min(high, 1.0)))
    both = min(ranges[0][0], ranges[1][0]), max(ranges[0][1], ranges[1][1])
    narrowest = min(high - low for low, high in ranges)
    if not apart and both[1] - both[0] <= SQUEEZED * narrowest:
        ranges = [both, both]
    axes.set_xlim(*ranges[0])
    axes.set_ylim(*ranges[1])
    linear_ticks(axes.xaxis, "fraction", ranges[0][1], ranges[0][0])
    linear_ticks(axes.yaxis, "fraction", ranges[1][1], ranges[1][0])
    return both


def _clipped(low: float, high: float, lowest: float, highest: float) -> tuple[float, float]:
    """Return limits around points from ``low`` to ``high`` whose intervals end at ``lowest`` and ``highest``.

    Intervals that are much wider than the points are apart leave the frame: else nothing could be seen.
    """
    most = max(0.75 * (high - low), 0.02)
    margin = max(0.05 * (high - low), 0.004)
    return max(lowest, low - most) - margin, min(highest, high + most) + margin


def _reach(row: Row, column: str) -> list[list[float]]:
    """Return how far the interval reaches below and above: [[below], [above]], 0 where there is none."""
    ends = "within" if column == "measured" else column
    value, low, high = row[column], row[f"{ends}_low"], row[f"{ends}_high"]
    known = np.isfinite(low) and np.isfinite(high)
    return [[max(value - low, 0.0)], [max(high - value, 0.0)]] if known else [[0.0], [0.0]]


def _correlations(found: Validation) -> str:
    lines = []
    for name in (WHOLE, FRONT):
        each = found.agreement[name]
        words = f"{name}, {each.plans} plans: "
        if not np.isfinite(each.spearman.value):
            lines.append(f"{words}not enough for a rank correlation")
            continue
        words += f"Spearman {_short(each.spearman)}, Kendall {_short(each.kendall)}"
        lines.append(words)
    regrets = [f"{name} {_short(found.agreement[name].regret, 100)}" for name in (WHOLE, FRONT)
               if np.isfinite(found.agreement[name].regret.value)]  # fmt: skip
    if regrets:
        lines.append(f"top-1 regret: {', '.join(regrets)} points")
    return "\n".join(lines)


def _short(found: Interval, scale: float = 1.0) -> str:
    value = f"{found.value * scale:.2f}"
    return f"{value} [{found.low * scale:.2f}, {found.high * scale:.2f}]" if np.isfinite(found.low) else value


def _plans(axes: Axes, found: Validation, rows: Sequence[Row], count: int) -> None:
    """Draw what plans lack to the best one, from the best down; heads and references below them."""
    others = [row for row in found.rows if row["role"] in ("head", "reference")]
    others = [row for row in others if np.isfinite(row["measured"])]
    others.sort(key=lambda row: -row["measured"])
    shown = [*rows, *others]
    places = [-float(place) - 0.6 * (place >= len(rows)) for place in range(len(shown))]
    for place, row in zip(places, shown, strict=True):
        _plan(axes, place, row)
    axes.set_yticks(places, [row["name"] for row in shown], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=FAINT, linewidth=1.0, linestyle="--", zorder=1)
    low, high = _gap_limits(rows or shown)
    axes.set_xlim(low, high)
    for place, row in zip(places, shown, strict=True):
        _beyond(axes, place, row, low, high)
    axes.set_xlabel("points to the plan measured best, 90 % interval paired over seeds")
    part = "" if len(rows) == count else f" ({len(rows)} of {count}, evenly spread)"
    axes.set_title(f"plans of the front{part}; heads and references below", fontsize=9.5)


def _plan(axes: Axes, place: float, row: Row) -> None:
    """Draw one plan: hollow where it ties with the best, vermilion where a cheap head beats it."""
    colour = _colour(row)
    tied = row["tied_with_best"] and row["role"] == "front" and row["seeds"] > 1
    reach = 100 * np.array(_reach(row, "to_best"))
    axes.errorbar(100 * row["to_best"], place, xerr=reach, fmt="none", ecolor=colour,
                  elinewidth=1.2, capsize=2.5, alpha=0.7, zorder=2)  # fmt: skip
    axes.plot(100 * row["to_best"], place, "o", color=colour, markersize=6,
              markerfacecolor="white" if tied else colour, zorder=3)  # fmt: skip


def _colour(row: Row) -> str:
    if row["role"] == "reference":
        return INK
    if row["head"] != "sgd":
        return ORANGE
    return VERMILION if row["beaten_by_head"] else BLUE


def _gap_limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return limits [points] around the plans of the front and the best plan of all, with some room."""
    values = 100 * np.array([row["to_best"] for row in rows])
    reach = 100 * np.array([np.ravel(_reach(row, "to_best")) for row in rows])
    ends = min((values - reach[:, 0]).min(), 0.0), max((values + reach[:, 1]).max(), 0.0)
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    room = max(high - low, 2.0)
    return max(ends[0], low - room) - 0.35 * room, min(ends[1], high + room) + 0.35 * room


def _beyond(axes: Axes, place: float, row: Row, low: float, high: float) -> None:
    """Write the difference of a plan that lies outside the frame at its edge."""
    gap = 100 * row["to_best"]
    if low <= gap <= high:
        return
    text, x, side = (f"◂ {gap:.1f}", 0.01, "left") if gap < low else (f"{gap:+.1f} ▸", 0.99, "right")
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.text(x, place, text, transform=axes.get_yaxis_transform(), ha=side, va="center", fontsize=9,
              color=_colour(row), bbox=clear, zorder=4)  # fmt: skip


def _bytes(axes: Axes, rows: Sequence[Row], runs: int) -> None:
    """Draw the bytes that buffers held over those that were planned."""
    axes.set_xlabel("replay bytes planned")
    axes.set_ylabel("held")
    equal = all(row["bytes_equal"] for row in rows)
    said = f"equal in all {runs:,} runs" if equal else "NOT EQUAL in every run"
    axes.set_title(f"replay bytes {said}", fontsize=9.5)
    if not rows:
        axes.text(0.5, 0.5, "no plan keeps replays", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    planned = np.array([row["planned_replay_bytes"] for row in rows], dtype=float)
    held = np.array([row["held_replay_bytes"] for row in rows], dtype=float)
    low, high = min(planned.min(), held.min()) / 1.6, max(planned.max(), held.max()) * 1.6
    axes.plot((low, high), (low, high), color=FAINT, linewidth=1.0, linestyle="--", zorder=1)
    colours = [INK if row["bytes_equal"] else VERMILION for row in rows]
    axes.scatter(planned, held, c=colours, s=16, alpha=0.7, zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    log_ticks(axes.xaxis, "B", low, high, most=3)
    log_ticks(axes.yaxis, "B", low, high, most=5)


def _keys(found: Validation) -> list[Line2D]:
    def key(label: str, colour: str, filled: bool = True, size: float = 6.0) -> Line2D:
        return Line2D([], [], linestyle="", marker="o", label=label, color=colour, markersize=size,
                      markerfacecolor=colour if filled else "white")  # fmt: skip

    keys = [key("front", BLUE)]
    keys += [key("elsewhere in the space", GREY, False)] if _has(found, "space") else []
    keys += [key("predicted best", VERMILION, False, 9.0), key("measured best", GREEN, False, 11.0)]
    if len(found.seeds) > 1:
        keys.append(key("not told apart from the best", BLUE, False))
    keys.append(key("cheap head", ORANGE))
    if any(row["beaten_by_head"] for row in found.rows):
        keys.append(key("beaten by a cheap head", VERMILION))
    return keys


def _has(found: Validation, role: str) -> bool:
    return any(row["role"] == role for row in found.rows)
