"""Certificates of written-out training steps of zoo networks."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import dse
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.memory_map import MemoryMap
from dse.plan.operations import Holds, StepSchedule
from dse.plan.step import training_step
from dse.plan.written import step_schedule
from dse.report.certificate import (
    Located,
    csv_files,
    header_text,
    level_peaks,
    offline_plan,
    write_certificate,
)
from dse.report.certificate.map_info import map_info
from dse.report.certificate.offline_plan import plan_json
from tests.report.certificate.maps import certificate_of, first_fit
from tests.report.certificate.test_header import compiled

SMALL = {"n_replays": 20, "new_per_batch": 2, "replays_per_batch": 2, "images_per_event": 10}
PLANS = {
    "resnet8": TrainingPlan(cut=5, micro_batch=4, **SMALL),
    "mobilenet-v2-w0.35": TrainingPlan(cut=40, learning_dtype="int8", micro_batch=2, **SMALL),
    "ds-cnn": TrainingPlan(cut=3, micro_batch=4, checkpoints="every 1", update="immediate", **SMALL),
    "har-cnn-1d": TrainingPlan(cut=-1, replay="raw", micro_batch=1, optimiser="adam", **SMALL),
    "autoencoder": TrainingPlan(cut=2, head="sgd", micro_batch=4, saved_bits=8, **SMALL),
}


def scheduler(network: str) -> Callable[[TrainingPlan], StepSchedule]:
    workload = dse.load_network(network)

    def written(plan: TrainingPlan) -> StepSchedule:
        plan = plan.canonical(workload)
        step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
        return step_schedule(step, plan, alignment=16, samples={Holds.NEW_SAMPLES: 4096, Holds.REPLAYS: 2048})

    return written


def in_one_level(schedule: StepSchedule) -> Located:
    return schedule, {buffer.id: "SRAM" for buffer in schedule.buffers}


@pytest.fixture(scope="module", params=PLANS)
def memory_map(request: pytest.FixtureRequest) -> MemoryMap:
    return first_fit(scheduler(request.param)(PLANS[request.param]))


def test_compilers_take_the_header(memory_map: MemoryMap, tmp_path: Path) -> None:
    certificate = certificate_of(memory_map, capacity={"SRAM": 2**24})
    assert compiled(header_text(certificate), tmp_path) == (0, "")


def test_the_table_reads_back_as_the_map(memory_map: MemoryMap) -> None:
    rows = list(csv.DictReader(csv_files(memory_map)["memory_map.csv"].splitlines()))
    found = {
        row["id"]: tuple(int(row[name]) for name in ("lower", "upper", "size", "offset")) for row in rows
    }
    assert found == {
        placed.buffer.id: (
            placed.buffer.start, placed.buffer.end + 1, placed.buffer.size_bytes, placed.offset,
        )
        for placed in memory_map.entries
    }  # fmt: skip


def test_the_offline_plan_keeps_tensors_apart_that_are_alive_together(memory_map: MemoryMap) -> None:
    plan = offline_plan(memory_map)
    layers = [layer for tensor in plan.tensors for layer in tensor.layers]
    assert layers[0] == "input"
    assert sorted(layers[1:]) == sorted(layer.name for layer in memory_map.schedule.workload.layers)
    for one in plan.tensors:
        for other in plan.tensors:
            a, b = one.placed.buffer, other.placed.buffer
            if one is not other and a.start <= b.end and b.start <= a.end:
                apart = one.offset + a.size_bytes <= other.offset or other.offset + b.size_bytes <= one.offset
                assert apart, (one.name, other.name)
    assert all(tensor.offset % 16 == 0 for tensor in plan.tensors)
    assert json.loads(plan_json(plan))["extent_bytes"] == plan.extent_bytes


def test_parts_of_the_step_cover_it(memory_map: MemoryMap) -> None:
    info = map_info(certificate_of(memory_map))
    assert [stretch.name for stretch in info.stretches][-1] == "inference"
    ends = [-1, *(stretch.last for stretch in info.stretches)]
    assert [stretch.first for stretch in info.stretches] == [end + 1 for end in ends[:-1]]
    assert ends[-1] == info.operations - 1


CHANGES = {
    "resnet8": {"micro_batch": 2, "update": "immediate", "learning_dtype": "fp16", "cut": 8},
    "ds-cnn": {"micro_batch": 2, "learning_dtype": "fp16"},
}


@pytest.mark.parametrize("network", CHANGES)
def test_listed_changes_lower_the_live_bytes_of_their_own_schedule(network: str) -> None:
    written = scheduler(network)
    memory_map = first_fit(written(PLANS[network]))
    (peak,) = level_peaks(memory_map, ["SRAM"], lambda plan: in_one_level(written(plan)))
    assert peak.live_bytes == int(memory_map.schedule.live_bytes.max())
    tried = {
        f"{decision} = {value}": int(written(replace(PLANS[network], **{decision: value})).live_bytes.max())
        for decision, value in CHANGES[network].items()
    }
    listed = {remedy.change: remedy.peak_bytes for row in peak.rows for remedy in row.remedies}
    assert listed
    assert all(size is not None and size < peak.live_bytes for size in listed.values())
    both = set(tried) & set(listed)
    assert both
    assert {change: tried[change] for change in both} == {change: listed[change] for change in both}


def test_a_whole_certificate(tmp_path: Path) -> None:
    written = scheduler("resnet8")
    certificate = certificate_of(
        first_fit(written(PLANS["resnet8"])), reschedule=lambda plan: in_one_level(written(plan)),
        capacity={"SRAM": 2**20},
    )  # fmt: skip
    files = write_certificate(certificate, tmp_path / "map")
    assert "tflm_offline_plan.json" in files
    assert {path.name for path in (tmp_path / "map").iterdir()} == set(files)
