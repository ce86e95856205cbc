"""Which numbers are benchmarked, against pricing the plan once more for each end of each number."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

import dse
from dse.api.bench import bench
from dse.api.context import context_of, decided
from dse.calibrate.bench.choice import BY_HAND, Subject, measured_by
from dse.calibrate.bench.geometry import Geometry
from dse.cost.model import price
from dse.errors import UserError
from dse.hardware import HardwareProfile, load_board
from dse.plan.decisions import PlanBatch

RESULTS = ("event_s", "event_j", "lifetime_s")
PROGRAMS = r"rate\[|element\[|overhead\[|operating_point\..*_power_w$|sleep_state\..*\.power_w$"


def priced(network: str, board: HardwareProfile, decisions: dict[str, object]) -> tuple[float, ...]:
    context = context_of(network, board)
    plan = decided(context, None, decisions).plan
    costs = price(context, PlanBatch.from_plans(context.workload, [plan]))
    return tuple(float(getattr(costs, name)[0]) for name in RESULTS)


def one_at_a_time(
    network: str, board: HardwareProfile, decisions: dict[str, object]
) -> list[tuple[float, set[str]]]:
    """Return (largest relative change of a result, paths) of every number with an interval, largest first."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for path, quantity in board.numbers():
        library = re.match(r"\w+\[([^,]+),", path)
        if library and library[1] not in board.kernels.values():
            continue
        if quantity.low_value < quantity.high_value:
            kind = re.split(r"[.\[]", path)[0], path.rsplit(".", 1)[1]
            groups.setdefault((*kind, quantity), []).append(path)
    base, found = priced(network, board, decisions), []
    for (*_, quantity), paths in groups.items():
        low, high = (
            priced(network, board.with_values(dict.fromkeys(paths, end)), decisions)
            for end in (quantity.low_value, quantity.high_value)  # type: ignore[attr-defined]
        )
        parts = zip(low, high, base, strict=True)
        found.append((max(abs(top - bottom) / usual for bottom, top, usual in parts), set(paths)))
    return sorted(found, key=lambda item: -item[0])


@pytest.mark.parametrize(
    ("network", "board", "decisions", "top"),
    [
        ("resnet8", "stm32l4r5", {"cut": 8}, 4),
        pytest.param("mobilenet-v1-0.25-vww", "stm32f746", {}, 3, marks=pytest.mark.slow),
        ("ds-cnn", "rp2040", {"cut": "last", "frozen_bits": 32}, 5),
    ],
)
def test_the_numbers_are_those_that_move_the_results_most(
    network: str, board: str, decisions: dict[str, object], top: int
) -> None:
    found = bench(board, network, top=top, **decisions)
    ranked = [item for item in one_at_a_time(network, load_board(board), decisions) if item[0] > 0]
    measurable = [item for item in ranked if any(re.match(PROGRAMS, path) for path in item[1])]
    assert len(found.chosen) == top
    for mine, (change, paths) in zip(found.chosen, measurable, strict=False):
        assert {subject.path for subject in mine.subjects} <= set(mine.influence.paths) == paths
        assert mine.influence.weight(RESULTS) == pytest.approx(change)
    before = ranked[: ranked.index(measurable[top - 1])]
    assert {each.influence.path.split(" (")[0] for each in found.by_hand} == {
        sorted(paths)[0] if len(paths) > 1 else next(iter(paths)) for _, paths in before if (_, paths) not in measurable
    }  # fmt: skip


def test_each_path_of_a_number_that_the_plan_runs_has_a_benchmark() -> None:
    # Five int8 operators share one figure on this board; the network has neither conv1d nor, frozen, linear.
    found = bench("stm32f746", "mobilenet-v1-0.25-vww", top=3)
    shared = next(each for each in found.chosen if each.influence.path.startswith("rate[tinyengine"))
    assert len(shared.influence.paths) == 5
    operators = {subject.path.split(",")[1] for subject in shared.subjects}
    assert operators == {"conv2d", "depthwise", "pointwise"}
    timed = [case for case in found.cases if case.kind == "timed"]
    assert {case.row["operator"] for case in timed} == operators
    assert {path for case in found.cases for path in case.paths} == {
        subject.path for each in found.chosen for subject in each.subjects
    }


def test_the_layer_is_the_one_with_most_macs_under_its_rate() -> None:
    workload = dse.load_network("resnet8")
    # One rate stands for every operator and pass; above cut 5 stack 3 and the classifier learn.
    found = bench("stm32l4r5", "resnet8", cut=5, top=1)
    macs = {case.name: case.row["macs"] for case in found.cases}
    assert macs["linear_bwd_weight_fp32"] == str(workload.units[9].macs) == "640"
    assert macs["pointwise_fwd_fp32"] == str(workload.units[8].macs) == str(64 * 32 * 8 * 8)
    frozen = bench("stm32l4r5", "resnet8", cut=-1, replay="raw", top=1)
    (case,) = [case for case in frozen.cases if case.name == "conv2d_bwd_weight_fp32"]
    largest = max(unit.macs for unit in workload.units)
    rows = {unit.name for unit in workload.units if unit.macs == largest}
    assert case.row["note"].split(":")[0] in rows


