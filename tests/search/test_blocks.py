"""Every design of a space is counted once, and can be found by its decisions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.plan.decisions import CODES, PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.search.blocks import Block
from dse.search.choices import DECISIONS, EVENT_AXES, SPELLINGS, STEP_AXES
from dse.search.coarse import Axes
from dse.search.space import Space
from dse.search.table import plan_at
from tests.search.spaces import TINY, space


def canonical_plans(mine: Space) -> set[tuple[Any, ...]]:
    """Every combination of the choices as a canonical plan with clock and sleep state, by brute force."""
    network, found = mine.networks[0], set()
    for codes in mine.codes.values():
        lists = {**codes, "batch": mine.choices.values["batch"]}
        for values in product(*(lists[name] for name in DECISIONS)):
            found.add(_canonical(mine, dict(zip(DECISIONS, values, strict=True)), network))
    return found


def _canonical(mine: Space, values: dict[str, Any], network: Any) -> tuple[Any, ...]:
    new, replays = values.pop("batch")
    words = {name: CODES[name][value] if name in CODES else value for name, value in values.items()}
    words |= {name: spell(words[name]) for name, spell in SPELLINGS.items()}
    rest = words.pop("operating_point"), words.pop("sleep_state"), words.pop("replay_level")
    policy = mine.choices.policies[words.pop("policy")]
    plan = TrainingPlan(**words, policy=policy.name, new_per_batch=new, replays_per_batch=replays)
    plan = plan.canonical(network)
    whole = plan.new_per_batch + plan.replays_per_batch
    plan = replace(plan, micro_batch=plan.micro_batch or whole)
    return (*vars(plan).items(), *rest)


INT8: dict[str, Any] = {
    "head": ["sgd", "ncm"], "cut": "last", "n_replays": [4, 10], "replay_bits": 8, "micro_batch": [1],
    "images_per_event": [3, 20], "update": "accumulate", "learning_dtype": ["fp32", "int8", "fp16"],
    "backward_dtype": ["fp32", "int8"], "accumulator_dtype": "int8", "classifier_dtype": ["learning", "fp32"],
    "gradient_scaling": ["none", "qas"], "weight_rounding": ["stochastic", "nearest"],
}  # fmt: skip
"""Choices in which all but one of the decisions of int8 learning vary."""


def all_designs(mine: Space) -> list[tuple[Block, int]]:
    return [(block, block.first + number) for block in mine.blocks for number in range(block.size)]


@pytest.mark.parametrize("choices", [{}, INT8], ids=["heads and replays", "int8"])
def test_designs_are_the_distinct_canonical_plans(choices: dict[str, Any]) -> None:
    mine = space(choices=choices)
    enumerated = []
    for block, design in all_designs(mine):
        choice = plan_at(block, design, "n")
        policy = choice.plan.policy
        assert isinstance(policy, UpdatePolicy)
        plan = replace(choice.plan, policy=policy.name)
        enumerated.append((*vars(plan).items(), choice.operating_point, choice.sleep_state))
    assert len(enumerated) == len(set(enumerated)) > 500
    expected = canonical_plans(mine)
    short = {
        plan for plan in expected if dict(plan[:-3])["images_per_event"] < dict(plan[:-3])["new_per_batch"]
    }
    assert len(enumerated) == len(expected) - len(short)
    assert mine.size == len(expected)
    assert sum(block.dropped for block in mine.blocks) == len(short) > 0


def test_decisions_of_int8_learning_vary_in_int8_alone() -> None:
    """2 x 2 x 2 x 2 of them in int8, one in fp32 and in fp16; the other decisions vary alike in each."""
    mine = space(choices={**INT8, "head": "sgd"})
    sizes = {block.kind.int8: 0 for block in mine.blocks}
    for block in mine.blocks:
        sizes[block.kind.int8] += block.size
    assert sizes[True] == 16 * sizes[False] / 2


@pytest.mark.parametrize("choices", [{}, INT8], ids=["heads and replays", "int8"])
def test_plans_stay_as_they_are_when_made_canonical(choices: dict[str, Any]) -> None:
    mine = space(choices=choices)
    for block, design in all_designs(mine):
        plan = plan_at(block, design, "n").plan
        policy = plan.policy
        assert isinstance(policy, UpdatePolicy)
        plan = replace(plan, policy=policy.name)
        assert plan.canonical(block.context.workload) == plan


@pytest.mark.parametrize("choices", [{}, INT8], ids=["heads and replays", "int8"])
def test_rows_agree_with_single_plans(choices: dict[str, Any]) -> None:
    block = max(space(choices=choices).blocks, key=lambda block: block.rows)
    rows = np.arange(block.rows)
    columns = block.plans(rows)
    for row in rows:
        plan = plan_at(block, block.first + int(row) * block.columns, "n").plan
        single = PlanBatch.from_plans(block.context.workload, [plan])
        for name in STEP_AXES:
            if name not in ("policy", "checkpoints"):
                assert columns.column(name)[row] == single.column(name)[0]
        assert (columns.weight_ratio[row] == single.weight_ratio[0]).all()
        assert (columns.bias_learns[row] == single.bias_learns[0]).all()


def test_a_buffer_below_the_mini_batch_gets_a_block_of_its_own() -> None:
    blocks = space(choices={"head": "sgd", "replay": "latent", "batch": [4, 8]}).blocks
    found = [(block.kind.replays_per_batch, block.event["n_replays"]) for block in blocks]
    assert found == [(4, (4,)), (8, (10, 40))]


def test_heads_other_than_sgd_ignore_replays_and_cuts() -> None:
    blocks = space(choices={"head": ["ncm", "cwr"]}).blocks
    last = len(blocks[0].context.workload.units) - 1
    assert all(block.step["cut"] == (last,) for block in blocks)
    assert all(block.event["n_replays"] == (0,) for block in blocks)
    kinds = [(block.kind.head, block.kind.new_per_batch) for block in blocks]
    assert kinds == [(1, 1), (3, 4), (3, 2)]


@given(st.data(), st.sampled_from([{}, INT8]))
def test_designs_are_found_by_their_decisions(data: st.DataObject, choices: dict[str, Any]) -> None:
    mine = space(choices=choices)
    axes = Axes(mine, 0)
    positions = {name: data.draw(st.integers(0, count - 1)) for name, count in axes.counts.items()}
    design = axes.design(positions)
    values = {**mine.codes[0, 0], "batch": mine.choices.values["batch"]}
    drawn = {name: values[name][positions.get(name, 0)] for name in DECISIONS}
    if design is None:
        assert drawn["images_per_event"] == 3
        return
    block = mine.block_of(design)
    choice = plan_at(block, design, "n")
    expected = dict(_canonical(mine, drawn, mine.networks[0])[:-3])
    policy = choice.plan.policy
    assert isinstance(policy, UpdatePolicy)
    assert vars(replace(choice.plan, policy=policy.name)) == expected


@given(st.integers(1, 400), st.integers(1, 3000))
def test_tiles_cover_every_column_once(rows: int, chunk: int) -> None:
    block = space(choices={"n_replays": {"from": 8, "to": 60, "step": 1}}).blocks[-1]
    columns = []
    for tile in block.tiles(rows, chunk):
        width = tile.columns.stop - tile.columns.start
        assert width <= max(chunk // rows, 1)
        run = np.arange(tile.columns.start, tile.columns.stop)
        columns += run.tolist()
        for name, values in block.event_values(run).items():
            assert (np.broadcast_to(tile.choices[name], values.shape) == values).all()
    assert columns == list(range(block.columns))


def test_axes_name_every_decision_once() -> None:
    assert len(set(DECISIONS)) == len(DECISIONS)
    assert not set(STEP_AXES) & set(EVENT_AXES)


def test_a_policy_that_trains_everything_is_called_all() -> None:
    mine = space(choices={"head": "sgd", "cut": ["last", 0], "policy": ["last-1", "all", "bias"]})
    block = mine.blocks[0]
    rows = np.arange(block.rows)
    values = block.step_values(rows)
    names = block.policy_names(values)
    last = len(mine.networks[0].units) - 1
    assert set(names[values["cut"] == last]) == {"all"}
    assert set(names[values["cut"] == 0]) == {"last-1", "all", "bias"}


@pytest.mark.parametrize("limit", [1, 7, 100, 20_000])
def test_coarse_grids_keep_to_their_limit(limit: int) -> None:
    mine = space()
    axes = Axes(mine, 0)
    grid = axes.coarse(limit)
    assert 1 <= len(grid) <= limit
    assert all(axes.design(positions) == design for design, positions in grid.items())
    if limit == 20_000:
        assert len(grid) == sum(block.size for block in mine.blocks)
    assert TINY["choices"]["cut"] == "all"
