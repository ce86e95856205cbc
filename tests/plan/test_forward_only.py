"""Memory of a frozen stage with layers that run forward only, against bytes that were added up by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.patches import refusal
from dse.plan.step import training_step
from dse.plan.structure import Patches
from dse.plan.techniques import illegal, plan_problems
from dse.plan.tensors import tensors_of
from dse.plan.timeline import Holds
from dse.plan.written import step_schedule
from dse.vocabulary import Role
from dse.workload import Workload
from tests.workload.recurrent import ATTENTION, HIDDEN, LSTM, LSTM_BIASES, LSTM_WEIGHTS, load


def step_of(workload: Workload, **decisions):
    plan = TrainingPlan(**{"cut": len(workload.units) - 1, "replay": "none", **decisions})
    return training_step(workload, PlanBatch.from_plans(workload, [plan])), plan


def frozen_live(step) -> list[int]:
    """Live bytes of the operations of the frozen stage, layer by layer."""
    layers = int(step.spec.cut_layer[0]) + 1
    return step.schedule.live_bytes().sum(axis=0)[:layers, 0].astype(int).tolist()


@pytest.mark.parametrize(("bits", "width"), [(8, 1), (32, 4)])
def test_live_bytes_of_a_product_a_gate_and_views(bits: int, width: int, tmp_path: Path) -> None:
    step, _ = step_of(load(ATTENTION, tmp_path), frozen_bits=bits)
    frame, embed, turned, square = 4 * 9, 8 * 9 * width, 9 * 8 * width, 8 * 8 * width
    by_hand = [
        frame + embed,  # embed
        embed,  # rows: the bytes of embed by another name
        embed + turned,  # turned: a copy
        embed + turned + square,  # scores: reads rows, which is embed, and turned
        square + square,  # weigh
        square + square,  # scale: nothing forward-only works in place
        square,  # flat: the bytes of scale
    ]
    assert frozen_live(step) == by_hand


@pytest.mark.parametrize(("bits", "width"), [(8, 1), (32, 4)])
def test_a_recurrent_layer_keeps_its_gates_and_state(bits: int, width: int, tmp_path: Path) -> None:
    step, _ = step_of(load(LSTM, tmp_path), frozen_bits=bits)
    frame, turned, out = 20 * 6, 20 * 6 * width, HIDDEN * width
    state = (4 + 2) * HIDDEN * 4  # four gates, the state and the cell state of one step, 32 bits each
    assert frozen_live(step) == [frame + turned, turned + out + state]


@pytest.mark.parametrize(("bits", "width"), [(8, 1), (32, 4)])
def test_constants_lie_with_the_frozen_weights(bits: int, width: int, tmp_path: Path) -> None:
    step, _ = step_of(load(LSTM, tmp_path), frozen_bits=bits)
    assert step.static_bytes[Role.FROZEN_WEIGHTS][0] == LSTM_WEIGHTS * width + LSTM_BIASES * 4
    step, plan = step_of(load(ATTENTION, tmp_path), frozen_bits=bits)
    embed, norm = 4 * 8 * width + 8 * 4, 8 * width + 8 * 4  # the norm is no unit and counts all the same
    assert step.static_bytes[Role.FROZEN_WEIGHTS][0] == embed + norm
    written = step_schedule(step, plan.canonical(step.workload))
    frozen = [one for one in written.buffers if one.holds in (Holds.FROZEN_WEIGHT, Holds.FROZEN_AFFINE)]
    assert sum(one.size_bytes for one in frozen) == embed + norm
    assert len({one.id for one in written.buffers}) == len(written.buffers)


def test_what_stands_before_the_first_unit_counts_though_that_unit_learns(tmp_path: Path) -> None:
    text = LSTM.replace('operation = "lstm"', 'operation = "custom:Cells"').replace(
        "forward_macs = 8960, ", ""
    )
    network = load(text.replace("[0, 1]", "[0]"), tmp_path)
    assert [unit.operator for unit in network.units] == ["linear"]
    step, _ = step_of(network)
    assert step.static_bytes[Role.FROZEN_WEIGHTS][0] == LSTM_WEIGHTS + LSTM_BIASES * 4


def test_the_written_schedule_agrees_with_the_sizes_by_hand(tmp_path: Path) -> None:
    workload = load(ATTENTION, tmp_path)
    step, plan = step_of(workload)
    written = step_schedule(step, plan.canonical(workload))
    alive = {one.id: (one.start, one.end, one.size_bytes) for one in written.buffers}
    assert alive["frozen.embed"] == (0, 3, 72)  # until the product has read it under its other name
    assert alive["frozen.turned"] == (2, 3, 72)
    assert "frozen.rows" not in alive
    assert alive["frozen.scale"][0] == 5
    assert next(one for one in written.buffers if one.id == "frozen.embed").reads == (1, 2, 3)


def test_nobody_writes_over_bytes_that_have_another_name(tmp_path: Path) -> None:
    """A ReLU behind a view would overwrite what a copy reads later."""
    text = ATTENTION.replace(
        '{ kind = "forward_only", name = "turned"', '{ kind = "relu", name = "cut" },\n  \\g'
    ).replace("\\g", '{ kind = "forward_only", name = "turned"')
    text = text.replace('inputs = ["rows", "turned"]', 'inputs = ["cut", "turned"]')
    workload = load(text, tmp_path)
    tensors, position = tensors_of(workload)
    by_name = {layer.name: tensors[position[index]] for index, layer in enumerate(workload.layers)}
    assert by_name["rows"] is by_name["embed"]
    assert by_name["cut"] is not by_name["embed"]
    alone = load(text.replace('inputs = ["embed"], operation = "copy"', 'operation = "copy"'), tmp_path)
    tensors, position = tensors_of(alone)
    assert position[0] == position[1] == position[2]  # embed, rows and cut: one value, one buffer


def test_no_plan_cuts_below_one(tmp_path: Path) -> None:
    workload = load(LSTM, tmp_path)
    plans = PlanBatch.from_plans(workload, [TrainingPlan(cut=cut, replay="none") for cut in (-1, 0, 1)])
    (reason,) = [text for text in illegal(workload, plans) if "cannot be cut" in text]
    assert reason.endswith("cells (lstm) behind the cut runs forward only")
    assert illegal(workload, plans)[reason].tolist() == [True, False, False]


def test_nothing_below_the_cut_learns(tmp_path: Path) -> None:
    workload = load(LSTM, tmp_path)
    plan = TrainingPlan(cut=0, replay="none", policy="sparse 1 0:1").canonical(workload)
    (problem,) = plan_problems(workload, plan, "plan")
    assert problem.found.startswith("the plan learns below its cut")
    assert problem.allowed == "a policy of units above the cut"


def test_raw_replays_pass_the_whole_frozen_stage(tmp_path: Path) -> None:
    workload = load(LSTM, tmp_path)
    plan = TrainingPlan(cut=1, replay="raw", replay_bits=8, n_replays=10, replays_per_batch=4)
    step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
    assert bool(step.spec.frozen_replays[0])
    assert not illegal(workload, PlanBatch.from_plans(workload, [plan]))


def test_patches_do_not_pass_one(tmp_path: Path) -> None:
    workload = load(ATTENTION, tmp_path)
    assert refusal(workload, Patches(2, 1)) == "patches cannot pass a layer of kind forward_only"


def test_no_backward_pass_is_counted(tmp_path: Path) -> None:
    workload = load(ATTENTION, tmp_path)
    step, _ = step_of(workload, new_per_batch=2)
    assert np.argwhere(step.macs[0]).tolist() == [[2, 0], [2, 2]]  # head: forward and its weight gradient
    assert step.frozen_units[0].tolist() == [True, True, False]
