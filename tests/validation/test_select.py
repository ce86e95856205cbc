from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dse
from dse.errors import UserError
from dse.plan.learning_key import learning_key, learning_plan
from dse.report.inputs import ExploredRun
from dse.validation.networks import trained_networks
from dse.validation.sample import draw_designs
from dse.validation.select import (
    CHEAP_HEADS,
    Trained,
    comparisons,
    front_networks,
    front_plans,
    others_in_space,
)
from dse.workload import load_network
from tests.validation.fake_runs import dataset
from tests.validation.spaces import CORE, COSTS_ONLY, explored

STAND_IN = "mobilenet-v1@width=0.25,resolution=32,classes=10"


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ExploredRun:
    return explored(CORE, tmp_path_factory.mktemp("runs"))


def own(run: ExploredRun) -> Trained:
    return Trained.own(run.space)


def test_designs_that_one_run_answers_for_are_one_plan(core: ExploredRun) -> None:
    found, left = front_plans(core.space, core.front, own(core))
    keys = [each.key for each in found]
    assert len(set(keys)) == len(keys)
    assert left == []
    designs = sorted(design for each in found for design in each.designs)
    assert designs == sorted(core.front["design"].tolist()), "every design of the front belongs to one plan"
    for each in found:
        assert each.role == "front"
        assert each.boards == ("vega + hyperram-64",)
        row = core.front["design"].tolist().index(each.designs[0])
        assert each.predicted == core.front["accuracy"][row]
        assert each.low == core.front["accuracy_low"][row]
        assert each.status == core.front["accuracy_status"][row]
        assert each.plan.n_replays == core.front["n_replays"][row]
        assert each.plan == learning_plan(each.workload, each.plan)


def test_plans_on_several_boards_are_trained_once(tmp_path: Path) -> None:
    boards = ["vega + hyperram-64", "stm32h743 + hyperram-64"]
    run = explored({**COSTS_ONLY, "boards": boards}, tmp_path, designs="none")
    found, _ = front_plans(run.space, run.front, own(run))
    assert any(set(each.boards) == {"vega + hyperram-64", "stm32h743 + hyperram-64"} for each in found)
    assert all(np.isnan(each.predicted) and each.status == "unknown" for each in found)


def test_what_is_not_executed_is_left_out_with_the_reason(tmp_path: Path) -> None:
    choices = {"cut": 27, "learning_dtype": ["fp32", "fp16"], "n_replays": 100, "bn_mode": "folded"}
    run = explored({**COSTS_ONLY, "choices": choices}, tmp_path, designs="none")
    found, left = front_plans(run.space, run.front, own(run))
    words = {each.plan.learning_dtype for each in left}
    assert words == {"fp16"}
    assert "learning_dtype 'fp16' is not executed" in left[0].reason
    assert {each.plan.learning_dtype for each in found} <= {"fp32"}


@pytest.mark.parametrize("designs", ["feasible", "all", "none"])
def test_other_plans_are_feasible_distinct_and_drawn_with_a_seed(tmp_path: Path, designs: str) -> None:
    run = explored(CORE, tmp_path, designs=designs)
    front, _ = front_plans(run.space, run.front, own(run))
    feasible = dse.sweep(CORE, feasible_only=True).to_frame().set_index("design")

    def drawn(seed: int, count: int) -> list[str]:
        found = others_in_space(run.space, draw_designs(run.space, run.folder, seed), count, own(run), front)
        for each in found:
            assert each.role == "space"
            row = feasible.loc[each.designs[0]]
            assert (each.plan.cut, each.plan.n_replays) == (row["cut"], row["n_replays"])
            assert each.predicted == pytest.approx(row["accuracy"])
            assert each.status == row["accuracy_status"]
        return [each.key for each in found]

    few = drawn(0, 3)
    assert len(few) == 3
    assert drawn(0, 3) == few
    assert drawn(0, 5)[:3] == few, "more of them begin with the same"
    assert drawn(1, 3) != few
    everything = drawn(0, 1000)
    known = {each.key for each in front}
    assert len(set(everything)) == len(everything)
    assert not set(everything) & known
    keys = {
        learning_key(run.space.networks[0], choice.plan)
        for choice in (_choice(run, design) for design in feasible.index)
    }
    assert set(everything) | known == keys, "asked for all, all are found"


