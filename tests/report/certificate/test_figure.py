"""The figure of a memory map: a rectangle per buffer, and names that do not cover each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.collections import PatchCollection

from dse.report.certificate.map_info import Stretch, map_info, stretches
from dse.report.figures import memory_map_figure
from dse.report.figures.memory_map import COLOURS, apart
from dse.vocabulary import Role
from tests.report.certificate.maps import LIVE, PEAK_OPERATION, certificate_of, hand_made


def test_info_by_hand() -> None:
    info = map_info(certificate_of(hand_made()))
    assert info.operations == 11
    assert info.stretches == (
        Stretch("frozen stage", 0, 2), Stretch("forward", 3, 5), Stretch("backward", 6, 6),
        Stretch("update", 7, 7), Stretch("inference", 8, 10),
    )  # fmt: skip
    (level,) = info.levels  # flash is not volatile
    assert (level.summary.level, level.peak_operation, level.peak_name) == (
        "SRAM", PEAK_OPERATION, "bwd_weight classifier",
    )  # fmt: skip
    assert level.live.tolist() == [212, 180, 116, 164, 204, 244, LIVE, 200, 212, 180, 126]
    ranked = {block.rank: (block.first, block.last, block.low, block.high) for block in level.blocks}
    assert ranked[1] == (6, 7, 272, 372)
    assert ranked[3] == (3, 6, 112, 176)


def test_one_rectangle_per_buffer_in_the_colour_of_its_role() -> None:
    info = map_info(certificate_of(hand_made()))
    (axes,) = memory_map_figure(info).axes
    drawn = [found for found in axes.collections if isinstance(found, PatchCollection)]
    boxes = sorted(
        tuple(np.concatenate([path.vertices.min(axis=0), path.vertices.max(axis=0)]).tolist())
        for found in drawn
        for path in found.get_paths()
    )
    assert boxes == sorted(
        (block.first - 0.5, block.low, block.last + 0.5, block.high) for block in info.levels[0].blocks
    )
    assert set(COLOURS) == set(Role)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_one_panel_per_volatile_level_that_holds_anything() -> None:
    certificate = certificate_of(hand_made())
    both = tuple(replace(summary, volatile=True) for summary in certificate.levels)
    empty = replace(certificate.levels[0], level="L1")
    figure = memory_map_figure(map_info(replace(certificate, levels=(*both, empty))))
    assert [axes.get_title(loc="left").partition(":")[0] for axes in figure.axes] == ["SRAM", "flash"]
    fixed = tuple(replace(summary, volatile=False) for summary in certificate.levels)
    assert len(memory_map_figure(map_info(replace(certificate, levels=fixed))).axes) == 2


@pytest.mark.parametrize(("capacity", "drawn"), [(400, True), (4000, False)])
def test_a_capacity_far_above_the_arena_is_written_not_drawn(capacity: int, drawn: bool) -> None:
    figure = memory_map_figure(map_info(certificate_of(hand_made(), capacity={"SRAM": capacity})))
    keys = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("end of the level" in keys) is drawn
    (axes,) = figure.axes
    assert axes.get_ylim()[1] == pytest.approx(1.06 * (400 if drawn else 372))
    assert ("400 B" if drawn else "4000 B") in axes.get_title(loc="left")


def test_names_of_narrow_parts_stand_side_by_side() -> None:
    narrow = [Stretch("forward", 90, 90), Stretch("backward", 91, 91), Stretch("update", 99, 99)]
    places = apart(narrow, 100)
    half = [0.0078 * (len(stretch.name) + 2) / 2 for stretch in narrow]
    ends = [(place - own, place + own) for place, own in zip(places, half, strict=True)]
    assert all(left[1] <= right[0] + 1e-9 for left, right in pairwise(ends))
    assert ends[-1][1] <= 1.0
    assert apart([Stretch("update", 50, 50)], 100) == [0.505]


def test_recomputed_layers_belong_to_the_backward_pass() -> None:
    from dse.plan.operations import Kind, Operation, Phase

    kinds = (Kind.LOSS, Kind.RECOMPUTE, Kind.BWD_WEIGHT)
    operations = [Operation(n, kind, Phase.LEARNING, -1, "") for n, kind in enumerate(kinds)]
    assert [stretch.name for stretch in stretches(operations)] == ["forward", "backward"]
