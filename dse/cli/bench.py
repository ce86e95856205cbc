"""``dse hw bench``: small C programs that measure what a price depends on most."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dse.cli.options import (
    Accept,
    Board,
    CaptureMj,
    CaptureMs,
    EventsPerDay,
    InferencesPerDay,
    Plan,
    Preset,
    with_decisions,
)


@with_decisions
def bench(
    board: Board,
    network: Annotated[str | None, typer.Argument(help="The network of the plan, by name or path; or give "
        "--run.", show_default=False)] = None,
    run: Annotated[str | None, typer.Option(help="Instead of a network: a run folder, or the name of an "
        "exploration below --runs.", metavar="RUN", show_default=False)] = None,
    point: Annotated[str, typer.Option(help="Of the run: 'best', a name that the report uses, or the number "
        "of a design.", metavar="POINT")] = "best",
    top: Annotated[int, typer.Option(help="How many numbers to measure, those first that move time, energy "
        "and battery life most.")] = 3,
    out: Annotated[str, typer.Option(help="The folder to write.", metavar="DIR")] = "bench",
    runs: Annotated[str, typer.Option(help="Where run folders are.", metavar="DIR")] = "runs",
    plan: Plan = None,
    preset: Preset = "default",
    events_per_day: EventsPerDay = 1.0,
    inferences_per_day: InferencesPerDay = 0.0,
    capture_ms: CaptureMs = 0.0,
    capture_mj: CaptureMj = 0.0,
    accept: Accept = None,
    *,
    decisions: Any,
) -> int:  # fmt: skip
    """Write C benchmarks of the numbers that decide how sure a plan's price is.

    For Cortex-M: cycles by the core's own counter, a marker for a power analyser, and the table that
    dse hw calibrate reads.
    """
    from dse.api.bench import bench as choose
    from dse.api.bench import write_bench
    from dse.cli.inputs import duty_of
    from dse.cli.progress import waiting
    from dse.report.bench import bench_text

    duty = duty_of(events_per_day, inferences_per_day, capture_ms, capture_mj)
    with waiting("pricing"):
        found = choose(
            board, network, plan, run=run, point=point, runs=runs, top=top, duty=duty, preset=preset,
            accept=accept or (), **decisions,
        )  # fmt: skip
    print(bench_text(found, out, write_bench(found, out)))
    return 0
