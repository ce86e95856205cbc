"""What the front figures show: two objectives at a time, the front over the designs that it beats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.cost.model import OBJECTIVES
from dse.search.result import BoardResult

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """How an objective is drawn: its label, unit, scale, and which way is better."""

    label: str
    unit: str
    logarithmic: bool
    maximised: bool


AXES: Final[Mapping[str, Axis]] = {
    "accuracy": Axis("accuracy", "fraction", False, True),
    "ram_peak_bytes": Axis("RAM peak", "B", True, False),
    "event_j": Axis("energy per event", "J", True, False),
    "nvm_bytes": Axis("non-volatile memory", "B", True, False),
    "event_s": Axis("time per event", "s", True, False),
    "lifetime_s": Axis("battery life", "s", True, True),
}


WEAK: Final = ("fitted", "extrapolated")
"""How an accuracy came about that is drawn hollow."""


@dataclass(frozen=True)
class FrontInfo:
    """Objectives of a front (k, m) and of other designs (n, m) in their own sense, and the named designs.

    ``named`` maps a position in the front to the names that it bears; ``uncertain`` marks front designs whose
    accuracy is ``weak``: fitted or extrapolated. ``spread`` is the 90 % interval of every accuracy (k, 2)
    where it was measured or fitted.
    """

    title: str
    subtitle: str
    objectives: tuple[str, ...]
    front: FloatArray
    others: FloatArray
    named: Mapping[int, str]
    uncertain: NDArray[np.bool_]
    weak: str = "extrapolated"
    spread: FloatArray | None = None

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of objectives (horizontal, vertical), costs first so that accuracy is vertical."""
        order = sorted(range(len(self.objectives)), key=lambda axis: AXES[self.objectives[axis]].maximised)
        return tuple(combinations(order, 2))


def front_info(result: BoardResult, others: FloatArray, title: str, subtitle: str) -> FrontInfo:
    """Collect what ``front_figure`` draws; ``others`` (n, m) are minimised objectives of feasible designs."""
    front = result.front
    signs = np.array([-1.0 if OBJECTIVES[name][1] == "max" else 1.0 for name in front.objectives])
    names: dict[int, str] = {}
    for plan in front.named:
        names[plan.position] = f"{names[plan.position]}, {plan.name}" if plan.position in names else plan.name
    status = front.columns.get("accuracy_status")
    doubtful = np.zeros(len(front), dtype=bool) if status is None else np.isin(status, WEAK)
    own = others.reshape(-1, len(front.objectives))
    return FrontInfo(
        title, subtitle, front.objectives, front.values * signs, own * signs, names, np.asarray(doubtful),
        weak=" or ".join(word for word in WEAK if status is not None and word in status),
        spread=_spread(front.columns),
    )  # fmt: skip


def _spread(columns: Mapping[str, NDArray[Any]]) -> FloatArray | None:
    """Return the ends of the interval of every accuracy (k, 2) where runs are behind it."""
    if "accuracy_runs" not in columns:
        return None
    return np.stack([columns["accuracy_low"], columns["accuracy_high"]], axis=1)


def staircase(horizontal: FloatArray, vertical: FloatArray, axes: tuple[Axis, Axis]) -> NDArray[np.int64]:
    """Return the positions of the points that no other beats in these two objectives alone, from the left."""
    signs = [-1.0 if axis.maximised else 1.0 for axis in axes]
    first, second = horizontal * signs[0], vertical * signs[1]
    order = np.lexsort((second, first))
    best = np.minimum.accumulate(second[order])
    keep = np.concatenate([[True], best[1:] < best[:-1]])
    found = order[keep]
    return np.asarray(found[np.argsort(horizontal[found], kind="stable")])
