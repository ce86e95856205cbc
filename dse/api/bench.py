"""Benchmarks of the numbers of a board that decide how sure the price of a plan is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dse.api.certificate import BEST, point_of
from dse.api.context import context_of, decided
from dse.api.plans import Decided
from dse.calibrate.bench import Benchmarks, Setting, benchmarks, choose, require_core, work_of, write_folder
from dse.calibrate.bench.choice import RESULTS
from dse.cost.context import Context, Duty
from dse.cost.intervals import price_intervals
from dse.cost.model import describe_steps, price
from dse.errors import Problem, UserError
from dse.files import require_new_folder
from dse.hardware import HardwareProfile, load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.workload import Workload

MOST: Final = 20
FILE: Final = "dse hw bench"


def bench(
    board: str | Path | HardwareProfile,
    network: str | Path | Workload | None = None,
    plan: TrainingPlan | str | Path | None = None,
    *,
    run: str | Path | None = None,
    point: str = BEST,
    runs: str | Path = "runs",
    top: int = 3,
    duty: Duty | None = None,
    preset: str = "default",
    accept: Iterable[str] | Mapping[str, Any] = (),
    **decisions: Any,
) -> Benchmarks:
    """Choose the numbers of a board that decide how sure a plan's price is, and write benchmarks of them.

    Parameters
    ----------
    board: a name, a path or a loaded profile; with ``run``, the board whose front is meant.
    network, plan, duty, preset, accept, decisions: as in ``estimate``.
    run, point, runs: instead of a network, a run folder (or its name below ``runs``) and a point of its
        front: "best", a name that the report uses, or the number of a design.
    top: how many numbers, 1 to 20; what no program can measure is listed besides.

    Raises UserError with every problem, IllegalPlan and Unpriced as ``estimate``.

    """
    if not 1 <= top <= MOST:
        raise UserError(Problem(FILE, "--top", f"{top}", f"1 to {MOST}"))
    if (network is None) == (run is None):
        found = "neither a network nor a run" if run is None else "both a network and a run"
        raise UserError(Problem(FILE, "NETWORK", found, "a network, or --run RUN_FOLDER"))
    profile = board if isinstance(board, HardwareProfile) else load_board(board)
    require_core(profile)
    if run is not None:
        if plan is not None or decisions or accept or preset != "default" or duty not in (None, Duty()):
            found = "a plan, a duty, a preset or accepted operations beside a run"
            raise UserError(Problem(FILE, "--run", found, "all of them are those of the run's point"))
        context, chosen = _point(run, runs, point, profile)
    else:
        context = context_of(network or "", board, duty=duty, preset=preset, accept=accept)
        chosen = decided(context, plan, decisions)
    named = board.label if isinstance(board, HardwareProfile) else str(board)
    return _benchmarks(context, chosen, named, top)


def _point(
    run: str | Path, runs: str | Path, point: str, profile: HardwareProfile
) -> tuple[Context, Decided]:
    """Return what a point of a run is priced against, and its plan; the point has to be on the board."""
    meant = point_of(run, runs, point, profile.label)
    own = meant.context.board.label
    if own != profile.label:
        raise UserError(Problem(FILE, "--point", f"{point} is a design on {own}", f"one on {profile.label}"))
    return meant.context, meant.decided


def _benchmarks(context: Context, chosen: Decided, named: str, top: int) -> Benchmarks:
    plans = PlanBatch.from_plans(context.workload, [chosen.plan])
    event = {"operating_point": chosen.operating_point, "sleep_state": chosen.sleep_state}
    costs = price(context, plans, **event)
    intervals = price_intervals(context, plans, **event)

    def uses(path: str) -> bool:
        """Return whether the number under ``path`` alone moves a result."""
        quantity = dict(context.board.numbers())[path]
        ends = quantity.low_value, quantity.high_value
        low, high = (
            price(replace(context, board=context.board.with_values({path: end})), plans, **event)
            for end in ends
        )
        return any(float(getattr(low, name)[0]) != float(getattr(high, name)[0]) for name in RESULTS)

    steps = describe_steps(context, plans)
    minibatches = float(costs.minibatches.ravel()[0])
    work = work_of(context.workload, steps, chosen.plan.frozen_bits, minibatches)
    setting = Setting(context.board, context.board.operating_points[chosen.operating_point].name, work)
    found = choose(context.board, intervals, top, uses)
    return benchmarks(setting, context.workload.name, named, *found)


def write_bench(found: Benchmarks, folder: str | Path) -> tuple[str, ...]:
    """Write the benchmarks into ``folder``, complete or not at all, and return the names of its files.

    What else is in the folder is kept. Raises UserError where it cannot be written.
    """
    return write_folder(found, require_new_folder(Path(folder)))
