"""``dse estimate`` and ``dse explain``: one plan, priced or taken apart."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dse.cli.inputs import duty_of, writable, write_csv
from dse.cli.options import (
    Accept,
    Board,
    CaptureMj,
    CaptureMs,
    EventsPerDay,
    InferencesPerDay,
    Network,
    Plan,
    Preset,
    with_decisions,
)


@with_decisions
def estimate(
    network: Network,
    board: Board,
    plan: Plan = None,
    preset: Preset = "default",
    events_per_day: EventsPerDay = 1.0,
    inferences_per_day: InferencesPerDay = 0.0,
    capture_ms: CaptureMs = 0.0,
    capture_mj: CaptureMj = 0.0,
    intervals: Annotated[
        bool, typer.Option(help="Carry low and high of uncertain numbers to the results.")
    ] = True,
    accept: Accept = None,
    csv: Annotated[
        str | None, typer.Option(help="Write the results to this file as well.", metavar="FILE")
    ] = None,
    *,
    decisions: Any,
) -> int:
    """Price one plan on one board.

    Without --cut only the last unit learns, or, with a policy that lists units, the cut is right below them.

    Exit code 1 when the plan does not fit.
    """
    import dse
    from dse.cli.progress import waiting
    from dse.report.estimate import estimate_text

    target = writable(csv)
    with waiting("pricing"):
        result = dse.estimate(
            network,
            board,
            plan,
            duty=duty_of(events_per_day, inferences_per_day, capture_ms, capture_mj),
            preset=preset,
            intervals=intervals,
            accept=accept or (),
            **decisions,
        )
    if target is not None:
        write_csv(target, result.to_frame())
    print(estimate_text(result))
    return 0 if result.fits else 1


@with_decisions
def explain(
    network: Network,
    board: Board,
    plan: Plan = None,
    preset: Preset = "default",
    events_per_day: EventsPerDay = 1.0,
    inferences_per_day: InferencesPerDay = 0.0,
    capture_ms: CaptureMs = 0.0,
    capture_mj: CaptureMj = 0.0,
    accept: Accept = None,
    csv: Annotated[
        str | None, typer.Option(help="Write the breakdown to this file as well.", metavar="FILE")
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option(
            help="Write the tiles of every kernel call next to the cores to this file.", metavar="FILE"
        ),
    ] = None,
    figure: Annotated[
        str | None,
        typer.Option(help="Draw the breakdown into this file (.png, .svg or .pdf).", metavar="FILE"),
    ] = None,
    *,
    decisions: Any,
) -> int:
    """Take one plan apart: time, energy and the memory peak, per unit and pass."""
    import dse
    from dse.report.breakdown import breakdown_text

    targets = writable(csv), writable(figure, (".png", ".svg", ".pdf"))
    tiles_file = writable(tiles)
    result = dse.explain(
        network,
        board,
        plan,
        duty=duty_of(events_per_day, inferences_per_day, capture_ms, capture_mj),
        preset=preset,
        accept=accept or (),
        **decisions,
    )
    if targets[0] is not None:
        write_csv(targets[0], result.to_frame())
    if tiles_file is not None:
        write_csv(tiles_file, result.tiles_frame())
    if targets[1] is not None:
        from dse.report.figures import explanation_figure, save

        save(explanation_figure(result), targets[1])
    print(breakdown_text(result))
    return 0
