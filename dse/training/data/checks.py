"""What makes arrays unfit to learn from, each with its fix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem

if TYPE_CHECKING:
    from dse.training.data.base import Dataset, Split

LARGEST_BYTES: Final = 4 * 2**30
"""No array of a data set, and no file once decompressed, is larger [B]."""

MOST_CLASSES: Final = 4096
_AXES: Final = (2, 3, 4)
_PARTS: Final = ("train", "test")


def size_problem(file: str, key: str, n_bytes: int) -> list[Problem]:
    """Return what is wrong with ``n_bytes`` that somebody is about to allocate: nothing, or one problem."""
    if n_bytes <= LARGEST_BYTES:
        return []
    found = f"needs {n_bytes / 2**30:.1f} GiB"
    return [
        Problem(file, key, found, f"at most {LARGEST_BYTES / 2**30:.0f} GiB: take fewer or smaller samples")
    ]


def dataset_problems(data: Dataset) -> list[Problem]:
    """Return everything that makes ``data`` unfit; an empty list where it can be learned from."""
    problems = [one for part in _PARTS for one in _split_problems(data.name, part, getattr(data, part))]
    if problems:
        return problems  # what follows reads the arrays
    return [
        Problem(data.name, key, found, allowed) for check in _CHECKS for key, found, allowed in check(data)
    ]


def _split_problems(name: str, part: str, split: Split) -> Iterator[Problem]:
    x = split.x
    if x.dtype not in (np.uint8, np.float32):
        yield Problem(name, f"{part}.x", f"numbers of type {x.dtype}", "uint8 or float32")
    if x.ndim not in _AXES:
        allowed = "(n, C, H, W) images, (n, C, L) series or (n, F) vectors"
        yield Problem(name, f"{part}.x", f"{x.ndim} axes {x.shape}", allowed)
    if x.size == 0:
        yield Problem(name, f"{part}.x", f"no samples (shape {x.shape})", "at least one sample per class")
    for key, values in (("y", split.y), ("domain", split.domain), ("group", split.group)):
        if values is None:
            continue
        if values.dtype != np.int64 or values.ndim != 1:
            found = f"{values.ndim} axes of type {values.dtype}"
            yield Problem(name, f"{part}.{key}", found, "one whole number (int64) per sample")
        elif len(values) != len(x):
            yield Problem(name, f"{part}.{key}", f"{len(values)} for {len(x)} samples", "one per sample")
        elif key != "y" and values.size and values.min() < 0:
            yield Problem(name, f"{part}.{key}", f"{values.min()}", f"{key}s are numbered from 0")
    found = not_finite(x)
    if found:
        yield Problem(name, f"{part}.x", found, "finite numbers: drop those samples or fill the gaps")


def not_finite(x: NDArray[Any]) -> str:
    """Say how many NaN and infinite values ``x`` (n, ...) has and where the first is; "" where none."""
    if x.dtype.kind != "f" or x.size == 0:
        return ""
    rows = np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if rows.all():
        return ""
    nan, infinite = int(np.isnan(x).sum()), int(np.isinf(x).sum())
    return f"{nan} NaN and {infinite} infinite values, the first in sample {int(np.argmin(rows))}"


_Found = Iterator[tuple[str, str, str]]


def _shape_problems(data: Dataset) -> _Found:
    train, test = data.train.x, data.test.x
    if train.shape[1:] != test.shape[1:]:
        yield "test.x", f"samples of shape {test.shape[1:]}", f"{train.shape[1:]} as in training"
    if train.dtype != test.dtype:
        yield "test.x", f"type {test.dtype}", f"{train.dtype} as in training"


def _label_problems(data: Dataset) -> _Found:
    if not 2 <= data.classes <= MOST_CLASSES:
        yield (
            "class_names",
            f"{data.classes} classes",
            f"2 to {MOST_CLASSES}: one class has nothing to tell apart",
        )
        return
    twice = sorted({name for name in data.class_names if data.class_names.count(name) > 1})
    if twice:
        found = f"{', '.join(map(repr, twice[:5]))} more than once"
        yield "class_names", found, "a name of its own for each class"
    for part in _PARTS:
        y = getattr(data, part).y
        if y.min() < 0 or y.max() >= data.classes:
            found = f"labels from {y.min()} to {y.max()}"
            yield f"{part}.y", found, f"0 to {data.classes - 1}, one number per class"
            continue
        missing = np.flatnonzero(np.bincount(y, minlength=data.classes) == 0)
        if missing.size:
            names = ", ".join(data.class_names[one] for one in missing[:5])
            found = f"no sample of {missing.size} classes ({names}{', ...' if missing.size > 5 else ''})"
            yield f"{part}.y", found, "every class in both parts: split otherwise, or leave the class out"


def _scale_problems(data: Dataset) -> _Found:
    if not (math.isfinite(data.scale) and data.scale > 0 and math.isfinite(data.offset)):
        yield "scale", f"offset {data.offset} + scale {data.scale} * x", "finite, with a scale above 0"
    elif data.train.x.dtype == np.float32 and (data.scale, data.offset) != (1.0, 0.0):
        yield (
            "scale",
            f"offset {data.offset} + scale {data.scale} * x",
            "float samples are stored as they are used",
        )


def _batch_problems(data: Dataset) -> _Found:
    batches = data.batches
    if batches is None:
        return
    if batches.dtype != np.int64 or batches.shape != data.train.y.shape:
        yield "batches", f"{batches.dtype} {batches.shape}", "one whole number (int64) per training sample"
    elif not np.array_equal(np.unique(batches), np.arange(batches.max() + 1)):
        yield "batches", "a learning event without samples", "0, 1, 2 ... without gaps"


def _group_problems(data: Dataset) -> _Found:
    if data.train.group is None or data.test.group is None:
        return
    shared = np.intersect1d(data.train.group, data.test.group)
    if shared.size:
        found = f"{shared.size} groups that are in training too (the first: {shared[0]})"
        yield "test.group", found, "each group in one part: what belongs together is not split"


_CHECKS: Final = (_shape_problems, _label_problems, _scale_problems, _batch_problems, _group_problems)
