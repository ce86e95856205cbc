"""Designs by learning key: against going through every design one by one."""

from __future__ import annotations

import numpy as np

from dse.plan.learning_key import LEARNING_CHOICES, learning_key
from dse.search import Space
from dse.search.learning import candidates_of, choices, decisions
from dse.search.pricing import FEASIBLE, price_designs
from dse.search.table import plan_at
from tests.oracles import dominated_mask
from tests.search import measuring, spaces

COSTS = ("ram_peak_bytes", "event_j")


def one_by_one(space: Space, board: int) -> dict[str, list[tuple[float, ...]]]:
    """Costs of every feasible design by learning key."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for block in space.board_blocks(board):
        index = np.arange(block.first, block.first + block.size)
        designs, _ = price_designs(block, index, None, COSTS, space.board_budgets(board))
        if designs is None:
            continue
        for place in np.flatnonzero(designs.judged.reason == FEASIBLE):
            plan = plan_at(block, int(designs.index[place]), "").plan
            key = learning_key(block.context.workload, plan)
            row = tuple(float(column[place]) for column in designs.judged.objectives)
            found.setdefault(key, []).append(row)
    return found


def compared(space: Space) -> int:
    candidates = candidates_of(space)
    keys: set[str] = set()
    for board in range(len(space.boards)):
        expected = one_by_one(space, board)
        keys |= expected.keys()
        for entry in candidates.entries:
            rows = np.unique(np.array(expected.get(entry.key, np.zeros((0, 2)))).reshape(-1, 2), axis=0)
            assert entry.costs[board].tolist() == rows[~dominated_mask(rows)].tolist()
        every = np.array([row for rows in expected.values() for row in rows])
        if len(every):
            assert candidates.ranges[board].low.tolist() == every.min(axis=0).tolist()
            assert candidates.ranges[board].high.tolist() == every.max(axis=0).tolist()
    assert [entry.key for entry in candidates.entries] == sorted(keys)
    return len(keys)


def test_candidates_are_the_keys_of_all_feasible_designs() -> None:
    assert compared(measuring.space()) == 41


def test_heads_policies_and_budgets() -> None:
    space = measuring.space(
        choices={
            "head": ["sgd", "slda", "cwr"],
            "replay": ["latent", "raw", "none"],
            "policy": ["all", "last-1", {"name": "mine", "weights": [4], "bias": [3]}],
            "cut": [0, 3],
            "first_input": ["stored", "dequantised"],
            "new_samples": ["cache_latent", "recompute"],
        },
        budgets={"ram_peak_kib": 60},
    )
    assert compared(space) > 20


def test_what_fits_nowhere_is_no_candidate() -> None:
    tight = measuring.space(budgets={"ram_peak_kib": 1})
    assert len(candidates_of(tight)) == 0
    assert choices(candidates_of(tight)) == {}


def test_a_space_without_an_accuracy_axis_has_candidates_too() -> None:
    assert len(candidates_of(spaces.space())) > 10


def test_decisions_tell_candidates_apart() -> None:
    candidates = candidates_of(measuring.space())
    rows = [decisions(entry.point) for entry in candidates.entries]
    assert list(rows[0]) == ["network", *LEARNING_CHOICES]
    assert len({tuple(row.values()) for row in rows}) == len(candidates)
    values = choices(candidates)
    assert values["n_replays"] == (0, 25, 50, 100, 200)
    assert values["head"] == ("ncm", "sgd")


def test_progress_reaches_the_end() -> None:
    space = measuring.space()
    seen: list[tuple[int, int]] = []
    candidates_of(space, lambda *done: seen.append(done))
    assert seen[-1] == (space.size, space.size)
    assert seen == sorted(seen)
