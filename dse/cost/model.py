"""Prices: first the training step (few choices change it), then the event around it (many do not).

``step_costs`` is a table over steps; ``event_costs`` broadcasts it against everything else. A single
estimate, a grid and a sampler call the same two functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

import numpy as np

from dse.cost.acceptance import require_priced
from dse.cost.context import Context
from dse.cost.energy import active_power, byte_energy, powered_levels, whole_blocks
from dse.cost.event import Costs, event_costs
from dse.cost.latency import (
    FrozenTime,
    copy_cycles,
    frozen_time,
    head_event,
    step_time,
    store_cycles,
)
from dse.cost.memory import KEPT_ORDER, Placement, label_bytes, place, sample_bytes
from dse.cost.unfolding import require_measured_kernels
from dse.errors import IllegalPlan, Problem, UnknownName
from dse.plan.decisions import (
    NEW_SAMPLES,
    REPLAYS,
    BoolArray,
    FloatArray,
    IntArray,
    PlanBatch,
    TrainingPlan,
)
from dse.plan.step import READ, WRITE, TrainingStep, training_step
from dse.plan.structure import structures
from dse.plan.techniques import illegal
from dse.vocabulary import Role

CHUNK: Final = 256
"""Steps described at a time; bounds memory (a schedule is operations x plans)."""

OBJECTIVES: Final = {
    "accuracy": ("accuracy", "max"),
    "ram_peak_bytes": ("ram_peak_bytes", "min"),
    "event_j": ("event_j", "min"),
    "nvm_bytes": ("nvm_bytes", "min"),
    "event_s": ("event_s", "min"),
    "lifetime_s": ("lifetime_s", "max"),
}
"""Objective -> (column, sense)."""


@dataclass(frozen=True)
class StepCosts:
    """What steps cost on a board: S rows; C operating points, K levels.

    ``minibatch_*`` are per mini-batch, ``frozen_*`` per image, ``store_s`` per new sample, ``head_s`` and
    ``persist_bytes`` per event.
    """

    minibatch_s: FloatArray  # (S, C)
    minibatch_j: FloatArray  # (S, C) outside the domains only; power x time is added per event
    frozen_s: FloatArray  # (S, C)
    frozen_j: FloatArray  # (S, C) outside the domains only
    frozen_power_w: FloatArray  # (S, C)
    inference_s: FloatArray  # (S, C)
    inference_j: FloatArray  # (S, C) in all
    store_s: FloatArray  # (S, C)
    head_s: FloatArray  # (S, C)
    head_j: FloatArray  # (S, C) outside the domains only
    copy_s: FloatArray  # (S, C) quantising what learned into the inference copy
    copy_programmed: FloatArray  # (S,) bytes of it that an event programs
    copy_level: IntArray  # (S,)
    peak_bytes: FloatArray  # (S, K)
    ram_peak_bytes: FloatArray  # (S,)
    nvm_bytes: FloatArray  # (S,) weights and copies in non-volatile levels
    kept_mask: IntArray  # (S,) bit k: level k must survive sleep for weights
    persist_bytes: FloatArray  # (S,) rewritten by one persistence
    persist_level: IntArray  # (S,)
    persist_programmed: FloatArray  # (S,) whole erase blocks
    persist_every: IntArray  # (S,) 0: never
    replay_sample_bytes: FloatArray  # (S,)
    new_sample_bytes: FloatArray  # (S,)
    new_per_batch: IntArray
    replays_per_batch: IntArray
    has_replay: BoolArray
    cached: BoolArray  # new samples are kept for later epochs
    recaptured: BoolArray  # new samples are captured again for each epoch
    frozen_new: BoolArray
    frozen_replays: BoolArray
    has_frozen: BoolArray

    def __len__(self) -> int:
        return len(self.ram_peak_bytes)

    def take(self, rows: Any) -> Self:
        """Return the steps at ``rows``."""
        return type(self)(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    @classmethod
    def concatenate(cls, parts: list[StepCosts]) -> StepCosts:
        """Join tables one after the other."""
        return StepCosts(
            **{
                item.name: np.concatenate([getattr(part, item.name) for part in parts])
                for item in fields(cls)
            }
        )

    def expand(self) -> StepCosts:
        """Return the table with a second axis of length 1 after S, to broadcast against (W,) choices."""
        return replace(self, **{item.name: getattr(self, item.name)[:, None] for item in fields(self)})


def step_costs(context: Context, plans: PlanBatch, steps: Sequence[TrainingStep] | None = None) -> StepCosts:
    """Price the step of each plan. Raises IllegalPlan or Unpriced; returns S = len(plans) rows.

    ``steps`` are descriptions from ``describe_steps``, for pricing the same plans with other numbers.
    """
    if steps is None:
        require_legal(context, plans)
    parts, order = [], []
    for index, rows in enumerate(_chunks(context, plans)):
        some = plans.rows(rows)
        parts.append(_step_costs(context, some, steps[index] if steps else _describe(context, some)))
        order.append(rows)
    return StepCosts.concatenate(parts).take(np.argsort(np.concatenate(order)))


def describe_steps(context: Context, plans: PlanBatch) -> list[TrainingStep]:
    """Describe the steps of ``plans`` in the chunks that ``step_costs`` works in; no price is asked."""
    require_legal(context, plans)
    return [_describe(context, plans.rows(rows)) for rows in _chunks(context, plans)]


def _chunks(context: Context, plans: PlanBatch) -> Iterator[IntArray]:
    """Yield rows of ``plans`` that share a schedule, some at a time."""
    for _, rows in structures(context.workload, plans):
        for start in range(0, len(rows), CHUNK):
            yield rows[start : start + CHUNK]


def require_legal(context: Context, plans: PlanBatch) -> None:
    """Raise IllegalPlan with every reason that applies to some plan."""
    reasons = illegal(context.workload, plans)
    if reasons:
        raise IllegalPlan(
            Problem(context.workload.name, "plan", reason, f"{int(mask.sum())} of {len(plans)} plans")
            for reason, mask in reasons.items()
        )


def _describe(context: Context, plans: PlanBatch) -> TrainingStep:
    return training_step(
        context.workload, plans, context.workspace, context.board.cores,
        lowest_unit_bwd_input=context.accounting.lowest_unit_bwd_input,
    )  # fmt: skip


def describe(context: Context, plans: PlanBatch) -> tuple[TrainingStep, Placement]:
    """Return the step of each plan and where its roles are placed; the plans share a schedule."""
    step = _describe(context, plans)
    return step, place(context, step, plans.persist_every > 0)


def _step_costs(context: Context, plans: PlanBatch, step: TrainingStep) -> StepCosts:
    require_priced(context, plans)
    require_measured_kernels(context, plans)
    placement = place(context, step, plans.persist_every > 0)
    time, frozen = step_time(context, step, placement), frozen_time(context, step, placement)
    outside = byte_energy(context)
    clocks = context.clocks_hz
    persist = placement.role_bytes[Role.PERSISTENT_COPY]
    copies = placement.level[Role.INFERENCE_COPY]
    head_s, head_bytes = head_event(context, step, placement)
    inference_s, inference_j = _inference(context, plans)
    level = placement.level[Role.PERSISTENT_COPY]
    memory = step_memory(context, plans, step, placement)
    return StepCosts(
        **vars(memory),
        minibatch_s=time.seconds.sum(axis=(2, 3)),
        minibatch_j=_outside_j(time.bytes_read, time.bytes_written, outside) + 0.0 * clocks,
        frozen_s=frozen.seconds,
        frozen_j=_outside_j(frozen.bytes_read, frozen.bytes_written, outside) + 0.0 * clocks,
        frozen_power_w=_frozen_power(context, step),
        inference_s=inference_s,
        inference_j=inference_j,
        store_s=store_cycles(context, step)[:, None] / clocks,
        head_s=head_s,
        head_j=_outside_j(head_bytes[..., READ], head_bytes[..., WRITE], outside) + 0.0 * clocks,
        copy_s=copy_cycles(context, step)[:, None] / clocks,
        copy_programmed=whole_blocks(context, copies, step.copy_bytes.astype(float)),
        copy_level=copies,
        nvm_bytes=_nonvolatile_bytes(context, placement),
        kept_mask=_kept_mask(context, placement, plans),
        persist_bytes=persist,
        persist_level=level,
        persist_programmed=whole_blocks(context, level, persist),
        persist_every=plans.persist_every,
    )


@dataclass(frozen=True)
class PlacedStep:
    """The memory of S steps, without any price; see ``dse.cost.event_memory.StepMemory``."""

    peak_bytes: FloatArray
    ram_peak_bytes: FloatArray
    replay_sample_bytes: FloatArray
    new_sample_bytes: FloatArray
    new_per_batch: IntArray
    replays_per_batch: IntArray
    has_replay: BoolArray
    cached: BoolArray
    recaptured: BoolArray
    frozen_new: BoolArray
    frozen_replays: BoolArray
    has_frozen: BoolArray


def step_memory(context: Context, plans: PlanBatch, step: TrainingStep, placement: Placement) -> PlacedStep:
    """Return what of the steps of ``plans`` decides the samples of an event."""
    sample, new = sample_bytes(step, plans, whole=context.accounting.replay_headers)
    again = plans.new_samples == NEW_SAMPLES.index("recompute")
    return PlacedStep(
        peak_bytes=placement.peak_bytes,
        ram_peak_bytes=placement.ram_peak_bytes,
        replay_sample_bytes=sample,
        new_sample_bytes=new,
        new_per_batch=plans.new_per_batch,
        replays_per_batch=plans.replays_per_batch,
        has_replay=plans.replay != REPLAYS.index("none"),
        cached=~again,
        recaptured=again,
        frozen_new=step.spec.frozen_new,
        frozen_replays=step.spec.frozen_replays,
        has_frozen=step.spec.cut_layer >= 0,
    )


def _outside_j(read: FloatArray, written: FloatArray, outside: FloatArray) -> FloatArray:
    return np.asarray(read @ outside[:, READ] + written @ outside[:, WRITE])[:, None]


def _frozen_power(context: Context, step: TrainingStep) -> FloatArray:
    """The int8 frozen stage draws inference power, an fp32 one training power: (S, C)."""
    power = active_power(context)
    return np.where(step.spec.frozen_bytes[:, None] == 1, power[:, 0], power[:, 1])


def _nonvolatile_bytes(context: Context, placement: Placement) -> FloatArray:
    """Bytes of weights and copies that lie in non-volatile levels, (S,)."""
    lasting = np.array([not level.volatile for level in context.board.levels])
    return np.asarray(sum(placement.role_bytes[role] * lasting[placement.level[role]] for role in KEPT_ORDER))


def _kept_mask(context: Context, placement: Placement, plans: PlanBatch) -> IntArray:
    """Bit k where level k must be powered through sleep for weights: see ``powered_levels``.

    Learned weights that are not saved after every event live in RAM in between.
    """
    powered = powered_levels(context)
    mask = np.zeros(len(plans), dtype=np.int64)
    roles = placement.role_bytes
    unsaved = (plans.persist_every != 1) | (roles[Role.PERSISTENT_COPY] == 0)
    for role, size in (
        (Role.FROZEN_WEIGHTS, roles[Role.FROZEN_WEIGHTS]),
        (Role.INFERENCE_COPY, roles[Role.INFERENCE_COPY]),
        (Role.PERSISTENT_COPY, roles[Role.PERSISTENT_COPY]),
        (Role.LEARNING_WEIGHTS, roles[Role.LEARNING_WEIGHTS] * unsaved),
        (Role.HEAD_STATE, roles[Role.HEAD_STATE] * unsaved),
    ):
        mask |= np.where(powered[placement.level[role]] & (size > 0), 1 << placement.level[role], 0)
    return mask


def _inference(context: Context, plans: PlanBatch) -> tuple[FloatArray, FloatArray]:
    """Seconds and joules of one whole forward pass in the frozen stage's dtype: (S, C)."""
    last = len(context.workload.units) - 1
    seconds = np.zeros((len(plans), len(context.clocks_hz)))
    joules = np.zeros_like(seconds)
    if context.duty.inferences_per_day == 0:
        return seconds, joules
    for bits in np.unique(plans.frozen_bits):
        rows = plans.frozen_bits == bits
        probe = PlanBatch.from_plans(
            context.workload,
            [
                TrainingPlan(
                    cut=last, replay="none", frozen_bits=int(bits), new_per_batch=1, images_per_event=1
                )
            ],
        )
        step, placement = describe(context, probe)
        every = replace(
            step, frozen_units=np.ones_like(step.frozen_units), frozen_layers=np.ones_like(step.frozen_layers)
        )
        frozen: FrozenTime = frozen_time(context, every, placement)
        outside = _outside_j(frozen.bytes_read, frozen.bytes_written, byte_energy(context))
        seconds[rows] = frozen.seconds[0]
        joules[rows] = frozen.seconds[0] * _frozen_power(context, step)[0] + outside[0]
    return seconds, joules


