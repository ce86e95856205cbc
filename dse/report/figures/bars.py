"""Bar charts of single plans: memory by role and level, energy by cause, latency by unit and pass."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from dse.report.bar_info import ELSEWHERE, GROUPS, CauseInfo, MemoryInfo, UnitInfo
from dse.report.figures.style import (
    BLUE,
    FAINT,
    FORMATS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    linear_ticks,
    new_figure,
    quiet,
    styled,
)
from dse.units import human_bytes

ROLE_COLOURS: Final = dict(
    zip((*GROUPS, ELSEWHERE), (GREY, BLUE, SKY, VERMILION, ORANGE, YELLOW, GREEN, PURPLE, FAINT), strict=True)
)
CAUSE_COLOURS: Final = {
    "capture": YELLOW, "frozen stage": SKY, "learning": BLUE, "sample storage": GREEN,
    "replay writes": PURPLE, "persistence": ORANGE,
}  # fmt: skip
PASS_COLOURS: Final = {
    "frozen fwd": FAINT, "fwd": SKY, "bwd_input": ORANGE, "bwd_weight": BLUE, "update": VERMILION,
}  # fmt: skip
PASS_NAMES: Final = {
    "frozen fwd": "frozen stage, forward", "fwd": "forward", "bwd_input": "backward, input gradient",
    "bwd_weight": "backward, weight gradient", "update": "update",
}  # fmt: skip
BAR: Final[dict[str, Any]] = {"height": 0.62, "edgecolor": "white", "linewidth": 0.6}


def memory_figure(info: MemoryInfo) -> Figure:
    """Draw what each plan keeps on each level, against the level's size: one panel per level."""
    with styled():
        figure = new_figure(8.5, _memory_height(info))
        _draw_memory(figure, info)
    return figure


def _memory_height(info: MemoryInfo) -> float:
    return 1.3 + len(info.used) * (0.75 + 0.32 * len(info.plans))


def _draw_memory(figure: FigureBase, info: MemoryInfo) -> None:
    grid = figure.subplots(len(info.used), 1, squeeze=False)
    for axes, level in zip(grid[:, 0], info.used, strict=True):
        draw_level(axes, info, level)
    shown = [group for group in ROLE_COLOURS if any(_visible(info, level, group) for level in info.used)]
    _legend(figure, {group: ROLE_COLOURS[group] for group in shown})
    _title(figure, info.title)


def _title(figure: FigureBase, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=13)


def _visible(info: MemoryInfo, level: str, group: str) -> bool:
    """Whether a group makes a bar that can be seen on the scale of its level."""
    return bool(info.used[level][group].max() > 0.002 * info.size_bytes[level])


def draw_level(axes: Axes, info: MemoryInfo, level: str) -> None:
    """Draw one level: a stacked bar per plan, and a line where the level is full."""
    places = np.arange(len(info.plans))[::-1]
    left = np.zeros(len(info.plans))
    for group, sizes in info.used[level].items():
        if sizes.any():
            axes.barh(places, sizes, left=left, color=ROLE_COLOURS[group], **BAR)
        left = left + sizes
    usable, high = info.usable_bytes[level], max(float(left.max()), info.size_bytes[level])
    axes.axvline(usable, color=INK, linewidth=1.4)
    reserve = info.size_bytes[level] - usable
    axes.axvspan(usable, info.size_bytes[level], color=FAINT, alpha=0.45, linewidth=0)
    room = 0.16 * info.size_bytes[level]  # of a label: it stands beyond the line where it would cross it
    for place, total in zip(places, left, strict=True):
        start = info.size_bytes[level] if usable - room < total <= usable else total
        over = f", {human_bytes(total - usable)} too much" if total > usable else ""
        axes.annotate(
            human_bytes(total) + over, (start, place), (5, 0), textcoords="offset points", va="center",
            fontsize=9.5, color=VERMILION if over else INK,
        )  # fmt: skip
    axes.set_xlim(0, high * (1.55 if left.max() > usable else 1.24))
    axes.set_yticks(places, info.plans)
    quiet(axes)
    linear_ticks(axes.xaxis, "B", high)
    note = f"{human_bytes(usable)} usable" + (f", {human_bytes(reserve)} reserved" if reserve else "")
    axes.set_title(f"{level}: {note}", fontsize=11)


def _legend(figure: FigureBase, colours: dict[str, str], columns: int = 4) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    figure.legend(
        handles=handles, loc="outside lower left", ncols=columns, handlelength=1.0, columnspacing=1.4
    )


def cause_figure(info: CauseInfo) -> Figure:
    """Draw the share of each cause, one bar per plan, with the total beside it."""
    with styled():
        figure = new_figure(8.5, 1.5 + 0.5 * len(info.plans))
        draw_causes(figure.subplots(), info)
        _legend(figure, {cause: CAUSE_COLOURS[cause] for cause in info.parts}, 5)
        _title(figure, info.title)
    return figure


