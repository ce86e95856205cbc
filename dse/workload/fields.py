"""Values of a network file: each reader returns a checked value, or raises Misfit with what was found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from dse.errors import allowed_names
from dse.workload.base import Pad, Padding

MOST: Final = 65_536
"""No channel count, size or class count of a network file is larger."""

CHANNEL_STEP: Final = 8
"""Scaled channel counts are multiples of this."""


_DIGITS: Final = re.compile(r"[0-9]{1,6}")  # no sign, no other digits than these


class Misfit(ValueError):
    """A value that does not fit its key: what was found, what is allowed."""

    def __init__(self, found: object, allowed: str) -> None:
        super().__init__(f"{found}; {allowed}")
        self.found, self.allowed = str(found), allowed


def count(value: object, least: int = 1) -> int:
    """Read a whole number from ``least`` to ``MOST``."""
    if type(value) is not int or not least <= value <= MOST:
        raise Misfit(repr(value), f"must be a whole number from {least} to {MOST}")
    return value


def whole(value: object, most: int) -> int:
    """Read a whole number from 0 to ``most``."""
    if type(value) is not int or not 0 <= value <= most:
        raise Misfit(repr(value), f"must be a whole number from 0 to {most}")
    return value


def shape(value: object, most_axes: int = 8) -> tuple[int, ...]:
    """Read the sizes of a tensor of any rank."""
    if not isinstance(value, list) or not 1 <= len(value) <= most_axes:
        raise Misfit(repr(value), f"must be a list of 1 to {most_axes} sizes")
    if any(type(size) is not int or not 1 <= size <= MOST**2 for size in value):
        raise Misfit(repr(value), f"each size must be a whole number from 1 to {MOST**2}")
    return tuple(value)


def sizes(value: object, rank: int | None, least: int = 1) -> tuple[int, ...]:
    """Read one size per axis; a single number holds for every axis."""
    if isinstance(value, list):
        if len(value) not in ((rank,) if rank else (1, 2)):
            raise Misfit(repr(value), f"must be one number or {rank or '1 or 2'} of them")
        return tuple(count(item, least) for item in value)
    return (count(value, least),) * (rank or 1)


def padding(value: object, rank: int | None) -> Padding:
    """Read ``"same"``, or zeros added to each axis: a number for both ends, or ``[before, after]``."""
    if value == "same":
        return "same"
    if isinstance(value, str):
        raise Misfit(repr(value), 'must be "same" or whole numbers from 0')
    if not isinstance(value, list):
        return sizes(value, rank, least=0)
    if len(value) not in ((rank,) if rank else (1, 2)):
        per_axis = f"a list of {rank or '1 or 2'}: a number or [before, after] for each axis"
        raise Misfit(repr(value), f"must be one number, or {per_axis}")
    return tuple(_pad(item) for item in value)


def _pad(value: object) -> Pad:
    if not isinstance(value, list):
        return count(value, least=0)
    if len(value) != 2:
        raise Misfit(repr(value), "must be a number, or [before, after]")
    return (count(value[0], least=0), count(value[1], least=0))


def flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise Misfit(repr(value), "must be true or false")
    return value


def text(value: object) -> str:
    """Read a text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise Misfit(repr(value), "must be a text that is not empty")
    return value


def texts(value: object) -> tuple[str, ...]:
    """Read a list of texts, at least one."""
    if not isinstance(value, list) or not value:
        raise Misfit(repr(value), "must be a list of names")
    return tuple(text(item) for item in value)


def whole_numbers(value: object) -> tuple[int, ...]:
    """Read a list of whole numbers, which may be empty or negative."""
    if not isinstance(value, list) or any(type(item) is not int for item in value):
        raise Misfit(repr(value), "must be a list of whole numbers")
    return tuple(value)


def height_width(value: object) -> tuple[int, int]:
    """Read the size of an image: one number for a square, or a text such as ``32x48``.

    >>> height_width(28), height_width("32x48")
    ((28, 28), (32, 48))
    """
    found: list[object] = [value, value]
    if isinstance(value, str):
        found = [int(part) if _DIGITS.fullmatch(part) else part for part in value.split("x")]
    if len(found) != 2 or not all(type(size) is int and 1 <= size <= MOST for size in found):
        raise Misfit(repr(value), f"must be a whole number from 1 to {MOST}, or HEIGHTxWIDTH such as 32x48")
    return (count(found[0]), count(found[1]))


def factor(value: object, most: float) -> float:
    """Read a number above 0, at most ``most``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise Misfit(repr(value), f"must be a number above 0, at most {most:g}")
    return float(value)


def word(value: object, known: Sequence[str], what: str) -> str:
    """Read one of the ``known`` words; anything else is answered with the nearest."""
    if value not in known:
        raise Misfit(f"unknown {what} {value!r}", allowed_names(value, known))
    return str(value)


def scaled(channels: int, width: float) -> int:
    """Scale a channel count by ``width`` to a multiple of 8, at least 8, never below nine tenths.

    The rule of the MobileNet family (arXiv 1801.04381 and its published code); a width of 1 changes nothing.

    >>> scaled(32, 0.25), scaled(24, 0.35), scaled(96, 0.35)
    (8, 8, 32)
    """
    if width == 1:
        return channels
    wanted = channels * width
    nearest = max(CHANNEL_STEP, int(wanted + CHANNEL_STEP / 2) // CHANNEL_STEP * CHANNEL_STEP)
    return nearest + CHANNEL_STEP if nearest < 0.9 * wanted else nearest