def price(context: Context, plans: PlanBatch, **event: Any) -> Costs:
    """Price plans row by row; ``operating_point`` and ``sleep_state`` are names or codes, or arrays of codes.

    Without them the first operating point and the automatic sleep state are taken. Returns arrays (P,).
    """
    return event_costs(context, step_costs(context, plans), event_choices(context, plans, **event))


def event_choices(
    context: Context, plans: PlanBatch, operating_point: Any = 0, sleep_state: Any = -1
) -> Mapping[str, IntArray]:
    """Return the event choices of ``plans`` as code arrays (P,)."""
    count = len(plans)
    board = context.board
    points = [point.name for point in board.operating_points]
    states = [state.name for state in board.sleep_states]
    levels = [level.name for level in board.levels]
    wanted = [level_code(levels, name, board.label) for name in plans.replay_level]
    return {
        "n_replays": plans.n_replays,
        "images_per_event": plans.images_per_event,
        "epochs": plans.epochs,
        "replay_level": np.array(wanted, dtype=np.int64),
        "operating_point": _codes(operating_point, points, "operating point", count),
        "sleep_state": _codes(sleep_state, states, "sleep state", count),
    }


def level_code(levels: list[str], name: str, board: str) -> int:
    """Return the code of a level name; ``auto`` is -1."""
    if name == "auto":
        return -1
    if name not in levels:
        raise UnknownName("memory level", name, ["auto", *levels], file=board, key="replay_level")
    return levels.index(name)


def _codes(value: Any, names: list[str], what: str, count: int) -> IntArray:
    if isinstance(value, str):
        if value == "auto":
            value = -1
        elif value in names:
            value = names.index(value)
        else:
            raise UnknownName(what, value, names)
    return np.broadcast_to(np.asarray(value, dtype=np.int64), (count,))


__all__ = [
    "OBJECTIVES", "Context", "Costs", "StepCosts", "describe", "describe_steps", "event_choices",
    "event_costs", "illegal",
    "label_bytes", "level_code", "price", "require_legal", "step_costs",
]  # fmt: skip
