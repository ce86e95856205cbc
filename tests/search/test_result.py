"""Results: columns that add up, named plans with reasons, plans that price to what their row says."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from dse.cost.model import price
from dse.errors import NothingFits
from dse.plan.decisions import PlanBatch
from dse.search import SearchResult, explore_exact
from dse.search.budgets import relative_excess
from tests.search.spaces import CORE50, space


@cache
def core50() -> SearchResult:
    return explore_exact(space(CORE50))


@cache
def tiny() -> SearchResult:
    return explore_exact(space(boards=["stm32l476rg", "vega"]))


def test_every_design_of_a_front_prices_to_its_row() -> None:
    for result in (core50(), tiny()):
        for board in result.boards:
            for position, design in enumerate(board.front.index.tolist()):
                row, choice = board.front.row(position), result.plan(design)
                context = result.space.block_of(design).context
                plans = PlanBatch.from_plans(context.workload, [choice.plan])
                costs = price(
                    context, plans, operating_point=choice.operating_point, sleep_state=choice.sleep_state
                )
                for name in (
                    "ram_peak_bytes",
                    "nvm_bytes",
                    "event_s",
                    "event_j",
                    "lifetime_s",
                    "utilisation",
                ):
                    assert row[name] == float(np.ravel(getattr(costs, name))[0]), name


def test_parts_of_a_row_sum_to_its_totals() -> None:
    columns = core50().boards[0].front.columns
    for total, group in (("event_s", "seconds."), ("event_j", "joules.")):
        parts = sum(column for name, column in columns.items() if name.startswith(group))
        assert parts == pytest.approx(columns[total], rel=1e-12)


def test_accuracy_comes_with_its_interval_and_status() -> None:
    columns = core50().boards[0].front.columns
    assert (columns["accuracy_low"] < columns["accuracy"]).all()
    assert (columns["accuracy"] < columns["accuracy_high"]).all()
    assert set(columns["accuracy_status"]) <= {"published", "interpolated", "extrapolated"}
    assert (columns["accuracy"] == -core50().boards[0].front.values[:, 0]).all()


def test_named_plans_are_what_they_are_called() -> None:
    front = core50().boards[0].front
    best, balanced, smallest = front.named
    assert [plan.name for plan in front.named] == ["most accurate", "balanced", "smallest"]
    assert front.columns["accuracy"][best.position] == front.columns["accuracy"].max()
    assert front.columns["ram_peak_bytes"][smallest.position] == front.columns["ram_peak_bytes"].min()
    distance = (front.scaled**2).sum(axis=1)
    assert distance[balanced.position] == distance.min()
    assert f"accuracy {front.columns['accuracy'][best.position]:.1%}" in best.why
    assert all(plan.design == front.index[plan.position] for plan in front.named)


def test_without_accuracy_the_first_other_objective_names_the_best() -> None:
    front = explore_exact(space(objectives=["ram_peak_bytes", "event_s"])).boards[0].front
    assert [plan.name for plan in front.named] == ["fastest", "balanced", "smallest"]


def test_frames_hold_every_board() -> None:
    frame = tiny().to_frame()
    assert sorted(frame["board"].unique()) == ["stm32l476rg", "vega"]
    assert len(frame) == sum(len(front) for front in tiny().fronts.values())
    assert {"level_bytes.SRAM", "level_bytes.L2", "operating_point", "cut", "variants"} <= set(frame.columns)
    one = tiny().boards[0].front.to_frame()
    assert (one["design"] == tiny().boards[0].front.index).all()


def test_the_overall_front_keeps_the_columns_of_all_boards() -> None:
    overall = tiny().overall()
    assert len(overall) > 0
    assert all(len(column) == len(overall) for column in overall.columns.values())
    assert overall.hypervolume > 0


def test_nothing_fits_names_the_binding_level_and_the_design() -> None:
    result = explore_exact(space(CORE50, boards=["stm32l476rg"]))
    nearest = result.boards[0].relaxation
    assert nearest is not None
    with pytest.raises(NothingFits, match=r"stm32l476rg: nothing fits; closest: short by \d+ B at SRAM"):
        result.require_front()
    binding = nearest.binding
    assert nearest.excess == binding.relative == pytest.approx(binding.value / binding.limit - 1)
    assert f"short by {binding.value - binding.limit:.0f} B at SRAM" in str(nearest)
    assert nearest.design["cut"] == 27
    assert nearest.accuracy_known


def test_the_relaxed_budget_admits_the_design_that_was_named() -> None:
    budgets = {"event_j": 1e-6, "ram_peak_kib": 1.0}
    nearest = explore_exact(space(budgets=budgets)).boards[0].relaxation
    assert nearest is not None
    assert {one.name for one in nearest.exceeded} == {"event_j", "ram_peak_kib"}
    slack = (1 + nearest.excess) * (1 + 1e-12)
    relaxed = explore_exact(space(budgets={name: limit * slack for name, limit in budgets.items()}))
    assert nearest.index in relaxed.boards[0].front.index
    tighter = explore_exact(space(budgets={name: limit * slack * 0.999 for name, limit in budgets.items()}))
    assert tighter.nothing_fits


def test_unknown_accuracy_alone_is_said_to_be_that() -> None:
    result = explore_exact(space(CORE50, choices={"bn_mode": "folded", "micro_batch": 1}))
    with pytest.raises(NothingFits, match="designs are within every budget, but of unknown accuracy"):
        result.require_front()


def test_a_board_without_a_price_says_so() -> None:
    result = explore_exact(
        space(choices={"head": "sgd", "update": "accumulate", "learning_dtype": ["fp32", "fp16"]})
    )
    unpriced = {name: count for name, count in result.boards[0].counts.illegal.items() if "unpriced" in name}
    assert sum(unpriced.values()) * 2 == result.space.size - result.boards[0].counts.illegal.get(
        "fewer images per event than one mini-batch needs", 0
    )
    assert all("fp16" in name for name in unpriced)
    none = explore_exact(space(choices={"head": "sgd", "learning_dtype": "fp16"}))
    with pytest.raises(NothingFits, match=r"no design is possible: .*unpriced"):
        none.require_front()


def test_relative_excess_of_ceilings_and_floors() -> None:
    assert relative_excess(np.array([50.0, 100.0, 300.0]), 100.0).tolist() == [0, 0, 2]
    assert relative_excess(np.array([0.0, 25.0, 200.0]), 100.0, floor=True).tolist() == [math.inf, 3, 0]
    assert relative_excess(np.array([np.inf]), 100.0).tolist() == [math.inf]
