"""From stored numbers to network inputs: mean 0 and standard deviation 1 over the training samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def standardised(train: NDArray[Any], test: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return both parts per channel at mean 0 and standard deviation 1 of the training part, float32.

    ``train`` and ``test`` (n, C, ...) or (n, F); a channel that never changes is only centred.
    """
    axes = (0, *range(2, train.ndim))
    mean = train.mean(axis=axes, dtype=np.float64, keepdims=True)
    spread = np.sqrt(np.square(train - mean).mean(axis=axes, keepdims=True))
    spread[spread == 0] = 1.0
    return ((train - mean) / spread).astype(np.float32), ((test - mean) / spread).astype(np.float32)
