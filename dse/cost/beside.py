"""What stands in RAM beside a training step: samples of the event, and weights without another place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dse.cost.context import Context
from dse.cost.event_memory import event_memory
from dse.cost.memory import KEPT_ORDER
from dse.cost.model import describe, event_choices, step_memory
from dse.plan.decisions import PlanBatch, TrainingPlan


@dataclass(frozen=True)
class Beside:
    """Bytes that a board's RAM holds throughout the event, in addition to the training step.

    ``new_bytes`` and ``replay_bytes`` include labels; both samples and copies of weights count only where
    they lie in RAM. With the peak of the step they sum to ``ram_peak_bytes`` of ``price``.
    """

    board: str
    new_bytes: int
    replay_bytes: int
    weight_bytes: int

    @property
    def ram_bytes(self) -> int:
        """All together [B]."""
        return self.new_bytes + self.replay_bytes + self.weight_bytes


def beside(context: Context, plan: TrainingPlan) -> Beside:
    """Return what stands beside the training step of ``plan``; no price is asked. Raises UnknownName."""
    plans = PlanBatch.from_plans(context.workload, [plan])
    step, placement = describe(context, plans)
    choices = event_choices(context, plans)
    memory = event_memory(context, step_memory(context, plans, step, placement), choices)
    volatile = [level.volatile for level in context.board.levels]
    in_ram = volatile[int(np.ravel(memory.bulk.replay_level)[0])]
    kept = sum(
        float(placement.role_bytes[role][0]) * volatile[int(placement.level[role][0])] for role in KEPT_ORDER
    )
    new, replays = (float(np.ravel(memory.sizes[name])[0]) for name in ("new", "replay"))
    return Beside(context.board.label, round(new), round(replays) if in_ram else 0, round(kept))
