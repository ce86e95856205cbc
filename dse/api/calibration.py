"""Boards calibrated from measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dse.calibrate import (
    Calibration,
    Donors,
    Measurement,
    Written,
    calibrate,
    calibrated_toml,
    donors_for,
    find_run,
    load_runs,
    parse_measurements,
    run_measurements,
    run_name,
    stand_in,
)
from dse.calibrate.table import first_problems
from dse.errors import Problem, UserError
from dse.files import atomic_path, require_writable_file
from dse.hardware import HardwareProfile, load_board


def calibrate_board(
    board: str | Path | HardwareProfile,
    measurements: str | Path | Sequence[Measurement] | None = None,
    *,
    run: str | None = None,
    other_boards: bool = False,
    keep_implausible: bool = False,
) -> Calibration:
    """Fit a board's rates, overheads and powers to measurements of it.

    Parameters
    ----------
    board: a name, a path or a loaded profile; its numbers and intervals are the prior.
    measurements: the path of a CSV file, or rows.
    run: instead of them, the ``ad`` and ``ic`` rows of a published run, ``ORGANISATION/BOARD/SOFTWARE``.
    other_boards: take depthwise and pointwise rates relative to dense convolutions from other organisations'
        boards of the same core.
    keep_implausible: fit rows that contradict physics instead of refusing them.

    Raises UserError with every problem of the board and of the rows, each with its line and column.

    """
    if (measurements is None) == (run is None):
        found = "neither measurements nor a run" if run is None else "both measurements and a run"
        raise UserError(Problem("calibrate", "measurements", found, "one of the two"))
    problems: list[Problem] = []
    profile: HardwareProfile | None = board if isinstance(board, HardwareProfile) else None
    if profile is None:
        try:
            profile = load_board(board)  # type: ignore[arg-type]
        except UserError as error:
            problems += error.problems
    rows: Sequence[Measurement] = ()
    source = "measurements"
    chosen = None if run is None else find_run(run)
    if chosen is not None:
        rows, source = run_measurements(chosen), run_name(chosen)
    elif isinstance(measurements, str | Path):
        rows, wrong = parse_measurements(measurements)
        problems, source = [*problems, *wrong], str(measurements)
    elif measurements is not None:
        rows = measurements
    if problems or profile is None:
        raise UserError(first_problems([*problems, *_further(profile, rows)]))
    donors = _donors(profile, run, rows) if other_boards else None
    return calibrate(profile, rows, source=source, donors=donors, keep_implausible=keep_implausible)


def _further(profile: HardwareProfile | None, rows: Sequence[Measurement]) -> list[Problem]:
    """Return what is wrong, besides, with the rows that could be read."""
    from dse.calibrate.resolve import Resolver

    if profile is None or not rows:
        return []
    _, wrong, implausible = Resolver(profile).resolve(rows)
    return [*wrong, *implausible]


def _donors(board: HardwareProfile, run: str | None, rows: Sequence[Measurement]) -> Donors:
    """Return the runs on other boards; raises UserError where there are none."""
    dtype = next((row.dtype for row in rows if "fwd" in row.passes), "int8")
    donors = donors_for(stand_in(board, dtype) if run is None else find_run(run), load_runs())
    if donors is None:
        found = f"nobody else measured {dtype}"
        raise UserError(Problem("calibrate", "--other-boards", found, "without it"))
    return donors


def write_calibrated(found: Calibration, board: str, path: str | Path, name: str | None = None) -> Written:
    """Write the calibrated profile to ``path``, complete or not at all; ``name`` is by default its stem.

    ``board`` is the name or path that was calibrated: its file is copied with its comments.
    """
    target = require_writable_file(Path(path))
    written = calibrated_toml(found, board, name or target.stem)
    with atomic_path(target) as partial:
        partial.write_text(written.text, encoding="utf-8")
    return written
