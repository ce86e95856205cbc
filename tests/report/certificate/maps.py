"""Memory maps that the tests of certificates share: one by hand, others drawn or placed naively."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import dse
from dse.plan.decisions import TrainingPlan
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import Holds, Kind, Operation, Phase, StepBuffer, StepSchedule
from dse.plan.timeline import Content
from dse.report.certificate import Certificate, LevelSummary, Located, Reschedule, level_peaks
from dse.report.certificate.data import live_bytes, on_level
from dse.vocabulary import Role

PLAN = TrainingPlan(cut=9, n_replays=50, new_per_batch=2, replays_per_batch=2, micro_batch=4)

_OPERATIONS = (
    (Kind.FROZEN, Phase.FROZEN, 0, "frozen conv1"),
    (Kind.FROZEN, Phase.FROZEN, 26, "frozen pool"),
    (Kind.STORE, Phase.FROZEN, -1, "store latent"),
    (Kind.LOAD, Phase.LEARNING, -1, "load micro-batch"),
    (Kind.FORWARD, Phase.LEARNING, 28, "fwd classifier"),
    (Kind.LOSS, Phase.LEARNING, -1, "loss"),
    (Kind.BWD_WEIGHT, Phase.LEARNING, 28, "bwd_weight classifier"),
    (Kind.UPDATE, Phase.UPDATE, -1, "update"),
    (Kind.INFER, Phase.INFERENCE, 0, "infer conv1"),
    (Kind.INFER, Phase.INFERENCE, 26, "infer pool"),
    (Kind.INFER, Phase.INFERENCE, 28, "infer classifier"),
)

TRANSIENT, SAVED = Role.TRANSIENT_ACTIVATIONS, Role.SAVED_ACTIVATIONS
_FRAME = (Holds.FRAME, -1, Role.INPUT_FRAME, "input", "read by the first layer")

"""Rows: the id; what it holds, place, role, name and reason; first and last operation; bytes; offset."""
_BUFFERS = (
    ("weights", (Holds.LEARNING_WEIGHT, 9, Role.LEARNING_WEIGHTS, "classifier", "learns"), 0, 10, 100, 0),
    ("frame", _FRAME, 0, 0, 48, 112),
    ("conv1", (Holds.FROZEN, 0, TRANSIENT, "conv1", "until its last reader"), 0, 1, 64, 160),
    ("pool", (Holds.FROZEN, 26, TRANSIENT, "pool", "until it is stored"), 1, 2, 16, 112),
    ("latents", (Holds.LATENTS, -1, SAVED, "latents", "weight gradient of classifier"), 3, 6, 64, 112),
    ("logits", (Holds.ACTIVATION, 28, TRANSIENT, "classifier", "until the loss"), 4, 5, 40, 176),
    ("error", (Holds.ERROR, 28, TRANSIENT, "error of classifier", "until bwd_weight"), 5, 6, 40, 224),
    ("gradient", (Holds.GRADIENT, 9, Role.GRADIENTS, "gradient of classifier", "kept until the update"),
     6, 7, 100, 272),
    ("frame, inference", _FRAME, 8, 8, 48, 112),
    ("conv1, inference", (Holds.INFERRED, 0, TRANSIENT, "conv1", "until its last reader"), 8, 9, 64, 160),
    ("pool, inference", (Holds.INFERRED, 26, TRANSIENT, "pool", "until its last reader"), 9, 10, 16, 112),
    ("logits, inference", (Holds.INFERRED, 28, TRANSIENT, "classifier", "the result"), 10, 10, 10, 128),
)  # fmt: skip

_FLASH = (
    ("frozen", (Holds.FROZEN_WEIGHT, 0, Role.FROZEN_WEIGHTS, "conv1", "read by every pass"), 0, 10, 432, 0),
    ("replays", (Holds.REPLAYS, -1, Role.REPLAY_SAMPLES, "replays", "drawn by every mini-batch"),
     0, 10, 1000, 432),
)  # fmt: skip

ARENA, LIVE, PEAK_OPERATION = 372, 304, 6
"""By hand: the gradient ends at 272 + 100; at "bwd_weight classifier" 100 + 64 + 40 + 100 bytes are alive."""


def hand_made(plan: TrainingPlan = PLAN, *, alignment: int = 4) -> MemoryMap:
    """Return a map of 14 buffers on two levels whose every number can be checked by eye."""
    operations = tuple(Operation(number, *fields) for number, fields in enumerate(_OPERATIONS))
    entries = tuple(
        Placed(
            StepBuffer(name, *what[:3], Content.ACTIVATION, *what[3:], first, last, size, alignment, (last,)),
            level,
            offset,
        )
        for level, rows in (("SRAM", _BUFFERS), ("flash", _FLASH))
        for name, what, first, last, size, offset in rows
    )
    buffers = tuple(placed.buffer for placed in entries)
    schedule = StepSchedule(dse.load_network("resnet8"), plan, operations, buffers)
    return MemoryMap(schedule, entries, {"SRAM": ARENA, "flash": 1432})


def moved(memory_map: MemoryMap, name: str, offset: int) -> MemoryMap:
    """Return the map with one buffer elsewhere."""
    entries = tuple(
        replace(placed, offset=offset) if placed.buffer.id == name else placed
        for placed in memory_map.entries
    )
    return replace(memory_map, entries=entries)


def where(schedule: StepSchedule) -> Located:
    """Return a step with the levels of the map by hand; what it does not know lies in SRAM."""
    flash = {row[0] for row in _FLASH}
    return schedule, {each.id: "flash" if each.id in flash else "SRAM" for each in schedule.buffers}


def certificate_of(
    memory_map: MemoryMap, *, reschedule: Reschedule | None = None, capacity: Mapping[str, int] | None = None
) -> Certificate:
    """Return a certificate of a map, as an honest caller would fill it."""
    rooms = {"SRAM": 400, "flash": 4096} | dict(capacity or {})
    levels = tuple(_summary(memory_map, level, rooms[level]) for level in memory_map.arena_bytes)
    peaks = level_peaks(memory_map, [each.level for each in levels], reschedule)
    certificate = Certificate(
        memory_map, levels, memory_map.schedule.workload.name, "some board",
        ("cut 9 of 9", "fp32 sgd", "micro-batch 4"), 0, (), peaks,
    )  # fmt: skip
    return replace(certificate, promised_bytes=certificate.ram_peak_bytes)


def _summary(memory_map: MemoryMap, level: str, capacity: int) -> LevelSummary:
    live = int(live_bytes(on_level(memory_map, level), len(memory_map.schedule.operations)).max())
    arena = memory_map.arena_bytes[level]
    return LevelSummary(
        level, live, live, arena, capacity, "heuristic", proven=live == arena, volatile=level != "flash"
    )


def first_fit(schedule: StepSchedule) -> MemoryMap:
    """Place a whole schedule into one level, the largest buffers first, each as low as it can."""
    done: list[Placed] = []
    for buffer in sorted(schedule.buffers, key=lambda buffer: (-buffer.size_bytes, buffer.id)):
        offset = 0
        for other in sorted(done, key=lambda placed: placed.offset):
            together = other.buffer.start <= buffer.end and buffer.start <= other.buffer.end
            if together and other.offset < offset + buffer.size_bytes:
                end = other.offset + other.buffer.size_bytes
                offset = max(offset, -(-end // buffer.alignment) * buffer.alignment)
        done.append(Placed(buffer, "SRAM", offset))
    top = max(placed.offset + placed.buffer.size_bytes for placed in done)
    return MemoryMap(schedule, tuple(done), {"SRAM": top})


def drawn(seed: int, count: int = 25, operations: int = 12) -> MemoryMap:
    """Return a random schedule, placed; the buffers have nothing to do with a network."""
    draw = random.Random(seed)
    base = hand_made().schedule
    steps = tuple(Operation(n, Kind.FORWARD, Phase.LEARNING, -1, f"op {n}") for n in range(operations))
    buffers = []
    for number in range(count):
        first = draw.randrange(operations)
        last = min(operations - 1, first + draw.randrange(5))
        buffers.append(
            replace(base.buffers[1], id=f"b{number}", start=first, end=last, size_bytes=draw.randrange(1, 90))
        )
    return first_fit(replace(base, operations=steps, buffers=tuple(buffers)))
