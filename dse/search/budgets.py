"""Hard limits: which designs they reject, and by how much a design exceeds them.

The relative excess of a design over a budget is ``value / limit - 1`` where the budget is a ceiling and
``limit / value - 1`` where it is a floor: the factor, less one, by which the budget would have to give.
Levels of the board are budgets too, and so is the day: a utilisation above 1 is never feasible.

A rejected design is counted under the first reason that applies: first those that its step alone gives
(levels of the board, then budgets on bytes as the file orders them), because they reject it with every
event at once; then those of the whole design (levels, retention, all budgets as the file orders them); last
those whose buffers could not be placed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.cost.context import Context
from dse.cost.event import Costs
from dse.cost.model import StepCosts
from dse.hardware import HardwareProfile
from dse.search.reader import Reader
from dse.units import human_bytes, human_seconds

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MEMORY: Final = "memory of the board"
RETENTION: Final = "replays or weights would not survive sleep"
UTILISATION: Final = "utilisation"
NO_MAP: Final = "memory map: live bytes would fit, no placement was found"
YEAR_S: Final = 365.25 * 86400.0

_KINDS: Final[dict[str, tuple[str, float, bool]]] = {
    # key -> (column of Costs, factor to its unit, floor instead of ceiling)
    "ram_peak_kib": ("ram_peak_bytes", 1024.0, False),
    "nvm_kib": ("nvm_bytes", 1024.0, False),
    "event_s": ("event_s", 1.0, False),
    "event_j": ("event_j", 1.0, False),
    "lifetime_days": ("lifetime_s", 86400.0, True),
    "wear_years": ("wear_years", 1.0, True),
    UTILISATION: ("utilisation", 1.0, False),
}
LEVELS: Final = "level_kib"


@dataclass(frozen=True)
class Budget:
    """One limit: a ceiling on a column of ``Costs`` or on a level's bytes, or a floor under a column."""

    name: str
    column: str
    limit: float
    floor: bool = False
    level: str = ""

    def value(self, costs: Costs) -> FloatArray:
        """Return what is limited, from ``costs``."""
        found = costs.level_bytes[self.level] if self.level else getattr(costs, self.column)
        return np.asarray(found)

    def met(self, costs: Costs) -> BoolArray:
        """Return where the budget holds."""
        value = self.value(costs)
        return np.asarray(value >= self.limit if self.floor else value <= self.limit)

    def excess(self, costs: Costs) -> FloatArray:
        """Return the relative excess, 0 where the budget holds; infinite where nothing would do."""
        return relative_excess(self.value(costs), self.limit, floor=self.floor)

    def text(self, value: float) -> str:
        """Write ``value`` of the limited quantity for people."""
        if self.column.endswith("_bytes"):
            return human_bytes(value)
        if self.column.endswith("_s"):
            return human_seconds(value)
        return f"{value:.4g}" + {"event_j": " J", "wear_years": " years"}.get(self.column, "")


