"""Tiles of single kernel calls: against a walk of the tiles, against every tiling there is, and by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.cost.tiling import Call, best_tiling, smallest_bytes
from dse.cost.tiling_geometry import Loops, ceil_splits, loops_of, tile_spans
from dse.workload import load_network
from tests.cost.naive_tiles import every_tiling, spills, walk
from tests.plan.strategies import TCN, UNEVEN

PASSES = ("fwd", "bwd_input", "bwd_weight")


def positions(padded: int, extent: int, stride: int) -> int:
    return (padded - extent) // stride + 1


@st.composite
def layers(draw: st.DrawFn, channels: int, rows: int) -> Loops:
    kind = draw(st.sampled_from(["conv2d", "conv1d", "depthwise", "pointwise", "linear", "grouped"]))
    some = st.integers(1, channels)
    if kind == "linear":
        return Loops("linear", 1, draw(some), draw(some), 1, 1, 1, 1)
    size, columns = draw(st.integers(1, rows)), 1 if kind == "conv1d" else draw(st.integers(1, 3))
    if kind == "pointwise":
        return Loops("pointwise", 1, draw(some), draw(some), size, columns, size, columns)
    kernel = draw(st.integers(1, 3))
    dilation = draw(st.sampled_from([1, 1, 2, 3]))
    reach = (kernel - 1) * dilation
    padding, after = draw(st.integers(0, reach)), draw(st.integers(0, reach))
    size = max(size, reach + 1 - padding - after)
    stride = draw(st.integers(1, 3))
    out = positions(padding + size + after, reach + 1, stride)
    groups = {"depthwise": draw(some), "grouped": 2}.get(kind, 1)
    ins, outs = (1, 1) if kind == "depthwise" else (draw(some), draw(some))
    shape = (kernel,) if kind == "conv1d" else (kernel, 1)
    name = {"grouped": "conv2d"}.get(kind, kind)
    return Loops(name, groups, ins, outs, size, columns, out, columns, shape, stride, padding, dilation)


@st.composite
def calls(draw: st.DrawFn, channels: int, rows: int, samples: int) -> Call:
    widths = draw(st.sampled_from([(4, 4, 4), (2, 2, 2), (1, 1, 1), (1, 1, 4), (4, 1, 4)]))
    return Call(
        draw(layers(channels, rows)), draw(st.sampled_from(PASSES)), draw(st.integers(1, samples)), *widths,
        buffers=draw(st.sampled_from([1, 2])), spills=draw(st.booleans()), accumulates=draw(st.booleans()),
    )  # fmt: skip


def room_for(call: Call, share: float) -> float:
    """Between the smallest tile and the whole call."""
    whole = call.buffers * sum(call.once_bytes(name) for name in ("input", "weights", "output"))
    return smallest_bytes(call) + share * max(whole - smallest_bytes(call), 0)


@settings(max_examples=150, deadline=None)
@given(calls(channels=9, rows=12, samples=5), st.floats(0, 1.1))
def test_what_a_tiling_moves_is_what_a_walk_of_its_tiles_moves(call: Call, share: float) -> None:
    room = room_for(call, share)
    found = best_tiling(call, room)
    assert found is not None
    walked = walk(call, found.samples, found.rows, found.groups, found.outs, found.ins, found.order)
    for name, moved in found.operands.items():
        assert moved.read_bytes == walked.read.get(name, 0), name
        assert moved.written_bytes == walked.written.get(name, 0), name
    assert (found.transfers, found.tiles) == (walked.transfers, walked.steps)
    assert found.used_bytes == walked.fullest <= room


@settings(max_examples=40, deadline=None)
@given(calls(channels=3, rows=4, samples=2), st.floats(0, 1.1))
def test_no_tiling_of_the_stated_set_moves_less(call: Call, share: float) -> None:
    room = room_for(call, share)
    found = best_tiling(call, room)
    assert found is not None
    allowed = call.spills and call.sum_bytes == call.width(
        {"fwd": "output", "bwd_input": "input"}.get(call.pass_, "weights")
    )
    legal = [one for one in every_tiling(call) if one.fullest <= room and (allowed or not spills(call, one))]
    assert (found.bytes_moved, found.tiles) == min((one.moved, one.steps) for one in legal)


@settings(max_examples=100, deadline=None)
@given(calls(channels=9, rows=12, samples=5), st.floats(0, 1.0), st.floats(0, 1.0))
def test_bytes_are_at_least_those_of_the_operands_and_more_room_never_moves_more(
    call: Call, one: float, other: float
) -> None:
    small, large = (best_tiling(call, room_for(call, share)) for share in sorted((one, other)))
    assert small is not None
    assert large is not None
    assert large.bytes_moved <= small.bytes_moved
    for moved in small.operands.values():
        assert moved.read_bytes + moved.written_bytes >= moved.once_bytes


@settings(max_examples=50, deadline=None)
@given(calls(channels=9, rows=12, samples=5))
def test_where_everything_fits_each_operand_moves_once(call: Call) -> None:
    call = replace(call, accumulates=False)
    found = best_tiling(call, room_for(call, 1.0))
    assert found is not None
    assert (found.tiles, found.transfers) == (1, 3)
    assert found.bytes_moved == sum(moved.once_bytes for moved in found.operands.values())


def test_a_byte_less_than_the_smallest_tile_is_too_little() -> None:
    call = Call(Loops("pointwise", 1, 8, 8, 4, 4, 4, 4), "fwd", 2, 4, 4, 4)
    # One row of four pixels with one channel in and out, and one weight: (4 + 4 + 1) x 4 B, twice.
    assert smallest_bytes(call) == 72
    assert best_tiling(call, 72) is not None
    assert best_tiling(call, 71) is None


def test_a_matrix_product_by_hand() -> None:
    """1024 to 1024 channels on one pixel: 4 MiB of weights pass once, whatever else moves."""
    found = best_tiling(Call(Loops("linear", 1, 1024, 1024, 1, 1, 1, 1), "fwd", 1, 4, 4, 4), 128 * 1024)
    assert found is not None
    assert found.operands["weights"].read_bytes == 4 * 2**20
    # 16384 floats per half: weights of 14 outputs x 1024 inputs, 1024 inputs, 14 outputs.
    assert (found.outs, found.ins) == (14, 1024)
    assert found.operands["input"].read_bytes == 4096  # stays: only the outputs step
    assert found.operands["output"].written_bytes == 4096


def test_halo_rows_are_read_again() -> None:
    """3x3, stride 1, padding 1 over 8 rows in tiles of 2: 3 + 4 + 4 + 3 rows of the input."""
    loops = Loops("depthwise", 1, 1, 1, 8, 8, 8, 8, (3, 3), 1, 1)
    assert tile_spans(loops, "fwd", 2) == [(0, 3), (1, 5), (3, 7), (5, 8)]
    assert tile_spans(loops, "bwd_input", 2) == [(0, 3), (1, 5), (3, 7), (5, 8)]


def test_a_dilated_kernel_brings_the_rows_between_its_taps() -> None:
    """Three taps, two rows apart, causal: eight rows in tiles of 2, each with four rows before its own."""
    loops = Loops("depthwise", 1, 1, 1, 8, 8, 8, 8, (3, 3), 1, 4, 2)
    assert tile_spans(loops, "fwd", 2) == [(0, 2), (0, 4), (0, 6), (2, 8)]
    assert tile_spans(loops, "bwd_input", 2) == [(0, 6), (2, 8), (4, 8), (6, 8)]


def test_rows_that_a_stride_skips_are_brought_in_once() -> None:
    loops = Loops("pointwise", 1, 1, 1, 8, 8, 4, 4, (1, 1), 2, 0)
    assert tile_spans(loops, "fwd", 1) == [(0, 2), (2, 4), (4, 6), (6, 8)]


def test_narrow_results_are_summed_up_in_the_scratchpad() -> None:
    """An int8 result has no room for 32-bit sums outside: it is finished before it leaves."""
    loops = Loops("pointwise", 1, 64, 64, 4, 4, 4, 4)
    narrow = Call(loops, "fwd", 1, 1, 1, 1)
    found = best_tiling(narrow, 600)
    assert found is not None
    assert found.operands["output"].written_bytes == 64 * 16
    assert found.operands["output"].read_bytes == 0
    assert found.ins < 64  # the sum is divided, its tile is held at four bytes
    sums = 4 * found.rows * 4 * found.outs
    assert found.used_bytes == 2 * (found.rows * 4 * found.ins + found.ins * found.outs + sums)


def test_the_unfolded_input_takes_room() -> None:
    """im2col of a 3x3 convolution: nine times the input channels for each pixel of a tile."""
    loops = Loops("conv2d", 1, 4, 8, 8, 8, 8, 8, (3, 3), 1, 1)
    plain, unfolded = (Call(loops, "fwd", 1, 4, 4, 4, workspace=name) for name in ("none", "im2col_full"))
    whole = 2 * 4 * (4 * 64 + 9 * 4 * 8 + 8 * 64)
    assert best_tiling(plain, whole).used_bytes == whole  # type: ignore[union-attr]
    tight = best_tiling(unfolded, whole)
    assert tight is not None
    assert tight.tiles > 1
    assert best_tiling(unfolded, whole + 4 * 9 * 4 * 64).tiles == 1  # type: ignore[union-attr]


def test_several_groups_share_a_tile() -> None:
    """Twelve channels of depthwise 1x1 on 4x4 pixels: 132 B each; room for six, twice held."""
    loops = Loops("depthwise", 12, 1, 1, 4, 4, 4, 4, (1, 1))
    found = best_tiling(Call(loops, "fwd", 1, 4, 4, 4), 2 * 6 * 132)
    assert found is not None
    assert (found.groups, found.rows, found.tiles) == (6, 4, 2)


def test_tiles_of_the_stated_set() -> None:
    assert ceil_splits(7).tolist() == [1, 2, 3, 4, 7]


def test_a_sparse_update_walks_fewer_channels() -> None:
    assert Loops("pointwise", 1, 64, 32, 4, 4, 4, 4).with_inputs(10).ins == 10
    assert Loops("depthwise", 64, 1, 1, 4, 4, 4, 4, (3, 3)).with_inputs(10).groups == 10


@pytest.mark.parametrize("network", ["mobilenet-v1", "resnet8", "ds-cnn", "mcunet-5fps", TCN, UNEVEN])
def test_loops_have_the_macs_weights_and_elements_of_the_unit(network: str) -> None:
    workload = load_network(network)
    for unit, loops in zip(workload.units, loops_of(workload), strict=True):
        assert loops.elements("input") == unit.input_elements
        assert loops.elements("output") == unit.output_elements
        assert loops.elements("weights") == unit.weight_params
        macs = loops.elements("weights") * loops.out_rows * loops.out_columns
        assert macs == unit.macs


def test_loops_know_the_rows_of_each_window() -> None:
    """Stride, rows before the first, dilation; of a 2-D layer those of its height."""
    found = {unit.name: loops_of(network)[unit.index] for network in map(load_network, (TCN, UNEVEN))
             for unit in network.units}  # fmt: skip
    rows = {name: (loops.stride, loops.padding, loops.dilation) for name, loops in found.items()}
    assert rows["a2"] == (1, 4, 2)
    assert rows["down"] == (2, 2, 3)
    assert rows["dw1"] == (1, 4, 2)
    assert rows["dw3"] == (1, 1, 2)
    assert rows["dw4"] == (1, 2, 2)  # "same": a kernel of 3 with dilation 2 reaches 5
    assert rows["conv1"] == (2, 0, 1)
