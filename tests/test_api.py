"""What Python users import: typed results with ``.to_frame()``, and every problem at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dse
from dse.api.explorations import DEFAULT
from dse.api.plans import decide
from dse.cost.model import price
from dse.errors import IllegalPlan, UserError
from dse.plan.decisions import PlanBatch
from tests.report.spaces import IMPOSSIBLE, TINY

VEGA = "vega + hyperram-64"


def test_every_name_that_is_offered_is_there() -> None:
    for name in dse.__all__:
        assert getattr(dse, name) is not None
    assert set(dir(dse)) == set(dse.__all__)
    with pytest.raises(AttributeError, match="no attribute 'explor'"):
        _ = dse.explor


def test_an_estimate_is_the_price_of_its_plan() -> None:
    result = dse.estimate("resnet8", "stm32l4r5", cut=5, n_replays=200, intervals=False)
    plans = PlanBatch.from_plans(result.context.workload, [result.plan])
    costs = price(result.context, plans)
    assert result.value("event_j") == costs.event_j[0]
    assert result.plan.cut == 5
    frame = result.to_frame().set_index("quantity")
    assert frame.loc["event_s", "value"] == costs.event_s[0]
    assert frame.loc["level_bytes.SRAM", "value"] == costs.level_bytes["SRAM"][0]


def test_intervals_enclose_the_value() -> None:
    frame = dse.estimate("resnet8", "stm32l4r5").to_frame()
    known = frame[frame["quantity"] != "accuracy"]
    assert (known["low"] <= known["value"]).all()
    assert (known["value"] <= known["high"]).all()
    assert (known["low"] < known["high"]).any()


def test_accuracy_is_known_inside_the_study_and_nowhere_else() -> None:
    inside = dse.estimate(
        "mobilenet-v1", VEGA, cut=27, bn_mode="batch_stats", micro_batch="batch", intervals=False
    )
    assert inside.accuracy is not None
    assert inside.accuracy.value[0] == pytest.approx(0.692, abs=0.01)
    outside = dse.estimate("mobilenet-v1", VEGA, cut=27, intervals=False)
    assert outside.accuracy is not None
    assert np.isnan(outside.accuracy.value[0])


def test_without_a_cut_the_last_unit_learns() -> None:
    assert dse.estimate("resnet8", "stm32l4r5", intervals=False).plan.cut == 9


def test_a_plan_may_come_from_a_file_and_be_overridden(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text('cut = 5\nreplay_bits = 7\nmicro_batch = "batch"\nbatch = [4, 12]\n', encoding="utf-8")
    plan = dse.estimate("resnet8", "stm32l4r5", file, cut=8, intervals=False).plan
    assert (plan.cut, plan.replay_bits, plan.micro_batch, plan.replays_per_batch) == (8, 7, 16, 12)


def test_a_plan_object_is_taken_as_it_is() -> None:
    plan = dse.TrainingPlan(
        cut=5, n_replays=177, policy=dse.UpdatePolicy(ratio={7: 0.5, 9: 1.0}, bias=(7, 9))
    )
    canonical = plan.canonical(dse.load_network("resnet8"))
    assert dse.estimate("resnet8", "stm32l4r5", plan, intervals=False).plan == canonical


@pytest.mark.parametrize(
    ("decisions", "said"),
    [
        ({"cut": 3}, "cut: 2 tensors cross at unit 3 (stack2/conv1)"),
        ({"cut": "all"}, "cut: 'all'; one cut; several make a space"),
        ({"n_replays": [1, 2]}, "n_replays: [1, 2]; one value; several make a space"),
        ({"replay_bits": 9}, "replay_bits: 9; one of 1, 2, 3"),
        ({"head": "sgdd"}, "head: unknown head 'sgdd'; did you mean 'sgd'?"),
        ({"operating_point": "120GHz"}, "stm32l4r5 has none of '120GHz'; it has: 120MHz"),
        ({"replay_level": "HyperRAM"}, "stm32l4r5 has none of 'HyperRAM'; it has: SRAM, flash, or 'auto'"),
        ({"colour": "red"}, "colour: unknown key 'colour'"),
        ({"epochs": True}, "epochs: True; an integer from 1 to 1000000"),
        ({"policy": "some"}, "policy: unknown update policy 'some'"),
    ],
)
def test_decisions_that_cannot_be(decisions: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        dse.estimate("resnet8", "stm32l4r5", **decisions)
    assert said in str(caught.value)


def test_decisions_that_exclude_each_other() -> None:
    with pytest.raises(IllegalPlan, match="needs micro_batch = mini-batch"):
        dse.estimate("resnet8", "stm32l4r5", update="in_place", micro_batch=1)


def test_a_plan_that_learns_below_its_cut() -> None:
    policy = {"weights": [2, 9]}
    with pytest.raises(IllegalPlan, match="below"):
        dse.estimate("resnet8", "stm32l4r5", cut=5, policy=policy)


def test_all_problems_at_once() -> None:
    with pytest.raises(UserError) as caught:
        dse.estimate("resnet9", "stm32l4r", preset="qlr")
    assert [problem.found for problem in caught.value.problems] == [
        "unknown network 'resnet9'", "unknown board 'stm32l4r'", "unknown accounting preset 'qlr'",
    ]  # fmt: skip
    with pytest.raises(UserError) as caught:
        dse.estimate("resnet8", "stm32l4r5", head="x", epochs=0, cut=99, micro_batch="half")
    assert {problem.key for problem in caught.value.problems} == {"head", "epochs", "cut", "micro_batch"}


def test_the_whole_mini_batch_never_holds_more_replays_than_the_buffer() -> None:
    workload, board = dse.load_network("resnet8"), dse.load_board("stm32l4r5")
    plan = decide(workload, board, {"n_replays": 10, "micro_batch": "batch", "batch": [21, 107]}).plan
    assert (plan.replays_per_batch, plan.micro_batch) == (10, 31)


def test_an_explanation_sums_to_its_estimate() -> None:
    explanation = dse.explain("resnet8", "stm32l4r5", cut=5)
    frame = explanation.to_frame()
    assert frame["joules"].sum() == pytest.approx(float(explanation.costs.event_j[0]))


def test_explore_accepts_tables_paths_names_and_spaces(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(
        'networks = ["resnet8"]\nboards = ["stm32l4r5"]\nobjectives = ["ram_peak_bytes", "event_j"]\n'
        'accuracy = "none"\n[choices]\ncut = [5, "last"]\n',
        encoding="utf-8",
    )
    space = dse.load_space(file)
    by_file, by_space = dse.explore(file), dse.explore(space)
    assert by_file.to_frame().equals(by_space.to_frame())
    assert len(dse.explore(TINY).boards[0].front) > 0


def test_seed_and_trials_reach_the_sampler() -> None:
    found = dse.explore(TINY, method="random", trials=5, seed=7)
    assert (found.seed, found.trials, found.complete) == (7, 5, False)
    with pytest.raises(UserError) as caught:
        dse.explore(TINY, trials=0, seed=-1)
    assert len(caught.value.problems) == 2


def test_a_sweep_in_memory_is_the_sweep_in_a_file(tmp_path: Path) -> None:
    kept = dse.sweep(TINY)
    for ending in (".csv", ".parquet"):
        written = dse.sweep(TINY, tmp_path / f"x{ending}")
        assert written.count == kept.count == len(written.to_frame())
        assert written.to_frame()["event_j"].tolist() == kept.to_frame()["event_j"].tolist()
    assert dse.sweep(TINY, feasible_only=True).count == dse.explore(TINY).boards[0].counts.feasible
    with pytest.raises(UserError, match=r"ending '\.xls'; one of \.csv, \.parquet"):
        dse.sweep(TINY, tmp_path / "x.xls")


def test_what_does_not_fit_is_drawn_by_nobody_but_swept() -> None:
    assert set(dse.sweep(IMPOSSIBLE).to_frame()["status"]) == {"memory of the board, flash"}


def test_figures_come_back() -> None:
    assert len(dse.draw(dse.explore(TINY)).axes) == 1
    figure = dse.draw(dse.explain("resnet8", "stm32l4r5"))
    assert figure.axes
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows


def test_a_certificate_is_drawn_listed_and_written(tmp_path: Path) -> None:
    found = dse.certify("har-cnn-1d", "stm32l4r5", replay="none", batch=(1, 0), execute=False)
    assert len(dse.draw(found).axes) == 1
    frame = found.to_frame()
    assert len(frame) == len(found.map.entries)
    for level, rows in frame.groupby("level"):
        assert (rows.offset + rows.size_bytes).max() == found.summary(str(level)).arena_bytes
        assert rows.offset.is_monotonic_increasing
    names = dse.write_certificate(found, str(tmp_path / "certificate"))
    assert (tmp_path / "certificate" / "memory_map.h").is_file()
    assert set(names) >= {"memory_map.csv", "memory_map.png", "peak.csv", "certificate.md"}


def test_selections_and_contributions_are_drawn() -> None:
    contributions = dse.contribute("mcunet-5fps", published="mcunet-5fps-cars", out=None)
    assert len(dse.draw(contributions).axes) == 3
    selection = dse.select_scheme("mcunet-5fps", memory="mcunetv3-extra")
    assert len(dse.draw(selection).axes) == 1


@pytest.mark.parametrize("name", dse.list_explorations())
def test_explorations_that_come_along_can_be_read(name: str) -> None:
    space = dse.load_space(name)
    assert space.name == name
    assert space.size <= space.search.exact_limit


def test_the_default_explorations_come_along() -> None:
    assert set(DEFAULT) <= set(dse.list_explorations())
    with pytest.raises(UserError, match="one of: shapes, small-boards"):
        dse.load_space("nosuch")


def test_mobilenet_fits_no_small_board_and_the_answer_says_where() -> None:
    found = dse.explore("small-boards")
    assert found.nothing_fits
    for result in found.boards:
        assert result.relaxation is not None
        assert {excess.name for excess in result.relaxation.exceeded} == {"memory SRAM", "memory flash"}


@pytest.mark.parametrize("name", ["small-boards-extended", "small-mcunet", "small-mcunet-96"])
def test_with_memory_attached_or_with_small_networks_every_board_has_a_front(name: str) -> None:
    assert all(len(result.front) > 1 for result in dse.explore(name).boards)


def test_heads_fit_every_small_board() -> None:
    assert all(len(result.front) for result in dse.explore("small-heads").boards)
