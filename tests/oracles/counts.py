"""Counts of single things: fronts and replays."""

from __future__ import annotations

from itertools import product
from math import ceil

import numpy as np


def dominated_mask(values: np.ndarray) -> np.ndarray:
    """O(n^2): True where another row is nowhere worse and somewhere better (all minimised)."""
    count = len(values)
    result = np.zeros(count, dtype=bool)
    for i, j in product(range(count), repeat=2):
        if all(values[j] <= values[i]) and any(values[j] < values[i]):
            result[i] = True
    return result


def naive_replay_bytes(n: int, elements: int, bits: int, classes: int) -> int:
    """Replay samples, labels and one scale, counted one sample at a time."""
    total = 4 if n else 0
    for _ in range(n):
        total += ceil(elements * bits / 8) + (1 if classes <= 256 else 2)
    return total


def naive_replaced(n: int, new: int, horizon: int) -> float:
    """Mean over events of min(N / i, new), event by event."""
    return sum(min(n / event, new) for event in range(1, horizon + 1)) / horizon
