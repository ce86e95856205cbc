"""What every search method keeps to, listed in ``SEARCHERS`` or not yet written."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from dse.search import SEARCHERS, SearchResult, explore
from dse.search.budgets import rejections
from tests.oracles import dominated_mask
from tests.search.spaces import CORE50, space

BUDGETS = {"ram_peak_kib": 30, "event_s": 1.0}


@cache
def found(method: str) -> SearchResult:
    return explore(
        space(boards=["stm32l476rg", "vega"], budgets=BUDGETS, search={"trials": 60}), method=method
    )


def each_method() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", SEARCHERS)


@each_method()
def test_one_result_per_board_in_the_order_of_the_space(method: str) -> None:
    assert [board.board for board in found(method).boards] == ["stm32l476rg", "vega"]
    assert found(method).method == method


@each_method()
def test_counts_add_up(method: str) -> None:
    for board in found(method).boards:
        counts = board.counts
        assert counts.front == len(board.front)
        assert counts.feasible == counts.front + counts.variants + counts.dominated
        assert counts.evaluated <= counts.total
        assert counts.dominated >= 0
        assert (counts.evaluated == counts.total) >= found(method).complete
    reasons = rejections(found(method).space.boards[0], found(method).space.board_budgets(0))
    assert tuple(found(method).boards[0].counts.rejected) == reasons


@each_method()
def test_the_front_is_not_dominated_and_within_every_budget(method: str) -> None:
    for board in found(method).boards:
        columns = board.front.columns
        assert len(board.front) > 0
        assert not dominated_mask(board.front.values).any()
        assert len(np.unique(board.front.values, axis=0)) == len(board.front)
        assert (columns["ram_peak_bytes"] <= 30 * 1024).all()
        assert (columns["event_s"] <= 1.0).all()
        assert (columns["utilisation"] <= 1.0).all()
        assert board.relaxation is None


@each_method()
def test_no_front_goes_beyond_the_exact_one(method: str) -> None:
    for board, exact in zip(found(method).boards, found("exact").boards, strict=True):
        for row in board.front.values:
            assert (exact.front.values <= row).all(axis=1).any()


@each_method()
def test_fronts_are_sorted_by_index_and_lie_in_the_ranges(method: str) -> None:
    for board in found(method).boards:
        assert (np.diff(board.front.index) > 0).all()
        assert (board.front.scaled >= 0).all()
        assert (board.front.scaled <= 1).all()
        assert board.front.hypervolume > 0


@each_method()
def test_a_second_search_finds_the_same(method: str) -> None:
    again = explore(found(method).space, method=method)
    assert again.counts == found(method).counts
    for one, other in zip(again.boards, found(method).boards, strict=True):
        assert (one.front.index == other.front.index).all()


@each_method()
def test_nothing_fits_is_a_result_with_the_nearest_design(method: str) -> None:
    result = explore(space(CORE50, boards=["nrf52840"], search={"trials": 30}), method=method)
    assert result.nothing_fits
    assert len(result.boards[0].front) == 0
    assert result.boards[0].relaxation is not None
    assert result.to_frame().empty
    assert result.named_plans() == ()
