"""How much an execution does, and a shorter mini-batch that visits the same operations and buffers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Final

from dse.errors import UserError
from dse.execution.samples import is_stored
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.learning import Learning, learning_of
from dse.plan.operations import Holds, Kind, Operation, Phase, StepSchedule
from dse.plan.patches import regions_of
from dse.plan.spec import StepSpec
from dse.plan.step import training_step
from dse.plan.techniques import build_spec
from dse.plan.written import step_schedule

OPERATION_MACS: Final = 250_000
"""MACs that take as long as everything else in an operation: check sums, guard bytes, calls."""


@dataclass(frozen=True)
class Work:
    """One execution of a plan: its mini-batch in micro-batches, an image captured before, an inference."""

    samples: int
    micro_batches: int
    operations: int
    macs: int

    @property
    def effort(self) -> int:
        """MACs that take about as long, the overhead of every operation included."""
        return self.macs + OPERATION_MACS * self.operations


def work_of(schedule: StepSchedule) -> Work:
    """Count what the executor does for ``schedule``; MACs are those of layers with weights."""
    found = _Runs(schedule)
    operations = sum(found.times(one) for one in schedule.operations)
    macs = sum(found.macs(one) for one in schedule.operations)
    return Work(sum(found.sizes), len(found.sizes), operations, macs)


def captures(schedule: StepSchedule) -> bool:
    """Whether a captured image is stored outside of a mini-batch: as a latent, or at cut -1 as a frame."""
    spec = build_spec(schedule.workload, PlanBatch.from_plans(schedule.workload, [schedule.plan]))
    return is_stored(schedule.plan, Holds.NEW_SAMPLES) and not bool(spec.frozen_new[0])


class _Runs:
    """How often the operations of a schedule run."""

    def __init__(self, schedule: StepSchedule) -> None:
        self.schedule, workload = schedule, schedule.workload
        self.spec = build_spec(workload, PlanBatch.from_plans(workload, [schedule.plan]))
        self.learning = learning_of(workload, self.spec)
        total, size = int(self.spec.samples[0]), int(self.spec.micro[0])
        self.sizes = [min(size, total - first) for first in range(0, total, size)]
        passing = self._passing(size)
        self._images = sum(passing) + captures(schedule)
        self._idle = passing.count(0)  # micro-batches in which the frozen stage has nothing to do
        self._edge, self._patches = _patches(schedule, self.spec)

    def _passing(self, size: int) -> list[int]:
        """Images of each micro-batch that pass the frozen stage inside of it."""
        spec = self.spec
        if not spec.frozen_in_batch[0]:
            return []
        parts = ((spec.frozen_new, spec.new_samples), (spec.frozen_replays, spec.replay_samples))
        pass_ = [bool(passes[0]) for passes, count in parts for _ in range(int(count[0]))]
        return [sum(pass_[first : first + size]) for first in range(0, len(pass_), size)]

    def _repeats(self, operation: Operation) -> int:
        """Patches of one image."""
        return self._patches if 0 <= operation.layer <= self._edge else 1

    def times(self, operation: Operation) -> int:
        """How often an operation runs in all."""
        if operation.phase == Phase.LEARNING:
            return len(self.sizes)
        if operation.phase == Phase.FROZEN:
            return self._repeats(operation) * self._images + self._idle
        return self._repeats(operation) if operation.phase == Phase.INFERENCE else 1

    def macs(self, operation: Operation) -> int:
        """MACs of an operation in all."""
        each = _macs(self.schedule, self.learning, operation)
        if operation.phase == Phase.LEARNING:
            return each * sum(self.sizes)
        return each * self._repeats(operation) * (self._images if operation.phase == Phase.FROZEN else 1)


def _patches(schedule: StepSchedule, spec: StepSpec) -> tuple[int, int]:
    """Return the last layer that runs patch by patch (-1: none does), and how many patches there are."""
    patches = spec.structure.patches
    if patches is None:
        return -1, 1
    edge = schedule.workload.units[patches.unit].cut_layer
    return edge, prod(len(axis) for axis in regions_of(schedule.workload, patches).intervals[edge])


def _macs(schedule: StepSchedule, learning: Learning, operation: Operation) -> int:
    """MACs of one sample, or one image, in an operation."""
    index = None if operation.layer < 0 else learning.unit_at(operation.layer)
    if index is None:
        return 0
    unit = schedule.workload.units[index]
    if operation.kind in (Kind.BWD_WEIGHT, Kind.BWD_UPDATE):
        return unit.macs * int(learning.kept_channels[0, index]) // unit.in_channels
    return unit.macs


# --- shorter ---


def shortened(schedule: StepSchedule) -> TrainingPlan | None:
    """Return the plan with a mini-batch of two micro-batches, where its schedule is the very same.

    The second micro-batch is the last of the whole mini-batch, which may be smaller. None where the plan has
    no more than two micro-batches, or where buffers or lifespans would change.
    """
    plan = schedule.plan
    total, size = plan.new_per_batch + plan.replays_per_batch, plan.micro_batch
    if total <= 2 * size:
        return None
    wanted = size + (total % size or size)
    new = _new(plan, wanted)
    short = replace(plan, new_per_batch=new, replays_per_batch=wanted - new)
    return short if _is_same(schedule, short) else None


def _new(plan: TrainingPlan, wanted: int) -> int:
    """Return how many of ``wanted`` samples are new: about their share, one of each kind at least."""
    if plan.replays_per_batch == 0:
        return wanted
    share = round(wanted * plan.new_per_batch / (plan.new_per_batch + plan.replays_per_batch))
    least, most = max(1, wanted - plan.replays_per_batch), min(wanted - 1, plan.new_per_batch)
    return min(max(share, least), most)


def _is_same(schedule: StepSchedule, short: TrainingPlan) -> bool:
    """Whether ``short`` has the operations, buffers and lifespans of the plan of ``schedule``.

    Workspaces of kernels are left out on both sides: they depend on a layer and its widths, not on samples.
    """
    try:
        one, other = (_written(schedule, plan) for plan in (schedule.plan, short))
    except UserError:
        return False
    return (one.operations, one.buffers, one.handed_on) == (other.operations, other.buffers, other.handed_on)


def _written(schedule: StepSchedule, plan: TrainingPlan) -> StepSchedule:
    step = training_step(schedule.workload, PlanBatch.from_plans(schedule.workload, [plan]))
    return step_schedule(step, plan)
