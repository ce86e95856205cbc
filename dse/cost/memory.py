"""Which level holds which role, and how full each level gets while a step runs.

Placement is greedy and written down. The working set comes first, most moved first: transient
activations, workspace, saved activations, learning weights, gradients, optimiser state, head state, each
on the first RAM level of the board file that still has room for its live bytes over the whole schedule; what
fits nowhere overflows the largest RAM level. Frozen weights, the persistent copy and the inference copy
go to the first non-volatile level with room, then to RAM that survives sleep; a persistent copy that would
only double learning weights in such RAM is left out. New samples take the first
RAM level with room, replays the level that the plan names, or for ``auto`` the first level with room
that survives sleep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.cost.context import Context
from dse.plan.decisions import NEW_SAMPLES, REPLAYS, BoolArray, FloatArray, IntArray, PlanBatch
from dse.plan.spec import FRAME_BYTES
from dse.plan.step import TrainingStep
from dse.plan.timeline import DYNAMIC_ROLES
from dse.vocabulary import Role

TRANSIENT_GROUP: Final = (Role.TRANSIENT_ACTIVATIONS, Role.INPUT_FRAME)
WORKING_ORDER: Final[tuple[tuple[Role, ...], ...]] = (
    TRANSIENT_GROUP,
    (Role.WORKSPACE,),
    (Role.SAVED_ACTIVATIONS,),
    (Role.LEARNING_WEIGHTS,),
    (Role.GRADIENTS,),
    (Role.OPTIMISER_STATE,),
    (Role.HEAD_STATE,),
)
WORKING_STATICS: Final = tuple(role for group in WORKING_ORDER for role in group if role not in DYNAMIC_ROLES)
"""Roles of the working set that are alive throughout: learning weights, optimiser and head state."""

CLASSIFIER_INPUT, CLAMP_MASKS, BIASES = "classifier input", "clamp masks", "biases"
TRAINED_WEIGHTS, SAVED_INPUTS = "trained weights", "saved inputs"

KEPT_ORDER: Final = (Role.FROZEN_WEIGHTS, Role.PERSISTENT_COPY, Role.INFERENCE_COPY)


@dataclass(frozen=True)
class Placement:
    """Where the roles of S steps are, and what the K levels hold.

    ``level`` maps a role to level codes (S,). ``peak_bytes`` and ``ram_peak_bytes`` include everything
    but new samples, replays and labels. ``role_bytes`` are each role's own largest bytes.
    """

    level: dict[Role, IntArray]
    peak_bytes: FloatArray  # (S, K)
    ram_peak_bytes: FloatArray  # (S,)
    role_bytes: dict[Role, FloatArray]  # (S,)
    peak_role_bytes: dict[Role, FloatArray]  # (S,) at the moment of the RAM peak
    peak_operation: IntArray  # (S,)


def place(context: Context, step: TrainingStep, persist: BoolArray) -> Placement:
    """Place the roles of each step on the board's levels; ``persist`` (S,) says whether a copy is kept."""
    context.require_ram()
    live = step.schedule.live_bytes()
    level, peak = _place_working(context, step, live)
    kept = {role: step.static_bytes[role].astype(float) for role in KEPT_ORDER}
    for role in KEPT_ORDER:
        if role == Role.PERSISTENT_COPY:
            kept[role] = kept[role] * (persist & ~_kept_in_place(context, level, peak, kept[role]))
        level[role] = place_static(context.keeping_levels, context.capacity_bytes, peak, kept[role])
    total = live.sum(axis=0)
    moment = np.argmax(total, axis=0)
    statics = {role: step.static_bytes[role].astype(float) for role in WORKING_STATICS}
    rows = np.arange(len(step))
    at_peak = {role: live[index, moment, rows] for index, role in enumerate(DYNAMIC_ROLES)} | statics
    volatile = np.array([entry.volatile for entry in context.board.levels])
    ram = _working_peak(step, live) + sum(kept[role] * volatile[level[role]] for role in KEPT_ORDER)
    role_bytes = {role: live[index].max(axis=0) for index, role in enumerate(DYNAMIC_ROLES)} | statics | kept
    return Placement(level, peak, np.asarray(ram), role_bytes, at_peak | kept, moment)


def training_peak_bytes(step: TrainingStep) -> FloatArray:
    """Return the RAM that a training step takes at its fullest moment [B], shape (P,), whatever the board.

    The largest live bytes over the schedule, and what is alive throughout: learning weights, optimiser state
    and head state. Frozen weights and the copies of learned ones count as non-volatile; replays, new samples
    and labels stand beside the step; so does the inference between events. Kernels have the workspace that
    the step was described with.
    """
    return _working_peak(step, step.schedule.live_bytes()[:, : step.schedule.clock.update + 1])


def _working_peak(step: TrainingStep, live: FloatArray) -> FloatArray:
    """Largest live bytes [B] (P,) of ``live`` (R, T, P), with the roles that are alive throughout."""
    statics = sum(step.static_bytes[role].astype(float) for role in WORKING_STATICS)
    return np.asarray(live.sum(axis=0).max(axis=0) + statics)


