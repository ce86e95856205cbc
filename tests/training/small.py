"""A small task that trains in a moment: a tiny network on generated images, seven classes."""

from __future__ import annotations

from pathlib import Path

from dse.plan.decisions import TrainingPlan
from dse.training import Task
from dse.workload import Workload, load_network

TASK = Task(
    data={
        "kind": "shapes",
        "size": 12,
        "classes": 7,
        "train_per_class": 80,
        "test_per_class": 20,
        "noise": 5,
    },
    first=3,
    step=2,
    pretrain_per_class=60,
    per_class=40,
    pretrain_epochs=12,
    pretrain_rate=0.1,
    pretrain_batch=16,
)

PLAN = TrainingPlan(
    cut=2, n_replays=60, optimiser="momentum", new_per_batch=8, replays_per_batch=24, epochs=3,
    images_per_event=64,
)  # fmt: skip


def network() -> Workload:
    return load_network(Path(__file__).parent / "data" / "tiny.toml")
