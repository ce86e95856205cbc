"""Work that is easy to forget: each test removes the excuse for one cost being zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.cost.context import Context, Duty
from dse.cost.cycles import step_cycles
from dse.cost.explain import explain
from dse.cost.model import describe, price, step_costs
from dse.errors import IllegalPlan, UserError
from dse.hardware import load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.vocabulary import Role
from dse.workload import load_network

VEGA = load_board("vega + hyperram-64")
MOBILENET = load_network("mobilenet-v1")
SMALL = load_network("mobilenet-v1-0.25")


def priced(plan, workload=MOBILENET, board=VEGA, **event):
    return price(Context(workload, board), PlanBatch.from_plans(workload, [plan]), **event)


def test_weights_that_are_not_saved_after_every_event_are_retained():
    watts = {k: priced(TrainingPlan(cut=27, persist_every=k)).sleep_w[0] for k in (0, 1, 10)}
    assert watts[10] == watts[0] > watts[1]


def test_the_covariance_of_slda_moves():
    context = Context(MOBILENET, VEGA)
    plans = PlanBatch.from_plans(MOBILENET, [TrainingPlan(cut=27, head="slda")])
    step, placement = describe(context, plans)
    names = [level.name for level in VEGA.levels]
    assert names[int(placement.level[Role.HEAD_STATE][0])] == "HyperRAM"
    covariance = 4 * 1024**2
    assert step.traffic[Role.HEAD_STATE].sum() >= 2 * covariance  # read and written per sample
    assert step_costs(context, plans).minibatch_s[0, 0] > covariance / 300e6


def test_a_bias_gradient_takes_time():
    rows = explain(
        Context(SMALL, load_board("stm32h743")), TrainingPlan(cut=25, policy="bias", n_replays=200)
    ).rows
    biases = [row for row in rows if row.pass_ == "bwd_weight" and row.unit == 26]
    assert biases
    assert biases[0].seconds > 0


def test_only_what_learned_is_written_into_the_inference_copy():
    context = Context(MOBILENET, VEGA)
    plans = PlanBatch.from_plans(MOBILENET, [TrainingPlan(cut=23), TrainingPlan(cut=23, policy="last-1")])
    step, _ = describe(context, plans)
    assert step.copy_bytes[1] == 51200 + 4 * 50
    assert step.copy_bytes[0] == step.static_bytes[Role.INFERENCE_COPY][0]


def test_the_inference_copy_is_renewed_even_if_nothing_is_saved():
    assert priced(TrainingPlan(cut=27, persist_every=0)).joules["persistence"][0] > 0


def test_saved_weights_are_read_back_after_sleep():
    """50 x 1025 fp32 weights from MRAM at 200 MB/s, besides writing them and the int8 copy."""
    context = Context(MOBILENET, VEGA)
    plans = PlanBatch.from_plans(MOBILENET, [TrainingPlan(cut=27)])
    table, costs = step_costs(context, plans), price(context, plans)
    saved = 4 * 50 * 1025
    expected = saved / 200e6 + saved / 5e6 + (51200 + 200) / 5e6 + float(table.copy_s[0, 0])
    assert costs.seconds["persistence"][0] == pytest.approx(expected)


def test_running_statistics_are_learning_weights():
    context = Context(MOBILENET, VEGA)
    both = [TrainingPlan(cut=25, micro_batch=128, bn_mode=mode) for mode in ("frozen_stats", "batch_stats")]
    step, _ = describe(context, PlanBatch.from_plans(MOBILENET, both))
    more = step.static_bytes[Role.LEARNING_WEIGHTS][1] - step.static_bytes[Role.LEARNING_WEIGHTS][0]
    assert more == 4 * 2 * MOBILENET.units[26].out_channels
    assert step.static_bytes[Role.FROZEN_WEIGHTS][0] - step.static_bytes[Role.FROZEN_WEIGHTS][1] == more


def test_every_reader_of_a_residual_tensor_reads_it():
    workload = load_network("resnet8")
    last = len(workload.units) - 1
    plans = PlanBatch.from_plans(workload, [TrainingPlan(cut=last, n_replays=200)])
    step, _ = describe(Context(workload, VEGA), plans)
    written, read = step.frozen_activation_bytes[0, :, 1].sum(), step.frozen_activation_bytes[0, :, 0].sum()
    assert read > written  # the skip connections


def test_the_dma_is_programmed_for_every_tile():
    """Cut 25: at least three transfers for each of five kernel calls on 128 x 14 x 4 samples; 375 MHz."""
    slow = VEGA.with_values({"dma.setup_cycles": 1e6})
    base, more = (priced(TrainingPlan(cut=25), board=board).event_s[0] for board in (VEGA, slow))
    calls = 5 * 128 * 14 * 4
    setup = VEGA.dma.setup_cycles.value
    assert more - base > 3 * calls * (1e6 - setup) / 375e6


def test_saving_in_fewer_bits_takes_time():
    """One sample of cut 26: 1024 inputs of the last unit are narrowed, widened, and packed both ways."""
    plan = TrainingPlan(cut=27, first_input="dequantised", bn_mode="folded")
    step = {}
    for bits in (32, 8, 4):
        context = Context(MOBILENET, VEGA)
        plans = PlanBatch.from_plans(MOBILENET, [replace(plan, saved_bits=bits)])
        step[bits] = step_cycles(context, describe(context, plans)[0])[0].sum()
    price = {
        name: VEGA.element_cost(name, "fwd", "fp32").cycles_per_element.value
        for name in ("quantise", "dequantise", "unpack")
    }
    saved = 128 * 1024
    assert step[8] - step[32] == pytest.approx(saved * (price["quantise"] + price["dequantise"]))
    assert step[4] - step[8] == pytest.approx(saved * 2 * price["unpack"])


def test_a_card_on_standby_drains_the_battery():
    board = load_board("stm32f746 + sd")
    plan = TrainingPlan(cut=27, n_replays=200)
    cards = [priced(replace(plan, replay_level=level), SMALL, board).sleep_w[0] for level in ("flash", "SD")]
    assert cards[1] > cards[0]


@pytest.mark.parametrize("name", ["all", "bias", "last-2", "last-one"])
def test_a_table_cannot_borrow_the_name_of_a_built_in_policy(name):
    with pytest.raises(UserError, match="a label of your own"):
        UpdatePolicy.parse({"weights": [27], "name": name})


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"weights": [27, 99]}, "no unit 99"),
        ({"weights": [27], "ratio": {"25": 0.0001}}, "less than one input channel"),
    ],
)
def test_policies_that_cannot_be_executed_are_refused(policy, text):
    with pytest.raises(IllegalPlan, match=text):
        priced(TrainingPlan(cut=23, policy=UpdatePolicy.parse(policy)))


def test_the_peak_lists_weights_that_lie_in_ram():
    plan = TrainingPlan(cut=27, n_replays=200, frozen_bits=32)
    explanation = explain(Context(MOBILENET, VEGA), plan)
    assert explanation.peak_buffers[0].role == Role.FROZEN_WEIGHTS
    assert "frozen_bits" in {change.decision for change in explanation.changes}
    assert sum(explanation.peak_roles.values()) == pytest.approx(explanation.costs.ram_peak_bytes[0])


def test_a_pinned_sleep_state_is_explained():
    context = Context(MOBILENET, VEGA, Duty())
    explanation = explain(context, TrainingPlan(cut=27), 0, "retentive")
    state = VEGA.sleep_states[int(np.ravel(explanation.costs.sleep_state)[0])]
    assert state.name == "retentive"


@pytest.mark.parametrize("k", [1, 2, 5])
def test_saving_every_k_events_costs_a_kth_of_saving(k):
    """By hand from the profile: program the weights every k events and the int8 copy every event, in MRAM."""
    context = Context(MOBILENET, VEGA)
    plans = PlanBatch.from_plans(MOBILENET, [TrainingPlan(cut=27, persist_every=k)])
    table, costs = step_costs(context, plans), price(context, plans)
    mram, point = VEGA.level("MRAM"), VEGA.operating_points[0]
    saved, copy = 4 * 50 * 1025, 51200 + 4 * 50
    read_back = saved if k == 1 else 0
    seconds = (saved / k + copy) / mram.write_bytes_per_s.value + read_back / mram.read_bytes_per_s.value
    seconds += float(table.copy_s[0, 0])
    standby = VEGA.level("HyperRAM").standby_power_w.value
    joules = seconds * (point.training_power_w.value + standby)
    joules += (saved / k + copy) * mram.write_j_per_byte.value + read_back * mram.read_j_per_byte.value
    assert costs.seconds["persistence"][0] == pytest.approx(seconds)
    assert costs.joules["persistence"][0] == pytest.approx(joules)
    yearly = 365.25 * (saved / k) / saved  # one event a day: programmings of the saved area per year
    copies = mram.endurance_cycles.value / 365.25
    assert costs.wear_years[0] == pytest.approx(min(mram.endurance_cycles.value / yearly, copies))
