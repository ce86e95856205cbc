"""Power at each operating point: the mean of what was measured, and where the next measurement will lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.calibrate.fit import student_90
from dse.calibrate.prior import NORMAL_90, prior_sd, spread
from dse.calibrate.resolve import Row
from dse.hardware import HardwareProfile, OperatingPoint, Quantity

SCATTER_SD: Final = 0.05
"""Scatter of the power between networks that is expected, counted as ``SCATTER_ROWS`` rows."""
SCATTER_ROWS: Final = 3.0
FLOOR_SD: Final = math.log(2.0) / NORMAL_90
INFERENCE, TRAINING = "inference_power_w", "training_power_w"


@dataclass(frozen=True)
class FittedPower:
    """Power of one operating point at work [W]; ``low`` to ``high`` holds a further measurement with 90 %."""

    point: str
    field: str
    prior: Quantity
    value_w: float
    low_w: float
    high_w: float
    logs: Mapping[tuple[object, ...], float]  # of each thing that was measured there
    domains: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many things were measured there."""
        return len(self.logs)

    def without_w(self, key: tuple[object, ...]) -> float:
        """Power [W] without what has ``key``; the profile's where nothing else was measured."""
        left = [log for other, log in self.logs.items() if other != key]
        return power_of(left, self.prior)[0] if left else self.prior.value

    @property
    def path(self) -> str:
        """Path of the number, as ``HardwareProfile.numbers`` writes it."""
        return f"operating_point.{self.point}.{self.field}"


def fitted_powers(board: HardwareProfile, rows: Sequence[Row]) -> tuple[FittedPower, ...]:
    """Return the power of every operating point at which one was measured."""
    found = []
    for point in board.operating_points:
        for field in (INFERENCE, TRAINING):
            logs = log_powers(board, rows, point, field)
            if logs:
                prior: Quantity = getattr(point, field)
                value, reach = power_of(list(logs.values()), prior)
                low, high = value / math.exp(reach), value * math.exp(reach)
                found.append(FittedPower(point.name, field, prior, value, low, high, logs, point.domains))
    return tuple(found)


def power_of(logs: Sequence[float], prior: Quantity) -> tuple[float, float]:
    """Return (power [W], half-width of the 90 % interval of its logarithm) from logs of measured powers."""
    scatter = spread(logs, SCATTER_SD, SCATTER_ROWS) / math.sqrt(1.0 + 1.0 / len(logs))
    data, belief = len(logs) / scatter**2, 1.0 / prior_sd(prior, FLOOR_SD) ** 2
    mean = (data * float(np.mean(logs)) + belief * math.log(prior.value)) / (data + belief)
    sd = math.sqrt(scatter**2 + 1.0 / (data + belief))
    return math.exp(mean), student_90(SCATTER_ROWS + len(logs) - 1) * sd


def log_powers(
    board: HardwareProfile, rows: Sequence[Row], point: OperatingPoint, field: str
) -> dict[tuple[object, ...], float]:
    """Return the log power of each thing measured at ``point``, less the standby of attached parts."""
    standby = sum(
        level.standby_power_w.value
        for level in board.levels
        if level.standby_power_w is not None and level.domain not in point.domains
    )
    groups: dict[tuple[object, ...], list[float]] = {}
    for row in rows:
        power = row.power_w
        if row.point == point.name and row.trains == (field == TRAINING) and power is not None:
            groups.setdefault(row.key, []).append(max(power - standby, 0.01 * power))
    return {key: float(np.mean(np.log(group))) for key, group in groups.items()}
