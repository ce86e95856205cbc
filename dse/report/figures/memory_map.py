"""A memory map drawn: address against operations, one rectangle per buffer."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from dse.report.certificate.map_info import Block, LevelInfo, MapInfo, Stretch
from dse.report.figures.style import (
    BLUE,
    FAINT,
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
    styled,
)
from dse.units import human_bytes
from dse.vocabulary import Role

COLOURS: Final = {
    Role.FROZEN_WEIGHTS: GREY,
    Role.LEARNING_WEIGHTS: BLUE,
    Role.INFERENCE_COPY: SKY,
    Role.PERSISTENT_COPY: "#A8D5F2",
    Role.GRADIENTS: VERMILION,
    Role.OPTIMISER_STATE: "#F0A37A",
    Role.SAVED_ACTIVATIONS: ORANGE,
    Role.TRANSIENT_ACTIVATIONS: "#F5CE7E",
    Role.INPUT_FRAME: "#FBE9C6",
    Role.WORKSPACE: "#8A6100",
    Role.NEW_SAMPLES: YELLOW,
    Role.REPLAY_SAMPLES: GREEN,
    Role.LABELS: FAINT,
    Role.HEAD_STATE: PURPLE,
}
"""The colours of the bar charts; what they draw as one group has shades of the group's colour here."""

DARK: Final = frozenset({GREY, BLUE, VERMILION, GREEN, COLOURS[Role.WORKSPACE]})
"""Colours that white letters are read on."""

NEAR: Final = 1.25
"""A capacity beyond this many arenas is written instead of drawn."""

WIDTH: Final = 12.0
POINTS: Final = {True: 340.0, False: 220.0}
"""Height in points, nearly, of a single panel, and of one among others."""
NUMBER_POINTS: Final = 10.0
SECOND_ROW: Final = 17.0
"""Points above the axes where names stand that are too wide for their part of the step."""

_LETTER: Final = 0.0078
"""Width of a letter of the names above the axes, as a share of the axes."""
_SUBTITLE: Final = 108
"""Letters that fit beside the legend."""

_HALO: Final = (withStroke(linewidth=2.4, foreground="white"),)
_TOP_OF_ARENA: Final[dict[str, Any]] = {"color": INK, "linewidth": 1.0, "linestyle": (0, (5, 2))}
_TOP_OF_LEVEL: Final[dict[str, Any]] = {"color": VERMILION, "linewidth": 1.4}


def memory_map_figure(info: MapInfo) -> Figure:
    """Draw one panel per level over the same operations."""
    with styled():
        count = len(info.levels)
        figure = new_figure(WIDTH, 1.7 + (4.8 if count == 1 else 3.4) * count)
        grid = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
        points = POINTS[count == 1]
        for axes, level in zip(grid, info.levels, strict=True):
            draw_level_map(axes, level, info.operations, points)
            _divide(axes, info.stretches)
            axes.set_title(_level_title(level), fontsize=11, pad=38 if axes is grid[0] else 8)
        _name_stretches(grid[0], info.stretches, info.operations, 1 + SECOND_ROW / points)
        grid[-1].set_xlabel("operation of the training step, then of an inference")
        subtitle = textwrap.shorten(info.subtitle, _SUBTITLE, placeholder=" ...")
        figure.suptitle(f"{info.title}\n{subtitle}", x=0.01, ha="left", fontsize=12, linespacing=1.5)
        figure.legend(handles=_keys(info), loc="outside right upper", handlelength=1.2, labelspacing=0.6)
    return figure


def draw_level_map(axes: Axes, level: LevelInfo, operations: int, points: float) -> None:
    """Draw the buffers of one level, its live bytes, and how far they may reach, ``points`` high."""
    summary = level.summary
    top = max(summary.arena_bytes, 1)
    _draw_blocks(axes, level.blocks, top / points)
    steps = np.arange(operations + 1) - 0.5
    axes.stairs(level.live, steps, baseline=None, color=INK, linewidth=1.2, path_effects=_HALO)
    axes.axhline(summary.arena_bytes, **_TOP_OF_ARENA)
    if _is_near(level):
        axes.axhline(summary.capacity_bytes, **_TOP_OF_LEVEL)
        top = max(top, summary.capacity_bytes)
    _mark_peak(axes, level)
    _number_blocks(axes, level.blocks, operations, 1.06 * top / points)
    axes.set_xlim(-0.5, operations - 0.5)
    axes.set_ylim(0, 1.06 * top)
    linear_ticks(axes.yaxis, "B", 1.05 * top, most=8)
    axes.set_ylabel("address")


def _is_near(level: LevelInfo) -> bool:
    return level.summary.capacity_bytes <= NEAR * level.summary.arena_bytes