def _choice(run: ExploredRun, design: int):  # type: ignore[no-untyped-def]
    from dse.search.table import plan_at

    return plan_at(run.space.block_of(design), design, "")


def test_a_damaged_table_of_designs_is_refused(tmp_path: Path) -> None:
    run = explored(CORE, tmp_path)
    (run.folder / "designs.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"designs\.parquet"):
        next(draw_designs(run.space, run.folder, 0))


def test_heads_and_references_belong_to_the_plan_of_which_most_is_expected(core: ExploredRun) -> None:
    found, _ = front_plans(core.space, core.front, own(core))
    plans = [each for each in found if each.plan.head == "sgd"]
    beside = comparisons(plans)
    assert [each.name for each in beside] == [*CHEAP_HEADS, "naive", "joint"]
    best = max(plans, key=lambda each: each.predicted)
    assert {each.plan.images_per_event for each in beside} == {best.plan.images_per_event}
    assert all(each.plan == best.plan for each in beside if each.role == "reference")
    assert len({each.key for each in [*plans, *beside]}) == len(plans) + len(beside)
    ncm = next(each for each in beside if each.name == "ncm")
    again = comparisons([*plans, replace(ncm, role="front")])
    assert [each.name for each in again] == ["slda", "cwr", "tinyol", "naive", "joint"]


def test_a_network_that_takes_the_data_is_trained_itself(core: ExploredRun) -> None:
    names = front_networks(core.space, core.front)
    assert names == ["mobilenet-v1"]
    networks = trained_networks(core.space, names, dataset(), None, file="run")
    assert networks.stand_in == ""
    assert networks.of("mobilenet-v1") is core.space.networks[0]


def test_data_that_do_not_fit_are_refused_with_what_would(core: ExploredRun) -> None:
    small = dataset(STAND_IN)
    with pytest.raises(UserError) as caught:
        trained_networks(core.space, ["mobilenet-v1"], small, None, file="run")
    said = str(caught.value)
    assert "it takes 3x128x128 and tells 50 classes apart" in said
    assert "--network NAME@resolution=32,channels=3,classes=10" in said


def test_a_stand_in_takes_the_place_of_the_network(core: ExploredRun) -> None:
    networks = trained_networks(core.space, ["mobilenet-v1"], dataset(STAND_IN), STAND_IN, file="run")
    assert networks.stand_in == load_network(STAND_IN).name
    found, _ = front_plans(core.space, core.front, networks)
    assert {each.workload.classes for each in found} == {10}
    assert {each.network for each in found} == {"mobilenet-v1"}
    mine, _ = front_plans(core.space, core.front, own(core))
    assert [each.designs for each in found] == [each.designs for each in mine]
    assert not {each.key for each in found} & {each.key for each in mine}


@pytest.mark.parametrize(
    ("wanted", "data", "says"),
    [
        ("resnet8", STAND_IN, "it takes 3x32x32"),
        ("resnet8", "resnet8", "resnet8 has 9 units|resnet8 has 10 units"),
        ("mobilenet-v9", STAND_IN, "unknown network"),
    ],
)
def test_a_stand_in_that_cannot_stand_in_is_refused(
    core: ExploredRun, wanted: str, data: str, says: str
) -> None:
    wanted = wanted if data != STAND_IN or wanted == "mobilenet-v9" else f"{wanted}@classes=7"
    with pytest.raises(UserError, match=says):
        trained_networks(core.space, ["mobilenet-v1"], dataset(data), wanted, file="run")


def test_one_stand_in_does_not_stand_in_for_two(tmp_path: Path) -> None:
    space = {**COSTS_ONLY, "networks": ["mobilenet-v1", "mobilenet-v1@width=0.5"]}
    run = explored(space, tmp_path, designs="none")
    with pytest.raises(UserError, match="stands in for one network"):
        trained_networks(run.space, run.space.network_names, dataset(STAND_IN), STAND_IN, file="run")
