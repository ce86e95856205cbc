"""One step of an optimiser on one tensor: SGD, momentum, Adam and LARS, in the words of ``dse.training``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import UnknownName

Array = NDArray[Any]

BETAS: Final = (0.9, 0.999)
"""Decay of Adam's moments: Kingma and Ba, ICLR 2015 (arXiv 1412.6980), Sec. 2."""
ADAM_EPSILON: Final = 1e-8
TRUST: Final = 0.001
"""Trust coefficient of LARS: arXiv 1708.03888, Sec. 5."""


@dataclass(frozen=True)
class Optimiser:
    """Settings of one step.

    ``kind`` is ``sgd``, ``momentum``, ``adam`` or ``lars``; ``rate`` is that of this very step, behind any
    schedule; ``step`` counts the steps of the learning event from 1, for Adam's corrections. ``weight_decay``
    adds its share of the weights to the gradient. Raises UnknownName for another kind.
    """

    kind: str = "sgd"
    rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    step: int = 1

    def __post_init__(self) -> None:
        if self.kind not in RULES:
            raise UnknownName("optimiser", self.kind, RULES, file="execution", key="optimiser")

    def stepped(self, values: Array, gradient: Array, state: Sequence[Array]) -> Array:
        """Return ``values`` after one step by ``gradient``; ``state`` is written in place."""
        change = gradient
        if self.weight_decay:
            change = change + values.dtype.type(self.weight_decay) * values
        return RULES[self.kind](self, values, change, gradient, state)


def _sgd(own: Optimiser, values: Array, change: Array, gradient: Array, state: Sequence[Array]) -> Array:
    return np.asarray(values - values.dtype.type(own.rate) * change)


def _momentum(own: Optimiser, values: Array, change: Array, gradient: Array, state: Sequence[Array]) -> Array:
    velocity = state[0]
    velocity[...] = velocity.dtype.type(own.momentum) * velocity + change
    return np.asarray(values - values.dtype.type(own.rate) * velocity)


def _lars(own: Optimiser, values: Array, change: Array, gradient: Array, state: Sequence[Array]) -> Array:
    """Momentum at the tensor's own rate: TRUST |w| / (|g| + weight_decay |w|); TRUST where one is 0."""
    velocity = state[0]
    large, steep = (float(np.linalg.norm(part.astype(np.float64))) for part in (values, gradient))
    total = steep + own.weight_decay * large
    trust = TRUST * (large / total if large > 0 and total > 0 else 1.0)
    share = velocity.dtype.type(own.rate * trust)
    velocity[...] = velocity.dtype.type(own.momentum) * velocity + share * change
    return np.asarray(values - velocity)


def _adam(own: Optimiser, values: Array, change: Array, gradient: Array, state: Sequence[Array]) -> Array:
    first, second = state
    one = first.dtype.type
    first[...] = first + one(1 - BETAS[0]) * (change - first)
    second[...] = one(BETAS[1]) * second + one(1 - BETAS[1]) * change * change
    corrections = [1 - beta**own.step for beta in BETAS]
    spread = np.sqrt(second) / one(sqrt(corrections[1])) + one(ADAM_EPSILON)
    return np.asarray(values - one(own.rate / corrections[0]) * (first / spread))


RULES: Final[dict[str, Callable[[Optimiser, Array, Array, Array, Sequence[Array]], Array]]] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "adam": _adam,
    "lars": _lars,
}
STATE_WORDS: Final = {"sgd": 0, "momentum": 1, "adam": 2, "lars": 1}
