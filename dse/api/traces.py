"""Boards calibrated from measurements and a power analyser's recording of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dse.api.calibration import calibrate_board
from dse.calibrate import Calibration, parse_measurements
from dse.calibrate.asleep import fitted_sleeps, sleep_problems
from dse.calibrate.joining import Joined, join_trace
from dse.calibrate.table import first_problems
from dse.calibrate.trace_segments import GLITCH_S, Cut
from dse.calibrate.traces import parse_trace, split_trace
from dse.errors import Problem, UserError
from dse.hardware import HardwareProfile, load_board

NOTHING: str = "nothing measured"
"""What a table says of a row whose power is still in the recording."""


def calibrate_with_trace(
    board: str | Path | HardwareProfile,
    measurements: str | Path,
    trace: str | Path,
    *,
    voltage_v: float | None = None,
    marker: str = "",
    threshold_a: float | None = None,
    glitch_s: float = GLITCH_S,
    other_boards: bool = False,
    keep_implausible: bool = False,
) -> Calibration:
    """Fit a board to measurements whose powers are in a recording; see ``calibrate_board``.

    Parameters
    ----------
    board, other_boards, keep_implausible: as in ``calibrate_board``.
    measurements: the path of a CSV file; rows without power or energy take a segment each, in order. A line
        ``# sleep STATE`` stands for a segment in that sleep state.
    trace: the path of the recording; ``:voltage=VOLTS`` behind it where it has no voltage.
    voltage_v: the same [V].
    marker: the column that is high during a segment; ``marker`` unless given.
    threshold_a: without a marker, a segment is where the current is above it [A].
    glitch_s: changes of the marker that last shorter are left out [s].

    Raises UserError with every problem of the recording and of the table.

    """
    path, volts = split_trace(str(trace))
    cut = Cut(volts if voltage_v is None else voltage_v, marker, threshold_a, glitch_s)
    profile = board if isinstance(board, HardwareProfile) else load_board(board)
    joined = _joined(measurements, path, cut)
    rows, problems = parse_measurements(measurements, joined.text)
    problems += sleep_problems(profile, joined.sleeps, str(measurements), keep=keep_implausible)
    if problems:
        raise UserError(first_problems(problems))
    found = calibrate_board(profile, rows, other_boards=other_boards, keep_implausible=keep_implausible)
    powers = (*found.powers, *fitted_sleeps(profile, joined.sleeps))
    notes = (*found.notes, *joined.notes)
    return replace(found, source=str(measurements), powers=powers, notes=notes)


def _joined(measurements: str | Path, path: str, cut: Cut) -> Joined:
    """Return the table with its powers; raises UserError with what is wrong with either file."""
    trace, problems = parse_trace(path, cut)
    if trace is not None and not problems:
        return join_trace(measurements, trace)
    _, wrong = parse_measurements(measurements)
    further: list[Problem] = [problem for problem in wrong if problem.found != NOTHING]
    raise UserError(first_problems([*problems, *further]))
