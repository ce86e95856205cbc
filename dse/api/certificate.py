"""A memory map that is checked and executed: of one plan, or of a point of a run's front."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from dse.api.context import context_of, decided
from dse.api.plans import Decided, decide, decisions_of
from dse.api.validation import explored_folder
from dse.cost.arena import violations
from dse.cost.certificate import Certified, located
from dse.cost.certificate import certify as placed
from dse.cost.context import Context, Duty
from dse.errors import Problem, UserError
from dse.hardware import HardwareProfile
from dse.plan.decisions import TrainingPlan
from dse.plan.memory_map import MemoryMap
from dse.plan.policy import UpdatePolicy
from dse.plan.written import ALIGNMENT
from dse.report.certificate import Certificate, LevelSummary, Located, level_peaks
from dse.report.document import slug
from dse.report.inputs import ExploredRun, load_run
from dse.search.named import BEST_NAMES
from dse.workload import Workload

Stages = Callable[[str], Callable[[int, int], None]]
"""Takes the name of a stage, and gives what receives how much of it is done, and of how much."""

BEST: Final = "best"
"""The point that is best in the run's first objective."""


@dataclass(frozen=True)
class Point:
    """A design of a run: where it is priced, its plan, and how the run calls it."""

    context: Context
    decided: Decided
    name: str
    design: int
    folder: Path

    @property
    def place(self) -> Path:
        """The folder in the run that its certificate belongs in."""
        return self.folder / f"plan-{slug(self.name)}"


def certify_plan(
    context: Context, chosen: Decided, *, alignment: int = ALIGNMENT, exact: bool = False, seed: int = 0
) -> Certificate:
    """Place every buffer of a plan, and let the independent checker look at each level.

    Parameters
    ----------
    context: network, board and duty cycle.
    chosen: the plan with its operating point and sleep state.
    alignment: of every buffer [B], a power of two.
    exact: improve and prove by CP-SAT what the heuristic leaves above the bound (extra ``arena``).
    seed: of the placement.

    Raises IllegalPlan, UserError.

    """
    event = {"operating_point": chosen.operating_point, "sleep_state": chosen.sleep_state}
    found = placed(context, chosen.plan, alignment=alignment, exact=exact, seed=seed, **event)
    levels = tuple(_summary(found, number) for number in range(len(found.levels)))
    names = [level.level for level in levels]
    return Certificate(
        map=found.map,
        levels=levels,
        network=context.workload.name,
        board=context.board.label,
        plan_words=words_of(context, chosen),
        promised_bytes=found.promised_bytes,
        faults=faults_of(found.map),
        peaks=level_peaks(found.map, names, partial(_located, context, alignment, event)),
    )


def _located(
    context: Context, alignment: int, event: Mapping[str, Any], plan: TrainingPlan
) -> Located | None:
    """Return the step of a legal plan; None where this board cannot run it."""
    try:
        return located(context, plan, alignment=alignment, **event)
    except UserError:
        return None


def _summary(found: Certified, number: int) -> LevelSummary:
    level = found.levels[number]
    arena = level.arena
    return LevelSummary(
        level.level, level.live_bytes, arena.bound_bytes, arena.size_bytes, level.capacity_bytes,
        arena.method, arena.proven, level.volatile,
    )  # fmt: skip


def faults_of(memory_map: MemoryMap) -> tuple[str, ...]:
    """Return what the independent checker finds wrong with a map, level by level."""
    found: list[str] = []
    for level, size in memory_map.arena_bytes.items():
        rows = [
            (one.buffer.id, one.buffer.start, one.buffer.end, one.buffer.size_bytes, one.buffer.alignment,
             one.offset)
            for one in memory_map.entries
            if one.level == level
        ]  # fmt: skip
        found += [f"{level}: {violation}" for violation in violations(rows, size)]
    return tuple(found)


def words_of(context: Context, chosen: Decided) -> tuple[str, ...]:
    """Return the decisions of a plan that differ from what every plan starts from, as ``name = value``."""
    default = TrainingPlan(cut=chosen.plan.cut)
    usual = vars(default) | decisions_of(default)
    mine = decisions_of(chosen.plan) | {"policy": UpdatePolicy.parse(chosen.plan.policy).name}
    mine["batch"] = "{} new + {} replays".format(*mine["batch"])
    shown = {name: value for name, value in mine.items() if name == "cut" or value != usual.get(name)}
    shown["operating_point"] = context.board.operating_points[chosen.operating_point].name
    return tuple(f"{name} = {value}" for name, value in shown.items())


# --- points of a run ---


def point_of(run: str | Path, out: str | Path, point: str = BEST, board: str = "") -> Point:
    """Return the design that ``point`` names in a run folder.

    Parameters
    ----------
    run, out: a folder that an exploration wrote, or its name below ``out``.
    point: "best", a name that the report uses ("balanced", "smallest" ...), or the number of a design.
    board: which board's front; needed where several have one.

    Raises UserError with what is allowed.

    """
    explored = load_run(explored_folder(run, out))
    design, name = _design(explored, point, board)
    space = explored.space
    block = space.block_of(design)
    choice = _choice(explored, design)
    given = decisions_of(choice.plan) | {
        "operating_point": choice.operating_point, "sleep_state": choice.sleep_state
    }  # fmt: skip
    context = block.context
    chosen = decide(context.workload, context.board, given, file=f"design {design}")
    return Point(context, chosen, name, design, explored.folder)


