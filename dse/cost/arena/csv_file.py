"""Buffers and offsets in the CSV of MiniMalloc.

The header names the columns, in any order: ``id``, ``lower``, ``upper``, ``size``, where a lifespan is
half-open, [lower, upper); ``alignment`` and ``offset`` where there are any. Fields are not quoted.
MiniMalloc also knows ``gaps`` (stretches in which a buffer is not needed) and ``hint``: they are refused
unless empty, because nothing here reads them. ``KEPT`` columns say more about a buffer; they are carried
through as they are.

Format: https://github.com/google/minimalloc, README and src/converter.cc.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dse.cost.arena.problem import LARGEST, MOST_BUFFERS, ArenaBuffer, is_alignment
from dse.errors import Problem, UserError, allowed_names

REQUIRED: Final = ("id", "lower", "upper", "size")
OPTIONAL: Final = ("alignment", "offset")
KEPT: Final = ("role", "level", "name", "reason")
UNREAD: Final = ("gaps", "hint")
OLDER: Final = {
    "buffer": "id",
    "buffer_id": "id",
    "begin": "lower",
    "start": "lower",
    "end": "upper (= end + 1)",
}
"""Names of an older form of the format, with inclusive lifespans -> what to call the column instead."""

MOST_BYTES: Final = 8 * 2**20
LONGEST_ID: Final = 200
SHOWN_PROBLEMS: Final = 50
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_UNQUOTED: Final = re.compile(r'[^,"\r\n\0]*')


@dataclass(frozen=True)
class BufferTable:
    """What a file holds: its columns in order, each row's fields, and the buffers that they describe."""

    file: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    buffers: tuple[ArenaBuffer, ...]

    def given_offsets(self) -> dict[str, int]:
        """Return the offset [B] of every buffer; raise UserError where the file lacks some."""
        if "offset" not in self.columns:
            raise UserError(Problem(self.file, "column 'offset'", "missing", "offsets to check"))
        problems = [
            Problem(self.file, f"row {number}, column 'offset'", "empty", "an offset to check")
            for number, row in enumerate(self.rows, 2)
            if not row["offset"]
        ]
        if problems:
            raise UserError(problems)
        return {row["id"]: int(row["offset"]) for row in self.rows}

    def text(self, offsets: Mapping[str, int]) -> str:
        """Return the file with ``offsets`` [B] in it, in a last column where it had none."""
        columns = self.columns if "offset" in self.columns else (*self.columns, "offset")
        return csv_text(columns, [{**row, "offset": str(offsets[row["id"]])} for row in self.rows])


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return a table as text; raise ValueError for a field that a format without quotes cannot hold."""
    lines = [list(columns), *([str(row[column]) for column in columns] for row in rows)]
    for field in (field for line in lines for field in line):
        if not _UNQUOTED.fullmatch(field):
            raise ValueError(f"a field may not hold commas, quotes or line ends: {field[:60]!r}")
    return "".join(",".join(line) + "\n" for line in lines)


def read_buffers(path: str | Path) -> BufferTable:
    """Read the buffers of ``path``; raise UserError with every problem: file, row (line) and column."""
    file = str(path)
    lines = _lines(Path(path))
    columns = tuple(lines[0].split(","))
    _require(_column_problems(file, columns))
    problems: list[Problem] = []
    rows = list(_rows(file, columns, lines[1:], problems))
    buffers = [_buffer(file, number, row, problems) for number, row in rows]
    problems += _repeated(file, rows)
    _require(problems)
    return BufferTable(file, columns, tuple(row for _, row in rows), tuple(filter(None, buffers)))


def _require(problems: Sequence[Problem]) -> None:
    """Raise UserError where there are problems; a file that is wrong throughout is not repeated in full."""
    if not problems:
        return
    more = len(problems) - SHOWN_PROBLEMS
    rest = [Problem(problems[0].file, "", f"{more} more problems of this kind", "")] if more > 0 else []
    raise UserError([*problems[:SHOWN_PROBLEMS], *rest])


def _lines(path: Path) -> list[str]:
    """Return the lines of a file that is small enough, is text, and has a header."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(Problem(file, "", f"cannot be read: {reason}", "a CSV file of buffers")) from None
    if len(data) > MOST_BYTES:
        raise UserError(Problem(file, "", "is too large", f"at most {MOST_BYTES} bytes"))
    if b"\0" in data:
        row = data[: data.index(b"\0")].count(b"\n") + 1
        raise UserError(Problem(file, f"row {row}", "holds a NUL byte", "text"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise UserError(Problem(file, f"row {row}", "is not UTF-8", "text in UTF-8")) from None
    lines = [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")]
    if not lines[0]:
        raise UserError(Problem(file, "row 1", "no header", f"columns {', '.join(REQUIRED)}"))
    return lines


def _column_problems(file: str, columns: Sequence[str]) -> list[Problem]:
    known = (*REQUIRED, *OPTIONAL, *KEPT, *UNREAD)
    problems = []
    for place, column in enumerate(columns):
        key = f"row 1, column {column[:60]!r}"
        if column in columns[:place]:
            problems.append(Problem(file, key, "there twice", "each column once"))
        elif column in OLDER:
            problems.append(
                Problem(file, key, "the older form, with inclusive lifespans", f"{OLDER[column]}")
            )
        elif column not in known:
            problems.append(Problem(file, key, "unknown column", allowed_names(column[:60], known)))
    missing = [column for column in REQUIRED if column not in columns]
    return problems + [
        Problem(file, f"row 1, column {column!r}", "missing", "a column") for column in missing
    ]


def _rows(
    file: str, columns: Sequence[str], lines: Sequence[str], problems: list[Problem]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and fields of rows that have as many fields as there are columns."""
    if len(lines) > MOST_BUFFERS:
        raise UserError(Problem(file, "rows", str(len(lines)), f"at most {MOST_BUFFERS}"))
    for number, line in enumerate(lines, 2):
        fields = line.split(",")
        if len(fields) != len(columns):
            found = f"{len(fields)} fields" if line else "an empty line"
            problems.append(Problem(file, f"row {number}", found, f"{len(columns)} fields, as in the header"))
        elif '"' in line:
            problems.append(Problem(file, f"row {number}", "a quotation mark", "fields without quotes"))
        else:
            yield number, dict(zip(columns, fields, strict=True))


def _buffer(file: str, number: int, row: Mapping[str, str], problems: list[Problem]) -> ArenaBuffer | None:
    """Return the buffer of a row, or note what is wrong with it."""
    wrong: list[Problem] = []

    def bad(column: str, found: str, allowed: str) -> None:
        wrong.append(Problem(file, f"row {number}, column {column!r}", found, allowed))

    def integer(column: str, least: int, allowed: str) -> int:
        text = row[column]
        value = int(text) if _INTEGER.fullmatch(text) else None
        if value is None or not least <= value <= LARGEST:
            bad(column, repr(text[:40]), f"{allowed} up to {LARGEST}")
            return least
        return value

    if not row["id"] or len(row["id"]) > LONGEST_ID:
        bad("id", repr(row["id"][:40]), f"1 to {LONGEST_ID} characters")
    lower, upper = integer("lower", 0, "an integer from 0"), integer("upper", 0, "an integer from 0")
    size = integer("size", 1, "an integer from 1")
    alignment = integer("alignment", 1, "a power of two") if "alignment" in row else 1
    if not wrong and upper <= lower:
        bad(
            "upper",
            f"lifespan [{lower}, {upper}) is {'negative' if upper < lower else 'empty'}",
            "above lower",
        )
    if not is_alignment(alignment):
        bad("alignment", repr(row["alignment"]), f"a power of two up to {LARGEST}")
    if row.get("offset"):
        integer("offset", 0, "an integer from 0")
    for column in UNREAD:
        if row.get(column):
            bad(column, repr(row[column][:40]), "nothing: this column is not read")
    problems += wrong
    return None if wrong else ArenaBuffer(row["id"], lower, upper - 1, size, alignment)


def _repeated(file: str, rows: Sequence[tuple[int, Mapping[str, str]]]) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    for number, row in rows:
        before = first.setdefault(row["id"], number)
        if before != number:
            found = f"{row['id'][:40]!r} stands in row {before} already"
            problems.append(Problem(file, f"row {number}, column 'id'", found, "each id once"))
    return problems
