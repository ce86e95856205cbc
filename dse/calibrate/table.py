"""Reads a table of measurements: every mistake with its line and column, all at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dse.calibrate.columns import COUNTS, QUANTITIES, read_header, read_number, shown, written_in
from dse.calibrate.measurement import FWD, Measurement
from dse.errors import Problem, UserError, allowed_names
from dse.vocabulary import DTYPES, ELEMENT_OPERATIONS, INT8_ERROR_PASSES, OPERATORS, PASSES

MOST_BYTES: Final = 4 << 20
MOST_ROWS: Final = 5000
MOST_TEXT: Final = 500
MOST_PROBLEMS: Final = 40
SAME: Final = 0.02

ALL_PASSES: Final = (*PASSES, *INT8_ERROR_PASSES.values())
ALIASES: Final = {"fw": FWD, "ig": ("bwd_input",), "wg": ("bwd_weight",), "bw": ("bwd_input", "bwd_weight")}
"""Words of kernel tables for PULP: forward, input gradient, weight gradient, both backward passes."""

ELEMENT_PASSES: Final = ("fwd", "bwd_input", "update")
FORMS: Final = "`dse hw calibrate --template mlperf|network|kernels` shows the forms"


def read_measurements(path: str | Path) -> tuple[Measurement, ...]:
    """Return the rows of a CSV file of measurements.

    Raises UserError with every mistake, each with its line and column.
    """
    rows, problems = parse_measurements(path)
    if problems:
        raise UserError(first_problems(problems))
    return rows


def first_problems(problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problems, and how many are left out."""
    if len(problems) <= MOST_PROBLEMS:
        return list(problems)
    left = f"{len(problems) - MOST_PROBLEMS} more problems"
    return [*problems[:MOST_PROBLEMS], Problem(problems[0].file, "", left, "")]


def parse_measurements(
    path: str | Path, text: str | None = None
) -> tuple[tuple[Measurement, ...], list[Problem]]:
    """Return the rows that can be read, and every mistake of the file; ``text`` replaces what it holds."""
    file = str(path)
    text, problems = table_text(Path(path), file) if text is None else (text, [])
    if text is None:
        return (), problems
    lines, broken = _lines(text, file)
    if broken:
        return (), broken
    if not lines:
        return (), [Problem(file, "", "no header", FORMS)]
    columns, problems = read_header(file, lines[0][1])
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(lines[0][1]) == 1 and mark in lines[0][1][0]:
            found = f"columns separated by {name}"
            return (), [Problem(file, "header", found, "must be separated by commas")]
    problems += _missing(file, written_in(columns))
    if len(lines) == 1:
        problems.append(Problem(file, "", "no rows", FORMS))
    rows: list[Measurement] = []
    for line, cells in lines[1:]:
        row, wrong = _row(file, line, cells, columns, len(lines[0][1]))
        problems += wrong
        rows += [] if row is None else [row]
    return tuple(rows), problems


def table_text(path: Path, file: str) -> tuple[str | None, list[Problem]]:
    """Return the text of the file at ``path``, or why it cannot be read."""
    try:
        if path.is_dir():
            return None, [Problem(file, "", "is a folder", "the path of a CSV file")]
        with path.open("rb") as stream:  # a pipe or a device does not say how much it holds
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            size = max(path.stat().st_size, len(content))
            return None, [Problem(file, "", f"{size} bytes", f"at most {MOST_BYTES} bytes")]
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        return None, [Problem(file, f"byte {error.start}", "not UTF-8", "a CSV file in UTF-8")]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return None, [Problem(file, "", f"cannot be read: {why}", "the path of a CSV file")]


