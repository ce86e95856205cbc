"""Which numbers are benchmarked, against pricing the plan once more for each end of each number."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

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
        pytest.param("ds-cnn", "rp2040", {"cut": "last", "frozen_bits": 32}, 5, marks=pytest.mark.slow),
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
    by_hand = [paths for change, paths in before if (change, paths) not in measurable]
    assert [set(each.influence.paths) for each in found.by_hand] == by_hand


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


def test_the_layout_of_a_shape_is_written_for_other_kernels() -> None:
    shape = Geometry(3, 8, 1, (3, 3), (2, 2), (1, 1), (4, 4))
    assert shape.layout("fwd", "int8") == (
        "int8_t x[9][9][3] at 0, int8_t w[8][3][3][3] at 248, int8_t y[4][4][8] at 464"
    )
    assert shape.layout("bwd_weight_int8", "int8").split(", ")[1] == "int32_t w[8][3][3][3] at 248"
    assert shape.layout("bwd_input", "int8").startswith("float x[9][9][3] at 0, int8_t w[8][3][3][3] at 976")


def test_tensors_fit_into_the_ram_of_the_board() -> None:
    found = bench("stm32f401re", "mobilenet-v1", frozen_bits=8, top=3)
    usable = load_board("stm32f401re").level("SRAM").usable_bytes
    assert max(case.arena_bytes for case in found.cases) <= 0.75 * usable
    assert any("shrunk" in case.row["note"] for case in found.cases if case.kind == "timed")


def test_a_point_of_a_run_is_benchmarked(tmp_path: Path) -> None:
    space = {
        "name": "two boards", "networks": ["ds-cnn"], "boards": ["stm32l4r5", "nrf52840"],
        "objectives": ["ram_peak_bytes", "event_j"],
        "choices": {"cut": ["last", 7], "micro_batch": [1], "images_per_event": [20], "batch": [[4, 4]]},
    }  # fmt: skip
    found = dse.explore(space)
    folder = dse.write_run(found, tmp_path)
    best = min(found.boards[1].front.named, key=lambda design: design.design)
    mine = bench("nrf52840", run=folder, point=str(best.design), top=2)
    assert mine.title.startswith("nrf52840, ds-cnn, 64MHz")
    assert len(mine.chosen) == 2
    with pytest.raises(UserError, match=f"{best.design} is a design on nrf52840"):
        bench("stm32l4r5", run=folder, point=str(best.design))
    with pytest.raises(UserError, match="a board with a front"):
        bench("stm32u575", run=folder)


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


def _sure(entries: tuple[Any, ...], *fields: str) -> tuple[Any, ...]:
    """Return ``entries`` without the intervals of ``fields``."""
    nothing = {"low": None, "high": None}
    return tuple(
        entry.model_copy(update={field: getattr(entry, field).model_copy(update=nothing) for field in fields})
        for entry in entries
    )


def test_nothing_uncertain_is_nothing_to_measure() -> None:
    board = load_board("stm32l4r5")
    settled = board.model_copy(
        update={
            "rates": _sure(board.rates, "mac_per_cycle"),
            "elements": _sure(board.elements, "cycles_per_element"),
            "overheads": _sure(board.overheads, "cycles_per_call"),
            "operating_points": _sure(board.operating_points, "inference_power_w", "training_power_w"),
            "sleep_states": _sure(board.sleep_states, "power_w"),
        }
    )
    with pytest.raises(UserError, match="no number that a program can measure"):
        bench(settled, "resnet8")


def test_what_fits_is_three_quarters_of_the_ram_and_what_runs_goes_before_what_inference_runs() -> None:
    found = bench("stm32l4r5", "mobilenet-v1-0.25-vww", cut=3, top=20)
    (level,) = (level for level in load_board("stm32l4r5").levels if level.name == "SRAM")
    assert max(case.arena_bytes for case in found.cases) <= 0.75 * level.usable_bytes
    # Units 0 to 3 run forward in int8 in an event; larger pointwise ones above do so in inference alone.
    (case,) = (case for case in found.cases if case.name == "pointwise_fwd_int8")
    assert case.row["note"].startswith("conv2_1/sep: ")