def _kept_in_place(
    context: Context, level: dict[Role, IntArray], used: FloatArray, size: FloatArray
) -> BoolArray:
    """Where no non-volatile level has room for a copy, but the learning weights lie in RAM that is kept.

    A second copy in volatile memory would protect from nothing, so none is made; sleep then pays for
    retaining the learning weights.
    """
    room = np.zeros(len(size), dtype=bool)
    for k in context.nonvolatile_levels:
        room |= used[:, k] + size <= context.capacity_bytes[k]
    return np.asarray(~room & np.isin(level[Role.LEARNING_WEIGHTS], context.retainable_levels))


def _place_working(
    context: Context, step: TrainingStep, live: FloatArray
) -> tuple[dict[Role, IntArray], FloatArray]:
    """Place the working set group by group; returns levels by role and peak bytes (S, K)."""
    operations, count = live.shape[1:]
    ram, capacity = context.ram_levels, context.capacity_bytes
    filled = {k: np.zeros((operations, count)) for k in ram}
    largest = max(ram, key=lambda k: capacity[k])
    level: dict[Role, IntArray] = {}
    for group in WORKING_ORDER:
        series = _series(group, step, live)
        chosen = np.full(count, -1)
        for k in ram:
            fits = ((filled[k] + series).max(axis=0) <= capacity[k]) & (chosen < 0)
            chosen[fits] = k
        chosen[chosen < 0] = largest
        for k in ram:
            filled[k] += series * (chosen == k)
        level |= dict.fromkeys(group, chosen)
    peak = np.zeros((count, len(capacity)))
    for k in ram:
        peak[:, k] = filled[k].max(axis=0)
    return level, peak


def _series(group: tuple[Role, ...], step: TrainingStep, live: FloatArray) -> FloatArray:
    """Live bytes of a group over the schedule, (T, S) or (1, S)."""
    if group[0] in DYNAMIC_ROLES:
        rows = [DYNAMIC_ROLES.index(role) for role in group]
        return np.asarray(live[rows].sum(axis=0))
    return np.asarray(sum(step.static_bytes[role].astype(float) for role in group))[None, :]


def place_static(
    levels: tuple[int, ...], capacity: FloatArray, used: FloatArray, size: FloatArray
) -> IntArray:
    """Put ``size`` [B] (S,) on the first of ``levels`` with room; adds it to ``used`` (S, K) in place."""
    chosen = np.full(len(size), -1)
    for k in levels:
        chosen[(chosen < 0) & (used[:, k] + size <= capacity[k])] = k
    largest = max(levels, key=lambda k: capacity[k])
    chosen[chosen < 0] = largest
    used[np.arange(len(size)), chosen] += size
    return chosen


def sample_bytes(step: TrainingStep, plans: PlanBatch, *, whole: bool) -> tuple[FloatArray, FloatArray]:
    """Bytes of one replay and of one new sample as each is stored, (P,); ``whole`` rounds latents up."""
    raw = float(np.prod(step.workload.input_shape)) * FRAME_BYTES
    latent = step.latent_bytes.astype(float)
    if not whole:
        latent = step.latent_elements * step.spec.latent_bits / 8.0
    replay = np.where(plans.replay == REPLAYS.index("raw"), raw, latent)
    new = np.where(plans.new_samples == NEW_SAMPLES.index("cache_raw"), raw, latent)
    return replay, new


def replay_bytes(n_replays: IntArray, sample_bytes: FloatArray, *, header: bool) -> FloatArray:
    """Bytes of the replay samples: N x bytes per sample, plus one fp32 scale per buffer."""
    return np.asarray(n_replays * sample_bytes + (4.0 * (n_replays > 0) if header else 0.0))


def label_bytes(classes: int) -> int:
    """Bytes of one label: 1 up to 256 classes, else 2."""
    return 1 if classes <= 256 else 2


def mcunetv3_extra_parts(step: TrainingStep) -> dict[str, FloatArray]:
    """Return the parts of ``mcunetv3_extra_bytes`` by name [B], shapes (P,)."""
    units = step.workload.units[:-1]
    learns, kept = step.spec.bias_learns[:, :-1], step.learning.kept_channels[:, :-1]
    masks = np.ceil(np.array([unit.output_elements for unit in units]) / 8)
    channels = np.array([unit.out_channels for unit in units])
    pixels = np.array([unit.input_elements // unit.in_channels for unit in units])
    return {
        CLASSIFIER_INPUT: np.full(len(step), float(step.workload.units[-1].input_elements)),
        CLAMP_MASKS: (masks * learns).sum(axis=1),
        BIASES: (4.0 * channels * learns).sum(axis=1),
        TRAINED_WEIGHTS: step.learning.trained_weights[:, :-1].sum(axis=1).astype(float),
        SAVED_INPUTS: (kept * pixels).sum(axis=1).astype(float),
    }


def mcunetv3_extra_bytes(step: TrainingStep) -> FloatArray:
    """Return the memory by which arXiv 2206.15472 names its update schemes [B], shape (P,).

    Classifier input at 8 bits; for each conv whose bias learns one bit per output element and 32 bits per
    output channel; where weights learn with c kept input channels 8 bits per weight and per saved input
    element. Batch 1. It is no peak: see ``training_peak_bytes`` for that, and ``dse.cost.memory_notions`` for
    what makes the two differ.
    """
    return np.asarray(sum(mcunetv3_extra_parts(step).values()))
