"""From stored numbers to network inputs: mean 0 and standard deviation 1 over the training samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError

FloatArray = NDArray[np.float32]


def byte_scale(train: NDArray[np.uint8]) -> tuple[float, float]:
    """Return (scale, offset) with which ``offset + scale * x`` has mean 0 and standard deviation 1.

    One pair for all channels, from the histogram of the training samples (any shape), hence exact whatever
    the order of summation. Samples that are all alike keep scale 1.
    """
    counts = np.bincount(train.ravel(), minlength=256)
    n = int(counts.sum())
    first = int((counts * np.arange(256)).sum())
    second = int((counts * np.arange(256) ** 2).sum())
    variance = (n * second - first * first) / (n * n)
    scale = 1.0 / math.sqrt(variance) if variance > 0 else 1.0
    return scale, -scale * first / n


def standardised(
    train: NDArray[Any], test: NDArray[Any], *, name: str = "data"
) -> tuple[FloatArray, FloatArray]:
    """Return both parts per channel at mean 0 and standard deviation 1 of the training part, float32.

    ``train`` and ``test`` (n, C, ...) or (n, F); a channel that never changes is only centred.
    Raises UserError for channels of data set ``name`` whose values are too large, or differ by too little,
    for a mean and a deviation in float64.
    """
    axes = (0, *range(2, train.ndim))
    still = train.min(axis=axes, keepdims=True) == train.max(axis=axes, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = train.mean(axis=axes, dtype=np.float64, keepdims=True)
        spread = np.sqrt(np.square(train - mean).mean(axis=axes, keepdims=True))
        spread[still] = 1.0
        _require_usable(name, mean, spread)
        # A test value beyond float32 becomes infinite here and is refused with the data set.
        return ((train - mean) / spread).astype(np.float32), ((test - mean) / spread).astype(np.float32)


def _require_usable(name: str, mean: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
    """Raise UserError for channels whose mean or deviation overflowed, or whose deviation vanished."""
    wrong = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(spread) & (spread > 0)))
    if wrong.size:
        first = int(wrong[0])
        found = f"{wrong.size} channels without a usable scale, the first {first}: "
        found += f"mean {mean.flat[first]:g}, deviation {spread.flat[first]:g}"
        allowed = "values whose squares fit float64: another unit, or mend those that are out of range"
        raise UserError(Problem(name, "train.x", found, allowed))
