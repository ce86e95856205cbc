"""Prices designs of a block, as a grid of rows and columns or one by one, and judges them.

The step of each row is priced once; ``event_costs`` broadcasts it against the columns. Accuracy is worked
out once per distinct combination of the decisions that its source names, and looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.accuracy import AccuracyEstimate, AccuracySource
from dse.accuracy.base import unknown
from dse.cost.context import Context
from dse.cost.event import Costs, event_costs
from dse.cost.model import OBJECTIVES, StepCosts, illegal, step_costs
from dse.errors import Unpriced
from dse.plan.decisions import PlanBatch
from dse.search.blocks import Block, Tile
from dse.search.budgets import Budget, first_rejection, rejections, step_rejection, total_excess

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

ROWS: Final = 2048
"""Rows whose steps are priced together. Fixed, so that no sum is ever rounded in another order."""

UNKNOWN: Final = -2  # reason code: within every budget, but of unknown accuracy
FEASIBLE: Final = -1


@dataclass(frozen=True)
class Rows:
    """Legal, priced rows of a block: their numbers (S,), their steps, and the count of others by reason."""

    block: Block
    rows: IntArray
    step: StepCosts | None
    illegal: Mapping[str, int]
    accuracy: AccuracyTable | None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class AccuracyTable:
    """Accuracy over distinct (step, event) combinations, and which of them each row and column has."""

    estimate: AccuracyEstimate
    of_row: IntArray
    of_column: IntArray

    def grid(self, rows: IntArray, columns: slice) -> FloatArray:
        """Return the accuracy of every design in ``rows`` x ``columns``."""
        return self.estimate.value[self.of_row[rows, None], self.of_column[None, columns]]

    def known_rows(self) -> BoolArray:
        """Return the rows that have a known accuracy in some column."""
        known = np.asarray(~np.isnan(self.estimate.value).all(axis=1))
        return np.asarray(known[self.of_row])

    def pairs(self, rows: IntArray, columns: IntArray) -> AccuracyEstimate:
        """Return the estimate of design (row, column) for two arrays of positions (n,)."""
        at = self.of_row[rows], self.of_column[columns]
        return AccuracyEstimate._make(field[at] for field in self.estimate)


def row_batches(block: Block, source: AccuracySource | None) -> Iterator[Rows]:
    """Yield all rows of ``block``, ``ROWS`` at a time."""
    for start in range(0, block.rows if block.columns else 0, ROWS):
        yield priced_rows(block, np.arange(start, min(start + ROWS, block.rows)), source)


def priced_rows(block: Block, rows: IntArray, source: AccuracySource | None) -> Rows:
    """Price the steps of ``rows``; rows that are illegal, or that the board cannot price, get a reason."""
    plans = block.plans(rows)
    kept, reasons = _legal(block, plans)
    parts, unpriced = _priced(block, plans, kept)
    for text, count in unpriced.items():
        reasons[text] = reasons.get(text, 0) + count
    kept = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, dtype=np.int64)
    order = np.argsort(kept, kind="stable")
    step = StepCosts.concatenate([part[1] for part in parts]) if parts else None
    if step is not None and len(parts) > 1:
        step = step.take(order)
    kept = rows[kept[order]]
    table = accuracy_table(block, kept, source) if source is not None else None
    return Rows(block, kept, step, reasons, table)


def _legal(block: Block, plans: PlanBatch) -> tuple[IntArray, dict[str, int]]:
    """Positions of the legal plans, and how many fall to each reason (the first that applies)."""
    left = np.ones(len(plans), dtype=bool)
    reasons = {}
    for reason, mask in illegal(block.context.workload, plans).items():
        hit = left & mask
        if hit.any():
            reasons[reason] = int(hit.sum())
            left &= ~hit
    return np.flatnonzero(left), reasons


def _priced(
    block: Block, plans: PlanBatch, rows: IntArray
) -> tuple[list[tuple[IntArray, StepCosts]], dict[str, int]]:
    """Price ``rows`` together; where the board lacks a figure, split them until it is known who needs it."""
    if len(rows) == 0:
        return [], {}
    try:
        return [(rows, step_costs(block.context, plans.rows(rows)))], {}
    except Unpriced as error:
        parts: list[tuple[IntArray, StepCosts]] = []
        reasons: dict[str, int] = {}
        for group in _split(plans, rows):
            if len(group) == len(rows):
                return [], {f"unpriced: {error.problems[0]}": len(rows)}
            found, missing = _priced(block, plans, group)
            parts += found
            for text, count in missing.items():
                reasons[text] = reasons.get(text, 0) + count
        return parts, reasons


def _split(plans: PlanBatch, rows: IntArray) -> list[IntArray]:
    """Split rows by the first decision in which they differ; rows that differ in none stay together."""
    for name in (
        "learning_dtype",
        "im2col",
        "saved_bits",
        "backward_dtype",
        "classifier_dtype",
        "frozen_bits",
        "optimiser",
        "bn_mode",
        "replay_bits",
        "new_samples",
        "cut",
    ):
        column = plans.column(name)[rows]
        values = np.unique(column)
        if len(values) > 1:
            return [rows[column == value] for value in values]
    return [rows[:1], rows[1:]] if len(rows) > 1 else [rows]


def accuracy_table(block: Block, rows: IntArray, source: AccuracySource) -> AccuracyTable:
    """Ask ``source`` once per distinct combination of the decisions that it depends on."""
    step = block.step_values(rows)
    step = {name: step[name] for name in step if name in source.depends_on and name != "policy"}
    names, policy = np.unique(block.policy_names(block.step_values(rows)), return_inverse=True)
    of_row, of_step = _distinct(step | {"policy": policy.ravel()}, len(rows))
    event = block.event_values(np.arange(block.columns))
    of_column, of_event = _distinct(
        {name: column for name, column in event.items() if name in source.depends_on}, block.columns
    )
    choices: dict[str, NDArray[Any]] = {name: values[:, None] for name, values in of_step.items()}
    choices |= of_event
    choices["policy"] = names[of_step["policy"]][:, None]
    for name, value in block.kind.decisions.items():
        choices[name] = np.asarray(value)
    shape = (int(of_row.max(initial=-1)) + 1, int(of_column.max(initial=-1)) + 1)
    predicted = source.predict(block.context.workload, choices) if all(shape) else unknown(shape)
    estimate = AccuracyEstimate._make(np.broadcast_to(field, shape) for field in predicted)
    return AccuracyTable(estimate, of_row, of_column)


def _distinct(columns: Mapping[str, IntArray], count: int) -> tuple[IntArray, dict[str, IntArray]]:
    """Which distinct combination each of ``count`` entries has, and the combinations in columns."""
    if not columns or count == 0:
        return np.zeros(count, dtype=np.int64), {name: column[:1] for name, column in columns.items()}
    unique, inverse = np.unique(np.stack(list(columns.values())), axis=1, return_inverse=True)
    return inverse.ravel(), dict(zip(columns, unique, strict=True))


@dataclass(frozen=True)
class Judged:
    """Designs with their prices. ``reason`` is a position in ``budgets.rejections``, FEASIBLE or UNKNOWN.

    ``objectives`` are minimised; all arrays have the shape of ``reason``.
    """

    costs: Costs
    reason: NDArray[np.int8]
    known: BoolArray | None
    objectives: tuple[FloatArray, ...]


def judge(
    context: Context, objectives: tuple[str, ...], budgets: tuple[Budget, ...], costs: Costs,
    accuracy: FloatArray | None, shape: tuple[int, ...],
) -> Judged:  # fmt: skip
    """Say which designs are feasible. Unknown accuracy matters where accuracy is an objective."""
    reason = first_rejection(context, budgets, costs, shape)
    known = None
    if accuracy is not None and "accuracy" in objectives:
        known = ~np.isnan(accuracy)
        reason[(reason == FEASIBLE) & ~known] = UNKNOWN
    columns = tuple(_minimised(name, costs, accuracy, shape) for name in objectives)
    return Judged(costs, reason, known, columns)


def _minimised(
    objective: str, costs: Costs, accuracy: FloatArray | None, shape: tuple[int, ...]
) -> FloatArray:
    column, sense = OBJECTIVES[objective]
    values = accuracy if column == "accuracy" else getattr(costs, column)
    assert values is not None  # a space with an accuracy objective has a source
    return np.broadcast_to(-values if sense == "max" else values, shape)


def judged_grid(
    rows: Rows, part: IntArray, tile: Tile, objectives: tuple[str, ...], budgets: tuple[Budget, ...]
) -> Judged:
    """Price and judge rows ``part`` (positions) against the columns of ``tile``: arrays (S, W)."""
    assert rows.step is not None
    costs = event_costs(rows.block.context, rows.step.take(part).expand(), tile.choices)
    shape = (len(part), tile.columns.stop - tile.columns.start)
    accuracy = rows.accuracy.grid(part, tile.columns) if rows.accuracy is not None else None
    judged = judge(rows.block.context, objectives, budgets, costs, accuracy, shape)
    if rows.block.withheld:
        starts = rows.block.first + rows.rows[part] * rows.block.columns
        index = starts[:, None] + np.arange(tile.columns.start, tile.columns.stop)
        _withhold(rows.block, budgets, judged, index)
    return judged


def _withhold(block: Block, budgets: tuple[Budget, ...], judged: Judged, index: IntArray) -> None:
    """Reject the designs of ``index`` that have no placement, where nothing else rejects them."""
    reason = len(rejections(block.context.board, budgets)) - 1
    lost = block.without_map(index) & ((judged.reason == FEASIBLE) | (judged.reason == UNKNOWN))
    judged.reason[lost] = reason


@dataclass(frozen=True)
class Designs:
    """Designs of one block, one by one: their indices (n,), decisions, prices and judgement."""

    block: Block
    index: IntArray
    decisions: dict[str, IntArray]
    accuracy: AccuracyEstimate | None
    judged: Judged
    excess: FloatArray


def price_designs(
    block: Block, index: IntArray, source: AccuracySource | None, objectives: tuple[str, ...],
    budgets: tuple[Budget, ...],
) -> tuple[Designs | None, dict[str, IntArray]]:  # fmt: skip
    """Price single designs of ``block``; returns them, and the indices of illegal ones by reason."""
    rows, columns = np.divmod(np.asarray(index) - block.first, block.columns)
    wanted, of_design = np.unique(rows, return_inverse=True)
    priced = priced_rows(block, wanted, source)
    position = np.searchsorted(priced.rows, wanted)
    legal = np.isin(wanted, priced.rows)[of_design]
    bad = _illegal_designs(block, np.asarray(index)[~legal], rows[~legal])
    if priced.step is None or not legal.any():
        return None, bad
    rejected, _ = step_rejection(block.context, budgets, priced.step)
    index, rows, columns, row = index[legal], rows[legal], columns[legal], position[of_design][legal]
    decisions = block.step_values(rows) | block.event_values(columns)
    costs = event_costs(block.context, priced.step.take(row), block.event_values(columns))
    accuracy = priced.accuracy.pairs(row, columns) if priced.accuracy is not None else None
    judged = judge(
        block.context,
        objectives,
        budgets,
        costs,
        accuracy.value if accuracy is not None else None,
        index.shape,
    )
    judged.reason[:] = np.where(rejected[row] >= 0, rejected[row], judged.reason)
    _withhold(block, budgets, judged, index)
    excess = np.broadcast_to(total_excess(block.context, budgets, costs), index.shape)
    return Designs(block, index, decisions, accuracy, judged, excess), bad


def _illegal_designs(block: Block, index: IntArray, rows: IntArray) -> dict[str, IntArray]:
    found: dict[str, list[int]] = {}
    for row in np.unique(rows):
        reason = next(iter(priced_rows(block, np.array([row]), None).illegal))
        found.setdefault(reason, []).extend(index[rows == row].tolist())
    return {reason: np.array(each, dtype=np.int64) for reason, each in found.items()}
