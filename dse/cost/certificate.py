"""From a plan on a board to a memory map: offsets for every buffer of its schedule, level by level.

The cost model promises live bytes; here they are placed. Each level gets an arena of its own, which holds the
buffers of the roles that the placement rule puts there (``dse.cost.memory``), with the samples of the event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dse.cost.arena import Arena, ArenaBuffer, live_bytes, place
from dse.cost.context import Context
from dse.cost.event_memory import EventMemory, event_memory
from dse.cost.memory import Placement, label_bytes
from dse.cost.model import describe, event_choices, step_memory
from dse.cost.tiling_list import tile_rows
from dse.errors import Problem, UserError
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import StepBuffer, StepSchedule
from dse.plan.timeline import Holds
from dse.plan.written import ALIGNMENT, step_schedule
from dse.vocabulary import Role


@dataclass(frozen=True)
class LevelArena:
    """The arena of one memory level; ``live_bytes`` are the most that are alive at once [B]."""

    level: str
    arena: Arena
    live_bytes: int
    capacity_bytes: int
    volatile: bool

    @property
    def fits(self) -> bool:
        """Whether the level can hold its arena."""
        return self.arena.size_bytes <= self.capacity_bytes


@dataclass(frozen=True)
class Certified:
    """One plan with its map; ``promised_bytes`` is the RAM peak that the cost model gives it [B]."""

    context: Context
    plan: TrainingPlan
    map: MemoryMap
    levels: tuple[LevelArena, ...]
    promised_bytes: int

    @property
    def fits(self) -> bool:
        """Whether every level can hold its arena."""
        return all(level.fits for level in self.levels)

    @property
    def ram_arena_bytes(self) -> int:
        """Arenas of all volatile levels together [B]."""
        return sum(level.arena.size_bytes for level in self.levels if level.volatile)


def certify(
    context: Context,
    plan: TrainingPlan,
    *,
    alignment: int = ALIGNMENT,
    exact: bool = False,
    seed: int = 0,
    **event: Any,
) -> Certified:
    """Place every buffer of a plan.

    Parameters
    ----------
    alignment: of every buffer [B]; a power of two.
    exact: let a solver improve what the heuristic leaves above the bound (extra ``arena``).
    seed: of heuristic and solver.
    event: ``operating_point`` and ``sleep_state``, as for ``price``.

    Raises IllegalPlan, and UserError for an alignment that is no power of two. A level that is too
    small raises nothing: see ``LevelArena.fits``.

    """
    if not 1 <= alignment <= 4096 or alignment & (alignment - 1):
        raise UserError(Problem("option", "alignment", str(alignment), "a power of two from 1 to 4096 bytes"))
    written = _write(context, plan.canonical(context.workload), alignment, event)
    arenas = _arenas(context, written.schedule, written.codes, exact=exact, seed=seed)
    found = _map(context, written.schedule, written.codes, arenas)
    promised = round(float(written.memory.ram_peak_bytes.ravel()[0]))
    return Certified(context, written.schedule.plan, found, arenas, promised)


def located(
    context: Context, plan: TrainingPlan, *, alignment: int = ALIGNMENT, **event: Any
) -> tuple[StepSchedule, Mapping[str, str]]:
    """Return the schedule that ``certify`` places, and the name of the level of each buffer, by its id.

    Raises what ``certify`` raises for the plan.
    """
    written = _write(context, plan.canonical(context.workload), alignment, event)
    names = [level.name for level in context.board.levels]
    return written.schedule, {name: names[code] for name, code in written.codes.items()}


@dataclass(frozen=True)
class _Written:
    """One plan's schedule, the level of each of its buffers, and the samples of its event."""

    schedule: StepSchedule
    codes: Mapping[str, int]
    memory: EventMemory


