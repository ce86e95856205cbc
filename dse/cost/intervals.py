"""How sure a price is: assumed numbers of a board, each moved between its low and its high.

A number is screened on its own; then all numbers move together to the end that lowers, and to the end
that raises, a result. This is the outer interval: it holds if every assumption errs the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from dse.cost.context import Context
from dse.cost.event import Costs, event_costs
from dse.cost.model import StepCosts, describe_steps, event_choices, step_costs
from dse.hardware import Quantity
from dse.plan.decisions import FloatArray, PlanBatch

RESULTS: Final = (
    "ram_peak_bytes",
    "nvm_bytes",
    "event_s",
    "event_j",
    "lifetime_s",
    "wear_years",
    "utilisation",
)


@dataclass(frozen=True)
class Influence:
    """What one number does to each result when it goes from its low to its high.

    One figure of a profile can stand at several ``paths`` (a rate for several operators); they move
    together. ``change`` holds, per result, (result at high - result at low) / result, shape (P,).
    """

    paths: tuple[str, ...]
    quantity: Quantity
    change: Mapping[str, FloatArray]

    @property
    def path(self) -> str:
        """The first of the paths, with the number of others."""
        return self.paths[0] + (f" (and {len(self.paths) - 1} more)" if len(self.paths) > 1 else "")

    def values(self, end: str) -> dict[str, float]:
        """Return path -> value at the ``low`` or ``high`` end."""
        value = self.quantity.low_value if end == "low" else self.quantity.high_value
        return dict.fromkeys(self.paths, value)

    def weight(self, results: tuple[str, ...]) -> float:
        """Return the largest mean relative change over ``results``."""
        return max(float(np.mean(np.abs(self.change[name]))) for name in results)


@dataclass(frozen=True)
class Intervals:
    """Low and high of each result, shape (P,), and the numbers behind them, most influential first."""

    low: Mapping[str, FloatArray]
    high: Mapping[str, FloatArray]
    influences: tuple[Influence, ...]

    def most_important(self, results: tuple[str, ...], count: int = 3) -> tuple[Influence, ...]:
        """Return the numbers that move ``results`` most."""
        known = tuple(name for name in results if name in RESULTS)
        ranked = sorted(self.influences, key=lambda influence: -influence.weight(known)) if known else []
        return tuple(influence for influence in ranked[:count] if influence.weight(known) > 0)


def uncertain_numbers(context: Context) -> tuple[tuple[tuple[str, ...], Quantity], ...]:
    """Return the numbers of the board that carry a low or a high, with every path where each stands."""
    groups: dict[tuple[Any, ...], list[tuple[str, Quantity]]] = {}
    used = set((context.board.kernels | dict(context.kernels)).values())
    for path, quantity in context.board.numbers():
        if "[" in path and path.split("[", 1)[1].split(",", 1)[0] not in used:
            continue  # a kernel library that is not in use
        if quantity.low_value < quantity.value or quantity.high_value > quantity.value:
            field = path.rsplit(".", 1)[-1]
            section = path.split("[", 1)[0].split(".", 1)[0]
            groups.setdefault((section, field, quantity), []).append((path, quantity))
    return tuple((tuple(path for path, _ in group), group[0][1]) for group in groups.values())


def price_intervals(context: Context, plans: PlanBatch, **event: Any) -> Intervals:
    """Price ``plans`` over the low and high of every uncertain number of the board."""
    steps = describe_steps(context, plans)
    choices = event_choices(context, plans, **event)

    def priced(values: Mapping[str, float]) -> Costs:
        varied = replace(context, board=context.board.with_values(values)) if values else context
        table: StepCosts = step_costs(varied, plans, steps)
        return event_costs(varied, table, choices)

    nominal = priced({})
    influences = []
    for paths, quantity in uncertain_numbers(context):
        influence = Influence(paths, quantity, {})
        low, high = priced(influence.values("low")), priced(influence.values("high"))
        change = {name: _relative(low, high, nominal, name) for name in RESULTS}
        if any(np.any(values) for values in change.values()):
            influences.append(replace(influence, change=change))
    ends = {name: _ends(priced, influences, nominal, name) for name in RESULTS}
    influences.sort(key=lambda influence: -influence.weight(RESULTS))
    return Intervals(
        {name: low for name, (low, _) in ends.items()},
        {name: high for name, (_, high) in ends.items()},
        tuple(influences),
    )


def _relative(low: Costs, high: Costs, nominal: Costs, name: str) -> FloatArray:
    at_low, at_high, base = (np.asarray(getattr(costs, name), dtype=float) for costs in (low, high, nominal))
    finite = np.isfinite(at_low) & np.isfinite(at_high) & np.isfinite(base) & (base != 0)
    with np.errstate(invalid="ignore"):
        return np.where(finite, (at_high - at_low) / np.where(finite, base, 1.0), 0.0)


def _ends(
    priced: Any, influences: list[Influence], nominal: Costs, name: str
) -> tuple[FloatArray, FloatArray]:
    """Price the two corners of one result; the nominal value always lies between them."""
    base = np.asarray(getattr(nominal, name), dtype=float)
    moving = [influence for influence in influences if np.any(influence.change[name])]
    if not moving:
        return base, base
    corners = []
    for upwards in (False, True):
        values: dict[str, float] = {}
        for influence in moving:
            rises = bool(np.sum(influence.change[name]) >= 0)
            values |= influence.values("high" if rises == upwards else "low")
        corners.append(np.asarray(getattr(priced(values), name), dtype=float))
    return np.fmin(np.fmin(*corners), base), np.fmax(np.fmax(*corners), base)
