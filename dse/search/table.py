"""Designs as rows of a table: every decision in words, every cost, the accuracy with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dse.accuracy import STATUSES
from dse.cost.event import Costs
from dse.plan.decisions import CODES, TrainingPlan
from dse.search.blocks import Block
from dse.search.choices import AUTO, SPELLINGS
from dse.search.pricing import Designs, price_designs
from dse.search.relaxation import Relaxation, excesses
from dse.search.space import Space

Columns = dict[str, NDArray[Any]]
IntArray = NDArray[np.int64]

PLACED: Final = {"replay_level": "replay_level_used", "sleep_state": "sleep_state_used"}
"""Columns of ``Costs`` that say what an automatic decision came to."""


def design_table(space: Space, board: int, index: IntArray) -> Columns:
    """Return the columns of the designs ``index`` (k,) of one board, in that order; empty for no design."""
    found: list[tuple[IntArray, Columns]] = []
    order = np.asarray(index)
    for block in space.board_blocks(board):
        inside = order[(order >= block.first) & (order < block.first + block.size)]
        if len(inside):
            designs, _ = price_designs(
                block, inside, space.accuracy, space.objectives, space.board_budgets(board)
            )
            assert designs is not None
            found.append((inside, _columns(space, designs)))
    if not found:
        return {}
    position = np.argsort(np.concatenate([part for part, _ in found]), kind="stable")
    rank = position[np.argsort(np.argsort(order, kind="stable"), kind="stable")]
    return {name: np.concatenate([columns[name] for _, columns in found])[rank] for name in found[0][1]}


def _columns(space: Space, designs: Designs) -> Columns:
    block, count = designs.block, len(designs.index)
    columns: Columns = {
        "board": np.full(count, block.context.board.label),
        "network": np.full(count, space.network_names[block.network]),
        **decision_words(block, designs.decisions, count),
    }
    if designs.accuracy is not None:
        value, low, high, status = designs.accuracy
        columns |= {"accuracy": value, "accuracy_low": low, "accuracy_high": high}
        columns["accuracy_status"] = np.array(STATUSES)[status]
    return columns | cost_columns(block, designs.judged.costs, count)


def decision_words(block: Block, decisions: Mapping[str, IntArray], count: int) -> Columns:
    """Return every decision of ``count`` designs of ``block`` as words or numbers."""
    board = block.context.board
    names = {
        "operating_point": [point.name for point in board.operating_points],
        "sleep_state": [state.name for state in board.sleep_states],
        "replay_level": [level.name for level in board.levels],
        "policy": [policy.name for policy in block.policies],
        **CODES,
    }
    codes = {name: np.full(count, value) for name, value in block.kind.decisions.items()} | dict(decisions)
    return {
        name: _words(names[name], values) if name in names else _spelled(name, values)
        for name, values in codes.items()
    }


def _spelled(name: str, values: IntArray) -> NDArray[Any]:
    """Return codes that stand for something longer as its word, numbers as they are."""
    if name not in SPELLINGS:
        return np.asarray(values)
    codes, places = np.unique(values, return_inverse=True)
    return np.array([SPELLINGS[name](int(code)) for code in codes])[places]


def _words(names: Sequence[str], codes: IntArray) -> NDArray[Any]:
    return np.where(codes == AUTO, "auto", np.array([*names, "auto"])[codes])


def cost_columns(block: Block, costs: Costs, count: int) -> Columns:
    """Return every array of ``costs`` as a column; those by level or cause as ``group.name``."""
    columns: Columns = {}
    for item in fields(costs):
        value = getattr(costs, item.name)
        if isinstance(value, dict):
            columns |= {f"{item.name}.{key}": np.broadcast_to(each, (count,)) for key, each in value.items()}
        elif item.name not in (*PLACED, "short_level", "fits", "short_bytes"):
            columns[item.name] = np.broadcast_to(value, (count,))
    board = block.context.board
    levels, states = [level.name for level in board.levels], [state.name for state in board.sleep_states]
    columns["replay_level_used"] = _words(levels, np.broadcast_to(costs.replay_level, (count,)))
    columns["sleep_state_used"] = _words(states, np.broadcast_to(costs.sleep_state, (count,)))
    return columns


def relaxation_at(space: Space, board: int, index: int) -> Relaxation:
    """Return the design ``index`` of ``board`` with the budgets that it exceeds."""
    budgets = space.board_budgets(board)
    designs, _ = price_designs(
        space.block_of(index), np.array([index]), space.accuracy, space.objectives, budgets
    )
    assert designs is not None
    known = designs.accuracy is None or bool(np.isfinite(designs.accuracy.value[0]))
    row = {name: column[0].item() for name, column in _columns(space, designs).items()}
    return Relaxation(index, float(designs.excess[0]), excesses(designs, 0, budgets), row, known)


class Choice(NamedTuple):
    """One design as its parts: names of network and board, the plan, names of clock and sleep state."""

    network: str
    board: str
    plan: TrainingPlan
    operating_point: str
    sleep_state: str


def plan_at(block: Block, design: int, network: str) -> Choice:
    """Return design ``design`` of ``block`` as a training plan with what it goes with."""
    row, column = (np.array([place]) for place in divmod(design - block.first, block.columns))
    words = decision_words(block, block.step_values(row) | block.event_values(column), 1)
    values = {name: column[0].item() for name, column in words.items()}
    where = values.pop("operating_point"), values.pop("sleep_state")
    values["policy"] = block.policies[int(block.step_values(row)["policy"][0])]
    return Choice(network, block.context.board.label, TrainingPlan(**values), *where)
