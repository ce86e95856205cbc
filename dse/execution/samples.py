"""Samples of an event in their stores, and a micro-batch of them on its way into the learning stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dse.errors import Problem, UserError
from dse.execution.arithmetic import Arithmetic, Array, FloatArray, IntArray
from dse.execution.buffers import Buffers
from dse.execution.layout import Layout
from dse.execution.packing import Levels, row_bytes
from dse.execution.saving import Saving
from dse.plan.decisions import TrainingPlan
from dse.plan.learning_key import quantises_new
from dse.plan.operations import Holds, Operation

_LABELS = {Holds.NEW_SAMPLES: Holds.NEW_LABELS, Holds.REPLAYS: Holds.REPLAY_LABELS}


def _none() -> Array:
    return np.zeros((0,), dtype=np.float32)


@dataclass(frozen=True)
class Samples:
    """What a learning event has: samples with their labels, and which of them make the mini-batch.

    ``new`` (n, ...) and ``replays`` (N, ...): real latents, or frames as captured (uint8) where the plan
    keeps frames. ``rows`` and ``replay_rows`` are those of the mini-batch; None: the first that it needs.
    ``labels_held``: whether the labels of what is stored have buffers, which an accounting may leave out.
    """

    new: Array
    new_labels: IntArray
    replays: Array = field(default_factory=_none)
    replay_labels: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    rows: IntArray | None = None
    replay_rows: IntArray | None = None
    labels_held: bool = True


def is_stored(plan: TrainingPlan, holds: Holds) -> bool:
    """Whether ``plan`` keeps samples of a kind: replays where it has any, new ones unless captured again."""
    if holds == Holds.NEW_SAMPLES:
        return plan.new_samples != "recompute"
    return plan.replay != "none" and plan.n_replays > 0


@dataclass(frozen=True)
class Source:
    """One sample of a mini-batch: where it is stored, and whether as a frame for the frozen stage."""

    holds: Holds
    row: int
    label: int
    is_frame: bool


@dataclass
class Stores:
    """Puts samples into their buffers and takes them out; ``levels`` of latents, ``frames`` of frames."""

    layout: Layout
    buffers: Buffers
    arithmetic: Arithmetic
    saving: Saving
    levels: Levels
    frames: Levels
    samples: Samples

    # --- before the step ---

    def put(self) -> None:
        """Fill the stores that the plan keeps, and the labels of their samples."""
        for holds, values, labels in self._given():
            if self._is_stored(holds):
                for row, value in enumerate(values):
                    self.put_row(holds, row, value)
                self._put_scale(holds, len(values))
            if self._has_labels(holds):
                self.buffers.put_bytes(_LABELS[holds], -1, labels.astype(self._label_type()).view(np.uint8))

    def _is_stored(self, holds: Holds) -> bool:
        return is_stored(self.layout.schedule.plan, holds)

    def _has_labels(self, holds: Holds) -> bool:
        return self.samples.labels_held and self._is_stored(holds)

    def _given(self) -> list[tuple[Holds, Array, IntArray]]:
        own = self.samples
        return [
            (Holds.NEW_SAMPLES, own.new, own.new_labels), (Holds.REPLAYS, own.replays, own.replay_labels),
        ]  # fmt: skip

    def put_row(self, holds: Holds, row: int, value: Array) -> None:
        """Store one sample: a frame as it is, latents at replay bits."""
        if self._are_frames(holds):
            self._require_frame(value)
            self.buffers.put_bytes(holds, -1, value.reshape(-1), row * value.size)
            return
        self.buffers.require_finite(value, holds.value)
        data = self.levels.encoded(value)
        self.buffers.put_bytes(holds, -1, data, row * data.size)

    def _put_scale(self, holds: Holds, rows: int) -> None:
        """Write the scale behind the rows, where there is room for it."""
        levels = self.frames if self._are_frames(holds) else self.levels
        size = rows * row_bytes(self._elements(holds), 8 if self._are_frames(holds) else levels.bits)
        if self.buffers.require(holds, -1).size_bytes >= size + 4:
            self.buffers.put_bytes(holds, -1, np.array([levels.scale], np.float32).view(np.uint8), size)

    @staticmethod
    def _require_frame(value: Array) -> None:
        if value.dtype != np.uint8:
            raise UserError(Problem("samples", "frames", str(value.dtype), "uint8, as captured"))

    def _are_frames(self, holds: Holds) -> bool:
        plan = self.layout.schedule.plan
        raw = plan.new_samples != "cache_latent" if holds == Holds.NEW_SAMPLES else plan.replay == "raw"
        return self.layout.cut_layer < 0 or raw

    def _elements(self, holds: Holds) -> int:
        workload = self.layout.workload
        shape = workload.input_shape if self._are_frames(holds) else workload.shape_of(self.layout.cut_layer)
        return int(np.prod(shape))

    def _label_type(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.layout.workload.classes <= 256 else np.uint16)

    # --- the mini-batch ---

    def batch(self) -> list[Source]:
        """Return the samples of the mini-batch: new ones, then replays."""
        spec, own = self.layout.spec, self.samples
        found = []
        wanted = (
            (Holds.NEW_SAMPLES, own.rows, int(spec.new_samples[0]), own.new_labels),
            (Holds.REPLAYS, own.replay_rows, int(spec.replay_samples[0]), own.replay_labels),
        )
        for holds, rows, count, labels in wanted:
            chosen = np.arange(count) if rows is None else rows
            if len(chosen) != count or (count and chosen.max() >= len(labels)):
                given = f"rows {chosen.tolist()[:8]} of {len(labels)} samples"
                raise UserError(Problem("samples", holds.value, given, f"{count} rows of the samples given"))
            found += [
                Source(holds, int(row), self._label(holds, int(row)), self._passes(holds)) for row in chosen
            ]
        return found

    def _passes(self, holds: Holds) -> bool:
        """Whether samples of a store pass the frozen stage inside the mini-batch."""
        return self.layout.cut_layer >= 0 and self._are_frames(holds)

    def _label(self, holds: Holds, row: int) -> int:
        where, kind = _LABELS[holds], self._label_type()
        if not self._has_labels(holds):  # they come with samples that are captured again
            given = self.samples.new_labels if holds == Holds.NEW_SAMPLES else self.samples.replay_labels
            return int(given[row])
        return int(self.buffers.read(where, -1, kind, (row + 1,))[row])

    def event_labels(self) -> IntArray:
        """Return the labels of all new samples of the event."""
        count = len(self.samples.new_labels)
        return np.array([self._label(Holds.NEW_SAMPLES, row) for row in range(count)], dtype=np.int64)

    def frame(self, source: Source) -> Array:
        """Return the frame of a sample: stored, or captured again."""
        given = self.samples.new if source.holds == Holds.NEW_SAMPLES else self.samples.replays
        if not self._is_stored(source.holds):
            return np.asarray(given[source.row])
        shape = self.layout.workload.input_shape
        size = int(np.prod(shape))
        data = self.buffers.bytes_of(source.holds, -1)[source.row * size : (source.row + 1) * size]
        return data.reshape(shape)

    def latent(self, source: Source) -> FloatArray:
        """Return the real latent of a sample that is stored as such, (*cut shape)."""
        shape = self.layout.workload.shape_of(self.layout.cut_layer)
        if self._are_frames(source.holds):
            frame = self.frame(source)
            self._require_frame(frame)
            return self.frames.decoded(frame.reshape(-1), shape)
        size = row_bytes(int(np.prod(shape)), self.levels.bits)
        data = self.buffers.bytes_of(source.holds, -1)[source.row * size : (source.row + 1) * size]
        return self.levels.decoded(data, shape)

    # --- into the learning stage ---

    def put_latent(self, place: int, values: FloatArray) -> None:
        """Write the latent of sample ``place`` of the micro-batch, as it left the frozen stage."""
        if quantises_new(self.layout.schedule.plan):
            values = self.levels.decoded(self.levels.encoded(values), values.shape)
        self._write(place, values)

    def _write(self, place: int, values: FloatArray) -> None:
        entered = self.arithmetic.entered(values[None])[0]
        self.buffers.require_finite(entered, "latents")
        data = (
            np.ascontiguousarray(entered, self.arithmetic.dtype(Holds.LATENTS, -1)).reshape(-1).view(np.uint8)
        )
        self.buffers.put_bytes(Holds.LATENTS, -1, data, place * data.size)

    def load(self, operation: Operation, sources: Sequence[Source]) -> None:
        """Gather the latents of a micro-batch; save them at replay bits where a gradient will read them."""
        for place, source in enumerate(sources):
            if not source.is_frame:
                self._write(place, self.latent(source))
        shape = (len(sources), *self.layout.workload.shape_of(self.layout.cut_layer))
        for buffer in self.layout.schedule.buffers:
            if buffer.holds == Holds.STORED and buffer.start == operation.number:
                entered = self.buffers.read(
                    Holds.LATENTS, -1, self.arithmetic.dtype(Holds.LATENTS, -1), shape
                )
                self.saving.store(buffer.place, self.arithmetic.real(self.layout.cut_layer, entered))
