"""``dse hw new``, ``diff`` and ``compare``: a board of your own, and boards beside each other."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from dse.cli.options import (
    Accept,
    CaptureMj,
    CaptureMs,
    EventsPerDay,
    InferencesPerDay,
    Network,
    Plan,
    Preset,
    with_decisions,
)

Boards = Annotated[list[str] | None, typer.Argument(help="Boards with their parts, by name or path; without "
    "any, all that are shipped.", show_default=False)]  # fmt: skip


def diff(
    first: Annotated[str, typer.Argument(help="A board, by name or path.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another.", show_default=False)],
    csv: Annotated[
        str | None, typer.Option(help="Write every difference to this file.", metavar="FILE")
    ] = None,
) -> int:
    """Show in which numbers two boards differ, and what only one of them has."""
    from dse.cli.inputs import writable, write_csv
    from dse.hardware import load_board
    from dse.report.differences import differences_frame, differences_text

    target = writable(csv)
    boards = load_board(first), load_board(second)
    if target is not None:
        write_csv(target, differences_frame(*boards))
    print(differences_text(*boards))
    return 0


@with_decisions
def compare(
    network: Network,
    boards: Boards = None,
    plan: Plan = None,
    preset: Preset = "default",
    events_per_day: EventsPerDay = 1.0,
    inferences_per_day: InferencesPerDay = 0.0,
    capture_ms: CaptureMs = 0.0,
    capture_mj: CaptureMj = 0.0,
    accept: Accept = None,
    csv: Annotated[
        str | None, typer.Option(help="Write the table to this file as well.", metavar="FILE")
    ] = None,
    figure: Annotated[
        str | None, typer.Option(help="Draw the boards into this file (.png, .svg or .pdf).", metavar="FILE")
    ] = None,
    *,
    decisions: Any,
) -> int:
    """Price one plan on many boards.

    Exit code 1 when the plan fits none of them.
    """
    import dse
    from dse.cli.inputs import duty_of, writable, write_csv
    from dse.cli.progress import progress
    from dse.report.comparison import comparison_text

    targets = writable(csv), writable(figure, (".png", ".svg", ".pdf"))
    duty = duty_of(events_per_day, inferences_per_day, capture_ms, capture_mj)
    with progress("pricing", "boards") as step:
        found = dse.compare_boards(
            network,
            boards or (),
            plan,
            duty=duty,
            preset=preset,
            accept=accept or (),
            progress=step,
            **decisions,
        )
    if targets[0] is not None:
        write_csv(targets[0], found.to_frame())
    if targets[1] is not None:
        from dse.report.figures import save
        from dse.report.figures.comparison import comparison_figure, comparison_info

        save(comparison_figure(comparison_info(found)), targets[1])
    print(comparison_text(found))
    return 0 if found.fits_somewhere else 1


def new(
    name: Annotated[str, typer.Argument(help="Name of the board and of its file.", show_default=False)],
    core: Annotated[str, typer.Option(help="Core, such as cortex-m4.", show_default=False)] = "",
    like: Annotated[str, typer.Option(help="Shipped board of the core that lends what is not given.",
        metavar="BOARD", show_default=False)] = "",
    clock_mhz: Annotated[float | None, typer.Option(help="Clock.", show_default=False)] = None,
    level: Annotated[list[str] | None, typer.Option(help="Size of a memory level, such as SRAM=128; 0: the "
        "board has none.", metavar="NAME=KIB", show_default=False)] = None,
    power_mw: Annotated[float | None, typer.Option(help="Power at that clock while computing.",
        show_default=False)] = None,
    sleep_uw: Annotated[float | None, typer.Option(help="Power in the first sleep state; borrowed unless "
        "given.", show_default=False)] = None,
    source: Annotated[str, typer.Option(help="Where these numbers stand, such as 'data sheet DS10198 rev 8'.",
        show_default=False)] = "",
    out: Annotated[str, typer.Option(help="The folder to write into.", metavar="DIR")] = ".",
) -> int:  # fmt: skip
    """Write a board's file from what you know; the rest is borrowed and marked assumed.

    On a terminal, what is not given is asked.
    """
    from dse.api.boards import write_new_board

    asks = sys.stdin.isatty()
    given = {
        "core": core, "like": like, "clock_mhz": clock_mhz, "levels": level or [], "power_mw": power_mw,
        "sleep_uw": sleep_uw, "source": source,
    }  # fmt: skip
    print(write_new_board(name, given, out, ask=_ask if asks else None))
    return 0


def _ask(question: str, default: str | None) -> str:
    try:
        return str(typer.prompt(question, default=default, err=True))
    except typer.Abort:  # no more input, or Ctrl-C
        raise KeyboardInterrupt from None
