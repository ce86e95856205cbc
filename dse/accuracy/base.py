"""What every source of accuracy answers, and how it says that it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dse.workload import Workload

STATUSES: Final = ("measured", "published", "interpolated", "fitted", "extrapolated", "unknown")
"""How an estimate came about, strongest first; an estimate holds positions in this tuple."""

MEASURED, PUBLISHED, INTERPOLATED, FITTED, EXTRAPOLATED, UNKNOWN = range(6)

FloatArray = NDArray[np.float64]


class AccuracyEstimate(NamedTuple):
    """Accuracy as a fraction in 0..1 with a 90 % interval; NaN where unknown.

    The interval is that of the mean over the seeds where ``status`` is measured, else that of one training
    run. All arrays have the broadcast shape of the choices that were asked about. ``status`` holds positions
    in ``STATUSES``.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    status: NDArray[np.int8]


class AccuracySource(Protocol):
    """A model of what training reaches, over the decisions that matter for learning."""

    name: str
    depends_on: tuple[str, ...]

    def predict(self, workload: Workload, choices: Mapping[str, NDArray[Any]]) -> AccuracyEstimate:
        """Return the accuracy under ``choices``: arrays that broadcast, one for each of ``depends_on``.

        Categorical decisions are codes into the tuples of ``dse.plan.decisions``; ``policy`` holds names.
        Outside the domain the answer is "unknown", never an error.
        """
        ...

    def domain(self) -> str:
        """Say, for people, for which decisions the source answers."""
        ...


def unknown(shape: tuple[int, ...]) -> AccuracyEstimate:
    """Return an estimate of ``shape`` that knows nothing."""
    nothing = np.full(shape, np.nan)
    return AccuracyEstimate(nothing, nothing.copy(), nothing.copy(), np.full(shape, UNKNOWN, dtype=np.int8))
