"""Labels as files have them, numbers or words, become class numbers from 0; domains likewise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.checks import MOST_CLASSES

IntArray = NDArray[np.int64]


def class_numbers(
    parts: Sequence[NDArray[Any]], names: Sequence[str] = (), *, file: str, key: str
) -> tuple[list[IntArray], tuple[str, ...]]:
    """Return labels of every part as int64 (n,) from 0, and the names of the classes.

    Whole numbers must be 0, 1, 2 ... without gaps (over the parts together); words are numbered in
    alphabetical order. ``names`` given by the user must be as many as there are classes.
    Raises UserError with what to change.
    """
    parts = [np.asarray(part) for part in parts]
    problem = _shape_problem(parts) or _kind_problem(parts)
    if problem:
        raise UserError(Problem(file, key, *problem))
    together = np.concatenate([part.astype(str if part.dtype.kind in "US" else np.int64) for part in parts])
    if together.dtype.kind == "U":
        words, numbers = np.unique(together, return_inverse=True)
        found = tuple(str(word) for word in words)
    else:
        numbers = together
        found = _numbered(numbers, names, file, key)
    if len(found) > MOST_CLASSES:
        raise UserError(
            Problem(file, key, f"{len(found)} classes", f"at most {MOST_CLASSES}: is this the label?")
        )
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [np.ascontiguousarray(one) for one in np.split(numbers.astype(np.int64), ends)], found


def _shape_problem(parts: Sequence[NDArray[Any]]) -> tuple[str, str] | None:
    wrong = next((part for part in parts if part.ndim != 1), None)
    if wrong is not None:
        hint = ": one-hot labels become numbers by argmax" if wrong.ndim == 2 else ""
        return f"labels of shape {wrong.shape}", f"one label per sample, shape (n,){hint}"
    return None if sum(map(len, parts)) else ("no labels", "one label per sample")


def _kind_problem(parts: Sequence[NDArray[Any]]) -> tuple[str, str] | None:
    kinds = {part.dtype.kind for part in parts}
    if not (kinds <= set("iu") or kinds <= set("US")):
        return f"labels of type {', '.join(str(part.dtype) for part in parts)}", "whole numbers, or texts"
    largest = max(int(part.max()) for part in parts if part.size) if kinds <= set("iu") else 0
    if largest > np.iinfo(np.int64).max:
        return f"labels up to {largest}", "0, 1, 2 ... without gaps: renumber them"
    return None


def _numbered(numbers: IntArray, names: Sequence[str], file: str, key: str) -> tuple[str, ...]:
    values = np.unique(numbers)
    count = len(names) or len(values)
    if len(names) and (values[0] < 0 or values[-1] >= count):
        found = f"labels from {values[0]} to {values[-1]} for {count} class names"
        raise UserError(Problem(file, key, found, f"labels 0 to {count - 1}"))
    if not len(names) and not np.array_equal(values, np.arange(len(values))):
        shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        raise UserError(
            Problem(file, key, f"labels {shown}", f"0 to {len(values) - 1} without gaps: renumber them")
        )
    return tuple(names) or tuple(str(value) for value in values)


def domain_numbers(parts: Sequence[NDArray[Any]]) -> list[IntArray]:
    """Return domains (numbers or words, (n,) per part) as int64 from 0, one numbering for all parts."""
    together = np.concatenate([np.asarray(part) for part in parts])
    numbers = np.unique(together, return_inverse=True)[1].astype(np.int64)
    return [
        np.ascontiguousarray(one) for one in np.split(numbers, np.cumsum([len(part) for part in parts])[:-1])
    ]
