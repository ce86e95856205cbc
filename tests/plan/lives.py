"""Live bytes of one plan by operation, for tests that work a case out by hand."""

from __future__ import annotations

from pathlib import Path

from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import TrainingStep, training_step
from dse.plan.techniques import illegal
from dse.workload import Workload, load_network

ONE = {"replay": "none", "new_per_batch": 1, "replays_per_batch": 0, "images_per_event": 1, "cut": -1}
"""One new sample per mini-batch, no replays, the whole network learns."""


def small(name: str) -> Workload:
    """Load one of the networks that were made for these tests."""
    return load_network(str(Path(__file__).parent / "data" / f"{name}.toml"))


def step_of(workload: Workload, **decisions) -> TrainingStep:
    """The step of one legal plan; by default one sample and in-place updates."""
    plan = TrainingPlan(**(ONE | {"update": "in_place"} | decisions))
    plans = PlanBatch.from_plans(workload, [plan])
    assert illegal(workload, plans) == {}
    return training_step(workload, plans)


def live(step: TrainingStep) -> dict[str, int]:
    """Operation -> live bytes."""
    names = step.schedule.clock.names(step.workload)
    found = step.schedule.live_bytes().sum(axis=0)[:, 0].astype(int).tolist()
    return dict(zip(names, found, strict=True))


def differences(step: TrainingStep, expected: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Operations whose live bytes are not as expected -> (found, expected)."""
    found = live(step)
    return {name: (found[name], size) for name, size in expected.items() if found[name] != size}
