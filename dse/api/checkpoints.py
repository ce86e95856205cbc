"""Checkpoint segments of one plan: every best compromise of peak and recomputed work."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Final

from dse.api.plans import decide, decisions_of, plan_file
from dse.cost.beside import Beside, beside
from dse.cost.context import Context
from dse.errors import Problem, UserError
from dse.hardware import HardwareProfile, list_boards, load_board
from dse.plan.decisions import TrainingPlan
from dse.search.reader import Reader, shown
from dse.search.segments import Segments, find_segments
from dse.workload import Workload, load_network

FACTORS: Final = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2}
"""Units of a budget, in bytes."""

FOUND: Final = "nothing: it is what is looked for"


def segments(
    network: str | Path | Workload,
    plan: TrainingPlan | str | Path | None = None,
    *,
    budget: float | str | None = None,
    board: str | Path | HardwareProfile | None = None,
    progress: Callable[[int, int], None] | None = None,
    **decisions: Any,
) -> Segments:
    """Return every way to split the learning stage that no other one beats in peak and recomputed MACs.

    Parameters
    ----------
    network: a name with its variant, a path, or a loaded network.
    plan: a plan, or the path of a plan file; its checkpoints do not count. Without one, and without a cut or
        a policy of units among the decisions, only the last unit learns, and there is nothing to split.
    budget: bytes of the training peak, a number or a text such as "64KiB": the split of least work within it
        is ``chosen``.
    board: kernels then have the workspace of this board's libraries, otherwise none.
    progress: is called with (schedules written, in all).
    decisions: single decisions over those of ``plan``, in the words of a space file.

    Raises UserError with every problem, IllegalPlan where the decisions exclude each other.

    """
    workload = network if isinstance(network, Workload) else load_network(network)
    profile = board if isinstance(board, HardwareProfile) or board is None else load_board(board)
    budget_bytes = None if budget is None else budget_of(budget)
    decided = _plan(workload, profile, plan, decisions)
    context = None if profile is None else Context(workload, profile)
    return find_segments(
        workload, decided, budget_bytes=budget_bytes, progress=progress,
        workspace=None if context is None else context.workspace,
        cores=1 if profile is None else profile.cores,
    )  # fmt: skip


def beside_of(found: Segments, board: str | Path | HardwareProfile | None = None) -> Beside:
    """Return what stands beside the training step in the RAM of ``board``.

    Without one, of a board whose non-volatile memory holds weights and replays: new samples alone.
    """
    profile = board if isinstance(board, HardwareProfile) or board is None else load_board(board)
    if profile is not None:
        return beside(Context(found.workload, profile), found.plan)
    context = Context(found.workload, load_board(list_boards()[0]))  # new samples have one size everywhere
    return Beside("", beside(context, found.plan).new_bytes, 0, 0)


def budget_of(budget: float | str) -> float:
    """Return a budget in bytes, of a number or of a number with B, KiB or MiB behind it. Raises UserError.

    >>> budget_of("64KiB")
    65536.0
    """
    parts = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(B|KiB|MiB|)\s*", str(budget))
    size = float(parts[1]) * FACTORS[parts[2]] if parts else float("nan")
    if not isfinite(size) or size <= 0:
        allowed = "bytes above 0: a number, or one with B, KiB or MiB behind it, such as 64KiB"
        raise UserError(Problem("segments", "budget", shown(budget), allowed))
    return size


def _plan(
    workload: Workload, board: HardwareProfile | None, plan: TrainingPlan | str | Path | None,
    decisions: Mapping[str, Any],
) -> TrainingPlan:  # fmt: skip
    file = "plan" if plan is None or isinstance(plan, TrainingPlan) else str(plan)
    own = {} if plan is None else decisions_of(plan) if isinstance(plan, TrainingPlan) else plan_file(plan)
    reader = Reader(file)
    if "checkpoints" in decisions:
        reader.wrong("checkpoints", shown(decisions["checkpoints"]), FOUND)
        reader.raise_problems()
    own.pop("checkpoints", None)
    any_board = board or load_board(list_boards()[0])  # the training step of a plan belongs to none
    return decide(workload, any_board, {**own, **decisions}, file=file).plan
