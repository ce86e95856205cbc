"""Text in a terminal of fixed width, by the columns that signs take: names may hold any script."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

WIDTH: Final = 80
ELLIPSIS: Final = "…"


def printable(text: str) -> str:
    r"""Return ``text`` without signs that control a terminal.

    >>> printable("conv\x1b[2J")
    'conv_[2J'
    """
    return "".join("_" if unicodedata.category(sign)[0] == "C" else sign for sign in text)


def columns(text: str) -> int:
    """Return how many columns ``text`` takes: wide signs two, accents that join the sign before none.

    >>> columns("conv"), columns("層")
    (4, 2)
    """
    return sum(map(_columns, text))


def _columns(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def shortened(text: str, width: int) -> str:
    """Return ``text`` with its middle left out where it takes more than ``width`` columns.

    >>> shortened("features.0.conv.weight", 13)
    'featur…weight'
    """
    if columns(text) <= width:
        return text
    room = max(width - 1, 0)
    return f"{_start(text, room - room // 2)}{ELLIPSIS}{_start(text[::-1], room // 2)[::-1]}"


def _start(text: str, width: int) -> str:
    kept = 0
    for place, sign in enumerate(text):
        kept += _columns(sign)
        if kept > width:
            return text[:place]
    return text


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Fill ``text`` with blanks up to ``width`` columns."""
    blanks = " " * max(width - columns(text), 0)
    return blanks + text if right else text + blanks


def paragraph(text: str, *, first: str = "", rest: str = "", width: int = WIDTH) -> str:
    """Break ``text`` into lines of at most ``width`` columns, the first behind ``first``, others ``rest``."""
    lines, line = [], first
    start = len(first)
    for word in text.split():
        for piece in _pieces(printable(word), width - max(columns(first), columns(rest))):
            gap = " " if len(line) > start else ""
            if columns(line) + len(gap) + columns(piece) > width:
                lines.append(line)
                line, start, gap = rest, len(rest), ""
            line += gap + piece
    return "\n".join(found.rstrip() for found in [*lines, line])


def _pieces(word: str, width: int) -> Iterator[str]:
    while columns(word) > width:
        piece = _start(word, width) or word[0]
        yield piece
        word = word[len(piece) :]
    yield word


def fitted(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[bool],
    least: Sequence[int],
    width: int = WIDTH,
) -> str:
    """Lay ``rows`` out under ``header`` in at most ``width`` columns.

    The widest column that may shrink does, down to its ``least`` (0: it does not shrink); what no longer fits
    loses its middle. ``right`` says which columns are aligned to the right.
    """  # fmt: skip
    table = [header, *([printable(cell) for cell in row] for row in rows)]
    sizes = [max(map(columns, column)) for column in zip(*table, strict=True)]
    while sum(sizes) + 2 * (len(sizes) - 1) > width:
        shrinking = [place for place, size in enumerate(sizes) if 0 < least[place] < size]
        if not shrinking:
            break
        sizes[max(shrinking, key=lambda place: sizes[place])] -= 1
    lines = (
        "  ".join(
            padded(shortened(cell, size), size, right=side)
            for cell, size, side in zip(row, sizes, right, strict=True)
        ).rstrip()
        for row in table
    )
    return "\n".join(lines)
