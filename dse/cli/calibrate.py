"""``dse hw calibrate``: a board's numbers from measurements of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dse.cli.inputs import writable, write_csv

Board = Annotated[
    str | None, typer.Argument(help="The board to start from, by name or path.", show_default=False)
]
Rows = Annotated[
    str | None,
    typer.Argument(
        help="A CSV file; --template shows its forms.", metavar="[MEASUREMENTS]", show_default=False
    ),
]


def calibrate(
    board: Board = None,
    measurements: Rows = None,
    out: Annotated[str | None, typer.Option(help="Write the calibrated board to this file.",
        metavar="FILE", show_default=False)] = None,
    figure: Annotated[str | None, typer.Option(help="Draw predicted over measured into this file (.png, .svg "
        "or .pdf).", metavar="FILE", show_default=False)] = None,
    csv: Annotated[str | None, typer.Option(help="Write every row with its residual to this file.",
        metavar="FILE", show_default=False)] = None,
    other_boards: Annotated[bool, typer.Option("--other-boards", help="Take depthwise and pointwise rates "
        "relative to dense convolutions from other organisations' boards of the same core.")] = False,
    mlperf: Annotated[str | None, typer.Option(help="Instead of a file: the ad and ic rows of a published "
        "run.", metavar="ORG/BOARD/SOFTWARE", show_default=False)] = None,
    keep_implausible: Annotated[bool, typer.Option("--keep-implausible", help="Fit rows that contradict "
        "physics instead of refusing them.")] = False,
    trace: Annotated[str | None, typer.Option(help="Take powers from a power analyser's recording: its "
        "segments under the marker, in order, for the rows without power.", metavar="FILE[:voltage=V]",
        show_default=False)] = None,
    marker: Annotated[str, typer.Option(help="Column of the recording that is high during a segment, such as "
        "D0; 'marker' unless given.", metavar="COLUMN", show_default=False)] = "",
    threshold_ma: Annotated[float | None, typer.Option(help="Without a marker: a segment is where the "
        "current is above this.", metavar="MA", show_default=False)] = None,
    glitch_ms: Annotated[float, typer.Option(help="Leave out changes of the marker that last shorter.",
        metavar="MS")] = 1.0,
    template: Annotated[str | None, typer.Option(help="Print a table to start from: mlperf, network or "
        "kernels.", metavar="FORM", show_default=False)] = None,
) -> int:  # fmt: skip
    """Fit a board's rates, call overheads and powers to measurements of it.

    Each number comes with its interval, each row with its residual and its held-out error; numbers that the
    rows cannot tell apart are said to be so and keep their prior.
    """
    from dse.calibrate import template as text_of
    from dse.errors import Problem, UserError

    if template is not None:
        print(text_of(template), end="")
        return 0
    if board is None:
        raise UserError(Problem("dse hw calibrate", "BOARD", "missing", "a board and a table, or --template"))
    import dse
    from dse.cli.progress import waiting
    from dse.report.calibration import calibration_text, run_prediction

    targets = writable(out, (".toml",)), writable(figure, (".png", ".svg", ".pdf")), writable(csv)

    with waiting("fitting"):
        if trace is None:
            found = dse.calibrate_board(
                board, measurements, run=mlperf, other_boards=other_boards, keep_implausible=keep_implausible
            )
        else:
            found = _traced(board, measurements, trace, mlperf, marker=marker, glitch_s=glitch_ms / 1e3,
                            threshold_a=None if threshold_ma is None else threshold_ma / 1e3,
                            other_boards=other_boards, keep_implausible=keep_implausible)  # fmt: skip
    lines = [] if mlperf is None else run_prediction(found, mlperf)
    lines += _written(found, board, targets)
    print(calibration_text(found, lines))
    return 0


def _traced(board: str, measurements: str | None, trace: str, mlperf: str | None, **options: Any) -> Any:
    """Calibrate with the powers of a recording."""
    from dse.api.traces import calibrate_with_trace
    from dse.errors import Problem, UserError

    if measurements is None or mlperf is not None:
        found = "without a table of measurements" if measurements is None else "beside --mlperf"
        raise UserError(Problem("dse hw calibrate", "--trace", found, "a table whose rows lack power"))
    return calibrate_with_trace(board, measurements, trace, **options)


def _written(found: Any, board: str, targets: Sequence[Path | None]) -> list[str]:
    """Write what was asked for; return what to say of it."""
    from dse.api.calibration import write_calibrated

    out, figure, csv = targets
    lines = []
    if csv is not None:
        write_csv(csv, found.to_frame())
    if figure is not None:
        from dse.report.figures import save
        from dse.report.figures.calibration import calibration_figure, calibration_info

        if found.rows:
            save(calibration_figure(calibration_info(found)), figure)
        else:
            lines.append("no row has a time: no figure is drawn")
    if out is not None:
        written = write_calibrated(found, board, out)
        kept = "" if written.edited else "; its form was not kept: comments are missing"
        lines.append(f"written: {out}{kept}")
    return lines
