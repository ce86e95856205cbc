"""The samples of an event: how many, how large, where; what follows from memory alone, without a price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dse.cost.bulk import Bulk, place_bulk, replaced_per_event
from dse.cost.context import Context
from dse.cost.memory import label_bytes, replay_bytes
from dse.plan.decisions import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Counts:
    """How often things happen in one event."""

    used: IntArray  # new samples that fill whole mini-batches
    epochs: IntArray
    minibatches: IntArray
    frozen_passes: IntArray
    captured: IntArray
    cached: IntArray  # new samples held at once
    replaced: FloatArray


class StepMemory(Protocol):
    """What of a step decides the samples of an event; shapes as in ``StepCosts``, which has it all."""

    @property
    def peak_bytes(self) -> FloatArray:
        """Bytes per level [B], (S, K)."""

    @property
    def ram_peak_bytes(self) -> FloatArray:
        """RAM of the step [B], (S,)."""

    @property
    def replay_sample_bytes(self) -> FloatArray:
        """One stored replay [B], (S,)."""

    @property
    def new_sample_bytes(self) -> FloatArray:
        """One stored new sample [B], (S,)."""

    @property
    def new_per_batch(self) -> IntArray:
        """New samples of a mini-batch, (S,)."""

    @property
    def replays_per_batch(self) -> IntArray:
        """Replays of a mini-batch, (S,)."""

    @property
    def has_replay(self) -> BoolArray:
        """Whether there is a replay buffer, (S,)."""

    @property
    def cached(self) -> BoolArray:
        """Whether new samples are kept for later epochs, (S,)."""

    @property
    def recaptured(self) -> BoolArray:
        """Whether new samples are captured again for each epoch, (S,)."""

    @property
    def frozen_new(self) -> BoolArray:
        """Whether new samples pass the frozen stage inside the mini-batch, (S,)."""

    @property
    def frozen_replays(self) -> BoolArray:
        """Whether replays do, (S,)."""

    @property
    def has_frozen(self) -> BoolArray:
        """Whether anything is frozen, (S,)."""


@dataclass(frozen=True)
class EventMemory:
    """The samples of an event: how many, how large [B], where, and the RAM with them [B]."""

    counts: Counts
    sizes: dict[str, FloatArray]
    bulk: Bulk
    ram_peak_bytes: FloatArray


def event_memory(context: Context, step: StepMemory, choices: Mapping[str, IntArray]) -> EventMemory:
    """Size and place the samples of events; no price is asked. See ``event_costs`` for the arguments."""
    counts = _counts(context, step, choices)
    sizes = _sizes(context, step, choices, counts)
    levels = context.board.levels
    peaks = tuple(step.peak_bytes[..., k] for k in range(len(levels)))
    bulk = place_bulk(context, peaks, sizes["new"], sizes["replay"], choices["replay_level"])
    in_ram = np.array([level.volatile for level in levels])[bulk.replay_level]
    ram = step.ram_peak_bytes + sizes["new"] + np.where(in_ram, sizes["replay"], 0.0)
    return EventMemory(counts, sizes, bulk, np.asarray(ram))


def _counts(context: Context, step: StepMemory, choices: Mapping[str, IntArray]) -> Counts:
    images, epochs, n_replays = choices["images_per_event"], choices["epochs"], choices["n_replays"]
    per_epoch = images // step.new_per_batch
    used = per_epoch * step.new_per_batch
    minibatches = per_epoch * epochs
    again = np.where(step.frozen_new, epochs, 1)
    frozen = (
        used * again + np.where(step.frozen_replays, minibatches * step.replays_per_batch, 0)
    ) * step.has_frozen
    held = np.where(epochs > 1, used, np.minimum(used, step.new_per_batch)) * step.cached
    replaced = replaced_per_event(n_replays, used, context.duty.horizon_events) * step.has_replay
    captured = images + np.where(step.recaptured, (epochs - 1) * used, 0)
    return Counts(used, epochs, minibatches, frozen, captured, held, replaced)


def _sizes(
    context: Context, step: StepMemory, choices: Mapping[str, IntArray], counts: Counts
) -> dict[str, FloatArray]:
    header = context.accounting.replay_headers
    label = label_bytes(context.workload.classes) if header else 0
    n_replays = choices["n_replays"] * step.has_replay
    samples = replay_bytes(n_replays, step.replay_sample_bytes, header=header)
    new = counts.cached * step.new_sample_bytes
    return {
        "replay_samples": samples,
        "replay": samples + n_replays * label,
        "new": new + counts.cached * label,
        "new_samples": new,
        "labels": np.asarray((n_replays + counts.cached) * float(label)),
    }