def draw_causes(axes: Axes, info: CauseInfo) -> None:
    """Draw stacked shares; bars differ by orders of magnitude, so that totals are written, not drawn."""
    places, totals = np.arange(len(info.plans))[::-1], info.totals
    left = np.zeros(len(info.plans))
    for cause, part in info.parts.items():
        share = np.divide(part, totals, out=np.zeros_like(part), where=totals > 0)
        axes.barh(places, share, left=left, color=CAUSE_COLOURS[cause], **BAR)
        for place, width, start in zip(places, share, left, strict=True):
            if width >= 0.08:
                axes.text(
                    start + width / 2, place, f"{width * 100:.0f} %", ha="center", va="center", fontsize=9.5,
                    color="white" if CAUSE_COLOURS[cause] == BLUE else INK,
                )  # fmt: skip
        left = left + share
    for place, total in zip(places, totals, strict=True):
        axes.annotate(
            FORMATS[info.unit](total),
            (1, place),
            (6, 0),
            textcoords="offset points",
            va="center",
            weight="bold",
        )
    axes.set_yticks(places, info.plans)
    axes.set_xlim(0, 1.0)
    linear_ticks(axes.xaxis, "fraction", 1.0)
    axes.set_xlabel("share of the event")
    quiet(axes)


def units_figure(infos: list[UnitInfo], title: str) -> Figure:
    """Draw seconds per unit, stacked by pass: one panel per plan over the same units."""
    with styled():
        figure = new_figure(10, 1.6 + 2.2 * len(infos))
        _draw_units(figure, infos, title)
    return figure


def _draw_units(figure: FigureBase, infos: list[UnitInfo], title: str) -> None:
    grid = figure.subplots(len(infos), 1, squeeze=False, sharex=_same_units(infos))
    for axes, info in zip(grid[:, 0], infos, strict=True):
        draw_units(axes, info)
    shown = [pass_ for pass_ in PASS_COLOURS if any(pass_ in info.seconds for info in infos)]
    _legend(figure, {PASS_NAMES[pass_]: PASS_COLOURS[pass_] for pass_ in shown}, 5)
    _title(figure, title)


def plan_figure(memory: MemoryInfo, time: CauseInfo, energy: CauseInfo, units: UnitInfo) -> Figure:
    """Draw one plan on one page: its memory, its time and energy by cause, its time by unit and pass."""
    with styled():
        heights = (_memory_height(memory) + 0.1, 2.3, 3.9)
        figure = new_figure(10, sum(heights))
        parts: Any = figure.subfigures(3, 1, height_ratios=heights)
        _draw_memory(parts[0], memory)
        for axes, info in zip(parts[1].subplots(2, 1), (time, energy), strict=True):
            draw_causes(axes, info)
        parts[1].axes[0].set_xlabel("")
        parts[1].axes[0].set_xticklabels([])
        _legend(parts[1], {cause: CAUSE_COLOURS[cause] for cause in {**time.parts, **energy.parts}}, 6)
        _title(parts[1], "Time and energy by cause")
        _draw_units(parts[2], [units], "Time by unit and pass")
    return figure


def _same_units(infos: list[UnitInfo]) -> bool:
    return len({info.names for info in infos}) == 1


def draw_units(axes: Axes, info: UnitInfo) -> None:
    """Draw one plan: a stacked bar per unit, and a line between what is frozen and what learns."""
    places, bottom = np.arange(len(info.names)), np.zeros(len(info.names))
    for pass_, seconds in info.seconds.items():
        axes.bar(
            places,
            seconds,
            bottom=bottom,
            color=PASS_COLOURS[pass_],
            width=0.78,
            edgecolor="white",
            linewidth=0.4,
        )
        bottom = bottom + seconds
    high = float(bottom.max()) or 1.0
    axes.set_ylim(0, high * 1.12)
    linear_ticks(axes.yaxis, "s", high * 1.05, most=4)
    axes.set_title(info.title, fontsize=11)
    axes.set_ylabel("time per event")
    axes.set_xlim(-0.6, len(info.names) - 0.4)
    step = 1 if len(info.names) <= 32 else 2
    axes.set_xticks(places[::step], info.names[::step], rotation=90, fontsize=8.5)
    axes.tick_params(axis="x", length=0)
    if 0 < info.first_learning < len(info.names):
        axes.axvline(info.first_learning - 0.5, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "learns", (info.first_learning - 0.5, high * 1.1), (4, 0), textcoords="offset points", va="top",
            color=GREY, fontsize=9.5,
        )  # fmt: skip
