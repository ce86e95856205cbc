"""A calibration: predicted over measured time, in sample and held out, and the errors of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dse.calibrate import Calibration
from dse.report.figures.style import (
    BLUE,
    FAINT,
    GREY,
    ORANGE,
    VERMILION,
    linear_ticks,
    log_ticks,
    new_figure,
    styled,
)

MOST: Final = 16
"""Rows that are named; of more, those with the largest held-out errors."""
BAND: Final = 0.10
BESIDE: Final = 42.0
"""Points from one error beyond the frame to the next of the same row."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationInfo:
    """Seconds of N rows: measured, in sample, held out, by the old profile, by one factor (NaN: none)."""

    title: str
    names: tuple[str, ...]
    measured: FloatArray
    fitted: FloatArray
    held_out: FloatArray
    profile: FloatArray
    one_factor: FloatArray


def calibration_info(found: Calibration) -> CalibrationInfo:
    """Return what the figure shows."""
    rows = found.rows

    def column(name: str) -> FloatArray:
        values = [getattr(row, name) for row in rows]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    return CalibrationInfo(
        title=f"{found.board.label} calibrated from {_file_name(found.source)}",
        names=tuple(row.row.measurement.name for row in rows),
        measured=np.array([row.row.seconds for row in rows], dtype=float),
        fitted=column("fitted_s"), held_out=column("held_out_s"), profile=column("prior_s"),
        one_factor=column("one_factor_s"),
    )  # fmt: skip


def _file_name(source: str) -> str:
    return source.replace("\\", "/").rpartition("/")[2] if source.endswith(".csv") else source


def calibration_figure(info: CalibrationInfo) -> Figure:
    """Draw predicted over measured on logarithmic axes, and the error of each row beside it."""
    shown = _worst(info)
    with styled():
        figure = new_figure(11.0, max(4.6, 1.9 + 0.3 * len(shown)))
        times, errors = figure.subplots(1, 2, width_ratios=(1.0, 1.0))
        _times(times, info)
        _errors(errors, info, shown)
        figure.suptitle(info.title, x=0.01, ha="left", fontsize=13)
        figure.legend(handles=_keys(info), loc="outside lower center", ncols=4, fontsize=9.5)
    return figure


def _worst(info: CalibrationInfo) -> NDArray[np.int64]:
    """Rows to name, in their order: all, or those with the largest held-out errors."""
    size = np.abs(np.log(info.held_out / info.measured))
    return np.sort(np.argsort(-size, kind="stable")[:MOST])


def _times(axes: Axes, info: CalibrationInfo) -> None:
    everything = np.concatenate([info.measured, info.fitted, info.held_out])
    low, high = float(everything.min()) / 1.5, float(everything.max()) * 1.5
    ends = np.array([low, high])
    axes.fill_between(ends, ends * (1 - BAND), ends * (1 + BAND), color=FAINT, alpha=0.35, linewidth=0)
    axes.plot(ends, ends, color=GREY, linewidth=1.0, linestyle="--", zorder=1)
    axes.vlines(info.measured, np.minimum(info.fitted, info.held_out), np.maximum(info.fitted, info.held_out),
                color=ORANGE, linewidth=1.0, alpha=0.6, zorder=2)  # fmt: skip
    axes.plot(info.measured, info.held_out, "o", color=ORANGE, markerfacecolor="white", markersize=8,
              markeredgewidth=1.6, zorder=3)  # fmt: skip
    axes.plot(info.measured, info.fitted, "o", color=BLUE, markersize=5, zorder=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    log_ticks(axes.xaxis, "s", low, high, most=5)
    log_ticks(axes.yaxis, "s", low, high, most=6)
    axes.set_xlabel("measured")
    axes.set_ylabel("predicted")
    axes.set_title("time; the band is ±10 %", fontsize=10.5)


def _errors(axes: Axes, info: CalibrationInfo, shown: NDArray[np.int64]) -> None:
    """Draw the signed errors of the rows ``shown``; those beyond the frame are written at its edge."""
    places = -np.arange(len(shown), dtype=float)
    errors = {
        name: getattr(info, name)[shown] / info.measured[shown] - 1.0
        for name in ("one_factor", "held_out", "fitted")
    }
    reach = min(max(1.15 * float(np.nanmax(np.abs(list(errors.values())))), 0.05), 1.0)
    axes.axvspan(-BAND, BAND, color=FAINT, alpha=0.35, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1.0, linestyle="--", zorder=1)
    axes.hlines(places, -reach, reach, color=FAINT, linewidth=0.5, zorder=0)
    looks = {
        "one_factor": {"marker": "x", "color": VERMILION, "markersize": 6.0, "markeredgewidth": 1.4},
        "held_out": {"marker": "o", "color": ORANGE, "markersize": 8.0, "markerfacecolor": "white",
                     "markeredgewidth": 1.6},
        "fitted": {"marker": "o", "color": BLUE, "markersize": 5.0},
    }  # fmt: skip
    beyond = np.zeros(len(shown))
    for name, values in errors.items():
        inside = np.abs(values) <= reach
        axes.plot(values[inside], places[inside], linestyle="", zorder=3, **looks[name])  # type: ignore[arg-type]
        for row in np.flatnonzero(np.isfinite(values) & ~inside).tolist():
            color = str(looks[name]["color"])
            _beyond(axes, float(values[row]), float(places[row]), reach, color, int(beyond[row]))
            beyond[row] += 1
    axes.set_xlim(-reach, reach)
    axes.set_ylim(places.min() - 0.7, 0.7)
    axes.set_yticks(places, [_short(info.names[row]) for row in shown.tolist()], fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    linear_ticks(axes.xaxis, "fraction", reach, -reach)
    part = (
        "" if len(shown) == len(info.names) else f" ({len(shown)} of {len(info.names)}, the worst held out)"
    )
    axes.set_title(f"error of each row{part}", fontsize=10.5)


def _beyond(axes: Axes, value: float, place: float, reach: float, color: str, before: int) -> None:
    """Write an error that lies outside the frame beside its right edge, behind the ones ``before``."""
    axes.annotate(
        f"{value:+.0%}", (reach, place), (4 + BESIDE * before, 0), textcoords="offset points", ha="left",
        va="center", fontsize=8.5, color=color, annotation_clip=False,
    )  # fmt: skip


def _short(name: str, most: int = 50) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _keys(info: CalibrationInfo) -> list[Line2D]:
    def key(label: str, marker: str, color: str, face: str, size: float) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, label=label, color=color, markerfacecolor=face,
                      markersize=size, markeredgewidth=1.5)  # fmt: skip

    keys = [
        key("fitted, in sample", "o", BLUE, BLUE, 5),
        key("held out (leave one out)", "o", ORANGE, "white", 8),
    ]
    if np.isfinite(info.one_factor).any():
        keys.append(key("one factor on MACs, held out", "x", VERMILION, VERMILION, 6))
    return keys
