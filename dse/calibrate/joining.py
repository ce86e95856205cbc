"""Gives the segments of a recording to the rows of a table that lack power, in order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dse.calibrate.table import table_text
from dse.calibrate.trace_segments import Segment, Trace
from dse.errors import Problem, UserError
from dse.units import human, human_seconds, to_si

SLEEP: Final = "# sleep "
"""What a line begins with that stands for a segment of sleep; the name of the state follows."""


@dataclass(frozen=True)
class Slept:
    """Power in a sleep state, as recorded; ``line`` is that of the table."""

    state: str
    line: int
    segment: Segment


@dataclass(frozen=True)
class Joined:
    """The text of a table with the powers of a recording, the states of sleep, and what was said of it."""

    text: str
    sleeps: tuple[Slept, ...]
    notes: tuple[str, ...]


@dataclass
class _Line:
    """A row of the table: its text, and its cells unless it is a comment, empty, or the header."""

    number: int
    text: str
    cells: list[str] | None = None
    sleep: str = ""
    header: bool = False


def join_trace(path: str | Path, trace: Trace) -> Joined:
    """Return the table at ``path`` with the power of each segment in the rows that have none.

    Rows that have a power or an energy keep it and take no segment. Raises UserError where the table cannot
    be read, and where there are not as many segments as rows.
    """
    file = str(path)
    text, problems = table_text(Path(path), file)
    if text is None:
        raise UserError(problems)
    header, lines = _lines(file, text)
    names = [to_si(cell.strip().lower())[0] for cell in header]
    lacking = [line for line in lines if line.sleep or _lacks(line, names)]
    if len(lacking) != len(trace.segments):
        raise UserError(_mismatch(file, lacking, trace))
    own = names.index("power_w") if "power_w" in names else None
    factor = 1.0 if own is None else to_si(header[own].strip().lower())[1]
    sleeps, powers = [], dict[int, Segment]()
    for line, segment in zip(lacking, trace.segments, strict=True):
        if line.sleep:
            sleeps.append(Slept(line.sleep, line.number, segment))
        else:
            powers[line.number] = segment
    written = "".join(_written(line, powers.get(line.number), own, factor) for line in lines)
    return Joined(written, tuple(sleeps), (*trace.notes, *_said(lacking, trace)))


def _lines(file: str, text: str) -> tuple[list[str], list[_Line]]:
    """Return the cells of the header and every row; quoted cells may hold line ends."""
    raw = text.splitlines(keepends=True)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    found: list[_Line] = []
    start = 0
    try:
        for cells in reader:
            line = _Line(start + 1, "".join(raw[start : reader.line_num]))
            start = reader.line_num
            if line.text.startswith(SLEEP):
                line.sleep = line.text.removeprefix(SLEEP).strip()
            elif any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                line.cells, line.header = cells, not header
                header = header or cells
            found.append(line)
    except csv.Error as error:
        where = f"line {reader.line_num}"
        raise UserError(Problem(file, where, f"not CSV: {error}", "quotes that close")) from None
    return header, found


def _lacks(line: _Line, names: Sequence[str]) -> bool:
    """Return whether a row has neither power nor energy."""
    if line.cells is None or line.header:
        return False
    given = dict(zip(names, line.cells, strict=False))
    return not any(given.get(name, "").strip() for name in ("power_w", "energy_j"))


def _mismatch(file: str, lacking: Sequence[_Line], trace: Trace) -> Problem:
    rows = f"{len(lacking)} row{'' if len(lacking) == 1 else 's'} without power or energy"
    found = f"{len(trace.segments)} segment{'' if len(trace.segments) == 1 else 's'}, for {rows} of {file}"
    lengths = ", ".join(human_seconds(segment.duration_s) for segment in trace.segments[:8])
    allowed = f"one segment for each such row, in order; here they last {lengths}"
    return Problem(trace.file, "", found, allowed)


def _written(line: _Line, segment: Segment | None, own: int | None, factor: float) -> str:
    """Return a row with its power; a column is added where the table has none."""
    if line.cells is None:
        return line.text
    cells = list(line.cells)
    if own is None:
        filled = "" if segment is None else f"{segment.power_w:.6g}"
        cells.append("power_w" if line.header else filled)
    elif segment is not None:
        cells += [""] * (own + 1 - len(cells))
        cells[own] = f"{segment.power_w / factor:.6g}"
    else:
        return line.text
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _said(lacking: Sequence[_Line], trace: Trace) -> Iterator[str]:
    """Yield what each segment was, and drifting baselines."""
    for line, segment in zip(lacking, trace.segments, strict=True):
        what = f"sleep {line.sleep}" if line.sleep else f"line {line.number}"
        around = [
            f"{word} {human(value, 'W')}"
            for word, value in (("before", segment.before_w), ("after", segment.after_w))
            if value is not None
        ]
        beside = f" ({', '.join(around)})" if around else ""
        yield (
            f"{what}: {human(segment.power_w, 'W')} for {human_seconds(segment.duration_s)}, "
            f"{human(segment.energy_j, 'J')}{beside}"
        )
