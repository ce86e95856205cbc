"""What a report says about one board: its named designs taken apart, and what its numbers rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.cost.context import Context
from dse.cost.energy import YEAR_S, events_per_day_for
from dse.cost.explain import Explanation, explain
from dse.cost.intervals import Influence, Intervals, price_intervals
from dse.hardware import Quantity
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.search.result import BoardResult, SearchResult
from dse.search.space import Space
from dse.search.table import plan_at
from dse.vocabulary import Evidence

FloatArray = NDArray[np.float64]
Step = Callable[[int, int], None]

NAMED_NUMBERS: Final = 3
"""Assumed numbers that a report names."""

SAMPLED: Final = 16
"""Designs of a front whose intervals are computed, besides those with a name."""


@dataclass(frozen=True)
class NamedDesign:
    """A design of a front that bears one or more names, taken apart."""

    names: tuple[str, ...]
    why: tuple[str, ...]
    row: Mapping[str, Any]
    context: Context
    plan: TrainingPlan
    explanation: Explanation
    low: Mapping[str, float]
    high: Mapping[str, float]

    @property
    def title(self) -> str:
        """All names in one."""
        return ", ".join(self.names)

    @property
    def events_per_day_for_a_year(self) -> float:
        """Learning events per day that the battery sustains for a year."""
        names = ("event_j", "event_s", "inference_j", "inference_s", "wake_j", "wake_s", "sleep_w")
        values = (np.array([self.row[name]]) for name in names)
        return float(events_per_day_for(self.context, YEAR_S, *values)[0])

    @cached_property
    def fullest(self) -> tuple[str, float]:
        """The level that has the smallest share free, and the share that is used."""
        shares = {
            level.name: self.row[f"level_bytes.{level.name}"] / level.usable_bytes
            for level in self.context.board.levels
        }
        name = max(shares, key=lambda level: shares[level])
        return name, shares[name]


@dataclass(frozen=True)
class Ranked:
    """A number of the board, and the mean relative change of each result between its low and its high."""

    path: str
    quantity: Quantity
    change: Mapping[str, float]

    @property
    def weight(self) -> float:
        """The largest change."""
        return max(self.change.values(), default=0.0)


@dataclass(frozen=True)
class BoardReport:
    """One board of a search result, ready to be written down."""

    result: BoardResult
    named: tuple[NamedDesign, ...]
    ranked: tuple[Ranked, ...]
    examined: int

    @property
    def explanations(self) -> dict[str, Explanation]:
        """The named designs by their titles."""
        return {design.title: design.explanation for design in self.named}

    @property
    def labels(self) -> dict[str, Explanation]:
        """The named designs, each with its network where they differ."""
        networks = {design.row["network"] for design in self.named}
        if len(networks) < 2:
            return self.explanations
        return {f"{design.title}\n{design.row['network']}": design.explanation for design in self.named}


def board_report(found: SearchResult, board: int, step: Step | None = None) -> BoardReport:
    """Take the named designs of a board apart and find the numbers that its front rests on.

    ``step`` is called with (done, in all) as the work goes on.
    """
    result, space = found.boards[board], found.space
    if len(result.front) == 0:
        return BoardReport(result, (), (), 0)
    positions = _examined(result)
    intervals = _intervals(space, result, positions, step)
    titles: dict[int, list[Any]] = {}
    for plan in result.front.named:
        titles.setdefault(plan.position, []).append(plan)
    named = tuple(
        _named(space, result, position, plans, intervals[position]) for position, plans in titles.items()
    )
    return BoardReport(result, named, _ranked(space.objectives, intervals), len(positions))


def _examined(result: BoardResult) -> list[int]:
    """Positions in the front whose intervals are computed: the named ones, and some evenly spread."""
    spread = np.linspace(0, len(result.front) - 1, min(SAMPLED, len(result.front))).round().astype(int)
    return sorted({*(plan.position for plan in result.front.named), *spread.tolist()})


def design_of(space: Space, row: Mapping[str, Any]) -> tuple[Context, TrainingPlan, dict[str, int]]:
    """Return context, plan and event codes (operating point, sleep state) of a row of a front."""
    block = space.block_of(int(row["design"]))
    board = block.context.board
    choice = plan_at(block, int(row["design"]), row["network"])
    points = [point.name for point in board.operating_points]
    states = [state.name for state in board.sleep_states]
    sleep = -1 if choice.sleep_state == "auto" else states.index(choice.sleep_state)
    event = {"operating_point": points.index(choice.operating_point), "sleep_state": sleep}
    return block.context, choice.plan, event


@dataclass(frozen=True)
class _Ends:
    """Intervals of one design: row ``place`` of ``intervals``."""

    intervals: Intervals
    place: int


def _intervals(
    space: Space, result: BoardResult, positions: list[int], step: Step | None
) -> dict[int, _Ends]:
    """Compute intervals network by network: the plans of one network are priced together."""
    designs = {position: design_of(space, result.front.row(position)) for position in positions}
    networks: dict[str, list[int]] = {}
    for position, (context, _, _) in designs.items():
        networks.setdefault(context.workload.name, []).append(position)
    found: dict[int, _Ends] = {}
    for number, members in enumerate(networks.values()):
        context = designs[members[0]][0]
        plans = PlanBatch.from_plans(context.workload, [designs[position][1] for position in members])
        event = {
            name: np.array([designs[position][2][name] for position in members])
            for name in ("operating_point", "sleep_state")
        }
        intervals = price_intervals(context, plans, **event)
        found |= {position: _Ends(intervals, place) for place, position in enumerate(members)}
        if step is not None:
            step(number + 1, len(networks))
    return found


def _named(space: Space, result: BoardResult, position: int, plans: list[Any], ends: _Ends) -> NamedDesign:
    row = result.front.row(position)
    context, plan, event = design_of(space, row)
    return NamedDesign(
        names=tuple(named.name for named in plans),
        why=tuple(named.why for named in plans),
        row=row,
        context=context,
        plan=plan,
        explanation=explain(context, plan, event["operating_point"], event["sleep_state"]),
        low={name: float(values[ends.place]) for name, values in ends.intervals.low.items()},
        high={name: float(values[ends.place]) for name, values in ends.intervals.high.items()},
    )


def _ranked(objectives: tuple[str, ...], found: Mapping[int, _Ends]) -> tuple[Ranked, ...]:
    """Rank the numbers of a board by what they do to the objectives, over all networks together.

    Returns the three assumed numbers that matter most, among up to as many others that matter as much.
    """
    each = {id(ends.intervals): ends.intervals for ends in found.values()}
    names = [name for name in objectives if name != "accuracy"]
    quantities: dict[str, Quantity] = {}
    changes: dict[str, dict[str, list[FloatArray]]] = {}
    total = len(found)
    for intervals in each.values():
        for influence in intervals.influences:
            quantities[influence.path] = influence.quantity
            _collect(changes.setdefault(influence.path, {}), influence, names)
    ranked = [
        Ranked(
            path,
            quantities[path],
            {name: float(np.concatenate(parts).sum() / total) for name, parts in by.items()},
        )
        for path, by in changes.items()
    ]
    ranked.sort(key=lambda number: (-number.weight, number.path))
    ranked = [number for number in ranked if number.weight >= 0.001]
    assumed = [number for number in ranked if number.quantity.kind is Evidence.ASSUMED][:NAMED_NUMBERS]
    least = assumed[-1].weight if assumed else 0.0
    others = [
        number for number in ranked if number.quantity.kind is not Evidence.ASSUMED and number.weight >= least
    ]
    kept = {id(number) for number in (*assumed, *others[:NAMED_NUMBERS])}
    return tuple(number for number in ranked if id(number) in kept)


def _collect(into: dict[str, list[FloatArray]], influence: Influence, names: list[str]) -> None:
    for name in names:
        into.setdefault(name, []).append(np.abs(np.ravel(influence.change[name])))
