"""Arrays of both parts become a data set: numbers a network likes, domains numbered alike, all checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.base import Dataset, Split
from dse.training.data.checks import not_finite
from dse.training.data.labels import domain_numbers
from dse.training.data.scaling import byte_scale, standardised

Pair = Sequence[NDArray[Any]]
"""The training part and the test part."""


def assemble(
    name: str,
    x: Pair,
    y: Sequence[NDArray[np.int64]],
    domain: Pair | None,
    class_names: Sequence[str],
    *,
    source: str,
    limits: tuple[float, float] | None = None,
    standardise: bool = True,
    batches: NDArray[np.int64] | None = None,
    group: Pair | None = None,
) -> Dataset:
    """Return the data set of [train, test] samples.

    Parameters
    ----------
    x: (n, C, H, W), (n, C, L) or (n, F); uint8 is kept, every other type becomes float32.
    y: classes from 0 (n,).
    domain: numbers or words (n,), or None.
    limits: (low, high), the values of 0 and 255; None: mean 0, standard deviation 1 over training samples.
    standardise: whether float samples become mean 0, standard deviation 1, per channel.
    batches: (n of train,) learning event of each training sample, or None.
    group: numbers or words (n,) of samples that belong together, or None.

    Raises UserError with every problem of the arrays.

    """
    _require_numbers(name, x)
    _require_finite(name, domain)
    scale, offset = 1.0, 0.0
    if all(part.dtype == np.uint8 for part in x):
        scale, offset = _byte_scale(x[0], limits, standardise)
        samples = [np.ascontiguousarray(part) for part in x]
    else:
        floats = standardised(x[0], x[1], name=name) if standardise else x
        with np.errstate(over="ignore"):  # the infinite value that it becomes is refused with the data set
            samples = [np.ascontiguousarray(part, dtype=np.float32) for part in floats]
    domains = [np.zeros(len(part), np.int64) for part in y] if domain is None else domain_numbers(domain)
    groups = [None] * len(y) if group is None else domain_numbers(group)
    parts = [Split(*arrays) for arrays in zip(samples, y, domains, groups, strict=True)]
    return Dataset(name, parts[0], parts[1], tuple(class_names), source, scale, offset, batches)


def _byte_scale(
    train: NDArray[np.uint8], limits: tuple[float, float] | None, standardise: bool
) -> tuple[float, float]:
    if limits is not None:
        return (limits[1] - limits[0]) / 255, limits[0]
    return byte_scale(train) if standardise else (1.0, 0.0)


def _require_numbers(name: str, x: Pair) -> None:
    """Raise UserError unless both parts hold finite numbers, and some: what follows computes with them."""
    problems = []
    for part, array in zip(("train.x", "test.x"), x, strict=True):
        if array.dtype.kind not in "biuf":
            problems.append(Problem(name, part, f"type {array.dtype}", "numbers"))
        elif array.size == 0 or array.ndim < 2:
            problems.append(
                Problem(name, part, f"shape {array.shape}", "samples along the first of 2 to 4 axes")
            )
        elif found := not_finite(array):
            problems.append(Problem(name, part, found, "finite numbers: drop those samples or fill the gaps"))
    if not problems and x[0].shape[1:] != x[1].shape[1:]:
        found = f"samples of shape {x[1].shape[1:]}"
        problems.append(Problem(name, "test.x", found, f"{x[0].shape[1:]} as in training"))
    if problems:
        raise UserError(problems)


def _require_finite(name: str, domain: Pair | None) -> None:
    """Raise UserError for domains that are no numbers: all NaN would become one domain."""
    problems = [
        Problem(name, f"{part}.domain", found, "a number or a text for each sample")
        for part, array in zip(("train", "test"), domain or (), strict=False)
        if (found := not_finite(array))
    ]
    if problems:
        raise UserError(problems)
