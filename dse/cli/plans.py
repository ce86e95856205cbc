"""``dse estimate`` and ``dse explain``: one plan, priced or taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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

    target = _writable(csv)
    with waiting("pricing"):
        result = dse.estimate(
            network,
            board,
            plan,
            duty=_duty(events_per_day, inferences_per_day, capture_ms, capture_mj),
            preset=preset,
            intervals=intervals,
            accept=accept or (),
            **decisions,
        )
    if target is not None:
        _write_csv(target, result.to_frame())
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

    targets = _writable(csv), _writable(figure, (".png", ".svg", ".pdf"))
    tiles_file = _writable(tiles)
    result = dse.explain(
        network,
        board,
        plan,
        duty=_duty(events_per_day, inferences_per_day, capture_ms, capture_mj),
        preset=preset,
        accept=accept or (),
        **decisions,
    )
    if targets[0] is not None:
        _write_csv(targets[0], result.to_frame())
    if tiles_file is not None:
        _write_csv(tiles_file, result.tiles_frame())
    if targets[1] is not None:
        from dse.report.figures import explanation_figure, save

        save(explanation_figure(result), targets[1])
    print(breakdown_text(result))
    return 0


def _duty(events_per_day: float, inferences_per_day: float, capture_ms: float, capture_mj: float) -> Any:
    from math import isfinite

    import dse
    from dse.errors import Problem, UserError

    given = {
        "--events-per-day": events_per_day, "--inferences-per-day": inferences_per_day,
        "--capture-ms": capture_ms, "--capture-mj": capture_mj,
    }  # fmt: skip
    problems = [
        Problem("option", name, f"{value}", "a finite number of at least 0")
        for name, value in given.items()
        if not isfinite(value) or value < 0
    ]
    if not problems and events_per_day == 0:
        problems = [Problem("option", "--events-per-day", "0", "a finite number above 0")]
    if problems:
        raise UserError(problems)
    return dse.Duty(events_per_day, inferences_per_day, capture_ms / 1e3, capture_mj / 1e3)


def _writable(name: str | None, endings: tuple[str, ...] = ()) -> Path | None:
    """Return the path, after making sure before any work that it can be written."""
    from dse.errors import Problem, UserError
    from dse.files import require_writable_file

    if name is None:
        return None
    path = Path(name)
    if endings and path.suffix not in endings:
        raise UserError(Problem(name, "", f"ending {path.suffix!r}", f"one of {', '.join(endings)}"))
    return require_writable_file(path)


def _write_csv(path: Path, frame: Any) -> None:
    from dse.files import atomic_path

    with atomic_path(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")
