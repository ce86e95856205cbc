"""Typed access to parsed JSON: what is not of the kind that it has to be is ``Malformed``, with its place."""

from __future__ import annotations

from typing import Any, Final

LARGEST: Final = 2**63 - 1
"""Whole numbers beyond it are no sizes, and numpy could not hold them."""


class Malformed(ValueError):
    """Something in the file is not what the format says; the text names it."""


class Unsupported(Malformed):
    """Something is sound but has no counterpart here; the operation is listed as unknown."""


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return ``value`` where it is an object of JSON."""
    if not isinstance(value, dict):
        raise Malformed(f"{where} has to be an object, found {_kind(value)}")
    return value


def sequence(value: Any, where: str) -> list[Any]:
    """Return ``value`` where it is an array of JSON."""
    if not isinstance(value, list):
        raise Malformed(f"{where} has to be an array, found {_kind(value)}")
    return value


def text(value: Any, where: str) -> str:
    """Return ``value`` where it is a string."""
    if not isinstance(value, str):
        raise Malformed(f"{where} has to be a string, found {_kind(value)}")
    return value


def integer(value: Any, where: str) -> int:
    """Return ``value`` where it is a whole number that fits 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST:
        raise Malformed(f"{where} has to be a whole number, found {_kind(value)}")
    return value


def real(value: Any, where: str) -> float:
    """Return ``value`` where it is a number; infinities and NaN stand as strings in JSON."""
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):
        return float(value.replace("Infinity", "inf"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{where} has to be a number, found {_kind(value)}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise Malformed(f"{where} has to be a number of at most 64 bits")
    return float(value)


def tagged(value: Any, where: str) -> tuple[str, Any]:
    """Return tag and content of a union: an object of one key."""
    union = mapping(value, where)
    if len(union) != 1:
        raise Malformed(f"{where} has to be an object of one key, found {len(union)}")
    return next(iter(union.items()))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", type(None): "null"}
    return names.get(type(value)) or repr(value)[:40]