def _lines(text: str, file: str) -> tuple[list[tuple[int, list[str]]], list[Problem]]:
    """Return (line, cells) of every row but empty ones and comments, and why the text is no table."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                rows.append((reader.line_num, cells))
            if len(rows) > MOST_ROWS + 1:
                return [], [Problem(file, "", f"more than {MOST_ROWS} rows", f"at most {MOST_ROWS}")]
    except csv.Error as error:
        return [], [Problem(file, f"line {reader.line_num}", f"not CSV: {error}", "quotes that close")]
    return rows, []


def _missing(file: str, names: Mapping[str, str]) -> Iterator[Problem]:
    if "network" not in names and "operator" not in names:
        yield Problem(file, "header", "neither network nor operator", FORMS)
    if "dtype" not in names:
        yield Problem(file, "header", "no column dtype", f"one of {', '.join(DTYPES)} in each row")
    if not names.keys() & {"latency_s", "cycles", "mac_per_cycle", "power_w", "energy_j"}:
        found = "nothing measured"
        yield Problem(file, "header", found, "latency_ms, cycles, energy_uj or power_mw; " + FORMS)


def _row(
    file: str, line: int, cells: Sequence[str], columns: Mapping[int, tuple[str, float, str]], width: int
) -> tuple[Measurement | None, list[Problem]]:
    """Read one row; None where it has a mistake."""
    if len(cells) != width:
        found = f"{len(cells)} cells"
        return None, [Problem(file, f"line {line}", found, f"the header has {width} columns")]
    headers = written_in(columns)
    fields: dict[str, Any] = {}
    problems: list[Problem] = []
    for place, (name, factor, header) in columns.items():
        cell = cells[place].strip()
        if len(cell) > MOST_TEXT or not (cell.isprintable()):
            problems.append(Problem(file, f"line {line}, {header}", shown(cell), f"at most {MOST_TEXT} "
                                    "printable characters"))  # fmt: skip
        elif cell and (name in COUNTS or name.rpartition("_")[0] in QUANTITIES):
            value, found, allowed = read_number(cell, name)
            if value is None:
                problems.append(Problem(file, f"line {line}, {header}", found, allowed))
            else:
                fields[name] = value * factor
        elif cell:
            fields[name] = cell
    problems += _word_problems(file, line, fields, headers)
    if problems:
        return None, problems
    return _measurement(file, line, fields, headers)


def _word_problems(
    file: str, line: int, fields: dict[str, Any], headers: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield unknown words; the passes become a tuple."""

    def problem(name: str, found: str, allowed: str) -> Problem:
        return Problem(file, f"line {line}, {headers.get(name, name)}", found, allowed)

    if "dtype" in headers and fields.get("dtype") not in DTYPES:
        found = f"unknown dtype {shown(fields['dtype'])}" if "dtype" in fields else "empty"
        yield problem("dtype", found, allowed_names(fields.get("dtype", ""), DTYPES))
    operator = fields.get("operator", "")
    if operator and operator not in (*OPERATORS, *ELEMENT_OPERATIONS):
        near = allowed_names(operator, (*OPERATORS, *ELEMENT_OPERATIONS))
        yield problem("operator", f"unknown operator {shown(operator)}", near)
    words = str(fields.get("pass", "fwd")).split("+")
    passes: list[str] = []
    for word in (word.strip() for word in words):
        passes += ALIASES.get(word.lower(), (word,))
        if word.lower() not in ALIASES and word not in ALL_PASSES:
            yield problem("pass", f"unknown pass {shown(word)}", allowed_names(word, ALL_PASSES))
    if operator in ELEMENT_OPERATIONS and words == ["BW"]:
        passes = ["bwd_input"]
    fields["pass"] = tuple(dict.fromkeys(passes))


def _measurement(
    file: str, line: int, fields: dict[str, Any], headers: Mapping[str, str]
) -> tuple[Measurement | None, list[Problem]]:
    """Make a measurement of checked cells, and check what holds between them."""
    found = {name: fields[name] for name in fields if name not in ("pass", "mac_per_cycle")}
    found |= {name: int(found[name]) for name in ("cores", "repeats") if name in found}
    if "mac_per_cycle" in fields and "cycles" not in fields and "macs" in fields:
        found["cycles"] = fields["macs"] / fields["mac_per_cycle"]
    row = Measurement(passes=fields["pass"], file=file, line=line, columns=headers, **{"dtype": "", **found})
    problems = list(_between(row, fields))
    return (None if problems else row), problems


def _between(row: Measurement, fields: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what single cells cannot know."""
    if bool(row.network) == bool(row.operator):
        found = "both network and operator" if row.network else "neither network nor operator"
        yield row.problem("network", found, "a network (and a layer of it), or an operator with macs")
    if row.operator in OPERATORS and not row.macs:
        yield row.problem("macs", "empty", f"a row of {row.operator} needs its MACs")
    if row.operator in OPERATORS and row.elements:
        found = f"elements of {row.operator}"
        yield row.problem(
            "elements", found, "element operations (relu, update_sgd ...) have rows of their own"
        )
    if row.operator in ELEMENT_OPERATIONS:
        if not row.elements:
            yield row.problem("elements", "empty", f"a row of {row.operator} needs its elements")
        wanted = ("update",) if row.operator.startswith("update_") else ELEMENT_PASSES[:2]
        if not set(row.passes) <= set(wanted):
            yield row.problem("pass", "+".join(row.passes), f"{row.operator} has {' and '.join(wanted)}")
    if row.operator in OPERATORS and "update" in row.passes:
        yield row.problem("pass", "update", "an update is a row of update_sgd or another optimiser")
    if not row.timed and row.power_w is None:
        found = "energy without a time" if row.energy_j else "nothing measured"
        yield row.problem("latency_s", found, "a latency, cycles or a power")
    yield from _contradictions(row, fields.get("mac_per_cycle"))
    if set(row.passes) & set(INT8_ERROR_PASSES.values()) and row.dtype != "int8":
        yield row.problem("pass", "+".join(row.passes), "passes on int8 errors are of dtype int8")


def _contradictions(row: Measurement, rate: float | None) -> Iterator[Problem]:
    """Yield where cycles, latency, clock and MAC/cycle of one row do not agree."""
    expected = (row.latency_s or 0.0) * (row.clock_hz or 0.0)
    if row.cycles and expected and abs(row.cycles / expected - 1.0) > SAME:
        yield row.problem("cycles", f"{row.cycles:.6g} cycles", f"latency x clock gives {expected:.6g}")
    own = row.macs / row.cycles if row.cycles else 0.0
    if rate is not None and own and abs(own / rate - 1.0) > SAME:
        yield row.problem("mac_per_cycle", f"{rate:.6g}", f"macs / cycles gives {own:.6g}")
