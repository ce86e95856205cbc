"""One learning event: how often the step runs, what is stored and written, what it adds up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dse.cost.bulk import Bulk
from dse.cost.context import Context
from dse.cost.energy import (
    DAY_S,
    Sleep,
    active_power,
    blocks_programmed,
    byte_energy,
    lifetime,
    powered_levels,
    sleep_table,
    usage_energy,
    wear_years,
)
from dse.cost.event_memory import Counts, EventMemory, event_memory
from dse.cost.latency import byte_seconds
from dse.plan.decisions import BoolArray, FloatArray, IntArray
from dse.plan.step import READ, WRITE

if TYPE_CHECKING:
    from dse.cost.model import StepCosts


@dataclass(frozen=True)
class Costs:
    """What designs cost; every array broadcasts to the shape of steps and event choices.

    Bytes, seconds, joules and watts as the names say. ``replay_programmed_bytes`` is the mean per event
    over the duty's horizon, ``first_fill_bytes`` what filling the empty buffer writes once.
    ``short_bytes`` is what is missing at ``short_level``, the level where most is missing.
    """

    ram_peak_bytes: FloatArray
    nvm_bytes: FloatArray
    level_bytes: dict[str, FloatArray]
    level_free_bytes: dict[str, FloatArray]
    fits: BoolArray
    short_bytes: FloatArray
    short_level: IntArray
    replay_level: IntArray
    new_sample_level: IntArray
    replays_in_ram: BoolArray
    replay_bytes: FloatArray
    new_sample_bytes: FloatArray
    label_bytes: FloatArray
    cached_samples: IntArray
    event_s: FloatArray
    event_j: FloatArray
    seconds: dict[str, FloatArray]
    joules: dict[str, FloatArray]
    minibatch_s: FloatArray
    frozen_image_s: FloatArray
    inference_s: FloatArray
    inference_j: FloatArray
    sleep_w: FloatArray
    wake_s: FloatArray
    wake_j: FloatArray
    sleep_state: IntArray
    utilisation: FloatArray
    lifetime_s: FloatArray
    wear_years: FloatArray
    wear_years_levelled: FloatArray
    replays_replaced: FloatArray
    replay_programmed_bytes: FloatArray
    first_fill_bytes: FloatArray
    minibatches: IntArray


@dataclass(frozen=True)
class _Tables:
    """Tables of a context that every event looks up."""

    power: FloatArray
    byte_s: FloatArray
    byte_j: FloatArray
    sleep: Sleep
    volatile: BoolArray
    powered: BoolArray


def _tables(context: Context) -> _Tables:
    return _Tables(
        active_power(context),
        byte_seconds(context),
        byte_energy(context),
        sleep_table(context),
        np.array([level.volatile for level in context.board.levels]),
        powered_levels(context),
    )


class _Picker:
    """Selects the operating point's column of (S, C) tables, or of (S, 1, C) against (W,) choices."""

    def __init__(self, point: IntArray, expanded: bool) -> None:
        self.point, self.expanded = point, expanded

    def __call__(self, table: FloatArray) -> FloatArray:
        if self.expanded:
            return np.asarray(table[:, 0, self.point])
        return np.asarray(table[np.arange(len(table)), self.point])


def event_costs(context: Context, step: StepCosts, choices: Mapping[str, IntArray]) -> Costs:
    """Price whole events.

    Parameters
    ----------
    step
        Rows of ``step_costs`` with shape (P,), or expanded to (S, 1).
    choices
        ``n_replays``, ``images_per_event``, ``epochs``, ``replay_level`` (-1 = auto), ``operating_point``,
        ``sleep_state`` (-1 = auto): codes of shape (P,), or (W,) against an expanded table.

    """
    tables = _tables(context)
    expanded = step.ram_peak_bytes.ndim == 2
    pick = _Picker(choices["operating_point"], expanded)
    memory = event_memory(context, step, choices)
    counts, sizes, bulk = memory.counts, memory.sizes, memory.bulk
    programmed = blocks_programmed(
        context, bulk.replay_level, sizes["replay"], counts.replaced, step.replay_sample_bytes
    )
    moves = _moves(context, step, counts, bulk, programmed)
    seconds = _seconds(context, step, counts, moves, tables, pick, choices)
    joules = _joules(context, step, counts, moves, tables, pick, choices, seconds)
    return _costs(context, step, memory, programmed, tables, pick, choices, seconds, joules)