def test_every_number_of_every_cortex_board_is_measured_or_explained() -> None:
    for board in map(load_board, ("rp2040", "stm32u575", "apollo4-plus")):
        for path, quantity in board.numbers():
            found = measured_by(board, path)
            if quantity.included:
                continue  # no interval: it is never asked
            assert isinstance(found, Subject) == bool(re.match(PROGRAMS, path)), path
            field = path.rsplit(".", 1)[1]
            assert isinstance(found, Subject) or field in BY_HAND, path


def test_a_shape_shrinks_until_it_fits() -> None:
    whole = Geometry(64, 96, 1, (3, 3), (1, 1), (1, 1), (32, 32))
    assert whole.padded == (34, 34)
    assert whole.macs == 32 * 32 * 96 * 64 * 9
    assert whole.arena_bytes("fwd", "fp32") == 4 * (34 * 34 * 64 + 96 * 64 * 9 + 32 * 32 * 96)
    small = whole.fitting("fwd", "fp32", 300_000, math.inf)
    assert small.arena_bytes("fwd", "fp32") <= 300_000 < whole.arena_bytes("fwd", "fp32")
    assert (small.inputs, small.outputs, small.taps) == (64, 96, (3, 3))  # positions go first
    tiny = whole.fitting("bwd_weight", "fp32", 4096, math.inf)
    assert tiny.arena_bytes("bwd_weight", "fp32") <= 4096
    assert min(tiny.inputs, tiny.outputs) >= 1
    depthwise = Geometry(96, 96, 96, (3, 3), (1, 1), (1, 1), (1, 1)).fitting("fwd", "fp32", 1000, math.inf)
    assert depthwise.groups == depthwise.inputs == depthwise.outputs < 96
    assert depthwise.macs == depthwise.groups * 9
    assert whole.fitting("fwd", "int8", 1e9, 1e6).macs <= 1e6


def test_tensors_fit_into_the_ram_of_the_board() -> None:
    found = bench("stm32f401re", "mobilenet-v1", frozen_bits=8, top=3)
    usable = load_board("stm32f401re").level("SRAM").usable_bytes
    assert max(case.arena_bytes for case in found.cases) <= 0.75 * usable
    assert any("shrunk" in case.row["note"] for case in found.cases if case.kind == "timed")


def test_what_cannot_be_benchmarked_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for board in ("vega", "esp32-s3"):
        with pytest.raises(UserError, match=r"no benchmark is written for .*--template kernels"):
            bench(board, "resnet8")
    with pytest.raises(UserError, match="neither a network nor a run"):
        bench("stm32l4r5")
    with pytest.raises(UserError, match="both a network and a run"):
        bench("stm32l4r5", "resnet8", run="small-boards")
    with pytest.raises(UserError, match="1 to 20"):
        bench("stm32l4r5", "resnet8", top=21)
    with pytest.raises(UserError, match="those of the run's point"):
        bench("stm32l4r5", run=tmp_path, cut=3)


def test_nothing_uncertain_is_nothing_to_measure() -> None:
    board = load_board("stm32l4r5")
    sure = {
        path: quantity.model_copy(update={"low": None, "high": None}) for path, quantity in board.numbers()
    }
    assert np.isfinite([quantity.value for quantity in sure.values()]).all()
    settled = board.model_copy(
        update={
            "rates": tuple(each.model_copy(update={"mac_per_cycle": sure[f"rate[{','.join(map(str, each.key))}]."
                           "mac_per_cycle"]}) for each in board.rates),
            "elements": tuple(each.model_copy(update={"cycles_per_element": sure[f"element[{','.join(map(str, each.key))}]."
                              "cycles_per_element"]}) for each in board.elements),
            "overheads": tuple(each.model_copy(update={"cycles_per_call": sure[f"overhead[{','.join(map(str, each.key))}]."
                               "cycles_per_call"]}) for each in board.overheads),
            "operating_points": tuple(each.model_copy(update={
                "inference_power_w": sure[f"operating_point.{each.name}.inference_power_w"],
                "training_power_w": sure[f"operating_point.{each.name}.training_power_w"]})
                for each in board.operating_points),
            "sleep_states": tuple(each.model_copy(update={"power_w": sure[f"sleep_state.{each.name}.power_w"]})
                                  for each in board.sleep_states),
        }
    )  # fmt: skip
    with pytest.raises(UserError, match="no number that a program can measure"):
        bench(settled, "resnet8")