def relative_excess(value: FloatArray, limit: float, *, floor: bool = False) -> FloatArray:
    """Return ``max(0, value / limit - 1)``, or ``max(0, limit / value - 1)`` for a floor; any shape."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = limit / np.asarray(value) if floor else np.asarray(value) / limit
    return np.asarray(np.maximum(np.nan_to_num(ratio - 1.0, nan=0.0, posinf=np.inf), 0.0))


def read_budgets(
    reader: Reader, table: Mapping[str, Any], boards: Sequence[HardwareProfile]
) -> tuple[Budget, ...]:
    """Read the table ``budgets`` in its order; each limit is a finite number above 0."""
    reader.known_keys(table, (*_KINDS, LEVELS), "budgets")
    budgets: list[Budget] = []
    for key in table:
        if key in _KINDS:
            column, factor, floor = _KINDS[key]
            high = 1.0 if key == UTILISATION else np.inf
            limit = reader.number(table, key, "budgets", 1.0, above=True, high=high)
            budgets.append(Budget(key, column, limit * factor, floor))
        elif key == LEVELS:
            budgets += _level_budgets(reader, reader.table(table, LEVELS), boards)
    return tuple(budgets)


def _level_budgets(
    reader: Reader, table: Mapping[str, Any], boards: Sequence[HardwareProfile]
) -> list[Budget]:
    known = dict.fromkeys(level.name for board in boards for level in board.levels)
    budgets = []
    for name in table:
        limit = reader.number(table, name, f"budgets.{LEVELS}", 1.0, above=True)
        if boards and name not in known:
            reader.unknown(f"budgets.{LEVELS}.{name}", "memory level", name, known)
        budgets.append(Budget(f"{LEVELS}.{name}", "level_bytes", limit * 1024.0, level=name))
    return budgets


def budgets_on(board: HardwareProfile, budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """Return the budgets that apply on ``board``, the day last: levels that it lacks have no budget."""
    levels = {level.name for level in board.levels}
    own = tuple(budget for budget in budgets if not budget.level or budget.level in levels)
    if any(budget.name == UTILISATION for budget in own):
        return own
    return (*own, Budget(UTILISATION, "utilisation", 1.0))


def capacity_budgets(context: Context) -> tuple[Budget, ...]:
    """Return the usable size of every level as a budget: what "fits" means."""
    return tuple(
        Budget(f"memory {level.name}", "level_bytes", float(capacity), level=level.name)
        for level, capacity in zip(context.board.levels, context.capacity_bytes, strict=True)
    )


def total_excess(context: Context, budgets: Sequence[Budget], costs: Costs) -> FloatArray:
    """Return the largest relative excess over levels and ``budgets``; infinite where sleep loses data."""
    worst = np.where(costs.fits | (costs.short_bytes > 0), 0.0, np.inf)
    for budget in (*capacity_budgets(context), *budgets):
        worst = np.maximum(worst, budget.excess(costs))
    return worst


def step_values(
    context: Context, budgets: Sequence[Budget], step: StepCosts
) -> list[tuple[int, FloatArray, float]]:
    """Return (position in ``rejections``, value [S], limit) of all that the step alone already takes.

    Samples only add to it: what exceeds a limit here does so for every event.
    """
    levels = {level.name: k for k, level in enumerate(context.board.levels)}
    found = [(k, step.peak_bytes[:, k], float(capacity)) for k, capacity in enumerate(context.capacity_bytes)]
    for position, budget in enumerate(budgets, start=len(levels) + 1):
        if budget.level:
            found.append((position, step.peak_bytes[:, levels[budget.level]], budget.limit))
        elif budget.column == "ram_peak_bytes":
            found.append((position, step.ram_peak_bytes, budget.limit))
    return found


def step_rejection(
    context: Context, budgets: Sequence[Budget], step: StepCosts
) -> tuple[NDArray[np.int8], FloatArray]:
    """Judge steps before any event: (reason or -1, least relative excess of any event), (S,) each.

    A step that exceeds several levels counts under the one where most bytes are missing.
    """
    missing = step.peak_bytes - context.capacity_bytes
    reason = np.where(missing.max(axis=1) > 0, missing.argmax(axis=1), -1).astype(np.int8)
    least = np.zeros(len(step))
    for position, value, limit in step_values(context, budgets, step):
        reason[(reason < 0) & (value > limit)] = position
        least = np.maximum(least, relative_excess(value, limit))
    return reason, least


def rejections(board: HardwareProfile, budgets: Sequence[Budget]) -> tuple[str, ...]:
    """Return the reasons for which a design can be rejected, in the order in which they are asked."""
    levels = (f"{MEMORY}, {level.name}" for level in board.levels)
    return (*levels, RETENTION, *(budget.name for budget in budgets), NO_MAP)


def first_rejection(
    context: Context, budgets: Sequence[Budget], costs: Costs, shape: tuple[int, ...]
) -> NDArray[np.int8]:
    """Return the position in ``rejections`` of the first reason against each whole design, -1 for none.

    A design that exceeds several levels counts under the one where most bytes are missing.
    """
    reason = np.full(shape, -1, dtype=np.int8)
    levels = len(context.board.levels)
    if not costs.fits.all():
        short = np.broadcast_to(costs.short_bytes > 0, shape)
        unfit = np.where(short, np.broadcast_to(costs.short_level, shape), levels)
        reason[:] = np.where(np.broadcast_to(costs.fits, shape), -1, unfit)
    for position, budget in enumerate(budgets, start=levels + 1):
        met = budget.met(costs)
        if not met.all():
            reason[(reason < 0) & ~np.broadcast_to(met, shape)] = position
    return reason
