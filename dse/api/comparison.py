"""One plan on many boards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dse.errors import IllegalPlan, Problem, Unpriced, UserError
from dse.hardware import HardwareProfile, list_boards, load_board
from dse.plan.decisions import TrainingPlan
from dse.report.comparison import BoardComparison, BoardPrice
from dse.report.estimate import plan_words
from dse.workload import Workload, load_network


def compare_boards(
    network: str | Path | Workload,
    boards: Sequence[str | Path | HardwareProfile] = (),
    plan: TrainingPlan | str | Path | None = None,
    *,
    intervals: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> BoardComparison:
    """Price one plan on many boards, each at its first operating point.

    Parameters
    ----------
    network, plan, intervals: as in ``dse.estimate``.
    boards: names, paths or loaded profiles; without any, all that are shipped.
    progress: called with (boards done, boards in all).
    options: ``duty``, ``preset`` and ``accept`` as in ``dse.estimate``, and single decisions of the plan.

    A board that lacks a price for the plan is listed with the reason. Raises UserError with every problem of
    the network, the boards' files and the plan.

    """
    if "operating_point" in options or "sleep_state" in options:
        raise UserError(
            Problem("dse hw compare", "operating_point", "given", "boards have points of their own")
        )
    workload = network if isinstance(network, Workload) else load_network(network)
    profiles = _profiles(boards or list_boards())
    prices = []
    for done, board in enumerate(profiles):
        prices.append(_price(workload, board, plan, intervals, options))
        if progress is not None:
            progress(done + 1, len(profiles))
    return BoardComparison(workload.name, _plan_words(prices), tuple(prices))


def _profiles(boards: Sequence[str | Path | HardwareProfile]) -> list[HardwareProfile]:
    """Load every board; the problems of all files together."""
    found: list[HardwareProfile] = []
    problems: list[Problem] = []
    for board in boards:
        try:
            found.append(board if isinstance(board, HardwareProfile) else load_board(board))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return found


def _price(
    workload: Workload, board: HardwareProfile, plan: Any, intervals: bool, options: dict[str, Any]
) -> BoardPrice:
    from dse.api import estimate

    try:
        found = estimate(workload, board, plan, accuracy="none", intervals=intervals, **options)
    except IllegalPlan:
        raise  # a mistake of the plan, not of the board
    except Unpriced as error:
        return BoardPrice(board.label, None, f"no price: {error.problems[0]}")
    return BoardPrice(board.label, found)


def _plan_words(prices: Sequence[BoardPrice]) -> str:
    for price in prices:
        if price.estimate is not None:
            return ", ".join(plan_words(price.estimate.plan, price.estimate.context))
    return "priced on no board"
