"""Every point of a front is placed in memory; one that cannot be placed is none, and is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dse.cost.certificate import LevelArena, certify, working_arenas
from dse.errors import NothingFits
from dse.search import arenas as module
from dse.search import explore, explore_exact
from dse.search.arenas import ARENA, GAP
from dse.search.budgets import NO_MAP
from dse.search.space import Space

TABLES: dict[str, Any] = {
    "name": "placed", "networks": ["ds-cnn"], "boards": ["stm32l4r5"],
    "objectives": ["ram_peak_bytes", "event_j"],
    "choices": {
        "cut": ["last", 8, 6], "n_replays": [20, 40], "replay_bits": [8], "batch": [[2, 6]],
        "micro_batch": [1, "batch"], "images_per_event": [20], "epochs": [1, 2],
    },
}  # fmt: skip


def space() -> Space:
    return Space.from_dict(TABLES)


def test_columns_hold_what_a_full_certificate_takes() -> None:
    mine = space()
    found = explore(mine)
    front = found.boards[0].front
    for position, design in enumerate(front.index.tolist()):
        choice = found.plan(design)
        whole = certify(mine.block_of(design).context, choice.plan, operating_point=choice.operating_point)
        assert whole.fits
        # Samples stand on top in the search; placed together with the rest they take no more.
        assert whole.ram_arena_bytes <= front.columns[ARENA][position]
        assert front.columns[ARENA][position] <= 1.001 * whole.ram_arena_bytes
        assert 0 <= front.columns[GAP][position] < 0.001


def test_a_front_is_that_of_the_search_where_everything_can_be_placed() -> None:
    mine = space()
    assert explore(mine).boards[0].front.index.tolist() == explore_exact(mine).boards[0].front.index.tolist()


def _padded(extra: int, wastes: Callable[[int], bool] = lambda size: True, *, volatile: bool = True) -> Any:
    """Placement that wastes ``extra`` bytes in RAM (or other) arenas of a size that ``wastes``."""

    def arenas(context: Any, plan: Any) -> tuple[LevelArena, ...]:
        found = []
        for level in working_arenas(context, plan):
            size = level.arena.size_bytes
            wasted = size + extra if level.volatile == volatile and wastes(size) else size
            found.append(replace(level, arena=replace(level.arena, size_bytes=wasted)))
        return tuple(found)

    return arenas


def test_points_that_cannot_be_placed_give_way_to_what_they_dominated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cut that gives the only point cannot be placed: another cut's designs come to the front."""
    mine = space()
    free = explore(mine).boards[0]
    least = free.front.columns["ram_peak_bytes"].min()
    monkeypatch.setattr(module, "working_arenas", _padded(10**9, lambda size: size <= 1.2 * least))
    bound = explore(mine).boards[0]
    assert len(bound.front) > 0
    assert not set(bound.front.index) & set(free.front.index)
    assert bound.counts.rejected[NO_MAP] > 0
    assert bound.counts.evaluated == free.counts.evaluated
    assert bound.counts.feasible == free.counts.feasible - bound.counts.rejected[NO_MAP]
    values = bound.front.values
    assert not any((np.all(a <= b) and np.any(a < b)) for a in values for b in values)


def test_where_nothing_can_be_placed_nothing_is_on_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "working_arenas", _padded(10**9))
    found = explore(space())
    assert len(found.boards[0].front) == 0
    assert found.boards[0].counts.feasible == 0
    assert found.boards[0].counts.rejected[NO_MAP] > 0
    assert found.boards[0].unplaced.endswith(" B in SRAM")
    with pytest.raises(
        NothingFits, match=r"could not be placed; the nearest misses 9\d\d,\d{3},\d{3} B in SRAM"
    ):
        found.require_front()


def test_a_budget_on_ram_holds_for_the_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred bytes of waste push designs over a budget that their live bytes just meet."""
    free = explore(space()).boards[0]
    limit = float(free.front.columns["ram_peak_bytes"].max()) / 1024
    tight = Space.from_dict({**TABLES, "budgets": {"ram_peak_kib": limit}})
    monkeypatch.setattr(module, "working_arenas", _padded(200))
    assert (explore(tight).boards[0].front.columns[ARENA] <= limit * 1024).all()


def test_a_budget_on_storage_holds_for_what_is_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waste in flash pushes designs over a budget on storage that their bytes just meet."""
    free = explore(space()).boards[0]
    limit = float(free.front.columns["nvm_bytes"].max()) / 1024
    tight = Space.from_dict({**TABLES, "budgets": {"nvm_kib": limit}})
    assert len(explore(tight).boards[0].front)
    monkeypatch.setattr(module, "working_arenas", _padded(10**5, volatile=False))
    assert len(explore(tight).boards[0].front) == 0


def test_a_budget_on_a_level_holds_for_its_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waste in SRAM pushes designs over a budget on that level that their arenas just meet."""
    free = explore(space()).boards[0]
    limit = float(free.front.columns[ARENA].max()) / 1024
    tight = Space.from_dict({**TABLES, "budgets": {"level_kib": {"SRAM": limit}}})
    assert len(explore(tight).boards[0].front)
    least = limit * 1024
    monkeypatch.setattr(module, "working_arenas", _padded(200))
    assert all(size <= least for size in explore(tight).boards[0].front.columns[ARENA])
    assert explore(tight).boards[0].counts.rejected[NO_MAP] > 0


def test_checkpoints_are_searched_against_none() -> None:
    """Cuts that leave nothing to split, and plans without checkpoints, share a space with others."""
    tables = {
        **TABLES,
        "choices": {**TABLES["choices"], "checkpoints": ["none", "every 2"], "cut": ["last", 4]},
    }
    found = explore(Space.from_dict(tables)).boards[0]
    assert found.counts.evaluated == found.counts.total
    assert set(found.front.columns["checkpoints"]) <= {"none", "every 2"}
