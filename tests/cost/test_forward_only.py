"""Seconds of layers that run forward only: worked out by hand at both ends of what was accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dse
from dse.cost.acceptance import accepted_shares, demands
from dse.cost.context import Context
from dse.cost.cycles import element_count
from dse.cost.forward_tiles import forward_tiling, operand_bytes, weight_passes
from dse.cost.tiling_calls import scratchpad_of
from dse.errors import Unpriced
from dse.hardware import HardwareProfile, Quantity, list_boards, load_board
from dse.hardware.accept import has_price
from dse.hardware.quantity import Entry
from dse.workload import Workload
from tests.workload.recurrent import (
    ATTENTION,
    FEATURES,
    GATED,
    HIDDEN,
    LSTM,
    LSTM_BIASES,
    LSTM_MACS,
    LSTM_WEIGHTS,
    STEPS,
    load,
)

BOARD = "stm32l4r5"
IMAGES = 10
BOUNDS = ["lstm=0.05..0.5", "sigmoid=4..9"]
TURNED = STEPS * FEATURES  # elements of the gate, or that a copy moves


def certain(entry: Any) -> Any:
    """Return a board, or a part of one, whose numbers have no interval."""
    if isinstance(entry, Quantity):
        return entry.model_copy(update={"low": entry.value, "high": entry.value})
    if isinstance(entry, tuple):
        return tuple(certain(item) for item in entry)
    if isinstance(entry, Entry):
        fields = {name: certain(getattr(entry, name)) for name in type(entry).model_fields}
        return entry.model_copy(update=fields)
    return entry


def estimated(workload: Workload, board: HardwareProfile, **given: Any) -> Any:
    decisions = {"cut": "last", "images_per_event": IMAGES, "batch": (IMAGES, 0)} | given
    return dse.estimate(workload, board, accuracy="none", **decisions)


def image_seconds(board: HardwareProfile, mac_per_cycle: float, cycles_per_element: float) -> float:
    """The LSTM and its gate in int8, at the first operating point: kernels, call, and weights from flash.

    The weights are read at each of the steps, the biases once; the flash is read in turn with computing.
    """
    clock = board.operating_points[0].clock_hz.value
    library = board.kernels["int8"]
    cycles = LSTM_MACS / mac_per_cycle + board.overhead(library).cycles_per_call.value
    cycles += TURNED * cycles_per_element
    flash = next(level for level in board.levels if level.name == "flash")
    moved = LSTM_WEIGHTS * STEPS + LSTM_BIASES * 4
    return cycles / clock + moved * float(np.ravel(flash.read_s_per_byte(np.array([clock])))[0])


def test_the_interval_ends_where_the_bounds_do(tmp_path: Path) -> None:
    board = certain(load_board(BOARD))
    workload = load(GATED, tmp_path)
    found = estimated(workload, board, accept=BOUNDS)
    middle = image_seconds(board, np.sqrt(0.05 * 0.5), np.sqrt(4 * 9))
    assert found.value("frozen_image_s") == pytest.approx(middle, rel=1e-12)
    event = {row["quantity"]: row for row in found.records()}["event_s"]
    slow, fast = image_seconds(board, 0.05, 9), image_seconds(board, 0.5, 4)
    assert event["high"] - event["value"] == pytest.approx(IMAGES * (slow - middle), rel=1e-9)
    assert event["value"] - event["low"] == pytest.approx(IMAGES * (middle - fast), rel=1e-9)
    shown = {influence.paths[0].split("[")[0] for influence in found.intervals.influences}
    assert shown == {"rate", "element"}


def test_energy_widens_with_time(tmp_path: Path) -> None:
    board, workload = certain(load_board(BOARD)), load(GATED, tmp_path)
    rows = {row["quantity"]: row for row in estimated(workload, board, accept=BOUNDS).records()}
    watts = board.operating_points[0].inference_power_w.value
    slower = image_seconds(board, 0.05, 9) - image_seconds(board, np.sqrt(0.05 * 0.5), 6)
    assert rows["event_j"]["high"] - rows["event_j"]["value"] == pytest.approx(IMAGES * slower * watts)


def test_an_inference_runs_all_of_it(tmp_path: Path) -> None:
    board, workload = certain(load_board(BOARD)), load(GATED, tmp_path)
    duty = dse.Duty(inferences_per_day=1.0)
    found = estimated(workload, board, accept=BOUNDS, intervals=False, duty=duty)
    clock = board.operating_points[0].clock_hz.value
    head = 32 / board.rate("linear", "fwd", "int8").mac_per_cycle.value / clock
    flash = next(level for level in board.levels if level.name == "flash")
    bias = 4 * 4 * float(np.ravel(flash.read_s_per_byte(np.array([clock])))[0])  # weights are in the rate
    middle = image_seconds(board, np.sqrt(0.05 * 0.5), 6)
    assert found.value("inference_s") == pytest.approx(middle + head, rel=1e-3)
    assert found.value("inference_s") <= middle + head + bias + 1e-12


# --- what has no price ---


def test_every_operation_without_a_price_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unpriced) as caught:
        estimated(load(ATTENTION, tmp_path), load_board(BOARD))
    told = {problem.key: (problem.found, problem.allowed) for problem in caught.value.problems}
    assert list(told) == ["matmul", "layer_norm", "softmax"]  # the copy costs what a concatenation does
    macs = 576 / (4 * 8 * 9 + 576 + 64 * 2)
    assert told["matmul"] == (
        f"no forward figure in int8: {100 * macs:.3g} % of the MACs (scores)",
        "--accept matmul, or --accept matmul=LOW..HIGH in MAC/cycle",
    )
    for word, layer in (("layer_norm", "scale"), ("softmax", "weigh")):
        assert told[word] == (
            f"no forward figure in int8: {100 * 64 / (72 + 64 + 64):.3g} % of the elements ({layer})",
            f"--accept {word}, or --accept {word}=LOW..HIGH in cycles per element",
        )


def test_a_custom_operation_is_never_free(tmp_path: Path) -> None:
    text = GATED.replace('operation = "lstm"', 'operation = "custom:Cells"').replace(
        "forward_macs = 8960, ", ""
    )
    workload = load(text.replace("[0, 1]", "[0]"), tmp_path)
    with pytest.raises(Unpriced) as caught:
        estimated(workload, load_board(BOARD), accept=["sigmoid=1..1"])
    assert "custom:Cells: no forward figure in int8" in str(caught.value)
    assert "MACs unknown (cells); --accept custom:Cells," in str(caught.value)
    with_price = estimated(
        workload, load_board(BOARD), accept=["custom:Cells=3..3", "sigmoid=1..1"], intervals=False
    )
    more = estimated(
        workload, load_board(BOARD), accept=["custom:Cells=5..5", "sigmoid=1..1"], intervals=False
    )
    clock = load_board(BOARD).operating_points[0].clock_hz.value
    counted = 120  # the larger of 20 x 6 in and 8 out
    difference = more.value("frozen_image_s") - with_price.value("frozen_image_s")
    assert difference == pytest.approx(2 * counted / clock)


def test_elements_are_the_larger_of_in_and_out(tmp_path: Path) -> None:
    counts = dict(zip([one.name for one in load(ATTENTION, tmp_path).layers],
                      element_count(load(ATTENTION, tmp_path)), strict=True))  # fmt: skip
    assert counts == {
        "embed": 0, "rows": 0, "turned": 72, "scores": 0, "weigh": 64, "scale": 64, "flat": 0, "head": 0,
    }  # fmt: skip
    shrinking = load(LSTM.replace('"lstm"', '"reduce"').replace("forward_macs = 8960, ", "")
                     .replace("[0, 1]", "[0]"), tmp_path)  # fmt: skip
    assert element_count(shrinking).tolist() == [120, 120, 0]


@pytest.mark.parametrize("name", list_boards())
def test_a_copy_costs_what_a_concatenation_costs_on_every_board(name: str, tmp_path: Path) -> None:
    board, copied, gated = certain(load_board(name)), load(LSTM, tmp_path), load(GATED, tmp_path)
    joined = board.element_cost("concat", "fwd", "int8").cycles_per_element
    assert (joined.included, board.element_word("copy", "fwd", "int8")) == (False, "concat")
    given = f"sigmoid={joined.value}..{joined.value}"
    found, same, dearer = (
        estimated(workload, board, accept=["lstm=0.5..0.5", *more], intervals=False).value("frozen_image_s")
        for workload, more in ((copied, []), (gated, [given]), (gated, ["sigmoid=50..50"]))
    )
    assert found == pytest.approx(same, rel=1e-12)
    clock = board.operating_points[0].clock_hz.value
    assert dearer - found == pytest.approx(TURNED * (50 - joined.value) / clock, rel=1e-6)


def test_a_copy_takes_cycles_of_its_own(tmp_path: Path) -> None:
    board = certain(load_board(BOARD))
    found = estimated(load(LSTM, tmp_path), board, accept=["lstm=0.5..0.5"], intervals=False)
    # Half of the 5 cycles per element that a Cortex-M4 is taken to need in fp32.
    assert found.value("frozen_image_s") == pytest.approx(image_seconds(board, 0.5, 2.5), rel=1e-12)


def test_a_copy_is_not_free_where_joining_is_part_of_another_figure() -> None:
    board = load_board(BOARD)
    alone = [cost for cost in board.elements if (cost.operation, cost.dtype) != ("concat", "int8")]
    (joined,) = [
        cost for cost in board.elements
        if (cost.operation, cost.pass_, cost.dtype, cost.library)
        == ("concat", "fwd", "int8", board.kernels["int8"])
    ]  # fmt: skip
    included = joined.cycles_per_element.model_copy(update={"value": 0.0, "included": True})
    within = joined.model_copy(update={"cycles_per_element": included})
    board = board.model_copy(update={"elements": (*alone, within)})
    assert board.element_word("copy", "fwd", "int8") == "copy"
    assert not has_price(board, "copy", "int8", counted=False)


def test_shares_of_what_was_accepted(tmp_path: Path) -> None:
    workload = load(GATED, tmp_path)
    found = estimated(workload, load_board(BOARD), accept=["lstm", "sigmoid"], intervals=False)
    rows = accepted_shares(found.context.board, workload, ["int8"])
    assert [row.demand.operation for row in rows] == ["lstm", "sigmoid"]
    assert rows[0].demand.share == pytest.approx(LSTM_MACS / (LSTM_MACS + 32))
    assert [row.operation for row in demands(workload)] == ["lstm", "linear", "sigmoid"]


def test_the_breakdown_sums_and_names_the_operator(tmp_path: Path) -> None:
    found = dse.explain(load(GATED, tmp_path), BOARD, cut="last", images_per_event=IMAGES,
                        batch=(IMAGES, 0), accept=BOUNDS)  # fmt: skip
    (row,) = [row for row in found.rows if row.operator == "lstm"]
    assert (row.stage, row.macs) == ("frozen stage", IMAGES * LSTM_MACS)
    assert row.seconds == pytest.approx(
        IMAGES * image_seconds(load_board(BOARD), np.sqrt(0.05 * 0.5), 6), rel=1e-9
    )


# --- in a scratchpad ---


def pad_of(board: str, room: float | None = None):
    pad = scratchpad_of(Context(dse.load_network("resnet8"), load_board(board)))
    assert pad is not None
    return pad if room is None else replace(pad, room_bytes=room)


def test_a_product_moves_each_operand_once_where_all_but_the_largest_fit(tmp_path: Path) -> None:
    workload = load(ATTENTION, tmp_path)
    pad = pad_of("vega")
    tiling = forward_tiling(pad, workload, 1, 4)
    sizes = operand_bytes(workload, workload.units[1], 4)
    assert sizes == {"input": 2 * 72 * 4, "weights": 0, "output": 64 * 4}
    assert (tiling.operands["input"].read_bytes, tiling.operands["output"].written_bytes) == (576, 256)
    assert tiling.bytes_moved == 576 + 256
    least = 256 + pad.buffers * 576 / 8  # the result whole, an eighth of the inputs at a time
    assert tiling.used_bytes == least
    assert forward_tiling(pad_of("vega", least), workload, 1, 4).bytes_moved == 832
    with pytest.raises(Unpriced) as caught:
        forward_tiling(pad_of("vega", least - 1), workload, 1, 4)
    assert str(caught.value) == (
        "vega: memory.L1: scores (matmul) takes 400 B there: no walk over smaller tiles is known; "
        "L1 has 399 B for tiles"
    )


def test_a_recurrent_layer_fetches_its_weights_at_every_step(tmp_path: Path) -> None:
    workload = load(LSTM, tmp_path)
    assert weight_passes(workload.units[0]) == STEPS
    assert weight_passes(workload.units[1]) == 1
    board = certain(load_board("vega"))
    found = dse.explain(workload, board, cut="last", images_per_event=1, batch=(1, 0), accept=["lstm=1..1"])
    (row,) = [row for row in found.rows if row.operator == "lstm"]
    weights = LSTM_WEIGHTS * STEPS + 4 * LSTM_BIASES
    tensors = STEPS * FEATURES + STEPS * FEATURES + HIDDEN  # frame, its copy and the latent
    assert row.bytes_moved["L2"] == weights + 2 * tensors  # each is written and read once


def test_an_operation_known_by_name_alone_has_to_fit_whole(tmp_path: Path) -> None:
    text = ATTENTION.replace('operation = "matmul"', 'operation = "custom:Mix"')
    workload = load(text, tmp_path)
    assert forward_tiling(pad_of("vega", 832), workload, 1, 4).tiles == 1
    with pytest.raises(Unpriced):
        forward_tiling(pad_of("vega", 831), workload, 1, 4)


def test_a_plan_on_a_board_with_a_scratchpad_lists_its_tiles(tmp_path: Path) -> None:
    found = dse.explain(load(LSTM, tmp_path), "vega", cut="last", accept=["lstm"])
    assert [(row.stage, row.unit) for row in found.tiles if row.pass_ == "fwd"] == [
        ("frozen stage", "cells"), ("learning", "head"),
    ]  # fmt: skip
    found.check()


def test_the_largest_operand_passes_in_eight_transfers_and_weights_once_per_step(tmp_path: Path) -> None:
    pad = pad_of("vega")
    product = forward_tiling(pad, load(ATTENTION, tmp_path), 1, 4).operands
    assert (product["input"].transfers, product["output"].transfers) == (8, 1)
    recurrent = load(LSTM, tmp_path)
    tiling = forward_tiling(pad, recurrent, 0, 1)
    assert {name: moved.transfers for name, moved in tiling.operands.items()} == {
        "input": 1, "weights": STEPS, "output": 1,
    }  # fmt: skip
    assert operand_bytes(recurrent, recurrent.units[0], 4)["weights"] == 4 * LSTM_WEIGHTS
    state = 6 * HIDDEN * 4  # four gates, the state and the cell state, in 32 bits
    assert tiling.used_bytes == state + pad.buffers * ((TURNED + HIDDEN) / STEPS + LSTM_WEIGHTS / 8)


def test_shares_add_up_beside_batch_norms_that_are_folded(tmp_path: Path) -> None:
    norm = '  { kind = "batch_norm", name = "norm" },\n  { kind = "forward_only", name = "rows"'
    text = ATTENTION.replace('  { kind = "forward_only", name = "rows"', norm).replace('embed"]', 'norm"]')
    rows = demands(load(text, tmp_path))
    for counted in (True, False):
        assert sum(row.share for row in rows if row.counted == counted) == pytest.approx(1.0)


def test_rules_without_elements_ask_for_no_price_of_them(tmp_path: Path) -> None:
    workload = load(GATED, tmp_path)
    found = estimated(workload, load_board(BOARD), preset="qlr-cl", accept=["lstm"], intervals=False)
    assert found.value("frozen_image_s") > 0
    with pytest.raises(Unpriced) as caught:
        estimated(workload, load_board(BOARD), accept=["lstm"])
    assert [problem.key for problem in caught.value.problems] == ["sigmoid"]
