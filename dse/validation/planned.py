"""The bytes that a plan's replay buffer is planned to hold, by the formula that prices it."""

from __future__ import annotations

import numpy as np

from dse.cost.memory import label_bytes, replay_bytes, sample_bytes
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import training_step
from dse.workload import Workload


def planned_replay_bytes(workload: Workload, plan: TrainingPlan) -> int:
    """Return samples, labels and scale of the replay buffer of ``plan`` [B]; 0 without replays."""
    plan = plan.canonical(workload)
    if plan.replay == "none":
        return 0
    plans = PlanBatch.from_plans(workload, [plan])
    one, _ = sample_bytes(training_step(workload, plans), plans, whole=True)
    count = np.array([plan.n_replays])
    samples = float(replay_bytes(count, one, header=True)[0])
    return int(samples) + plan.n_replays * label_bytes(workload.classes)