Moves = dict[str, tuple[tuple[IntArray, int, FloatArray], ...]]
"""Cause -> what it moves in an event: level codes, read or write, and bytes; arrays as those of ``Costs``."""


def event_moves(context: Context, step: StepCosts, choices: Mapping[str, IntArray]) -> Moves:
    """Return what the samples and the kept weights of events move; see ``event_costs`` for the arguments."""
    memory = event_memory(context, step, choices)
    programmed = blocks_programmed(
        context, memory.bulk.replay_level, memory.sizes["replay"], memory.counts.replaced,
        step.replay_sample_bytes,
    )  # fmt: skip
    return _moves(context, step, memory.counts, memory.bulk, programmed)


def _moves(context: Context, step: StepCosts, counts: Counts, bulk: Bulk, programmed: FloatArray) -> Moves:
    every = np.where(step.persist_every > 0, 1.0 / np.maximum(step.persist_every, 1), 0.0)
    stored = counts.used * step.cached * step.new_sample_bytes
    drawn = counts.minibatches * step.replays_per_batch * step.replay_sample_bytes
    restored = np.where(step.persist_every == 1, step.persist_bytes, 0.0)
    counted = context.accounting.transfers
    return {
        "sample storage": (
            (bulk.new_level, WRITE, stored * counted),
            (bulk.new_level, READ, stored * counts.epochs * counted),
            (bulk.replay_level, READ, drawn * counted),
        ),
        "replay writes": ((bulk.replay_level, WRITE, programmed * counted),),
        "persistence": (
            (step.persist_level, WRITE, every * step.persist_programmed * counted),
            (step.persist_level, READ, restored * counted),
            (step.copy_level, WRITE, step.copy_programmed * counted),
        ),
    }


def _seconds(
    context: Context, step: StepCosts, counts: Counts, moves: Moves, tables: _Tables, pick: _Picker,
    choices: Mapping[str, IntArray],
) -> dict[str, FloatArray]:  # fmt: skip
    """Seconds of an event by cause."""
    rate, point = tables.byte_s, choices["operating_point"]
    moving = {
        cause: np.asarray(sum(size * rate[point, level, way] for level, way, size in parts))
        for cause, parts in moves.items()
    }
    return {
        "capture": counts.captured * context.duty.capture_s + 0.0 * pick(step.frozen_s),
        "frozen stage": counts.frozen_passes * pick(step.frozen_s),
        "learning": counts.minibatches * pick(step.minibatch_s) + pick(step.head_s),
        "sample storage": counts.used * pick(step.store_s) + moving["sample storage"],
        "replay writes": moving["replay writes"],
        "persistence": moving["persistence"] + pick(step.copy_s),
    }


def _joules(
    context: Context, step: StepCosts, counts: Counts, moves: Moves, tables: _Tables, pick: _Picker,
    choices: Mapping[str, IntArray], seconds: dict[str, FloatArray],
) -> dict[str, FloatArray]:  # fmt: skip
    """Joules of an event by cause: power x time, and bytes outside the powered domains."""
    energy, power = tables.byte_j, tables.power[choices["operating_point"], 1]
    moving = {
        cause: seconds[cause] * power + sum(size * energy[level, way] for level, way, size in parts)
        for cause, parts in moves.items()
    }
    return {
        "capture": counts.captured * context.duty.capture_j + 0.0 * seconds["capture"],
        "frozen stage": seconds["frozen stage"] * pick(step.frozen_power_w)
        + counts.frozen_passes * pick(step.frozen_j),
        "learning": seconds["learning"] * power
        + counts.minibatches * pick(step.minibatch_j)
        + pick(step.head_j),
        **moving,
    }


