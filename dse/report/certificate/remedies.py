"""What would lower a buffer: single decisions of its plan, changed; only such as the plan has not yet taken.

Which decisions can shorten or shrink a buffer follows from what it holds. A change is offered only where
the plan that it makes is legal. Whether the peak falls is for the caller to find out: another moment may be
as full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from dse.errors import UserError
from dse.plan.decisions import AS_COMPUTED, TrainingPlan
from dse.plan.operations import Holds, StepBuffer, StepSchedule
from dse.plan.policy import UnitKey, UpdatePolicy
from dse.plan.structure import Patches
from dse.plan.techniques import plan_problems
from dse.plan.tensors import Tensor, input_readers, overwrites_depthwise, tensors_of
from dse.vocabulary import DTYPE_BYTES, Role


@dataclass(frozen=True)
class Change:
    """A legal plan that differs in one ``decision``, and how a reader would write that decision."""

    decision: str
    words: str
    plan: TrainingPlan


Offer = Callable[[StepBuffer, StepSchedule], Iterator[Any]]
"""Yields values of one decision; ``_OFFERS`` says which decision an offer is about."""


def changes_for(buffer: StepBuffer, schedule: StepSchedule) -> tuple[Change, ...]:
    """Return the single decisions that could lower ``buffer``, the most direct first."""
    return tuple(
        change
        for decision in _decisions(buffer)
        for value in _OFFERS[decision](buffer, schedule)
        if (change := _change(schedule, decision, value)) is not None
    )


def _change(schedule: StepSchedule, decision: str, value: Any) -> Change | None:
    """Return the plan with ``decision`` changed to ``value``; None where it is the same, or not legal."""
    workload, plan = schedule.workload, schedule.plan.canonical(schedule.workload)
    changed: dict[str, Any] = {decision: value}
    try:
        other = replace(plan, **changed).canonical(workload)
        if other == plan or plan_problems(workload, other, "plan"):
            return None
    except UserError:  # words that this network cannot have
        return None
    return Change(decision, f"{decision} = {getattr(value, 'name', value)}", other)


def _decisions(buffer: StepBuffer) -> tuple[str, ...]:
    saved = buffer.role == Role.SAVED_ACTIVATIONS
    if buffer.holds == Holds.ACTIVATION:
        return _SAVED if saved else ("in_place", "micro_batch", "learning_dtype", "cut")
    if buffer.holds == Holds.LATENTS:
        return ("first_input", *_SAVED) if saved else ("micro_batch", "learning_dtype", "cut")
    if buffer.holds == Holds.WORKSPACE and buffer.place < 0:
        return ("head",)
    return _BY_HOLDS.get(buffer.holds, ())


_SAVED: Final = ("saved_bits", "checkpoints", "policy", "micro_batch", "learning_dtype", "cut")
_WEIGHTS: Final = ("learning_dtype", "policy", "cut")

_BY_HOLDS: Final[dict[Holds, tuple[str, ...]]] = {
    Holds.FROZEN: ("patches", "in_place", "frozen_bits"),
    Holds.INFERRED: ("patches", "in_place", "frozen_bits"),
    Holds.STORED: ("replay_bits", "policy", "micro_batch", "cut"),
    Holds.PACKED: ("saved_bits", "checkpoints", "policy", "micro_batch", "cut"),
    Holds.SLICE: ("policy", "saved_bits", "checkpoints", "micro_batch", "cut"),
    Holds.OPERAND: ("policy", "backward_dtype", "micro_batch"),
    Holds.MASK: ("checkpoints", "micro_batch", "cut"),
    Holds.SAVED_INPUT: ("saved_bits", "checkpoints", "micro_batch", "cut"),
    Holds.INDEX: ("checkpoints", "micro_batch", "cut"),
    Holds.NORM: ("bn_mode", "saved_bits", "micro_batch", "cut"),
    Holds.CLAMP: ("checkpoints", "micro_batch", "cut"),
    Holds.SUMS: ("micro_batch", "cut"),
    Holds.WIDE_INPUT: ("classifier_dtype", "micro_batch"),
    Holds.ERROR: ("backward_dtype", "micro_batch", "cut"),
    Holds.GRADIENT: ("update", "accumulator_dtype", "policy", "cut"),
    Holds.NORM_GRADIENT: ("bn_mode", "update", "policy", "cut"),
    Holds.WORKSPACE: ("im2col",),
    Holds.LEARNING_WEIGHT: _WEIGHTS,
    Holds.LEARNING_AFFINE: _WEIGHTS,
    Holds.FROZEN_WEIGHT: ("frozen_bits",),
    Holds.STATE: ("optimiser", "policy", "cut"),
    Holds.COPY_WEIGHT: ("learning_dtype", "cut"),
    Holds.COPY_AFFINE: ("learning_dtype", "cut"),
    Holds.PERSISTENT_WEIGHT: ("persist_every",),
    Holds.PERSISTENT_AFFINE: ("persist_every",),
    Holds.HEAD: ("head",),
    Holds.PERSISTENT_HEAD: ("persist_every",),
    Holds.NEW_SAMPLES: ("replay_bits", "new_samples", "images_per_event"),
    Holds.REPLAYS: ("replay_bits", "n_replays"),
    Holds.REPLAY_LABELS: ("n_replays",),
    Holds.NEW_LABELS: ("new_samples", "images_per_event"),
}  # fmt: skip
"""What a buffer holds -> the decisions that make it smaller or shorter-lived, the most direct first."""


# --- values of decisions ---


def _always(*values: Any) -> Offer:
    """Offer ``values`` whatever the buffer is; those that the plan has already are dropped later."""
    return lambda buffer, schedule: iter(values)


def _narrower(decision: str, *order: Any) -> Offer:
    """Offer what stands behind the plan's own value in ``order``, from the most memory to the least."""

    def offer(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[Any]:
        now = getattr(schedule.plan, decision)
        yield from order[order.index(now) + 1 :]

    return offer


def _optimisers(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[str]:
    """Take one that keeps less: two words per parameter (adam), one (momentum, lars), or none."""
    if schedule.plan.optimiser == "adam":
        yield "momentum"
    yield "sgd"


def _half(decision: str) -> Offer:
    def offer(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[int]:
        now = int(getattr(schedule.plan, decision))
        if now > 1:
            yield now // 2

    return offer


def _saved_bits(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[int]:
    plan = schedule.plan
    computed = 8 * DTYPE_BYTES[plan.learning_dtype]
    now = computed if plan.saved_bits == AS_COMPUTED else plan.saved_bits
    return (bits for bits in (8, 4, 2) if bits < now)


def _replay_bits(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[int]:
    now = schedule.plan.replay_bits
    return (bits for bits in (8, 4, 2) if bits < now and schedule.plan.replay != "raw")


def _checkpoints(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[str]:
    if schedule.plan.checkpoints == "none":
        yield from ("every 8", "every 4", "every 2")


def _in_place(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[str]:
    """Work in place more than now: depthwise only where such a layer reads or writes the buffer."""
    workload = schedule.workload
    if schedule.plan.in_place == "none":
        yield "elementwise"
    tensor = _tensor(schedule, buffer.place)
    touched = (*tensor.members, *tensor.readers)
    if buffer.holds != Holds.ACTIVATION and any(overwrites_depthwise(workload, layer) for layer in touched):
        yield "depthwise"


def _patches(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[str]:
    """Run the layers patch by patch up to behind the buffer; where they do, in more patches."""
    now = Patches.parse(schedule.plan.patches)
    if now is not None:
        yield str(replace(now, tiles=now.tiles + 1))
        return
    own = max(int(schedule.workload.unit_of_layer[buffer.place]), 0)
    for unit in schedule.workload.units[own + 1 : own + 5]:
        yield str(Patches(2, unit.index))


def _later_cuts(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[int]:
    later = [cut for cut in schedule.workload.legal_cuts if cut > schedule.plan.cut]
    yield from dict.fromkeys((*later[:1], *later[-1:]))


def _policies(buffer: StepBuffer, schedule: StepSchedule) -> Iterator[UpdatePolicy | str]:
    """Let half the input channels of the buffer's units learn, or biases only, or the last unit."""
    if halved := _halved(buffer, schedule):
        yield halved
    if not UpdatePolicy.parse(schedule.plan.policy).explicit:
        yield from ("bias", "last-1")


def _halved(buffer: StepBuffer, schedule: StepSchedule) -> UpdatePolicy | None:
    """Return the plan's policy with half the ratio in the units that need ``buffer``."""
    workload, policy = schedule.workload, UpdatePolicy.parse(schedule.plan.policy)
    ratio, bias = policy.resolve(workload, schedule.plan.cut)
    units = [unit for unit in _units(buffer, schedule) if ratio[unit] > 0]
    if not units:
        return None
    shares: dict[UnitKey, float] = {
        index: float(share) / (2 if index in units else 1) for index, share in enumerate(ratio) if share > 0
    }
    names = " and ".join(workload.units[unit].name for unit in units)
    learns = tuple(index for index, learns in enumerate(bias) if learns)
    return UpdatePolicy(f"half the input channels of {names}", shares, learns, None, policy.selection)


_PER_UNIT: Final = frozenset({Holds.GRADIENT, Holds.NORM_GRADIENT, Holds.STATE, Holds.LEARNING_WEIGHT})
_PER_READER: Final = frozenset({Holds.STORED, Holds.SLICE, Holds.OPERAND})


def _units(buffer: StepBuffer, schedule: StepSchedule) -> list[int]:
    """Units whose weight gradients need ``buffer``, or are it."""
    workload = schedule.workload
    if buffer.holds in _PER_UNIT:
        return [buffer.place]
    if buffer.holds in _PER_READER and buffer.place >= 0:
        readers: tuple[int, ...] = (buffer.place,)
    elif buffer.place < 0:
        readers = _readers_of_latents(schedule)
    else:
        readers = _tensor(schedule, buffer.place).readers
    return [unit.index for unit in workload.units if unit.layer in readers]


def _readers_of_latents(schedule: StepSchedule) -> tuple[int, ...]:
    workload, cut = schedule.workload, schedule.plan.cut
    layer = workload.units[cut].cut_layer if cut >= 0 else -1
    if layer < 0:
        return input_readers(workload)
    return _tensor(schedule, layer).readers


def _tensor(schedule: StepSchedule, layer: int) -> Tensor:
    """Return the tensor that holds the output of ``layer``."""
    tensors, position = tensors_of(schedule.workload, schedule.plan.in_place)
    return tensors[position[layer]]


_OFFERS: Final[dict[str, Offer]] = {
    "saved_bits": _saved_bits,
    "checkpoints": _checkpoints,
    "policy": _policies,
    "micro_batch": _half("micro_batch"),
    "learning_dtype": _narrower("learning_dtype", "fp32", "fp16", "int8"),
    "cut": _later_cuts,
    "first_input": _always("stored"),
    "in_place": _in_place,
    "patches": _patches,
    "frozen_bits": _always(8),
    "replay_bits": _replay_bits,
    "backward_dtype": _always("int8"),
    "accumulator_dtype": _always("int8"),
    "classifier_dtype": _always("learning"),
    "bn_mode": _narrower("bn_mode", "batch_stats", "group", "frozen_stats", "folded"),
    "update": _narrower("update", "accumulate", "immediate", "in_place"),
    "im2col": _always("none"),
    "optimiser": _optimisers,
    "persist_every": _always(0),
    "head": _always("ncm", "tinyol"),
    "new_samples": _always("recompute"),
    "images_per_event": _half("images_per_event"),
    "n_replays": _half("n_replays"),
}
"""Decision -> values of it that may take less memory, the smallest change first."""