def _choice(explored: ExploredRun, design: int) -> Any:
    from dse.search.table import plan_at

    block = explored.space.block_of(design)
    return plan_at(block, design, explored.space.network_names[block.network])


def _design(explored: ExploredRun, point: str, board: str) -> tuple[int, str]:
    """Return the number of the design that is meant, and a name for it."""
    fronts = {label: names for label, names in explored.named.items() if names}
    if board and board not in fronts:
        raise UserError(Problem("option", "--board", repr(board), f"a board with a front: {_listed(fronts)}"))
    if point.isascii() and point.isdigit() and len(point) < 19:
        return _numbered(explored, int(point)), point
    if not fronts:
        raise UserError(Problem(str(explored.folder), "front.csv", "no design is on the front", ""))
    if not board and len(fronts) > 1:
        found = f"{len(fronts)} boards have a front"
        raise UserError(Problem("option", "--board", found, f"one of: {_listed(fronts)}"))
    names = fronts[board or next(iter(fronts))]
    wanted = BEST_NAMES[explored.space.objectives[0]] if point == BEST else point.replace("-", " ")
    known = {name.replace("-", " "): design for name, design in names.items()}
    if wanted.replace("-", " ") not in known:
        allowed = f"{BEST}, {', '.join(names)}, or the number of a design"
        raise UserError(Problem("option", "--point", repr(point)[:60], allowed))
    return _called(explored, wanted, known[wanted.replace("-", " ")]), wanted


def _called(explored: ExploredRun, name: str, design: int) -> int:
    last = _last(explored)
    if not 0 <= design <= last:
        file, found = str(explored.folder / "run.json"), f"design {design} is called {name}"
        raise UserError(Problem(file, "boards", found, f"a design of the space: 0 to {last}"))
    return design


def _last(explored: ExploredRun) -> int:
    """Return the largest number of a design."""
    return sum(block.size for block in explored.space.blocks) - 1


def _numbered(explored: ExploredRun, design: int) -> int:
    last = _last(explored)
    if design > last:
        raise UserError(Problem("option", "--point", str(design), f"a design of the space: 0 to {last}"))
    return design


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


# --- what Python users call ---


def _executed(context: Context, found: Certificate, seed: int, stages: Stages | None) -> Certificate:
    """Return the certificate with what an execution inside the arenas showed; a failure is a fault."""
    from dse.execution.trial import trial

    shown = stages("executing") if stages else None
    run = trial(found.map, seed=seed, labels_held=context.accounting.replay_headers, progress=shown)
    faults = found.faults if run.equal or not run.executed else (*(found.faults or ()), run.text)
    return replace(found, executed=run.text, faults=faults)


@dataclass(frozen=True)
class CertifiedPoint:
    """The certificate of a point of a run, and the folder in the run that it belongs in."""

    certificate: Certificate
    folder: Path
    design: int


def certify(
    network: str | Path | Workload,
    board: str | Path | HardwareProfile,
    plan: TrainingPlan | str | Path | None = None,
    *,
    duty: Duty | None = None,
    preset: str = "default",
    alignment: int = ALIGNMENT,
    exact: bool = False,
    execute: bool = True,
    seed: int = 0,
    stages: Stages | None = None,
    **decisions: Any,
) -> Certificate:
    """Place every buffer of a plan, check the map, and run a step inside it.

    Parameters
    ----------
    network, board, plan, duty, preset, decisions: as in ``dse.estimate``.
    alignment: of every buffer [B], a power of two; TensorFlow Lite Micro needs 16.
    exact: improve and prove by CP-SAT what the heuristic leaves above the bound (extra ``arena``).
    execute: run one mini-batch and one inference inside the arenas, on random numbers.
    seed: of the placement and of the numbers.
    stages: receives each long stage by name, and gives what receives its progress.

    Raises IllegalPlan, UserError.

    """
    context = context_of(network, board, duty=duty, preset=preset)
    chosen = decided(context, plan, decisions)
    found = certify_plan(context, chosen, alignment=alignment, exact=exact, seed=seed)
    return _executed(context, found, seed, stages) if execute else found


def certify_point(
    run: str | Path,
    point: str = BEST,
    *,
    board: str = "",
    alignment: int = ALIGNMENT,
    exact: bool = False,
    execute: bool = True,
    seed: int = 0,
    stages: Stages | None = None,
    out: str | Path = "runs",
) -> CertifiedPoint:
    """Certify a point of a run's front; see ``point_of`` for ``run``, ``point``, ``board`` and ``out``.

    The other parameters are those of ``certify``.
    """
    meant = point_of(run, out, point, board)
    return certify_meant(
        meant, alignment=alignment, exact=exact, execute=execute, seed=seed, stages=stages
    )  # fmt: skip


def certify_meant(
    meant: Point,
    *,
    alignment: int = ALIGNMENT,
    exact: bool = False,
    execute: bool = True,
    seed: int = 0,
    stages: Stages | None = None,
) -> CertifiedPoint:
    """Certify a point that ``point_of`` found; the parameters are those of ``certify``."""
    found = certify_plan(meant.context, meant.decided, alignment=alignment, exact=exact, seed=seed)
    found = replace(found, point=meant.name)
    found = _executed(meant.context, found, seed, stages) if execute else found
    return CertifiedPoint(found, meant.place, meant.design)
