"""What a plan is priced against, and the plan itself, from names, paths, or what is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dse.api.plans import Decided, decide, decisions_of, plan_file
from dse.cost.acceptance import accepting
from dse.cost.accounting import preset
from dse.cost.context import Context, Duty
from dse.errors import Problem, UserError
from dse.hardware import HardwareProfile, load_board
from dse.hardware.accept import read_accept
from dse.plan.decisions import TrainingPlan
from dse.workload import Workload, load_network

Loaded = TypeVar("Loaded")


def context_of(
    network: str | Path | Workload,
    board: str | Path | HardwareProfile,
    *,
    duty: Duty | None = None,
    preset: str = "default",
    kernels: Mapping[str, str] | None = None,
    accept: Iterable[str] | Mapping[str, Any] = (),
) -> Context:
    """Return what a plan is priced against.

    Parameters
    ----------
    network: a name of ``list_networks()``, the path of a TOML or model file, or a loaded network.
    board: a name of ``list_boards()`` with parts behind plus signs, a path, or a loaded board.
    duty: events and inferences per day and the cost of capturing; one event per day by default.
    preset: rules of counting, a name of ``dse.cost.accounting.PRESETS``.
    kernels: kernel library by dtype, where not the board's default.
    accept: operations that the board has no figure for, with or without a bound: ``"lstm=0.05..0.5"``, or
        a table ``{"lstm": (0.05, 0.5), "sigmoid": True}``; MAC/cycle, or cycles per element.

    Raises UnknownName and UserError, the latter with every problem of a file.

    """
    problems: list[Problem] = []

    def loaded(load: Callable[[Any], Loaded], name: Any) -> Loaded | None:
        try:
            return load(name)
        except UserError as error:
            problems.extend(error.problems)
            return None

    workload = network if isinstance(network, Workload) else loaded(load_network, network)
    profile = board if isinstance(board, HardwareProfile) else loaded(load_board, board)
    accounting = loaded(_preset, preset)
    asked = loaded(_accept, accept)
    if workload is None or profile is None or accounting is None or asked is None:
        raise UserError(problems)
    if asked:
        boards, networks, chosen = (profile,), (workload,), dict(kernels or {})
        (profile,) = accepting(boards, networks, asked, file="option", key="accept", kernels=chosen)
    return Context(workload, profile, duty or Duty(), accounting, dict(kernels or {}))


_preset = preset  # the parameter of the same name hides it
_accept = partial(read_accept, file="option", key="accept")


def decided(
    context: Context, plan: TrainingPlan | str | Path | None, decisions: Mapping[str, Any]
) -> Decided:
    """Return the plan of ``plan`` (one that is loaded, or a file) with ``decisions`` on top."""
    if isinstance(plan, TrainingPlan):
        given, file = decisions_of(plan), "plan"
    elif plan is None:
        given, file = {}, "plan"
    else:
        given, file = plan_file(plan), str(plan)
    return decide(context.workload, context.board, {**given, **decisions}, file=file)
