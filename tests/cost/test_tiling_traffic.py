"""What tiles do to a whole step: bytes by level, transfers, seconds and joules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.cost.explain import explain
from dse.cost.latency import frozen_time, step_time
from dse.cost.memory import Placement
from dse.cost.model import Context, describe, price
from dse.cost.tiling import best_tiling
from dse.cost.tiling_calls import scratchpad_of, step_call
from dse.cost.tiling_traffic import step_tiles
from dse.errors import Unpriced
from dse.hardware import HardwareProfile, load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.step import READ, WRITE, TrainingStep
from dse.workload import load_network
from tests.cost.naive_tiles import walk

NETWORK = load_network("mobilenet-v1-0.25")
VEGA = load_board("vega")
L2 = [level.name for level in VEGA.levels].index("L2")
ROOMY = VEGA.with_values({"memory.L1.size_bytes": 1e9})


def described(board: HardwareProfile, plan: TrainingPlan) -> tuple[Context, TrainingStep, Placement]:
    context = Context(NETWORK, board)
    return context, *describe(context, PlanBatch.from_plans(NETWORK, [plan]))


def test_boards_whose_cores_reach_their_levels_have_no_tiles() -> None:
    context, step, placement = described(load_board("stm32h743 + psram"), TrainingPlan(cut=20))
    assert scratchpad_of(context) is None
    assert step_tiles(context, step, placement) is None


def test_where_everything_fits_nothing_is_added_but_three_transfers_a_call() -> None:
    context, step, placement = described(ROOMY, TrainingPlan(cut=20))
    passage = step_tiles(context, step, placement)
    assert passage is not None
    assert not passage.tiles.extra.any()
    calls = step.calls[0]
    # A weight gradient also fetches the accumulator that it adds to.
    assert np.array_equal(passage.tiles.transfers[0], calls * [3, 3, 4])


PLANS = st.builds(
    TrainingPlan,
    cut=st.sampled_from([2, 10, 18, 22, 26]),
    micro_batch=st.sampled_from([1, 5, 32]),
    learning_dtype=st.sampled_from(["fp32", "fp16"]),
    policy=st.sampled_from(["all", "bias", "last-3"]),
    checkpoints=st.sampled_from(["none", "every 4"]),
)


@settings(max_examples=12, deadline=None)
@given(PLANS)
def test_a_step_moves_what_walks_of_its_tiles_move(plan: TrainingPlan) -> None:
    """Sum over units, passes and calls, walked tile by tile, less each operand once."""
    context, step, placement = described(VEGA, plan.canonical(NETWORK))
    passage = step_tiles(context, step, placement)
    pad = scratchpad_of(context)
    assert passage is not None
    assert pad is not None
    samples, micro = int(step.spec.samples[0]), int(step.spec.micro[0])
    added, transfers = 0.0, 0.0
    for unit, pass_ in np.argwhere(step.calls[0] > 0).tolist():
        call = step_call(pad, step, 0, unit, pass_)
        found = best_tiling(call, pad.room_bytes)
        assert found is not None
        shape = (found.samples, found.rows, found.groups, found.outs, found.ins)
        if found.tiles > 3000:
            continue  # a walk of it takes long; the search itself is tested elsewhere
        walked = walk(call, *shape, found.order)
        calls = step.calls[0, unit, pass_]
        transfers += calls * (walked.transfers - passage.tiles.transfers[0, unit, pass_] / calls)
        for operand, name in enumerate(("input", "weights", "output")):
            times = calls if name == "weights" else calls * samples / (micro * -(-samples // micro))
            more = walked.read.get(name, 0) + walked.written.get(name, 0) - call.once_bytes(name)
            if call.accumulates and name == "weights":
                more -= call.once_bytes(name)
            added += times * more - passage.tiles.extra[pass_, operand, :, 0, unit].sum()
    assert added == pytest.approx(0, abs=1e-6 * micro * NETWORK.total_weights)
    assert transfers == pytest.approx(0, abs=1e-6)


@settings(max_examples=12, deadline=None)
@given(PLANS)
def test_a_smaller_scratchpad_moves_more(plan: TrainingPlan) -> None:
    tight = VEGA.with_values({"memory.L1.size_bytes": 32 * 1024})
    moved = []
    for board in (ROOMY, VEGA, tight):
        time = step_time(*described(board, plan.canonical(NETWORK)))
        moved.append(float(time.bytes_read.sum() + time.bytes_written.sum()))
    assert moved == sorted(moved)
    roomy, step, placement = described(ROOMY, plan.canonical(NETWORK))
    once, time = sum(float(part.sum()) for part in step.traffic.values()), step_time(roomy, step, placement)
    assert time.bytes_read[0, L2] + time.bytes_written[0, L2] == pytest.approx(once, rel=1e-12)


def test_the_set_up_of_every_transfer_takes_time() -> None:
    """Transfers in turn with the cores: seconds grow by transfers x cycles / clock, to the cycle."""
    plan = TrainingPlan(cut=22)
    in_turn = VEGA.model_copy(update={"dma": VEGA.dma.model_copy(update={"double_buffered": False})})
    context, step, placement = described(in_turn, plan)
    passage = step_tiles(context, step, placement)
    assert passage is not None
    slow = Context(NETWORK, in_turn.with_values({"dma.setup_cycles": 1e6}))
    gap = step_time(slow, step, placement).seconds - step_time(context, step, placement).seconds
    cycles = passage.tiles.transfers[0].sum() * (1e6 - VEGA.dma.setup_cycles.value)
    assert gap[0, 0].sum() == pytest.approx(cycles / 375e6, rel=1e-9)


def test_rates_measured_with_tiles_contain_their_set_up() -> None:
    """The int8 rates of VEGA were measured from L2, those in fp32 on a single tile in L1."""
    slow = VEGA.with_values({"dma.setup_cycles": 1e6})
    for bits, same in ((8, True), (32, False)):
        times = []
        for board in (VEGA, slow):
            context, step, placement = described(board, TrainingPlan(cut=22, frozen_bits=bits))
            times.append(float(frozen_time(context, step, placement).seconds[0, 0]))
        assert (times[0] == times[1]) is same


def test_full_duplex_hides_the_shorter_direction() -> None:
    slow = {"memory.L2.read_bytes_per_cycle": 0.01, "memory.L2.write_bytes_per_cycle": 0.01}
    times = []
    for duplex in (0.0, 1.0):
        context, step, placement = described(
            VEGA.with_values(slow | {"dma.duplex_fraction": duplex}), TrainingPlan(cut=26)
        )
        times.append(step_time(context, step, placement))
    moved = times[0].moved[L2][0]
    half, full = moved.sum(axis=-1), moved.max(axis=-1)
    waits = times[0].seconds[0, 0] > times[0].cycles[0] / 375e6
    gap = (times[0].seconds - times[1].seconds)[0, 0]
    assert waits.any()
    assert gap[waits].sum() == pytest.approx(((half - full) / 0.01 / 375e6)[waits].sum(), rel=1e-6)


def test_what_lies_outside_is_brought_in_larger_tiles() -> None:
    """Full-size weights in HyperRAM: they leave it less often than tiles of L1 leave L2."""
    network = load_network("mobilenet-v1")
    context = Context(network, load_board("vega + hyperram-64"))
    plans = PlanBatch.from_plans(network, [TrainingPlan(cut=19, micro_batch=64)])
    step, placement = describe(context, plans)
    passage = step_tiles(context, step, placement)
    assert passage is not None
    assert 0 < passage.staged.extra.sum() < passage.tiles.extra.sum()
    once = sum(part.sum() for part in step.traffic.values())
    time = step_time(context, step, placement)
    names = [level.name for level in context.board.levels]
    through = time.bytes_read[0] + time.bytes_written[0]
    assert through[names.index("L2")] == pytest.approx(once + passage.tiles.extra.sum(), rel=1e-9)
    assert through[names.index("HyperRAM")] < through[names.index("L2")]


@pytest.mark.parametrize("board", ["vega + hyperram-64", "gap8 + hyperram-64", "gap9 + hyperram-64"])
@pytest.mark.parametrize(
    "plan",
    [
        TrainingPlan(cut=22),
        TrainingPlan(cut=10, micro_batch=16, frozen_bits=32),
        TrainingPlan(cut=2, bn_mode="frozen_stats"),
        TrainingPlan(cut=26, head="tinyol"),
    ],
    ids=["cut 22", "micro-batches", "batch norm", "head"],
)
def test_the_breakdown_sums_to_the_total(board: str, plan: TrainingPlan) -> None:
    """``explain`` raises where its rows do not sum to the event."""
    found = explain(Context(NETWORK, load_board(board)), plan)
    assert any(row.bytes_moved.get("L2") for row in found.rows)


def test_a_scratchpad_too_small_for_any_tile_is_refused_with_what_is_missing() -> None:
    tiny = VEGA.with_values({"memory.L1.size_bytes": 9 * 1024})  # a KiB beside the reserve
    with pytest.raises(Unpriced) as error:
        price(Context(NETWORK, tiny), PlanBatch.from_plans(NETWORK, [TrainingPlan(cut=22)]))
    text = str(error.value)
    assert "memory.L1" in text
    assert "1,024 B for tiles" in text
    assert NETWORK.units[0].name in text
    assert "takes" in text


def test_a_sparse_update_walks_only_the_channels_that_learn() -> None:
    network = load_network("mcunet-5fps")
    context = Context(network, load_board("gap9 + hyperram-64"))
    plan = TrainingPlan(cut=30, policy="sparse 8 36:0.25 39:0.5").canonical(network)
    step, placement = describe(context, PlanBatch.from_plans(network, [plan]))
    passage, pad = step_tiles(context, step, placement), scratchpad_of(context)
    assert passage is not None
    assert pad is not None
    for unit, share in ((36, 0.25), (39, 0.5)):
        kept = int(share * network.units[unit].in_channels)
        call = step_call(pad, step, 0, unit, 2, kept)
        found = best_tiling(call, pad.room_bytes)
        assert found is not None
        assert call.loops.elements("input") * network.units[unit].in_channels == (
            kept * network.units[unit].input_elements
        )
        assert passage.tiles.transfers[0, unit, 2] == found.transfers * step.calls[0, unit, 2]


def test_unfinished_sums_go_out_and_come_back() -> None:
    """16 KiB for tiles: the first weight gradient of ResNet8 sees its pixels in several turns."""
    network = load_network("resnet8")
    context = Context(network, VEGA.with_values({"memory.L1.size_bytes": 24 * 1024}))
    plan = TrainingPlan(cut=-1, replay="raw").canonical(network)
    step, placement = describe(context, PlanBatch.from_plans(network, [plan]))
    passage = step_tiles(context, step, placement)
    assert passage is not None
    extra = passage.tiles.extra
    assert extra[..., WRITE, :, :].sum() > 0
    time = step_time(context, step, placement)
    once = sum(part.sum(axis=(0, 1, 2)) for part in step.traffic.values())
    assert time.bytes_read[0, L2] == pytest.approx(once[READ] + extra[..., READ, :, :].sum(), rel=1e-9)
    assert time.bytes_written[0, L2] == pytest.approx(once[WRITE] + extra[..., WRITE, :, :].sum(), rel=1e-9)


def test_traffic_of_a_row_never_shrinks() -> None:
    context, step, placement = described(VEGA, TrainingPlan(cut=18, micro_batch=32))
    time = step_time(context, step, placement)
    once = sum(step.traffic[role][0] for role in step.traffic)
    assert (time.moved[L2][0] >= once - 1e-6).all()
    assert time.moved[L2][0, ..., READ].sum() > once[..., READ].sum()
    assert time.moved[L2][0, ..., WRITE].sum() >= once[..., WRITE].sum()
