"""Which decisions of a plan a training run executes, and which it refuses. Needs no PyTorch."""

from __future__ import annotations

from dse.errors import Problem
from dse.plan.decisions import TrainingPlan

_EXECUTED = {
    "head": (("sgd",), "heads run in dse.training.heads"),
    "learning_dtype": (("fp32",), "fp32: gradients in fewer bits are priced, but not trained"),
    "bn_mode": (("folded", "frozen_stats", "batch_stats"), "folded, frozen_stats or batch_stats"),
    "optimiser": (("sgd", "momentum", "adam"), "sgd, momentum or adam"),
}


def unexecuted(plan: TrainingPlan) -> list[Problem]:
    """Return a problem for every decision of ``plan`` that the learning stage does not execute."""
    return [
        Problem("plan", name, repr(getattr(plan, name)), allowed)
        for name, (words, allowed) in _EXECUTED.items()
        if getattr(plan, name) not in words
    ]
