"""Samples that outlive a step: new samples of the event and the replay buffer, on their levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dse.cost.context import Context
from dse.plan.decisions import BoolArray, FloatArray, IntArray

AUTO = -1
"""Code of a replay level that the placement rule chooses."""


@dataclass(frozen=True)
class Bulk:
    """Where new samples and replays are. Arrays broadcast over steps and event choices; K levels."""

    new_level: IntArray
    replay_level: IntArray
    replay_legal: BoolArray  # the level named survives sleep
    level_bytes: tuple[FloatArray, ...]  # per level, working peak included


def place_bulk(
    context: Context,
    peak_bytes: tuple[FloatArray, ...],
    new_bytes: FloatArray,
    replay: FloatArray,
    wanted: IntArray,
) -> Bulk:
    """Place new samples on the first RAM level with room, then replays where ``wanted`` says.

    ``peak_bytes`` holds, per level, what the step already takes; ``replay`` includes its labels.
    """
    used = list(peak_bytes)
    capacity = context.capacity_bytes
    new_level = _first_fit(context.ram_levels, capacity, used, new_bytes)
    for k in context.ram_levels:
        used[k] = used[k] + np.where(new_level == k, new_bytes, 0.0)
    keeping = context.keeping_levels
    automatic = _first_fit(keeping, capacity, used, replay)
    replay_level = np.where(wanted == AUTO, automatic, wanted)
    for k in {*keeping, *np.unique(wanted).tolist()} - {AUTO}:
        used[k] = used[k] + np.where(replay_level == k, replay, 0.0)
    legal = np.isin(replay_level, keeping) | (replay == 0)
    return Bulk(new_level, replay_level, legal, tuple(used))


def _first_fit(
    levels: tuple[int, ...], capacity: FloatArray, used: list[FloatArray], size: FloatArray
) -> IntArray:
    """Return the first of ``levels`` with room for ``size``, else the largest of them."""
    chosen = np.asarray(max(levels, key=lambda k: capacity[k]))
    for k in reversed(levels):
        chosen = np.where(used[k] + size <= capacity[k], k, chosen)
    return chosen


def replaced_per_event(n_replays: IntArray, new: IntArray, horizon: int) -> FloatArray:
    """Replays replaced per event, averaged over the first ``horizon`` events: mean of min(N / i, new).

    Equation: arXiv 2110.10486, Algorithm 1 (h = N / i at event i, never more than arrived). N and new
    broadcast; events count from 1. The sum is split at the event where N / i falls below ``new``.
    """
    n, arrivals = np.asarray(n_replays, dtype=float), np.asarray(new, dtype=float)
    full = np.clip(np.floor(n / np.maximum(arrivals, 1.0)), 0, horizon).astype(np.int64)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, horizon + 1))])
    return np.asarray((full * arrivals + n * (harmonic[horizon] - harmonic[full])) / horizon)
