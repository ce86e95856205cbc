"""``dse hw`` and ``dse networks``: what there is, one of them in full, and what is wrong with a file."""

from __future__ import annotations

from typing import Annotated

import typer

boards = typer.Typer(
    help="Boards: list, show, check, new, diff, compare, calibrate, bench.", no_args_is_help=True
)

Board = Annotated[str, typer.Argument(help="A board with its parts, by name or path.", show_default=False)]
Shown = Annotated[str | None, typer.Argument(help="A network, by name or path; without it, all are listed.",
    metavar="[list | show NETWORK]", show_default=False)]  # fmt: skip


@boards.command("list")
def list_all() -> int:
    """List boards and parts."""
    from dse.report.catalogue import boards_text

    print(boards_text())
    return 0


@boards.command("show")
def show(board: Board) -> int:
    """Show a board with every number, its evidence and its source."""
    from dse.hardware import load_board
    from dse.report.catalogue import board_text

    print(board_text(load_board(board)))
    return 0


@boards.command("check")
def check(board: Board) -> int:
    """Report every mistake in a board's file, and what it leaves unpriced."""
    from dse.errors import UserError
    from dse.hardware import check_board, load_board, missing_prices

    problems = check_board(board)
    if problems:
        raise UserError(problems)
    profile = load_board(board)
    missing = missing_prices(profile)
    numbers = [quantity.kind.value for _, quantity in profile.numbers()]
    kinds = ", ".join(f"{numbers.count(kind)} {kind}" for kind in dict.fromkeys(sorted(numbers)))
    print(f"{profile.label}: no mistakes; {len(numbers)} numbers ({kinds})")
    for line in missing:
        print(f"not priced: {line}")
    return 0


def networks(
    action: Annotated[
        str, typer.Argument(help="list, or show with a network.", metavar="[list|show]")
    ] = "list",
    network: Annotated[
        str | None, typer.Argument(help="A network, by name or path.", show_default=False)
    ] = None,
) -> int:
    """List the networks, or show the units and legal cuts of one."""
    from dse.errors import Problem, UnknownName, UserError
    from dse.report.catalogue import network_text, networks_text
    from dse.workload import list_networks, load_network

    if action == "list" and network is None:
        print(networks_text())
    elif action == "show" and network is not None:
        print(network_text(load_network(network)))
    elif action == "show":
        raise UserError(
            Problem("dse networks show", "network", "missing", f"one of {', '.join(list_networks())}")
        )
    elif action == "list":
        found = f"{network!r} behind 'list'"
        raise UserError(
            Problem("dse networks list", "", found, "nothing; one network: dse networks show NAME")
        )
    else:
        raise UnknownName("action", action, ("list", "show"), file="dse networks")
    return 0
