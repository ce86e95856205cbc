"""Reads recordings of power analysers, chunk by chunk: CSV with time, current or power, and a marker."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.columns import shown
from dse.calibrate.table import first_problems
from dse.calibrate.trace_columns import Columns, is_header, read_trace_header
from dse.calibrate.trace_segments import Cut, Trace, segmented
from dse.calibrate.trace_sums import Sums
from dse.errors import Problem, UserError

MOST_BYTES: Final = 4 << 30
CHUNK: Final = 200_000
HEADER_LINES: Final = 50
LONGEST_LINE: Final = 1 << 16
MOST_PROBLEMS: Final = 40
LEVELS: Final = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "low": 0, "high": 1}
UNDECIDED: Final = ("x", "-")
"""A cell of a channel that changed within the sample, or is not known: the level before it counts."""


def split_trace(text: str) -> tuple[str, float | None]:
    """Split ``PATH[:voltage=VOLTS]`` into the path and the voltage [V]. Raises UserError.

    >>> split_trace("trace.csv:voltage=3.0")
    ('trace.csv', 3.0)
    """
    path, found, value = text.rpartition(":voltage=")
    if not found:
        return text, None
    try:
        volts = float(value)
    except ValueError:
        volts = math.nan
    if not 0.1 <= volts <= 100:
        raise UserError(Problem("option", "--trace", shown(text), "FILE:voltage=V, with 0.1 to 100 V"))
    return path, volts


def read_trace(path: str | Path, cut: Cut) -> Trace:
    """Return the segments of a recording. Raises UserError with every problem, each with its line."""
    trace, problems = parse_trace(path, cut)
    if trace is None or problems:
        raise UserError(first_problems(problems))
    return trace


def parse_trace(path: str | Path, cut: Cut) -> tuple[Trace | None, list[Problem]]:
    """Return the segments of a recording, or everything that is wrong with it."""
    file = str(path)
    try:
        place = Path(path)
        if place.is_dir():
            return None, [Problem(file, "", "is a folder", "the path of a CSV file")]
        if place.stat().st_size > MOST_BYTES:
            found = f"{place.stat().st_size} bytes"
            return None, [Problem(file, "", found, f"at most {MOST_BYTES}; export fewer samples per second")]
        line, cells = _header(place)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return None, [Problem(file, "", f"cannot be read: {why}", "the path of a CSV file")]
    if not cells:
        found = f"no header in the first {HEADER_LINES} lines"
        return None, [Problem(file, "", found, "a line such as time_ms,current_ua,marker, with commas")]
    by_threshold = cut.threshold_a is not None and not cut.marker
    columns, problems = read_trace_header(file, cells, cut.marker, by_threshold=by_threshold)
    if columns is not None:
        problems += _conflicts(file, columns, cut)
    if columns is None or problems:
        return None, problems
    sums, problems = _summed(place, file, (line, len(cells)), columns, cut)
    return segmented(file, sums, problems, cut, measured_current=columns.current is not None)


def _header(path: Path) -> tuple[int, list[str]]:
    """Return (number of the header's line, its cells); no cells where there is none."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        for number in range(1, HEADER_LINES + 1):
            text = stream.readline(LONGEST_LINE)
            if len(text) >= LONGEST_LINE:
                break
            try:
                cells = next(csv.reader([text.strip("\r\n")]), [])
            except csv.Error:
                continue
            if is_header(cells):
                return number, cells
    return 0, []


def _conflicts(file: str, columns: Columns, cut: Cut) -> Iterator[Problem]:
    """Yield what the options and the columns contradict each other in."""
    if columns.power is None and columns.voltage is None and cut.voltage_v is None:
        yield Problem(file, "header", "neither voltage nor power", f"{file}:voltage=V, the supply in volts")
    if columns.voltage is not None and cut.voltage_v is not None:
        found = f"column {shown(columns.voltage.header)} and voltage={cut.voltage_v:g}"
        yield Problem(file, "voltage", found, "one of the two")
    if cut.threshold_a is not None:
        if cut.marker:
            yield Problem("option", "--threshold-ma", "beside --marker", "one of the two")
        elif columns.current is None:
            yield Problem(file, "header", "no current for --threshold-ma", "a column of current")
        elif not cut.threshold_a > 0 or not math.isfinite(cut.threshold_a):
            yield Problem("option", "--threshold-ma", f"{cut.threshold_a * 1e3:g}", "above zero")
    if not 0 <= cut.glitch_s <= 10:
        yield Problem("option", "--glitch-ms", f"{cut.glitch_s * 1e3:g}", "0 to 10000")


# --- samples ---


def _summed(
    path: Path, file: str, header: tuple[int, int], columns: Columns, cut: Cut
) -> tuple[Sums, list[Problem]]:
    """Read the samples behind the header (its line, its cells) chunk by chunk, up to too many problems."""
    import pandas as pd

    line, count = header

    sums, problems = Sums(), list[Problem]()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells that would be lost
            chunks = pd.read_csv(
                path, header=None, skiprows=line, names=[f"c{place}" for place in range(count)],
                index_col=False, dtype={f"c{columns.marker.place}": str} if columns.marker else None,
                chunksize=CHUNK, skip_blank_lines=False, encoding="utf-8", encoding_errors="replace",
                low_memory=False,
            )  # fmt: skip
            for chunk in chunks:
                problems += _add(sums, chunk, file, line, columns, cut)
                if len(problems) > MOST_PROBLEMS or sums.overflows:
                    break
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        problems.append(Problem(file, "", f"not CSV: {said}", "as many cells in each line as in the header"))
    return sums, problems


def _add(sums: Sums, chunk: Any, file: str, line: int, columns: Columns, cut: Cut) -> list[Problem]:
    """Add a chunk of lines; returns what is wrong with them."""
    import pandas as pd

    lines = np.asarray(chunk.index, dtype=np.int64) + line + 1
    raw = {column.place: chunk[f"c{column.place}"] for column in columns.numeric}
    blank = np.asarray(chunk.isna().all(axis=1))
    values = {
        place: np.asarray(pd.to_numeric(cells, errors="coerce"), dtype=float) for place, cells in raw.items()
    }
    problems: list[Problem] = []
    for column in columns.numeric:
        wrong = np.flatnonzero(~np.isfinite(values[column.place]) & ~blank)
        for place in wrong[:MOST_PROBLEMS].tolist():
            found = shown(str(raw[column.place].iloc[place]))
            problems.append(Problem(file, f"line {lines[place]}, {column.header}", found, "a finite number"))
        problems += _further(file, len(wrong))
    high, more = _levels(sums, chunk, values, lines, file, columns, cut, blank)
    problems += more
    if problems or blank.all():
        return problems
    kept = ~blank
    time = values[columns.time.place][kept] * columns.time.factor
    problems = _backwards(sums, time, lines[kept], file, columns.time.header)
    if not problems:
        amperes, watts = _electric(values, columns, cut, kept)
        sums.add(time, watts, amperes, high[kept], lines[kept])
    return problems


def _further(file: str, count: int) -> list[Problem]:
    left = count - MOST_PROBLEMS
    return [Problem(file, "", f"{left} more lines with such cells", "")] if left > 0 else []


def _electric(
    values: dict[int, NDArray[np.float64]], columns: Columns, cut: Cut, kept: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (amperes, watts); amperes are those of the power where no current was recorded."""

    def si(column: Any) -> NDArray[np.float64]:
        return np.asarray(values[column.place][kept] * column.factor)

    current = None if columns.current is None else si(columns.current)
    if columns.power is not None:
        power = si(columns.power)
        return (power if current is None else current), power
    volts = cut.voltage_v if columns.voltage is None else si(columns.voltage)
    assert current is not None
    assert volts is not None
    return current, np.asarray(current * volts)


def _levels(
    sums: Sums, chunk: Any, values: dict[int, NDArray[np.float64]], lines: Any, file: str, columns: Columns,
    cut: Cut, blank: Any,
) -> tuple[NDArray[np.bool_], list[Problem]]:  # fmt: skip
    """Return whether the marker is high at each line, and cells that are no level."""
    if columns.marker is None:
        assert columns.current is not None
        assert cut.threshold_a is not None
        return values[columns.current.place] * columns.current.factor > cut.threshold_a, []
    cells = chunk[f"c{columns.marker.place}"].fillna("").str.strip().str.lower()
    if columns.pin >= 0:
        cells = cells.str.slice(columns.pin, columns.pin + 1)
    codes = np.asarray(cells.map(LEVELS), dtype=float)
    wrong = np.isnan(codes) & ~np.asarray(cells.isin(UNDECIDED)) & ~blank
    problems = [
        Problem(
            file, f"line {lines[place]}, {columns.marker.header}", shown(str(cells.iloc[place])), "0 or 1"
        )
        for place in np.flatnonzero(wrong)[:MOST_PROBLEMS].tolist()
    ]
    before = 0.0 if sums.last is None else float(sums.last.high)
    known = np.concatenate([[before], codes])
    latest = np.maximum.accumulate(np.where(np.isnan(known), 0, np.arange(len(known))))
    return known[latest][1:] > 0, [*problems, *_further(file, int(wrong.sum()))]


def _backwards(sums: Sums, time: NDArray[np.float64], lines: Any, file: str, header: str) -> list[Problem]:
    """Return where time goes back."""
    first = time[0] if sums.last is None else sums.last.time_s
    wrong = np.flatnonzero(np.diff(time, prepend=first) < 0)
    return [
        Problem(file, f"line {lines[place]}, {header}", f"time goes back to {time[place]:.9g} s", "it rises")
        for place in wrong[:MOST_PROBLEMS].tolist()
    ] + _further(file, len(wrong))
