"""Operations element by element, and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
IntArray = NDArray[np.int64]


def rectified(x: Array, limit: float | None) -> tuple[Array, Array]:
    """Return min(max(x, 0), limit), and where 0 < x < limit, bool: there an error passes."""
    output = np.maximum(x, x.dtype.type(0))
    passes = output > 0
    if limit is not None:
        passes &= output < limit
        output = np.minimum(output, x.dtype.type(limit))
    return output, passes


def hard_swish(x: Array) -> Array:
    """Return x relu6(x + 3) / 6."""
    return np.asarray(x * np.clip(x + x.dtype.type(3), 0, 6) / x.dtype.type(6))


def hard_swish_slope(x: Array) -> Array:
    """Return the derivative of ``hard_swish`` at ``x``: 0 up to -3, 1 from 3 on, x / 3 + 1/2 between."""
    between = x / x.dtype.type(3) + x.dtype.type(0.5)
    return np.asarray(np.where(x <= -3, x.dtype.type(0), np.where(x < 3, between, x.dtype.type(1))))


def softmax(x: Array) -> Array:
    """Return class probabilities of logits (B, C)."""
    raised = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def cross_entropy(logits: Array, labels: IntArray, seen: Sequence[int]) -> tuple[float, Array]:
    """Return the loss summed over samples, and its derivative by the logits (B, C).

    Softmax runs over the classes ``seen`` alone; the others get no error. Labels (B,) are among them.
    """
    classes = np.array(sorted(seen), dtype=np.int64)
    part = logits[:, classes]
    target = np.searchsorted(classes, labels)
    raised = part - part.max(axis=1, keepdims=True)
    probabilities, rows = softmax(part), np.arange(len(labels))
    losses = np.log(np.exp(raised).sum(axis=1)) - raised[rows, target]
    probabilities[rows, target] -= 1
    error = np.zeros_like(logits)
    error[:, classes] = probabilities
    return float(losses.sum(dtype=np.float64)), error
