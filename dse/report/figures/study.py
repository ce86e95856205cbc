"""A study as panels of lines: accuracy over one decision, a line per value of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dse.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    styled,
)
from dse.validation.claims import plain_reference

COLOURS: Final = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK)
NAMES: Final = {
    "n_replays": "replays kept", "cut": "LR layer", "replay_bits": "bits per replay value",
    "epochs": "epochs", "policy": "what learns", "grid": "",
    "rounding": "rounding", "bn_mode": "batch norm", "head": "head", "images_per_event": "images per event",
}  # fmt: skip
LABEL_PLACE: Final = 0.84
LABEL_SHARE: Final = 0.035
"""Where the names of references stand across the axes, and how far apart at least, of its height."""

BESIDE: Final = 0.12
"""How far apart the points of two lines stand where x are words, of the distance between words."""

LOGARITHMIC: Final = ("n_replays", "replay_bits", "images_per_event", "epochs")

Rows = Sequence[Mapping[str, Any]]


def study_figure(title: str, layout: Mapping[str, Any], summary: Rows) -> Figure:
    """Draw ``summary`` (one row per plan): ``layout`` names x, series, panel, and the grids to draw."""
    x, series, panel = layout.get("x", "n_replays"), layout.get("series", "cut"), layout.get("panel", "")
    wanted = layout.get("grids")
    rows = [row for row in summary if wanted is None or row["grid"] in wanted]
    plain = plain_reference(rows)
    lines = [row for row in rows if row["head"] == "sgd" and row["reference"] == plain]
    flat = [row for row in rows if row["head"] != "sgd" or row["reference"] != plain]
    panels = list(dict.fromkeys(row[panel] for row in lines)) if panel else [None]
    with styled():
        figure = new_figure(max(7.0, 4.6 * len(panels)), 4.8)
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)
        for axes, value in zip(grid.flat, panels, strict=True):
            shown = [row for row in lines if not panel or row[panel] == value]
            _draw(axes, x, series, shown)
            _references(axes, flat)
            if panel:
                axes.set_title(f"{NAMES.get(panel, panel)}: {value}")
        when = "at the end" if plain else "after the last experience"
        grid[0, 0].set_ylabel(f"accuracy {when} (%)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", title=NAMES.get(series, series))
    return figure


def _draw(axes: Axes, x: str, series: str, rows: Rows) -> None:
    places = list(dict.fromkeys(row[x] for row in rows))
    numeric = all(isinstance(place, int | float) for place in places)
    places = sorted(places) if numeric else places
    at = {place: float(place) if numeric else float(number) for number, place in enumerate(places)}
    values = sorted({row[series] for row in rows}, key=_rank)
    aside = 0.0 if numeric else BESIDE  # words have no order to draw a line along, and room on both sides
    for number, value in enumerate(values):
        mine = sorted((row for row in rows if row[series] == value), key=lambda row: at[row[x]])
        shift = aside * (number - (len(values) - 1) / 2)
        axes.errorbar(
            [at[row[x]] + shift for row in mine],
            [100 * row["accuracy"] for row in mine],
            yerr=[100 * np.nan_to_num(row["accuracy_half"]) for row in mine],
            color=COLOURS[number % len(COLOURS)], marker="o", markersize=5, capsize=3, linewidth=1.5,
            linestyle="-" if numeric else "none", label=f"{value}",
        )  # fmt: skip
    if numeric and x in LOGARITHMIC:
        axes.set_xscale("log")
    axes.set_xticks(list(at.values()), [f"{place}" for place in places])
    axes.minorticks_off()
    axes.set_xlabel(NAMES.get(x, x))


def _references(axes: Axes, rows: Rows) -> None:
    """Draw heads and reference runs as level lines, with their names between the points."""
    named = sorted((100 * row["accuracy"], _name(row, rows)) for row in rows)
    levels = [*axes.get_ylim(), *(level for level, _ in named)]
    apart = LABEL_SHARE * (max(levels) - min(levels))
    place = float("-inf")
    for level, name in named:
        axes.axhline(level, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        place = max(level, place + apart)
        axes.annotate(
            name, (LABEL_PLACE, place), xycoords=("axes fraction", "data"), ha="center", va="center",
            fontsize=8, color=GREY, bbox={"boxstyle": "square,pad=0.15", "color": "white"}, zorder=1,
        )  # fmt: skip


def _name(row: Mapping[str, Any], rows: Rows) -> str:
    """Return the name of a reference, with its LR layer where there are several."""
    name = str(row["reference"] or row["head"])
    several = sum(1 for other in rows if other["reference"] == row["reference"]) > 1
    return f"{name}, LR layer {row['cut']}" if row["reference"] and several else name


def _rank(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) else (1, str(value))
