"""Updated integers back to their range: to the nearest, or to a neighbour at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.execution.int8.grid import WideArray, nearest

Draws = Callable[[str, tuple[int, ...]], NDArray[np.float64]]
"""(key of a tensor, shape) -> numbers in [0, 1), one for each of its learning integers."""


def seeded(seed: int, step: int) -> Draws:
    """Return draws that depend on seed, step of the event and key alone, whatever is updated first."""

    def draw(key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return np.random.default_rng([seed, step, *key.encode()]).random(shape)

    return draw


def written_back(values: WideArray, limit: int, draws: NDArray[np.float64] | None) -> NDArray[Any]:
    """Round to whole numbers in [-limit, limit], in fp64.

    To the nearest, halves upwards; with ``draws`` u to floor(x + u): one of the two neighbours, the nearer
    the likelier, so that the mean is the value itself.
    """
    whole = nearest(values) if draws is None else np.floor(values + draws)
    return np.asarray(np.clip(whole, -limit, limit))
