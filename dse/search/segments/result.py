"""Splits of one plan's learning stage, checked against whole schedules, as a result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dse.plan.decisions import TrainingPlan
from dse.plan.structure import Checkpoints
from dse.plan.workspace import WorkspaceTable
from dse.search.segments.exact import Found, front
from dse.search.segments.parts import (
    Parts,
    Progress,
    StepOf,
    forward_macs,
    live_bytes,
    parts_of,
    steps_of,
)
from dse.workload import Workload


@dataclass(frozen=True)
class Split:
    """One best compromise.

    ``checkpoints`` is the word to put into a plan, ``peak_bytes`` [B] the peak of its training step, ``macs``
    what runs again in a mini-batch, ``share`` the same over the MACs of the learning stage's forward pass.
    """

    checkpoints: str
    units: tuple[int, ...]
    peak_bytes: int
    macs: int
    share: float


@dataclass(frozen=True)
class Segments:
    """Every split that no other one beats in peak and recomputed MACs, work rising and peak falling.

    ``schedules`` were written to learn what each possible segment needs; ``places`` are the units behind
    which the learning stage could be split.
    """

    workload: Workload
    plan: TrainingPlan
    splits: tuple[Split, ...]
    places: tuple[int, ...]
    forward_macs: int
    schedules: int
    budget_bytes: float | None = None

    @property
    def least_bytes(self) -> int:
        """The smallest peak that any split reaches [B]."""
        return self.splits[-1].peak_bytes

    @property
    def chosen(self) -> Split | None:
        """The split of least work within the budget; None where none is, or without a budget."""
        return None if self.budget_bytes is None else self.within(self.budget_bytes)

    @property
    def missing_bytes(self) -> float:
        """Bytes by which the smallest peak exceeds the budget; 0 where it does not."""
        return 0 if self.budget_bytes is None else max(0, self.least_bytes - self.budget_bytes)

    def within(self, budget_bytes: float) -> Split | None:
        """Return the split of least work whose peak is at most ``budget_bytes``; None where there is none."""
        return next((split for split in self.splits if split.peak_bytes <= budget_bytes), None)

    def planned(self, split: Split) -> TrainingPlan:
        """Return the plan with ``split``."""
        return replace(self.plan, checkpoints=split.checkpoints)

    def to_frame(self) -> Any:
        """Return the front as a pandas DataFrame, one row per split."""
        import pandas as pd

        names = ("checkpoints", "peak_bytes", "macs", "share")
        frame = pd.DataFrame({name: [getattr(split, name) for split in self.splits] for name in names})
        frame = frame.rename(columns={"macs": "recomputed_macs", "share": "recomputed_share"})
        frame["segments"] = [1 + len(split.units) for split in self.splits]
        frame["chosen"] = [split == self.chosen for split in self.splits]
        return frame


def find_segments(
    workload: Workload, plan: TrainingPlan, *, budget_bytes: float | None = None,
    workspace: WorkspaceTable | None = None, cores: int = 1, progress: Progress | None = None,
) -> Segments:  # fmt: skip
    """Return every best way to split the learning stage of ``plan`` into checkpoint segments.

    Parameters
    ----------
    workload, plan: what is trained; checkpoints of the plan itself do not count.
    budget_bytes: of the training peak [B], as ``dse.cost.memory.training_peak_bytes`` counts it.
    workspace, cores: formulas of the kernel libraries, and the cores that share a kernel; else no workspace.
    progress: is called with (schedules written, in all).

    """
    plan = replace(plan.canonical(workload), checkpoints="none")
    step_of = steps_of(workload, plan, workspace, cores)
    parts = parts_of(workload, plan.cut, step_of, progress)
    splits = tuple(_checked(parts, step_of, found) for found in front(parts))
    count = len(parts.units)
    return Segments(
        workload, plan, splits, parts.units, parts.forward_macs, 1 + count * (count + 1) // 2, budget_bytes
    )


def _checked(parts: Parts, step_of: StepOf, found: Found) -> Split:
    """Compare a split with the schedule that is split so; raises ArithmeticError where they disagree."""
    step = step_of(found.units)
    peak, macs = int(live_bytes(step).max()), forward_macs(step) - parts.forward_macs
    if (peak, macs) != (found.peak_bytes, found.macs):
        raise ArithmeticError(
            f"units {found.units}: {found.peak_bytes} B and {found.macs} MACs by parts, {peak} B and {macs} "
            "MACs by the schedule"
        )
    word = str(Checkpoints(units=found.units))
    return Split(word, found.units, peak, macs, macs / parts.forward_macs if macs else 0.0)
