"""Sparse-update schemes chosen from contributions: exact fronts, and the best scheme within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dse.api.plans import decide, decisions_of, plan_file
from dse.errors import Problem, UnknownName, UserError
from dse.files import require_new_folder
from dse.hardware import list_boards, load_board
from dse.plan.decisions import TrainingPlan
from dse.report.selection import selection_folder_name
from dse.report.selection import write_selection as write_folder
from dse.search.reader import Reader, shown
from dse.search.schemes.contributions import (
    Contributions,
    checked_contributions,
    published_for,
    read_contributions,
)
from dse.search.schemes.correction import Correction, fit, published
from dse.search.schemes.joint import read_joint_runs
from dse.search.schemes.memory import MEMORIES
from dse.search.schemes.selection import Progress, Selection, select
from dse.search.schemes.space import BASE_PLAN, LAYERS, SchemeSpace
from dse.workload import Workload, load_network
from dse.workload.forward_only import require_executed

BOTH: Final = "both"
PUBLISHED: Final = "published"

PLAN: Final[dict[str, Any]] = {
    "cut": "input", "policy": "sparse 0", "replay": "none", "batch": (BASE_PLAN.new_per_batch, 0),
    "learning_dtype": BASE_PLAN.learning_dtype, "update": BASE_PLAN.update,
}  # fmt: skip
"""Decisions of ``BASE_PLAN``; the policy is legal with every cut."""

NO_ACCURACY: Final = "none: shares of Fisher information are no accuracy, which a correction predicts"

_BOARD: Final = "nothing: it belongs to a board, and the memory of a step to none"
NOT_HERE: Final = {
    "operating_point": _BOARD, "sleep_state": _BOARD, "replay_level": _BOARD,
    "policy": "nothing: it is what is selected",
}  # fmt: skip
"""Decisions that a plan may not hold here."""


def select_scheme(
    network: str | Path | Workload,
    contributions: str | Path | Contributions | None = None,
    *,
    memory: str = BOTH,
    budget_bytes: float | None = None,
    layers: int = LAYERS,
    plan: TrainingPlan | str | Path | None = None,
    correction: str | Path | Correction | None = None,
    progress: Progress | None = None,
    **decisions: Any,
) -> Selection:
    """Return every sparse-update scheme that no other one beats in memory and summed contribution.

    Parameters
    ----------
    network: a name with its variant, a path, or a loaded network.
    contributions: a published set by name, a CSV file (as ``contribute`` writes), or loaded ones; None: what
        is published for the network.
    memory: "mcunetv3-extra" (the formula that names the published schemes), "peak" (largest live bytes of the
        step), or "both".
    budget_bytes: choose the best scheme within it.
    layers: weight layers of a scheme at most.
    plan: how schemes are trained: a plan, whose policy does not count, or the path of a plan file. None: the
        whole network in int8, batch 1, updates in place.
    correction: joint gain from the sum: "published", a CSV file of joint runs, a loaded one; None: no more
        than sums.
    progress: given the name of a memory, returns what is called with (k decided, in all).
    decisions: single decisions over those of ``plan``.

    Raises UserError with every problem; where the budget is below the classifier alone, it says the least.

    """
    if memory not in (BOTH, *MEMORIES):
        raise UnknownName("memory", memory, (*MEMORIES, BOTH), file="select", key="memory")
    workload = network if isinstance(network, Workload) else load_network(network)
    require_executed(workload, "choice of schemes over all its layers")
    known = _read(contributions, workload)
    if correction is not None and known.shares:
        raise UserError(Problem("select", "correction", shown(correction), NO_ACCURACY))
    space = SchemeSpace.of(workload, known, _plan(workload, plan, decisions), layers)
    memories = tuple(MEMORIES) if memory == BOTH else (memory,)
    return select(space, memories, budget_bytes, _correction(correction, space), progress)


def write_selection(selection: Selection, out: str | Path = "runs") -> Path:
    """Write fronts, policies and a figure into a folder under ``out``, complete or not at all; return it."""
    folder = require_new_folder(Path(out) / selection_folder_name(selection))
    return write_folder(selection, folder)


def _read(contributions: str | Path | Contributions | None, workload: Workload) -> Contributions:
    if isinstance(contributions, Contributions):
        return checked_contributions(contributions, workload)
    if contributions is not None:
        return read_contributions(contributions, workload)
    name = published_for(workload)
    if name is None:
        found = f"no contributions are published for {workload.name}"
        raise UserError(
            Problem("select", "contributions", found, "a CSV file, as `dse contribute` writes it")
        )
    return read_contributions(name, workload)


def _correction(correction: str | Path | Correction | None, space: SchemeSpace) -> Correction | None:
    if correction is None or isinstance(correction, Correction):
        return correction
    if correction == PUBLISHED:
        return published()
    runs = read_joint_runs(correction, space)
    return fit(runs, str(correction))


def _plan(
    workload: Workload, plan: TrainingPlan | str | Path | None, decisions: Mapping[str, Any]
) -> TrainingPlan:
    """Return the plan that schemes are priced in; raises UserError with every problem."""
    file = "plan" if plan is None or isinstance(plan, TrainingPlan) else str(plan)
    if isinstance(plan, TrainingPlan):
        own = {name: value for name, value in decisions_of(plan).items() if name not in NOT_HERE}
    else:
        own = {} if plan is None else plan_file(plan)
    own |= decisions
    reader = Reader(file)
    for name in NOT_HERE.keys() & own.keys():
        reader.wrong(name, shown(own[name]), NOT_HERE[name])
    reader.raise_problems()
    board = load_board(list_boards()[0])  # any: what belongs to a board is refused above
    return decide(workload, board, {**PLAN, **own}, file=file).plan
