"""Which decisions of a plan a training run executes, and which it refuses. Needs no PyTorch."""

from __future__ import annotations

from dse.errors import IllegalPlan, Problem, UserError
from dse.plan.decisions import CODES, TrainingPlan
from dse.plan.techniques import plan_problems
from dse.plan.techniques.sparse_update import FROZEN_CLASSIFIER
from dse.workload import Workload

_EXECUTED = {
    "head": (("sgd",), "heads run in dse.training.heads"),
    "learning_dtype": (("fp32", "int8"), "fp32 or int8: fp16 is priced, but not trained"),
    "bn_mode": (("folded", "frozen_stats", "batch_stats"), "folded, frozen_stats or batch_stats"),
    "optimiser": (("sgd", "momentum", "adam", "lars"), "sgd, momentum, adam or lars"),
}

_IN_INT8 = {"bn_mode": (("folded",), "folded: integers have no batch norm, its factors are in the weights")}


def unexecuted(plan: TrainingPlan) -> list[Problem]:
    """Return a problem for every decision of ``plan`` that the learning stage does not execute."""
    known = {name: (words, f"one of {', '.join(words)}") for name, words in CODES.items()}
    executed = known | _EXECUTED | (_IN_INT8 if plan.learning_dtype == "int8" else {})
    return [
        Problem("plan", name, repr(getattr(plan, name)), allowed)
        for name, (words, allowed) in executed.items()
        if getattr(plan, name) not in words
    ]


def require_executable(workload: Workload, plan: TrainingPlan, *, frozen_classifier: bool = False) -> None:
    """Raise IllegalPlan, with every reason, where no device can execute ``plan`` as it is written.

    With ``frozen_classifier`` the last unit need not learn: a single step has no use for new classes.
    """
    problems = plan_problems(workload, plan, "plan", but=(FROZEN_CLASSIFIER,) if frozen_classifier else ())
    if problems:
        raise IllegalPlan(problems)


def require_learnable(workload: Workload, plan: TrainingPlan, *, integers: bool) -> None:
    """Raise UserError where a learner, in floating point or in ``integers``, cannot run ``plan``."""
    problems = unexecuted(plan)
    if (plan.learning_dtype == "int8") != integers:
        allowed = "int8" if integers else "fp32: integers learn by Int8Learner"
        problems.append(Problem("plan", "learning_dtype", repr(plan.learning_dtype), allowed))
    if problems:
        raise UserError(problems)
    workload.require_cut(plan.cut)
    require_executable(workload, plan, frozen_classifier=True)
