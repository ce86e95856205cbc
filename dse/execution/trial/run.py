"""A plan tried out: one mini-batch and one inference inside the arenas of its map, and the same outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from dse.errors import UserError
from dse.execution.arithmetic import Array
from dse.execution.layout import Layout
from dse.execution.memory import Arena, MemoryViolation, Separate
from dse.execution.trial.result import Trial
from dse.execution.trial.step import Outcome, Step, Watched, prepared_step
from dse.execution.trial.work import Work, captures, shortened, work_of
from dse.plan.memory_map import MemoryMap
from dse.plan.operations import Holds, StepSchedule

Progress = Callable[[int, int], None]

MOST_MACS: Final = 5_000_000_000
"""MACs of both executions above which two micro-batches stand for all: 10 to 30 s of one core."""

PATIENCE: Final = 20
"""How many times as many MACs are executed where a mini-batch cannot be shortened."""


def trial(
    memory_map: MemoryMap, *, seed: int = 0, most_macs: int = MOST_MACS, labels_held: bool = True,
    progress: Progress | None = None,
) -> Trial:  # fmt: skip
    """Execute the plan of ``memory_map`` on random numbers, inside its arenas and outside, and compare.

    Parameters
    ----------
    memory_map: with the schedule of the plan.
    seed: of all numbers.
    most_macs: of both executions, with what else takes time (``Work.effort``); above it two micro-batches of
        a mini-batch are executed, where the schedule is the same for these. Nothing is executed where that
        takes ``PATIENCE`` times as many MACs.
    labels_held: whether labels of stored samples have buffers; not where the accounting counts none.
    progress: is told operations done and operations in all.

    Raises nothing on account of the map or the plan: see ``Trial``.

    """
    schedule = memory_map.schedule
    planned = work_of(schedule)
    work = planned
    if 2 * planned.effort > most_macs and (short := shortened(schedule)) is not None:
        schedule = replace(schedule, plan=short)
        work = work_of(schedule)
    found = replace(_described(memory_map, planned, work), labels_held=labels_held)
    if 2 * work.macs > PATIENCE * most_macs:
        most = PATIENCE * most_macs
        return replace(found, reason=f"{2 * work.macs:,} MACs inside and outside, and the limit is {most:,}")
    return _tried(replace(memory_map, schedule=schedule), found, seed, _teller(progress, 2 * work.operations))


def _described(memory_map: MemoryMap, planned: Work, work: Work) -> Trial:
    return Trial(
        samples=work.samples, micro_batches=work.micro_batches, planned_samples=planned.samples,
        planned_micro_batches=planned.micro_batches, captured=captures(memory_map.schedule),
        operations=work.operations, macs=work.macs, arenas=tuple(memory_map.arena_bytes.items()),
    )  # fmt: skip


def _teller(progress: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tell


def _tried(memory_map: MemoryMap, found: Trial, seed: int, tell: Callable[[], None]) -> Trial:
    schedule = memory_map.schedule
    try:
        step = prepared_step(schedule, seed, labels_held=found.labels_held)
        expected = step.run(schedule, Watched(Separate(schedule), tell))
    except MemoryViolation as error:
        return replace(found, violation=f"even outside of the arenas: {error}")
    except UserError as error:  # nothing that a map could do about it
        return replace(found, reason=str(error).replace("\n", "; "))
    parameters, changed = _updated(step, schedule, expected)
    found = replace(found, parameters=parameters, changed=changed, loss=expected.result.loss)
    try:
        inside = step.run(schedule, Watched(Arena(memory_map), tell))
    except UserError as error:
        return replace(found, violation=str(error))
    return replace(found, compared=True, difference=first_difference(inside, expected))


# --- what came out ---


def _updated(step: Step, schedule: StepSchedule, after: Outcome) -> tuple[int, int]:
    """Count the numbers that the step updates, and those that have another value behind it."""
    layout = Layout(schedule, step.inputs.channels)
    pieces = [
        piece for unit in range(len(schedule.workload.units))
        for holds in (Holds.LEARNING_WEIGHT, Holds.LEARNING_AFFINE) if layout.stands(holds, unit)
        for piece in layout.pieces(holds, unit)
    ]  # fmt: skip
    before, result = {**step.inputs.parameters.learning, **step.inputs.head}, after.result
    values = {**result.parameters, **result.head}
    changed = sum(_unlike(values[key], before[key]) for key in values)
    updated = sum(piece.count for piece in pieces) + sum(one.size for one in result.head.values())
    return updated, changed


def _unlike(one: Array, other: Array) -> int:
    return int(np.count_nonzero(one != other.astype(one.dtype)))


def first_difference(found: Outcome, expected: Outcome) -> str:
    """Say which number differs first, bit by bit; empty where none does."""
    for (name, mine), (_, theirs) in zip(found.named(), expected.named(), strict=True):
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return f"{name} is {mine.dtype} {mine.shape} instead of {theirs.dtype} {theirs.shape}"
        places = np.flatnonzero(_bits(mine) != _bits(theirs))
        if places.size:
            at = np.unravel_index(int(places[0]), mine.shape)
            index = ", ".join(str(int(axis)) for axis in at)
            count = f"{places.size:,} of {mine.size:,} numbers differ"
            return f"{name}[{index}] is {mine[at]!s} instead of {theirs[at]!s} ({count})"
    return ""


def _bits(values: Array) -> Array:
    """Return numbers as unsigned integers of the same bits, (n,)."""
    return np.ascontiguousarray(values).reshape(-1).view(f"u{values.dtype.itemsize}")