def _costs(
    context: Context, step: StepCosts, memory: EventMemory, programmed: FloatArray, tables: _Tables,
    pick: _Picker, choices: Mapping[str, IntArray], seconds: dict[str, FloatArray],
    joules: dict[str, FloatArray],
) -> Costs:  # fmt: skip
    counts, sizes, bulk = memory.counts, memory.sizes, memory.bulk
    levels, capacity = context.board.levels, context.capacity_bytes
    event_s, event_j = np.asarray(sum(seconds.values())), np.asarray(sum(joules.values()))
    volatile = tables.volatile[bulk.replay_level]
    kept = tables.powered[bulk.replay_level] & (sizes["replay"] > 0)
    need = step.kept_mask | np.where(kept, 1 << bulk.replay_level, 0)
    state = choices["sleep_state"] + 1
    short, short_level = _shortage(bulk.level_bytes, capacity)
    own, levelled = _wear(context, step, sizes, bulk, programmed)
    ram = memory.ram_peak_bytes
    shape = np.broadcast_shapes(np.shape(event_s), np.shape(ram))
    full = {
        "ram_peak_bytes": ram,
        "nvm_bytes": step.nvm_bytes + np.where(volatile, 0.0, sizes["replay"]),
        "fits": (short == 0) & bulk.replay_legal & tables.sleep.allowed[state, need],
        "short_bytes": short, "short_level": short_level,
        "wear_years": own, "wear_years_levelled": levelled,
    } | _life(context, step, tables, pick, state, need, event_s, event_j)  # fmt: skip
    return Costs(
        **{name: np.broadcast_to(values, shape) for name, values in full.items()},
        level_bytes={level.name: used for level, used in zip(levels, bulk.level_bytes, strict=True)},
        level_free_bytes={
            level.name: room - used
            for level, room, used in zip(levels, capacity, bulk.level_bytes, strict=True)
        },
        replay_level=bulk.replay_level, new_sample_level=bulk.new_level, replays_in_ram=volatile,
        replay_bytes=sizes["replay_samples"], new_sample_bytes=sizes["new_samples"],
        label_bytes=sizes["labels"], cached_samples=counts.cached,
        event_s=event_s, event_j=event_j, seconds=seconds, joules=joules,
        minibatch_s=pick(step.minibatch_s), frozen_image_s=pick(step.frozen_s),
        sleep_state=tables.sleep.chosen[state, need],
        replays_replaced=counts.replaced, replay_programmed_bytes=programmed,
        first_fill_bytes=sizes["replay"], minibatches=counts.minibatches,
    )  # fmt: skip


def _life(
    context: Context, step: StepCosts, tables: _Tables, pick: _Picker, state: IntArray, need: IntArray,
    event_s: FloatArray, event_j: FloatArray,
) -> dict[str, FloatArray]:  # fmt: skip
    """Sleep, inference, utilisation and battery life under the context's duty cycle."""
    duty, sleep = context.duty, tables.sleep
    sleep_w, wake_s, wake_j = (table[state, need] for table in (sleep.power_w, sleep.wake_s, sleep.wake_j))
    inference_s, inference_j = pick(step.inference_s), pick(step.inference_j)
    busy = duty.events_per_day * (event_s + wake_s) + duty.inferences_per_day * (inference_s + wake_s)
    work = usage_energy(event_j, inference_j, wake_j, context)
    return {
        "inference_s": inference_s, "inference_j": inference_j,
        "sleep_w": sleep_w, "wake_s": wake_s, "wake_j": wake_j,
        "utilisation": busy / DAY_S,
        "lifetime_s": lifetime(context, work, sleep_w, busy / DAY_S),
    }  # fmt: skip


def _shortage(level_bytes: tuple[FloatArray, ...], capacity: FloatArray) -> tuple[FloatArray, IntArray]:
    """Bytes missing at the level where most are missing, and that level."""
    short, where = np.asarray(0.0), np.asarray(0)
    for k, used in enumerate(level_bytes):
        missing = used - capacity[k]
        worse = missing > short
        short, where = np.where(worse, missing, short), np.where(worse, k, where)
    return short, where


def _wear(
    context: Context, step: StepCosts, sizes: dict[str, FloatArray], bulk: Bulk, programmed: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Years until replays, saved weights or inference copy wear out: by their own blocks, and levelled."""
    every = np.where(step.persist_every > 0, 1.0 / np.maximum(step.persist_every, 1), 0.0)
    writers = (
        (bulk.replay_level, programmed, sizes["replay"]),
        (step.persist_level, every * step.persist_programmed, step.persist_programmed),
        (step.copy_level, step.copy_programmed, step.copy_programmed),
    )
    own, levelled = np.asarray(np.inf), np.asarray(np.inf)
    for level, written, area in writers:
        here = sum(np.where(other == level, more, 0.0) for other, more, _ in writers)
        own = np.minimum(own, wear_years(context, level, written, area)[0])
        levelled = np.minimum(levelled, wear_years(context, level, np.asarray(here), area)[1])
    return own, levelled
