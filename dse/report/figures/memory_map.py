"""A memory map drawn: address against operations, one rectangle per buffer."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

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

NEAR: Final = 1.25
"""A capacity beyond this many arenas is written instead of drawn."""

WIDTH: Final = 12.0
_LETTER: Final = 0.0075
"""Width of a letter of the phases' names, as a share of the axes."""


def memory_map_figure(info: MapInfo) -> Figure:
    """Draw one panel per level over the same operations."""
    with styled():
        count = len(info.levels)
        figure = new_figure(WIDTH, 1.5 + (4.6 if count == 1 else 3.4) * count)
        grid = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
        for axes, level in zip(grid, info.levels, strict=True):
            draw_level_map(axes, level, info.operations)
        name_stretches(grid[0], info.stretches, info.operations)
        for axes in grid:
            mark_stretches(axes, info.stretches)
        grid[-1].set_xlabel("operation of the training step, then of an inference")
        figure.suptitle(info.title, x=0.01, ha="left", fontsize=13)
        figure.legend(handles=_keys(info), loc="outside right upper", handlelength=1.2, labelspacing=0.6)
    return figure


def draw_level_map(axes: Axes, level: LevelInfo, operations: int) -> None:
    """Draw the buffers of one level, its live bytes, and how far they may reach."""
    summary = level.summary
    for role in dict.fromkeys(block.role for block in level.blocks):
        boxes = [_box(block) for block in level.blocks if block.role == role]
        axes.add_collection(
            PatchCollection(boxes, facecolor=COLOURS[role], edgecolor="white", linewidth=_edge(level))
        )
    edges = np.arange(operations + 1) - 0.5
    axes.stairs(level.live, edges, baseline=None, color=INK, linewidth=1.2)
    top = max(summary.arena_bytes, 1)
    axes.axhline(summary.arena_bytes, color=INK, linewidth=1.0, linestyle=(0, (5, 2)))
    if summary.capacity_bytes <= NEAR * top:
        axes.axhline(summary.capacity_bytes, color=VERMILION, linewidth=1.4)
        top = max(top, summary.capacity_bytes)
    _mark_peak(axes, level, operations)
    _number_blocks(axes, level, operations, 1.06 * top)
    axes.set_xlim(-0.5, operations - 0.5)
    axes.set_ylim(0, 1.06 * top)
    linear_ticks(axes.yaxis, "B", 1.05 * top)
    axes.set_ylabel("address")
    axes.set_title(_level_title(level), fontsize=11, pad=24)


def _level_title(level: LevelInfo) -> str:
    summary = level.summary
    arena, room = human_bytes(summary.arena_bytes), human_bytes(summary.capacity_bytes)
    above = f"{100 * summary.gap:.2g} % above the bound" if summary.gap else "at the bound"
    return f"{summary.level}: arena {arena} of {room}, {above}; fullest during {level.peak_name}"


def _box(block: Block) -> Rectangle:
    return Rectangle((block.first - 0.5, block.low), block.last - block.first + 1, block.high - block.low)


def _edge(level: LevelInfo) -> float:
    return 0.5 if len(level.blocks) <= 150 else 0.25


def _mark_peak(axes: Axes, level: LevelInfo, operations: int) -> None:
    """Mark the fullest operation, and write its live bytes beside."""
    moment, peak = level.peak_operation, int(level.live[level.peak_operation])
    axes.axvline(moment, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.plot(
        [moment], [peak], "v", color=INK, markersize=7, markeredgecolor="white", clip_on=False, zorder=5
    )


def _number_blocks(axes: Axes, level: LevelInfo, operations: int, top: float) -> None:
    """Write the rank of the buffers that make the peak into their rectangles, where there is room."""
    for block in level.blocks:
        tall, wide = (block.high - block.low) / top, (block.last - block.first + 1) / operations
        if block.rank and tall >= 0.035 and wide >= 0.014:
            axes.text(
                (block.first + block.last) / 2, (block.low + block.high) / 2, str(block.rank),
                ha="center", va="center", fontsize=9,
                color="white" if COLOURS[block.role] in (BLUE, GREY, VERMILION, GREEN, "#8A6100") else INK,
            )  # fmt: skip


def mark_stretches(axes: Axes, stretches: tuple[Stretch, ...]) -> None:
    """Draw thin lines where one part of the step ends and the next begins."""
    for stretch in stretches[1:]:
        axes.axvline(stretch.first - 0.5, color=GREY, linewidth=0.8)


def name_stretches(axes: Axes, stretches: tuple[Stretch, ...], operations: int) -> None:
    """Write the parts of the step above the axes; what is too narrow for its name gets it aslant."""
    for stretch in stretches:
        wide = (stretch.last - stretch.first + 1) / operations
        fits = wide >= _LETTER * len(stretch.name)
        style: dict[str, Any] = {"ha": "center"} if fits else {"ha": "left", "rotation": 25}
        axes.annotate(
            stretch.name, ((stretch.first + stretch.last) / 2, 1.0), (0, 4),
            xycoords=axes.get_xaxis_transform(), textcoords="offset points", va="bottom", fontsize=9.5,
            color=GREY, **style,
        )  # fmt: skip


def _keys(info: MapInfo) -> list[Any]:
    used = {block.role for level in info.levels for block in level.blocks}
    keys: list[Any] = [Patch(facecolor=COLOURS[role], label=role.value) for role in COLOURS if role in used]
    keys += [
        Line2D([], [], color=INK, linewidth=1.2, label="live bytes"),
        Line2D([], [], color=INK, linewidth=0, marker="v", label="peak"),
        Line2D([], [], color=INK, linewidth=1.0, linestyle=(0, (5, 2)), label="end of the arena"),
    ]
    near = any(level.summary.capacity_bytes <= NEAR * level.summary.arena_bytes for level in info.levels)
    if near:
        keys.append(Line2D([], [], color=VERMILION, linewidth=1.4, label="end of the level"))
    return keys
