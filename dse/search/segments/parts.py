"""What every possible segment needs, read off the written schedule.

Nodes are the cut (0), the places where the learning stage can be split (1 to n) and the loss (n + 1); a
segment leads from one node to a higher one. While a segment runs, forward, again or backward, these are
alive: what it needs itself, which does not depend on other splits, and what is kept of every segment below.
Both are read off schedules that are split at the segment's own ends alone: the segments below then are a
single one, and ``kept`` says by how much more is kept when its upper part is split off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dse.cost.memory import WORKING_STATICS
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import TrainingStep, training_step
from dse.plan.structure import Checkpoints
from dse.plan.workspace import WorkspaceTable
from dse.workload import Workload

IntArray = NDArray[np.int64]
Progress = Callable[[int, int], None]
StepOf = Callable[[Sequence[int]], TrainingStep]
"""Units behind which the learning stage is split -> the training step."""


@dataclass(frozen=True)
class Parts:
    """Segments between n + 2 nodes; entries below the diagonal mean nothing.

    ``need`` [B] (n + 2, n + 2): most bytes of the step while the segment runs, where all below it is one
    segment. ``kept`` [B]: what is kept in addition where this segment is split off from the one below.
    ``macs``: what of the segment runs again in a mini-batch. ``forward_macs``: the learning stage's forward
    pass of a mini-batch. ``units`` (n,) are the places.
    """

    units: tuple[int, ...]
    need: IntArray
    kept: IntArray
    macs: IntArray
    forward_macs: int


def parts_of(workload: Workload, cut: int, step_of: StepOf, progress: Progress | None = None) -> Parts:
    """Read the needs of every segment off the schedules of ``step_of``.

    ``progress`` is called with (schedules written, in all).
    """
    cut_layer = workload.cut_layer(cut)
    units = Checkpoints(every=1).places(workload, cut_layer)
    edges = [cut_layer, *(workload.units[unit].cut_layer for unit in units)]
    count = len(units)
    need, kept, macs = (np.zeros((count + 2, count + 2), dtype=np.int64) for _ in range(3))
    whole = _Moments.of(step_of(()), edges[:1])
    need[0, count + 1] = whole.most[0]
    ends = []
    done, total = 1, 1 + count * (count + 1) // 2
    for upper in range(1, count + 1):
        end = _Moments.of(step_of(units[upper - 1 : upper]), [edges[0], edges[upper]])
        need[0, upper], need[upper, count + 1] = end.most
        macs[0, upper] = end.macs - whole.macs
        ends.append(end)
        for lower in range(1, upper):
            two = (units[lower - 1], units[upper - 1])
            found = _Moments.of(step_of(two), [edges[0], edges[lower], edges[upper]])
            need[lower, upper] = found.most[1]
            kept[lower, upper] = found.at_loss - end.at_loss
            macs[lower, upper] = found.macs - ends[lower - 1].macs
        done += upper
        if progress is not None:
            progress(done, total)
    return Parts(units, need, kept, macs, whole.macs)


def steps_of(
    workload: Workload, plan: TrainingPlan, workspace: WorkspaceTable | None = None, cores: int = 1
) -> StepOf:
    """Return what describes the step of ``plan``, split behind given units."""

    def step_of(units: Sequence[int]) -> TrainingStep:
        split = replace(plan, checkpoints=str(Checkpoints(units=tuple(units))))
        return training_step(workload, PlanBatch.from_plans(workload, [split]), workspace, cores)

    return step_of


def live_bytes(step: TrainingStep) -> IntArray:
    """Return the bytes of the only plan of ``step`` during each operation, (T,); its peak is the largest.

    As ``dse.cost.memory.training_peak_bytes`` counts: live bytes, and what is alive throughout.
    """
    statics = sum(int(step.static_bytes[role][0]) for role in WORKING_STATICS)
    return np.asarray(np.rint(step.schedule.live_bytes().sum(axis=0)[:, 0]), dtype=np.int64) + statics


def forward_macs(step: TrainingStep) -> int:
    """Return the MACs of all forward passes of a mini-batch of the only plan of ``step``, second ones too."""
    return round(float(step.macs[0, :, 0].sum()))


@dataclass(frozen=True)
class _Moments:
    """One schedule: most bytes of each segment's operations, bytes at the loss, MACs of forward passes."""

    most: IntArray
    at_loss: int
    macs: int

    @classmethod
    def of(cls, step: TrainingStep, edges: Sequence[int]) -> _Moments:
        """Read ``step``; a segment begins behind each layer of ``edges``, the first one at the cut.

        What belongs to no layer above the cut counts for the first segment: samples are loaded whether or
        not others follow. The loss belongs to the last.
        """
        clock, live = step.schedule.clock, live_bytes(step)
        layers = np.array([layer for _, layer in clock.sequence])
        layers[clock.loss] = clock.layers - 1
        layers[clock.update :] = -1  # the update, and inference
        place = np.searchsorted(np.asarray(edges[1:]), layers, side="left")
        most = np.array([live[place == number].max() for number in range(len(edges))])
        return cls(most, int(live[clock.loss]), forward_macs(step))
