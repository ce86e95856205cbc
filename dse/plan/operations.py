"""One plan's step, written out: the operations that are executed, and every buffer with its lifespan.

``dse.plan.schedule`` writes the step down for many plans at once, with every operation that any plan could
have and sizes of zero for what a plan lacks. Here is the vocabulary of one plan's row of it: operations that
the plan does not execute are gone, lifespans count the ones that are left, what is alive throughout (weights,
optimiser state, samples) has buffers of its own, and names say what each buffer holds, so that a memory map
can be made of it, checked and executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from dse.plan.decisions import IntArray, TrainingPlan
from dse.plan.timeline import Content, Holds, Kind
from dse.vocabulary import Role
from dse.workload import Workload


class Phase(StrEnum):
    """How often an operation runs."""

    FROZEN = "frozen"  # once per image that passes the frozen stage
    LEARNING = "learning"  # once per micro-batch
    UPDATE = "update"  # once per mini-batch
    INFERENCE = "inference"  # once per inference, between learning events


__all__ = ["Holds", "Kind", "Operation", "Phase", "StepBuffer", "StepSchedule"]


@dataclass(frozen=True)
class Operation:
    """One operation; ``layer`` is -1 where it belongs to none."""

    number: int
    kind: Kind
    phase: Phase
    layer: int
    name: str


@dataclass(frozen=True)
class StepBuffer:
    """A stretch of memory, alive from operation ``start`` to ``end`` inclusive.

    ``reads`` are operations that read it; ``start`` writes it. ``id`` is unique within a schedule.
    """

    id: str
    holds: Holds
    place: int
    role: Role
    content: Content
    name: str
    reason: str
    start: int
    end: int
    size_bytes: int
    alignment: int
    reads: tuple[int, ...]


@dataclass(frozen=True)
class StepSchedule:
    """Operations in order, and the buffers over them."""

    workload: Workload
    plan: TrainingPlan
    operations: tuple[Operation, ...]
    buffers: tuple[StepBuffer, ...]
    handed_on: Mapping[int, int] = field(default_factory=dict)
    """Tensor whose error takes a buffer over -> the addition under whose root that buffer stands."""

    @cached_property
    def live_bytes(self) -> IntArray:
        """Live bytes [B] of all buffers during each operation, (T,)."""
        change = np.zeros(len(self.operations) + 1, dtype=np.int64)
        for buffer in self.buffers:
            change[buffer.start] += buffer.size_bytes
            change[buffer.end + 1] -= buffer.size_bytes
        live: IntArray = np.cumsum(change)[:-1]
        return live
