"""The exact search against pricing every design by itself and comparing each with each."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.cost.model import OBJECTIVES, event_choices, event_costs, illegal, step_costs
from dse.plan.decisions import PlanBatch
from dse.search import SearchResult, explore_exact
from dse.search.budgets import MEMORY, RETENTION, rejections
from dse.search.pricing import price_designs
from dse.search.space import Space
from dse.search.table import plan_at
from tests.oracles import dominated_mask
from tests.search.spaces import CORE50, TINY, space

BUDGETS = {
    "none": {},
    "ram": {"ram_peak_kib": 24},
    "ram and time": {"event_s": 0.05, "ram_peak_kib": 40},
    "level": {"level_kib": {"SRAM": 30}, "event_j": 0.002},
    "lifetime": {"lifetime_days": 1500, "utilisation": 0.5},
    "wear": {"wear_years": 5},
}


class Naive:
    """Every design of the first board priced row by row and judged in plain Python."""

    def __init__(self, mine: Space) -> None:
        self.space = mine
        self.budgets = mine.board_budgets(0)
        self.legal: list[int] = []
        self.illegal = 0
        self.values: list[list[float]] = []
        self.excess: dict[int, float] = {}
        self.known: dict[int, bool] = {}
        self.feasible: dict[int, list[float]] = {}
        for block in mine.board_blocks(0):
            self.illegal += block.dropped
            self._block(block)

    def _block(self, block: Any) -> None:
        context = block.context
        designs = np.arange(block.first, block.first + block.size)
        choices = [plan_at(block, int(design), "n") for design in designs]
        if not choices:
            return
        plans = PlanBatch.from_plans(context.workload, [choice.plan for choice in choices])
        wrong = np.zeros(len(plans), dtype=bool)
        for mask in illegal(context.workload, plans).values():
            wrong |= mask
        self.illegal += int(wrong.sum())
        keep = np.flatnonzero(~wrong)
        if len(keep) == 0:
            return
        points = [point.name for point in context.board.operating_points]
        codes = np.array([points.index(choices[i].operating_point) for i in keep])
        plans = plans.rows(keep)
        costs = event_costs(
            context, step_costs(context, plans), event_choices(context, plans, operating_point=codes)
        )
        accuracy = self._accuracy(context, plans)
        for row, design in enumerate(designs[keep].tolist()):
            self._judge(context, costs, row, design, accuracy)

    def _accuracy(self, context: Any, plans: PlanBatch) -> np.ndarray | None:
        if self.space.accuracy is None:
            return None
        choices: dict[str, Any] = {
            name: np.array(plans.policy_names) if name == "policy" else plans.column(name)
            for name in self.space.accuracy.depends_on
        }
        last = plans.cut == len(context.workload.units) - 1
        choices["policy"] = np.where(last, "all", choices["policy"])
        return self.space.accuracy.predict(context.workload, choices).value

    def _judge(self, context: Any, costs: Any, row: int, design: int, accuracy: np.ndarray | None) -> None:
        def at(value: Any) -> float:
            return float(np.broadcast_to(value, np.shape(costs.fits))[row])

        worst = 0.0
        for level, capacity in zip(context.board.levels, context.capacity_bytes, strict=True):
            worst = max(worst, at(costs.level_bytes[level.name]) / capacity - 1)
        if at(costs.fits) == 0 and worst == 0:
            worst = np.inf
        for budget in self.budgets:
            value = at(costs.level_bytes[budget.level] if budget.level else getattr(costs, budget.column))
            worst = max(worst, (budget.limit / value if budget.floor else value / budget.limit) - 1)
        self.legal.append(design)
        self.excess[design] = worst
        self.known[design] = accuracy is None or not np.isnan(accuracy[row])
        if worst <= 0 and self.known[design]:
            values = []
            for name in self.space.objectives:
                column, sense = OBJECTIVES[name]
                value = accuracy[row] if column == "accuracy" else at(getattr(costs, column))  # type: ignore[index]
                values.append(float(-value if sense == "max" else value))
            self.feasible[design] = values

    def front(self) -> dict[tuple[float, ...], list[int]]:
        designs = list(self.feasible)
        values = np.array([self.feasible[design] for design in designs])
        groups: dict[tuple[float, ...], list[int]] = {}
        if designs:
            candidates, inverse = np.unique(values, axis=0, return_inverse=True)
            alive = ~dominated_mask(candidates) if len(candidates) < 400 else _alive(candidates)
            for design, point in zip(designs, inverse.ravel(), strict=True):
                if alive[point]:
                    groups.setdefault(tuple(candidates[point]), []).append(design)
        return groups


def _alive(values: np.ndarray) -> np.ndarray:
    """Same as the oracle, one row against all: still O(n^2)."""
    worse = [((values <= row).all(axis=1) & (values < row).any(axis=1)).any() for row in values]
    return ~np.array(worse)


def check(mine: Space, result: SearchResult) -> None:
    """Compare a result with the naive answer: front, variants, counts, nearest miss."""
    naive, board = Naive(mine), result.boards[0]
    counts = board.counts
    expected = naive.front()
    firsts = sorted(designs[0] for designs in expected.values())
    assert board.front.index.tolist() == firsts if expected else len(board.front) == 0
    if expected:
        variants = {designs[0]: len(designs) for designs in expected.values()}
        assert (
            dict(zip(board.front.index.tolist(), board.front.columns["variants"].tolist(), strict=True))
            == variants
        )
    assert counts.total == counts.evaluated == mine.size == len(naive.legal) + naive.illegal
    assert sum(counts.illegal.values()) == naive.illegal
    assert counts.feasible == len(naive.feasible)
    within = [design for design in naive.legal if naive.excess[design] <= 0]
    assert counts.unknown == sum(not naive.known[design] for design in within)
    assert sum(counts.rejected.values()) == len(naive.legal) - len(within)
    assert counts.front + counts.variants + counts.dominated == counts.feasible
    if not naive.feasible:
        check_nearest(naive, result)
    else:
        assert board.relaxation is None


def check_nearest(naive: Naive, result: SearchResult) -> None:
    known = [design for design in naive.legal if naive.known[design] and np.isfinite(naive.excess[design])]
    candidates = known or [design for design in naive.legal if np.isfinite(naive.excess[design])]
    nearest = result.boards[0].relaxation
    if not candidates:
        assert nearest is None
        return
    assert nearest is not None
    best = min(candidates, key=lambda design: (naive.excess[design], design))
    assert (nearest.index, nearest.excess) == (best, pytest.approx(max(naive.excess[best], 0)))


@pytest.mark.parametrize("budgets", BUDGETS.values(), ids=BUDGETS)
def test_small_spaces_agree_with_the_naive_answer(budgets: dict[str, Any]) -> None:
    mine = space(budgets=budgets)
    result = explore_exact(mine)
    check(mine, result)
    assert result.complete


@pytest.mark.parametrize(
    "budgets", [{}, {"event_s": 45.0}, {"event_s": 0.2}], ids=["none", "time", "no time"]
)
def test_an_accuracy_axis_agrees_with_the_naive_answer(budgets: dict[str, Any]) -> None:
    mine = space(CORE50, budgets=budgets)
    result = explore_exact(mine)
    check(mine, result)
    assert (result.boards[0].counts.unknown > 0) == (budgets != {"event_s": 0.2})


@pytest.mark.parametrize("board", ["stm32l476rg", "nrf52840"])
def test_nothing_fits_agrees_with_the_naive_answer(board: str) -> None:
    mine = space(CORE50, boards=[board])
    result = explore_exact(mine)
    assert result.nothing_fits
    check(mine, result)


NETWORKS = st.sampled_from(["har-cnn-1d", "autoencoder", "resnet8"])
SOME = {
    "head": st.lists(st.sampled_from(["sgd", "ncm", "slda", "cwr", "tinyol"]), min_size=1, max_size=2),
    "replay": st.lists(st.sampled_from(["latent", "none", "raw"]), min_size=1, max_size=2),
    "cut": st.sampled_from(["all", ["last", "input"], [0, "last"]]),
    "n_replays": st.lists(st.integers(1, 400), min_size=1, max_size=3),
    "replay_bits": st.lists(st.sampled_from([1, 4, 8, 32]), min_size=1, max_size=2),
    "policy": st.sampled_from(["all", ["bias", "last-1"]]),
    "optimiser": st.sampled_from(["sgd", ["adam", "momentum"]]),
    "batch": st.sampled_from([[4, 8], [[1, 0], [3, 30]]]),
    "micro_batch": st.sampled_from([1, [2, "batch"]]),
    "update": st.sampled_from(["accumulate", ["in_place", "immediate"]]),
    "new_samples": st.sampled_from(["cache_latent", ["cache_raw", "recompute"]]),
    "images_per_event": st.lists(st.integers(1, 60), min_size=1, max_size=2),
    "persist_every": st.sampled_from([1, [0, 10]]),
    "replay_level": st.sampled_from(["auto", ["auto", "flash"]]),
}
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "ram_peak_kib": st.floats(1, 200),
        "event_j": st.floats(1e-4, 1.0),
        "event_s": st.floats(1e-3, 10),
    },
)
AXES = st.lists(
    st.sampled_from(["ram_peak_bytes", "event_j", "nvm_bytes", "event_s", "lifetime_s"]),
    min_size=2, max_size=4, unique=True,
)  # fmt: skip


@settings(max_examples=20)
@given(NETWORKS, st.fixed_dictionaries({}, optional=SOME), LIMITS, AXES, st.integers(1, 500))
def test_drawn_spaces_agree_with_the_naive_answer_for_every_chunk(
    network: str, choices: dict[str, Any], budgets: dict[str, float], objectives: list[str], chunk: int
) -> None:
    base = {**TINY, "choices": {}}
    mine = space(base, networks=[network], choices=choices, budgets=budgets, objectives=objectives)
    if mine.size <= 3000:
        check(mine, explore_exact(mine, chunk=chunk))


TIGHT = st.fixed_dictionaries(
    {"ram_peak_kib": st.floats(0.05, 6)},
    optional={"event_s": st.floats(1e-6, 1e-2), "nvm_kib": st.floats(0.1, 20)},
)


@settings(max_examples=20)
@given(NETWORKS, st.fixed_dictionaries({}, optional=SOME), TIGHT, st.integers(1, 500))
def test_the_nearest_of_drawn_spaces_is_that_of_the_naive_answer(
    network: str, choices: dict[str, Any], budgets: dict[str, float], chunk: int
) -> None:
    mine = space({**TINY, "choices": {}}, networks=[network], choices=choices, budgets=budgets)
    check(mine, explore_exact(mine, chunk=chunk))


def test_limits_are_inclusive() -> None:
    """A design that needs exactly the budget, with its step or with its samples, is within it."""
    for row in explore_exact(space()).boards[0].front.values:
        bytes_, joules, seconds = row.tolist()
        budgets = {"ram_peak_kib": bytes_ / 1024, "event_j": joules, "event_s": seconds}
        front = explore_exact(space(budgets=budgets)).boards[0].front
        assert front.values.tolist() == [row.tolist()]
        budgets["ram_peak_kib"] = np.nextafter(bytes_, 0) / 1024
        assert explore_exact(space(budgets=budgets)).nothing_fits


@cache
def whole() -> tuple[Space, SearchResult]:
    mine = space(budgets={"ram_peak_kib": 30, "event_s": 1.0})
    return mine, explore_exact(mine)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_the_chunk_size_changes_nothing(chunk: int) -> None:
    mine, expected = whole()
    found = explore_exact(mine, chunk=chunk)
    for one, other in zip(found.boards, expected.boards, strict=True):
        assert one.counts == other.counts
        assert one.front.columns.keys() == other.front.columns.keys()
        for name in one.front.columns:
            assert np.array_equal(one.front.columns[name], other.front.columns[name]), name
        assert (one.front.ranges.low == other.front.ranges.low).all()


@given(st.data())
def test_no_sampled_design_beats_the_front(data: st.DataObject) -> None:
    mine, result = whole()
    block = data.draw(st.sampled_from([block for block in mine.blocks if block.size]))
    design = block.first + data.draw(st.integers(0, block.size - 1))
    found, _ = price_designs(block, np.array([design]), None, mine.objectives, mine.board_budgets(0))
    if found is None or found.judged.reason[0] != -1:
        return
    values = np.array([float(np.ravel(column)[0]) for column in found.judged.objectives])
    front = result.boards[0].front.values
    assert not ((values <= front).all(axis=1) & (values < front).any(axis=1)).any()
    assert (front <= values).all(axis=1).any()


@pytest.mark.parametrize("budgets", [BUDGETS["ram"], BUDGETS["ram and time"], BUDGETS["level"]])
def test_reasons_of_the_grid_are_those_of_single_designs(budgets: dict[str, Any]) -> None:
    """Rows that are rejected at once are counted as their designs would be one by one."""
    mine = space(budgets=budgets)
    limits = mine.board_budgets(0)
    names, counted = rejections(mine.boards[0], limits), Counter[str]()
    for block in mine.board_blocks(0):
        if block.size:
            designs = np.arange(block.first, block.first + block.size)
            found, _ = price_designs(block, designs, None, mine.objectives, limits)
            if found is not None:
                counted.update(names[code] for code in found.judged.reason if code >= 0)
    rejected = explore_exact(mine).boards[0].counts.rejected
    assert {name: count for name, count in rejected.items() if count} == dict(counted)


def test_each_board_has_its_own_front_and_there_is_one_overall() -> None:
    mine = space(boards=["stm32l476rg", "vega"], budgets={"level_kib": {"SRAM": 60}})
    result = explore_exact(mine)
    assert list(result.fronts) == ["stm32l476rg", "vega"]
    alone = [explore_exact(space(boards=[board], budgets=budgets)) for board, budgets in (
        ("stm32l476rg", {"level_kib": {"SRAM": 60}}), ("vega", {}),
    )]  # fmt: skip
    for one, found in zip(alone, result.boards, strict=True):
        assert (one.boards[0].front.values == found.front.values).all()
    both = np.concatenate([board.front.values for board in result.boards])
    overall = result.overall()
    assert sorted(map(tuple, overall.values)) == sorted(map(tuple, both[~dominated_mask(both)]))


def test_replays_that_sleep_would_lose_are_rejected_for_that() -> None:
    mine = space(CORE50, choices={"replay_level": "L1", "n_replays": [250], "cut": 27, "rounding": "nearest"})
    rejected = explore_exact(mine).boards[0].counts.rejected
    held = sum(count for reason, count in rejected.items() if reason.startswith(MEMORY))
    assert held + rejected[RETENTION] == mine.size


def test_progress_ends_with_everything_done() -> None:
    mine, seen = space(boards=["stm32l476rg", "vega"]), []
    explore_exact(mine, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (mine.size, mine.size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
