"""Random samples of an event, in stores as full as a schedule's buffers are large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from dse.errors import Problem, UserError
from dse.execution.arithmetic import Array, IntArray
from dse.execution.buffers import Buffers
from dse.execution.memory import MemoryViolation
from dse.execution.packing import ByteArray, Levels, row_bytes
from dse.execution.samples import Samples, is_stored
from dse.execution.trial.numbers import FRAMES, Numbers
from dse.plan.operations import Holds, StepBuffer, StepSchedule
from dse.workload import Workload

CHUNK_VALUES: Final = 2**20
"""Values that are drawn at a time."""
NOISE: Final = 0.3
SCALE_BYTES: Final = 4


@dataclass(frozen=True)
class Store:
    """Samples of one kind. ``data`` are the bytes of their buffer; without one, ``given`` are the samples."""

    holds: Holds
    data: ByteArray | None
    given: Array
    labels: IntArray
    rows: IntArray  # those of the mini-batch


@dataclass(frozen=True)
class Kind:
    """How samples are kept: as frames, or as latents on ``levels``."""

    holds: Holds
    shape: tuple[int, ...]
    levels: Levels
    are_frames: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample."""
        return row_bytes(prod(self.shape), self.levels.bits)


@dataclass(frozen=True)
class DrawnSamples:
    """Both stores, and the classes that have been seen."""

    new: Store
    old: Store
    seen: tuple[int, ...]
    labels_held: bool = True

    @property
    def samples(self) -> Samples:
        """What a step is given: labels, and samples that no buffer holds; ``fill`` puts the others."""
        return Samples(
            self.new.given, self.new.labels, self.old.given, self.old.labels, self.new.rows, self.old.rows,
            self.labels_held,
        )  # fmt: skip

    def fill(self, buffers: Buffers) -> None:
        """Write the stores into their buffers, each as a whole: row by row would take long."""
        for store in (self.new, self.old):
            if store.data is not None:
                buffers.put_bytes(store.holds, -1, store.data)


def drawn_samples(
    schedule: StepSchedule, numbers: Numbers, seed: int, *, labels_held: bool = True
) -> DrawnSamples:
    """Draw samples for the mini-batch of ``schedule``; ``labels_held``: see ``Samples``.

    Raises MemoryViolation where a store that the plan keeps has no buffer, UserError where it holds too few.
    """
    plan, workload = schedule.plan, schedule.workload
    draw = np.random.default_rng([seed, 3])
    seen = tuple(range(max(2, workload.classes - 1)))
    new = _kind(Holds.NEW_SAMPLES, workload, numbers, plan.new_samples != "cache_latent")
    old = _kind(Holds.REPLAYS, workload, numbers, plan.replay == "raw")
    labels = (Holds.NEW_LABELS, Holds.REPLAY_LABELS) if labels_held else (None, None)
    return DrawnSamples(
        _store(schedule, numbers, new, labels[0], plan.new_per_batch, None, seen, draw),
        _store(schedule, numbers, old, labels[1], plan.replays_per_batch, plan.n_replays, seen, draw),
        seen,
        labels_held,
    )


def _kind(holds: Holds, workload: Workload, numbers: Numbers, raw: bool) -> Kind:
    edge = workload.cut_layer(numbers.plan.cut)
    if raw or edge < 0:
        return Kind(holds, workload.input_shape, FRAMES, are_frames=True)
    return Kind(holds, workload.shape_of(edge), numbers.levels, are_frames=False)


def _store(
    schedule: StepSchedule, numbers: Numbers, kind: Kind, labels: Holds | None, needed: int,
    most: int | None, seen: tuple[int, ...], draw: np.random.Generator,
) -> Store:  # fmt: skip
    """Draw one store; ``most`` are the samples that the plan keeps, where it says so."""
    if not is_stored(schedule.plan, kind.holds):
        return _captured(numbers, kind, needed, seen, draw)
    buffer = _held(schedule, kind.holds)
    width = 1 if schedule.workload.classes <= 256 else 2
    labelled = None if labels is None else _held(schedule, labels).size_bytes // width
    limits = [limit for limit in (most, labelled) if limit is not None]
    count = min([buffer.size_bytes // kind.row_bytes, *limits])
    if count < needed:
        allowed = f"{needed} for a mini-batch"
        raise UserError(Problem("schedule", kind.holds.value, f"{count} samples", allowed))
    drawn = draw.integers(0, len(seen), count if labelled is None else labelled)
    rows = draw.permutation(count)[:needed]
    data = _bytes(kind, numbers, count, buffer.size_bytes, draw)
    return Store(kind.holds, data, np.zeros(0, np.float32), drawn, rows)


def _captured(
    numbers: Numbers, kind: Kind, count: int, seen: tuple[int, ...], draw: np.random.Generator
) -> Store:
    """Draw samples that no buffer holds: they are captured again for every mini-batch."""
    labels, rows = draw.integers(0, len(seen), count), draw.permutation(count)
    parts = list(_chunks(kind, numbers, count, draw))
    given = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return Store(kind.holds, None, given, labels, rows)


def _held(schedule: StepSchedule, holds: Holds) -> StepBuffer:
    found = next((buffer for buffer in schedule.buffers if buffer.holds == holds), None)
    if found is None:
        raise MemoryViolation(Problem("schedule", holds.value, "no buffer", "one, as the plan keeps them"))
    return found


def _bytes(kind: Kind, numbers: Numbers, count: int, size: int, draw: np.random.Generator) -> ByteArray:
    """Return a store of ``size`` bytes: ``count`` rows, and a scale behind them where there is room."""
    data, end = np.zeros(size, np.uint8), 0
    for chunk in _chunks(kind, numbers, count, draw):
        part = _encoded(kind, chunk)
        data[end : end + part.size] = part
        end += part.size
    if size - end >= SCALE_BYTES:
        data[end : end + SCALE_BYTES] = np.array([kind.levels.scale], np.float32).view(np.uint8)
    return data


def _encoded(kind: Kind, chunk: Array) -> ByteArray:
    """Return samples as bytes, each beginning with a byte of its own."""
    if kind.are_frames:
        return chunk.reshape(-1)
    if prod(kind.shape) * kind.levels.bits % 8 == 0:
        return kind.levels.encoded(chunk)
    return np.concatenate([kind.levels.encoded(row) for row in chunk])


def _chunks(kind: Kind, numbers: Numbers, count: int, draw: np.random.Generator) -> Iterator[Array]:
    """Yield ``count`` samples (n, *shape), some at a time: random frames, or known latents with noise."""
    each = max(1, CHUNK_VALUES // prod(kind.shape))
    for first in range(0, count, each):
        shape = (min(each, count - first), *kind.shape)
        if kind.are_frames:
            yield draw.integers(0, 256, shape, dtype=np.uint8)
            continue
        known = numbers.latents.reshape(-1, *kind.shape)
        noise = draw.standard_normal(shape, dtype=np.float32) * np.float32(NOISE)
        yield known[(first + np.arange(shape[0])) % len(known)] * (1 + noise)