def _write(context: Context, plan: TrainingPlan, alignment: int, event: Mapping[str, Any]) -> _Written:
    plans = PlanBatch.from_plans(context.workload, [plan])
    step, placement = describe(context, plans)
    tile_rows(context, step)  # a kernel that does not fit next to the cores cannot run, whatever the map
    placed = step_memory(context, plans, step, placement)
    memory = event_memory(context, placed, event_choices(context, plans, **event))
    schedule = step_schedule(step, plan, alignment=alignment, samples=_samples(context, plan, memory))
    kept = _without_absent(schedule, placement)
    return _Written(kept, {one.id: _level(placement, memory, one) for one in kept.buffers}, memory)


def working_arenas(context: Context, plan: TrainingPlan) -> tuple[LevelArena, ...]:
    """Place what a plan needs but for the samples of the event, which stand beside it (see ``certify``)."""
    plans = PlanBatch.from_plans(context.workload, [plan])
    step, placement = describe(context, plans)
    schedule = _without_absent(step_schedule(step, plan), placement)
    codes = {buffer.id: int(placement.level[buffer.role][0]) for buffer in schedule.buffers}
    return _arenas(context, schedule, codes)


def _arenas(
    context: Context, schedule: StepSchedule, codes: Mapping[str, int], *, exact: bool = False, seed: int = 0
) -> tuple[LevelArena, ...]:
    """Place the buffers of each level; ``codes`` are levels by buffer."""
    members: dict[int, list[StepBuffer]] = {}
    for buffer in schedule.buffers:
        members.setdefault(codes[buffer.id], []).append(buffer)
    return tuple(_arena(context, code, members[code], exact, seed) for code in sorted(members))


def _map(
    context: Context, schedule: StepSchedule, codes: Mapping[str, int], arenas: tuple[LevelArena, ...]
) -> MemoryMap:
    offsets = {name: offset for level in arenas for name, offset in level.arena.offsets.items()}
    names = [level.name for level in context.board.levels]
    entries = tuple(Placed(one, names[codes[one.id]], offsets[one.id]) for one in schedule.buffers)
    return MemoryMap(schedule, entries, {level.level: level.arena.size_bytes for level in arenas})


def _samples(context: Context, plan: TrainingPlan, memory: EventMemory) -> Mapping[Holds, int]:
    """Bytes of the samples that an event keeps, and of their labels."""
    label = label_bytes(context.workload.classes) if context.accounting.replay_headers else 0
    cached = int(np.ravel(memory.counts.cached)[0])
    return {
        Holds.NEW_SAMPLES: int(np.ceil(np.ravel(memory.sizes["new_samples"])[0])),
        Holds.REPLAYS: int(np.ceil(np.ravel(memory.sizes["replay_samples"])[0])),
        Holds.NEW_LABELS: cached * label,
        Holds.REPLAY_LABELS: plan.n_replays * label,
    }


def _level(placement: Placement, memory: EventMemory, buffer: StepBuffer) -> int:
    if buffer.holds in (Holds.NEW_SAMPLES, Holds.NEW_LABELS):
        return int(np.ravel(memory.bulk.new_level)[0])
    if buffer.holds in (Holds.REPLAYS, Holds.REPLAY_LABELS):
        return int(np.ravel(memory.bulk.replay_level)[0])
    return int(placement.level[buffer.role][0])


def _without_absent(schedule: StepSchedule, placement: Placement) -> StepSchedule:
    """Leave out the persistent copy where the placement makes none: sleep keeps the weights themselves."""
    if placement.role_bytes[Role.PERSISTENT_COPY][0]:
        return schedule
    buffers = tuple(buffer for buffer in schedule.buffers if buffer.role != Role.PERSISTENT_COPY)
    return replace(schedule, buffers=buffers)


def _arena(context: Context, code: int, buffers: list[StepBuffer], exact: bool, seed: int) -> LevelArena:
    level = context.board.levels[code]
    items = [ArenaBuffer(one.id, one.start, one.end, one.size_bytes, one.alignment) for one in buffers]
    capacity = int(context.capacity_bytes[code])
    return LevelArena(
        level.name, place(items, exact=exact, seed=seed), live_bytes(items), capacity, level.volatile
    )
