"""Projections of a front onto two objectives at a time."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dse.report.figures.labels import write_names
from dse.report.figures.style import BLUE, FAINT, VERMILION, linear_ticks, log_ticks, new_figure, styled
from dse.report.front_info import AXES, FrontInfo, staircase

NARROW: Final = 4.0
"""Costs that differ by less than this factor are drawn on a linear axis."""

MARKERS: Final = ("D", "s", "^")


def front_figure(info: FrontInfo) -> Figure:
    """Draw every pair of objectives: dominated designs faint, the front on top, names beside."""
    with styled():
        count = len(info.pairs)
        columns = min(count, 3)
        rows = -(-count // columns)
        figure = new_figure(max(7.5, 4.9 * columns), 4.7 * rows + 0.9)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, pair in zip(grid.flat, info.pairs, strict=False):
            draw_projection(axes, info, *pair)
        for axes in list(grid.flat)[count:]:
            axes.set_visible(False)
        figure.suptitle(f"{info.title}\n{info.subtitle}", x=0.01, ha="left", fontsize=12, linespacing=1.5)
        figure.legend(
            handles=_keys(info), loc="outside lower left", ncols=7, columnspacing=1.6, handletextpad=0.4
        )
        figure.draw_without_rendering()  # labels are placed by where the layout puts the axes
        for axes, pair in zip(grid.flat, info.pairs, strict=False):
            name_designs(axes, info, *pair)
    return figure


def draw_projection(axes: Axes, info: FrontInfo, horizontal: int, vertical: int) -> None:
    """Draw one pair of objectives."""
    meaning = AXES[info.objectives[horizontal]], AXES[info.objectives[vertical]]
    x, y = info.front[:, horizontal], info.front[:, vertical]
    axes.plot(
        info.others[:, horizontal],
        info.others[:, vertical],
        ".",
        color=FAINT,
        markersize=3,
        rasterized=True,
        zorder=1,
    )
    edge = staircase(x, y, meaning)
    axes.plot(x[edge], y[edge], drawstyle="steps-post" if not meaning[0].maximised else "steps-pre",
              color=BLUE, linewidth=1.0, alpha=0.6, zorder=2)  # fmt: skip
    _draw_spread(axes, info, horizontal, vertical)
    sure = ~info.uncertain
    axes.plot(x[sure], y[sure], "o", color=BLUE, markersize=4.5, zorder=3)
    axes.plot(
        x[~sure], y[~sure], "o", markerfacecolor="white", markeredgecolor=BLUE, markersize=4.5, zorder=3
    )
    for marker, position in zip(MARKERS, info.named, strict=False):
        axes.plot(
            x[position],
            y[position],
            marker,
            color=VERMILION,
            markeredgecolor="white",
            markersize=9.5,
            zorder=5,
        )
    for axis, column, of in ((axes.xaxis, horizontal, meaning[0]), (axes.yaxis, vertical, meaning[1])):
        _scale(axes, axis, _values(info, column), of)
    axes.set_xlabel(_label(meaning[0]))
    axes.set_ylabel(_label(meaning[1]))


def _values(info: FrontInfo, column: int) -> Any:
    """Return everything that an axis has to hold."""
    ends = np.zeros(0)
    if info.spread is not None and info.objectives[column] == "accuracy":
        ends = info.spread.ravel()
    return np.concatenate([info.front[:, column], info.others[:, column], ends])


def _draw_spread(axes: Axes, info: FrontInfo, horizontal: int, vertical: int) -> None:
    """Draw the interval of each accuracy that runs measured or a model fitted."""
    if info.spread is None or "accuracy" not in (info.objectives[horizontal], info.objectives[vertical]):
        return
    style: dict[str, Any] = {"color": BLUE, "linewidth": 0.8, "alpha": 0.45, "zorder": 2}
    if info.objectives[vertical] == "accuracy":
        axes.vlines(info.front[:, horizontal], info.spread[:, 0], info.spread[:, 1], **style)
    else:
        axes.hlines(info.front[:, vertical], info.spread[:, 0], info.spread[:, 1], **style)


def name_designs(axes: Axes, info: FrontInfo, horizontal: int, vertical: int) -> None:
    """Name the named designs of a projection whose layout is final."""
    points = {
        name: (float(info.front[position, horizontal]), float(info.front[position, vertical]))
        for position, name in info.named.items()
    }
    write_names(axes, points, VERMILION, FAINT)


def _label(axis: Any) -> str:
    return f"{axis.label} ({'more' if axis.maximised else 'less'} is better)"


def _scale(axes: Axes, axis: Any, values: Any, meaning: Any) -> None:
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    set_scale, set_limits = (
        (axes.set_xscale, axes.set_xlim) if axis is axes.xaxis else (axes.set_yscale, axes.set_ylim)
    )
    if meaning.logarithmic and low > 0 and high > NARROW * low:
        margin = max((high / low) ** 0.06, 1.05)
        set_scale("log")
        set_limits(low / margin, high * margin)
        log_ticks(axis, meaning.unit, low / margin, high * margin)
        return
    margin = max((high - low) * 0.06, 1e-3 * abs(high), 1e-12)
    set_limits(low - margin, high + margin)
    linear_ticks(axis, meaning.unit, high + margin, low - margin)


def _keys(info: FrontInfo) -> list[Line2D]:
    def key(marker: str, label: str, **style: Any) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, label=label, **style)

    keys = [key("o", f"front: {len(info.front):,} designs", color=BLUE, markersize=5)]
    if info.uncertain.any():
        keys.append(
            key("o", f"accuracy {info.weak}", markerfacecolor="white", markeredgecolor=BLUE, markersize=5)
        )
    if info.spread is not None:
        keys.append(Line2D([], [], color=BLUE, linewidth=0.8, alpha=0.6, label="90 % interval of accuracy"))
    if len(info.others):
        keys.append(key(".", "dominated", color=FAINT, markersize=7))
    return keys
