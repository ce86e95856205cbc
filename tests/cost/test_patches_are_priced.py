"""Patches overlap: what is computed and moved again is counted again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dse
from dse.api.context import context_of
from dse.cost.certificate import certify
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import READ, WRITE, training_step
from dse.workload import load_network

NETWORK = """
name = "two-convs"
title = "two 3x3 convolutions on 8x8, then a classifier"
source = "made for the tests"
input = { channels = 1, height = 8, width = 8 }
classes = 2
legal_cuts = [1, 2]
layers = [
  { kind = "conv2d", name = "first", out_channels = 4, kernel = 3, padding = "same", then = ["relu"] },
  { kind = "conv2d", name = "second", out_channels = 2, kernel = 3, padding = "same", then = ["relu"] },
  { kind = "global_avg_pool", name = "gap" },
  { kind = "linear", name = "fc", out_features = "classes" },
]
"""
AGAIN = (10 / 8) ** 2
"""A 2x2 patch of ``second`` reads rows 0 to 4 and 3 to 7 of ``first``: five of eight on each axis, twice."""

PLAN = {"cut": 1, "replay": "none", "batch": [2, 0], "micro_batch": 1, "images_per_event": 4, "epochs": 1}


@pytest.fixture
def network(tmp_path: Path) -> str:
    path = tmp_path / "two-convs.toml"
    path.write_text(NETWORK)
    return str(path)


def bytes_of(network: str, patches: str, in_place: str = "elementwise") -> np.ndarray:
    workload = load_network(network)
    plan = TrainingPlan(
        cut=1,
        replay="none",
        n_replays=0,
        new_per_batch=2,
        replays_per_batch=0,
        patches=patches,
        in_place=in_place,
    )
    return training_step(workload, PlanBatch.from_plans(workload, [plan])).frozen_activation_bytes[0]


def test_bytes_of_overlapping_parts_by_hand(network: str) -> None:
    """int8: the frame has 64 B, ``first`` writes 256 B, ``second`` 128 B whole, read again to be stored."""
    whole, parts = bytes_of(network, "none"), bytes_of(network, "2x2 to 1")
    assert whole[0].tolist() == [64, 64 + 256]
    assert whole[1].tolist() == [256 + 128, 128]
    # Of the frame a patch needs six of eight rows and columns, 4 x 6 x 6 B in all.
    assert parts[0].tolist() == [144, 144 + 256 * AGAIN]
    assert parts[1, READ] == 256 * AGAIN + 128
    assert parts[1, WRITE] == 128


def test_a_result_that_is_whole_moves_once_wherever_its_relu_writes(network: str) -> None:
    whole, parts = bytes_of(network, "none", "none"), bytes_of(network, "2x2 to 1", "none")
    assert parts[1, WRITE] == whole[1, WRITE] == 2 * 128
    assert (parts >= whole).all()


def test_macs_and_time_of_a_patched_layer_count_as_often_as_it_runs(network: str) -> None:
    plain = dse.explain(network, "stm32f746", **PLAN)
    parts = dse.explain(network, "stm32f746", **PLAN, patches="2x2 to 1")
    frozen = [{row.name: row for row in each.rows if row.stage == "frozen stage"} for each in (plain, parts)]
    assert frozen[1]["first"].macs == pytest.approx(AGAIN * frozen[0]["first"].macs)
    assert frozen[1]["second"].macs == frozen[0]["second"].macs
    assert frozen[1]["first"].seconds > AGAIN * 0.99 * frozen[0]["first"].seconds


def test_weights_are_fetched_once_per_patch_in_tiles() -> None:
    """Vega's MRAM holds the frozen weights; four patches fetch those of the patched units four times."""
    context = context_of("mobilenet-v1-0.25", "vega")
    decisions = {"cut": 22, "n_replays": 10, "batch": [2, 2], "images_per_event": 4}
    found = [
        {row.name: row.bytes_moved.get("MRAM", 0.0) for row in dse.explain(
            "mobilenet-v1-0.25", "vega", **decisions, patches=patches).rows if row.stage == "frozen stage"}
        for patches in ("none", "2x2 to 4")
    ]  # fmt: skip
    names = [unit.name for unit in context.workload.units]
    some = [name for name in names[:5] if found[0][name]]
    assert some
    assert all(found[1][name] > found[0][name] for name in some)
    assert all(found[1][name] == found[0][name] for name in names[6:20])


def test_a_persistent_copy_that_nobody_makes_is_not_placed() -> None:
    """Where only RAM that sleep keeps has room, no second copy is made; labels have a byte each."""
    context = context_of("ds-cnn", "stm32l4r5")
    plan = TrainingPlan(
        cut=9, n_replays=11, new_per_batch=2, replays_per_batch=2, images_per_event=4, epochs=2
    )
    sizes = {one.holds.name: one.size_bytes for one in certify(context, plan).map.schedule.buffers}
    assert sizes["REPLAY_LABELS"] == 11
    assert sizes["NEW_LABELS"] == 4
    once = TrainingPlan(**{**vars(plan), "epochs": 1})
    assert {one.holds.name: one.size_bytes for one in certify(context, once).map.schedule.buffers}[
        "NEW_LABELS"
    ] == 2