def _level_title(level: LevelInfo) -> str:
    summary = level.summary
    arena, room = human_bytes(summary.arena_bytes), human_bytes(summary.capacity_bytes)
    above = f"{summary.gap_text} above the bound" if summary.gap else "at the bound"
    peak = f"fullest during {level.peak_name}"
    if summary.live_bytes < summary.arena_bytes:
        peak += f": {human_bytes(summary.live_bytes)} alive"
    return f"{summary.level}: arena {arena} of {room}, {above}; {peak}"


def _draw_blocks(axes: Axes, blocks: Sequence[Block], point: float) -> None:
    """Draw rectangles role by role; one that is few points (of ``point`` bytes) high has a thin edge."""
    for role in dict.fromkeys(block.role for block in blocks):
        own = [block for block in blocks if block.role == role]
        edges = [min(0.5, 0.1 * (block.high - block.low) / point) for block in own]
        boxes = [_box(block) for block in own]
        axes.add_collection(
            PatchCollection(boxes, facecolor=COLOURS[role], edgecolor="white", linewidth=edges)
        )


def _box(block: Block) -> Rectangle:
    return Rectangle((block.first - 0.5, block.low), block.last - block.first + 1, block.high - block.low)


def _mark_peak(axes: Axes, level: LevelInfo) -> None:
    """Mark the fullest operation."""
    moment, peak = level.peak_operation, int(level.live[level.peak_operation])
    axes.axvline(moment, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.plot([moment], [peak], "v", color=INK, markersize=7, markeredgecolor="white", zorder=5)


def _number_blocks(axes: Axes, blocks: Sequence[Block], operations: int, point: float) -> None:
    """Write the rank of the buffers that make the peak into their rectangles, where there is room."""
    for block in blocks:
        tall, wide = (block.high - block.low) / point, (block.last - block.first + 1) / operations
        if block.rank and tall >= NUMBER_POINTS and wide >= 0.014:
            axes.text(
                (block.first + block.last) / 2, (block.low + block.high) / 2, str(block.rank), ha="center",
                va="center", fontsize=9, color="white" if COLOURS[block.role] in DARK else INK,
            )  # fmt: skip


def _divide(axes: Axes, stretches: Sequence[Stretch]) -> None:
    """Draw thin lines where one part of the step ends and the next begins."""
    for stretch in stretches[1:]:
        axes.axvline(stretch.first - 0.5, color=GREY, linewidth=0.8)


def _name_stretches(axes: Axes, stretches: Sequence[Stretch], operations: int, second_row: float) -> None:
    """Write the parts of the step above the axes; those too narrow for their names a row higher."""
    narrow = [stretch for stretch in stretches if not _fits(stretch, operations)]
    higher = dict(zip(narrow, apart(narrow, operations), strict=True))
    for stretch in stretches:
        middle = _middle(stretch, operations)
        place = (higher[stretch], second_row) if stretch in higher else (middle, 1.0)
        axes.annotate(
            stretch.name, (middle, 1.0), place, xycoords="axes fraction", ha="center", va="bottom",
            fontsize=9.5, color=GREY, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": GREY, "shrinkB": 0} if stretch in higher else None,
        )  # fmt: skip


def _fits(stretch: Stretch, operations: int) -> bool:
    return (stretch.last - stretch.first + 1) / operations >= _LETTER * (len(stretch.name) + 1)


def _middle(stretch: Stretch, operations: int) -> float:
    return (stretch.first + stretch.last + 1) / 2 / operations


def apart(stretches: Sequence[Stretch], operations: int) -> list[float]:
    """Return where names stand (middles, as shares of the axes) so that none covers the next."""
    half = [_LETTER * (len(stretch.name) + 2) / 2 for stretch in stretches]
    places: list[float] = []
    end = 0.0
    for stretch, own in zip(stretches, half, strict=True):
        places.append(max(_middle(stretch, operations), end + own))
        end = places[-1] + own
    end = 1.0
    for index in reversed(range(len(places))):  # push back what would stand out on the right
        places[index] = min(places[index], end - half[index])
        end = places[index] - half[index]
    return places


def _keys(info: MapInfo) -> list[Any]:
    used = {block.role for level in info.levels for block in level.blocks}
    keys: list[Any] = [Patch(facecolor=COLOURS[role], label=role.value) for role in COLOURS if role in used]
    keys += [
        Line2D([], [], color=INK, linewidth=1.2, label="live bytes"),
        Line2D([], [], color=INK, linewidth=0, marker="v", label="peak; 1, 2 ...: the\nlargest buffers then"),
        Line2D([], [], **_TOP_OF_ARENA, label="end of the arena"),
    ]
    if any(_is_near(level) for level in info.levels):
        keys.append(Line2D([], [], **_TOP_OF_LEVEL, label="end of the level"))
    return keys
