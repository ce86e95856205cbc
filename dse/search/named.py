"""Three designs of a front that people ask for, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.units import human, human_bytes, human_seconds

FloatArray = NDArray[np.float64]

BEST_NAMES: Final = {
    "accuracy": "most accurate",
    "event_j": "most frugal",
    "event_s": "fastest",
    "lifetime_s": "longest-lived",
    "nvm_bytes": "least storage",
    "ram_peak_bytes": "smallest",
}
"""Objective -> what the design that is best in it is called."""

WORDS: Final = {
    "accuracy": "accuracy",
    "event_j": "energy per event",
    "event_s": "time per event",
    "lifetime_s": "battery life",
    "nvm_bytes": "non-volatile memory",
    "ram_peak_bytes": "RAM peak",
}
"""Objective -> its name for people."""


@dataclass(frozen=True)
class NamedPlan:
    """A design of a front (its position there) with a name and why it bears it."""

    name: str
    board: str
    position: int
    design: int
    why: str


def named_plans(
    board: str, objectives: tuple[str, ...], columns: Mapping[str, NDArray[Any]], scaled: FloatArray
) -> tuple[NamedPlan, ...]:
    """Return the best in the first objective, the balanced and the smallest design of a front.

    Where the first objective is the RAM peak, its best is the smallest, which is named anyway; the first of
    the three is then the best in the second objective. Balanced: nearest to the best value of every objective
    at once (Euclidean, scaled to 0..1). Smallest: least RAM peak. Ties go to the design that is nearer to the
    ideal, then to the lower index.
    """
    if len(scaled) == 0:
        return ()
    first = objectives[0] if objectives[0] != "ram_peak_bytes" else objectives[1]
    distance = np.sqrt((scaled**2).sum(axis=1))
    best = _lowest(scaled[:, objectives.index(first)], distance)
    balanced = _lowest(distance, distance)
    smallest = _lowest(columns["ram_peak_bytes"], distance)
    rows = ((BEST_NAMES[first], best), ("balanced", balanced), ("smallest", smallest))
    return tuple(
        NamedPlan(name, board, row, int(columns["design"][row]), _why(name, row, objectives, columns, scaled))
        for name, row in rows
    )


def _lowest(values: FloatArray, then: FloatArray) -> int:
    return int(np.lexsort((np.arange(len(values)), then, values))[0])


def _why(
    name: str, row: int, objectives: tuple[str, ...], columns: Mapping[str, NDArray[Any]], scaled: FloatArray
) -> str:
    said = ", ".join(
        f"{WORDS[objective]} {text(objective, columns[objective][row])}" for objective in objectives
    )
    if name == "balanced":
        gaps = ", ".join(
            f"{gap:.0%} of the range of {WORDS[what]}"
            for what, gap in zip(objectives, scaled[row], strict=True)
        )
        return f"Nearest to the best value of every objective at once: {said}; it gives up {gaps}."
    if name == "smallest":
        return f"Least RAM at its peak, {text('ram_peak_bytes', columns['ram_peak_bytes'][row])}: {said}."
    return f"The {name} design of the front: {said}."


def text(objective: str, value: float) -> str:
    """Write the value of an objective for people."""
    if objective == "accuracy":
        return f"{value:.1%}"
    if objective.endswith("_bytes"):
        return human_bytes(value)
    return human_seconds(value) if objective.endswith("_s") else human(value, "J")
