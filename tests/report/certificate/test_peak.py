"""The buffers that make the peak, and what would lower each: by hand, and only what is legal."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from dse.plan.decisions import TrainingPlan
from dse.plan.operations import Holds, StepBuffer, StepSchedule
from dse.plan.techniques import plan_problems
from dse.report.certificate import Located, level_peaks, peak_csv
from dse.report.certificate.peak import remedies_text
from dse.report.certificate.remedies import _BY_HOLDS, changes_for
from tests.report.certificate.maps import LIVE, PEAK_OPERATION, PLAN, hand_made, where


def buffer(name: str, plan: TrainingPlan = PLAN) -> tuple[StepBuffer, StepSchedule]:
    schedule = hand_made(plan).schedule
    return next(each for each in schedule.buffers if each.id == name), schedule


def offered(name: str, plan: TrainingPlan = PLAN) -> list[str]:
    return [change.words for change in changes_for(*buffer(name, plan))]


def test_the_peak_by_hand() -> None:
    peak, flash = level_peaks(hand_made(), ["SRAM", "flash"])
    assert (peak.level, peak.operation, peak.live_bytes, peak.alive) == ("SRAM", PEAK_OPERATION, LIVE, 4)
    found = [(row.rank, row.placed.buffer.id, row.placed.buffer.size_bytes) for row in peak.rows]
    assert found == [(1, "gradient", 100), (2, "weights", 100), (3, "latents", 64), (4, "error", 40)]
    assert [row.share for row in peak.rows] == [100 / 304, 100 / 304, 64 / 304, 40 / 304]
    assert (flash.operation, flash.live_bytes, [row.placed.buffer.id for row in flash.rows]) == (
        0, 1432, ["replays", "frozen"],
    )  # fmt: skip


def test_no_more_than_the_largest_are_listed() -> None:
    (peak,) = level_peaks(hand_made(), ["SRAM"], most=2)
    assert [row.placed.buffer.id for row in peak.rows] == ["gradient", "weights"]
    assert peak.alive == 4


def test_levels_that_hold_nothing_have_no_peak() -> None:
    assert [peak.level for peak in level_peaks(hand_made(), ["L1", "flash"])] == ["flash"]


def test_csv_by_hand() -> None:
    memory_map = hand_made()
    rows = list(csv.DictReader(peak_csv(level_peaks(memory_map, ["SRAM"]), memory_map.schedule).splitlines()))
    assert rows[2] | {"lowered_by": ""} == {
        "level": "SRAM", "rank": "3", "operation": "bwd_weight classifier", "id": "latents",
        "name": "latents", "role": "saved activations", "reason": "weight gradient of classifier",
        "bytes": "64", "share": "0.210526", "first": "3", "last": "6", "lowered_by": "",
    }  # fmt: skip


# --- what would lower a buffer ---


def test_every_kind_of_content_is_thought_of() -> None:
    by_role = {Holds.ACTIVATION, Holds.LATENTS}
    nothing = {Holds.FRAME, Holds.FROZEN_AFFINE}  # the network's own size
    assert set(_BY_HOLDS) | by_role | nothing == set(Holds)


def test_gradients_are_lowered_by_the_update_where_the_whole_mini_batch_passes_at_once() -> None:
    assert offered("gradient")[:2] == ["update = immediate", "update = in_place"]
    assert "update = in_place" not in offered("gradient", replace(PLAN, micro_batch=1))
    assert offered("gradient", replace(PLAN, update="immediate"))[0] == "update = in_place"
    assert not any("update" in words for words in offered("gradient", replace(PLAN, update="in_place")))


def test_accumulators_are_narrowed_only_where_learning_is_in_int8() -> None:
    assert "accumulator_dtype = int8" not in offered("gradient")
    assert "accumulator_dtype = int8" in offered("gradient", replace(PLAN, learning_dtype="int8"))


def test_saved_inputs_are_lowered_by_bits_channels_and_micro_batches() -> None:
    plan = replace(PLAN, first_input="dequantised")
    found = offered("latents", plan)
    assert "first_input = stored" in found
    assert "saved_bits = 8" in found
    assert "micro_batch = 2" in found
    assert "policy = half the input channels of classifier" in found
    assert "saved_bits = 8" not in offered("latents", replace(plan, saved_bits=4))
    assert "saved_bits = 2" in offered("latents", replace(plan, saved_bits=4))
    assert not any("micro_batch" in words for words in offered("latents", replace(plan, micro_batch=1)))


def test_halved_channels_are_a_policy_of_the_units_that_read_the_buffer() -> None:
    change = next(each for each in changes_for(*buffer("latents")) if each.decision == "policy")
    ratio, bias = change.plan.policy.resolve(buffer("latents")[1].workload, 9)  # type: ignore[union-attr]
    assert ratio.tolist() == [0.0] * 9 + [0.5]
    assert bias.tolist() == [False] * 9 + [True]


def test_replays_are_lowered_by_number_and_bits() -> None:
    assert offered("replays") == ["replay_bits = 4", "replay_bits = 2", "n_replays = 25"]
    raw = replace(PLAN, replay="raw", replay_bits=8)
    assert offered("replays", raw) == ["n_replays = 25"]


def test_transient_activations_of_the_frozen_stage_are_lowered_by_patches() -> None:
    found = offered("conv1")
    assert "patches = 2x2 to 2" in found
    assert not any("in_place" in words for words in found)  # resnet8 has no depthwise convolution
    assert "in_place = elementwise" in offered("conv1", replace(PLAN, in_place="none"))
    assert "patches = 3x3 to 2" in offered("conv1", replace(PLAN, patches="2x2 to 2"))


def test_every_offer_is_legal_and_differs_from_the_plan() -> None:
    plans = (PLAN, replace(PLAN, cut=5, policy="all"), replace(PLAN, learning_dtype="int8", micro_batch=1))
    for plan in plans:
        schedule = hand_made(plan).schedule
        now = plan.canonical(schedule.workload)
        for each in schedule.buffers:
            for change in changes_for(each, schedule):
                assert not plan_problems(schedule.workload, change.plan, "plan")
                assert change.plan != now


# --- changes that are tried ---


def test_only_changes_that_lower_the_peak_are_listed_where_they_can_be_tried() -> None:
    """Another step halves the latents with the micro-batch, and leaves everything else as it is."""

    def reschedule(plan: TrainingPlan) -> Located:
        schedule = hand_made(plan).schedule
        buffers = tuple(
            replace(each, size_bytes=each.size_bytes * plan.micro_batch // 4)
            if each.id == "latents"
            else each
            for each in schedule.buffers
        )
        return where(replace(schedule, buffers=buffers))

    (peak,) = level_peaks(hand_made(), ["SRAM"], reschedule)
    said = {row.placed.buffer.id: remedies_text(row) for row in peak.rows}
    assert said == {
        "gradient": "no single decision",
        "weights": "no single decision",
        "latents": "micro_batch = 2 (peak 272 B)",  # 304 - 32
        "error": "micro_batch = 2 (peak 272 B)",
    }


def test_a_change_that_only_moves_the_peak_is_not_listed() -> None:
    def reschedule(plan: TrainingPlan) -> Located:
        schedule = hand_made(plan).schedule
        buffers = tuple(
            replace(each, size_bytes=1000) if each.id == "frame" and plan != PLAN else each
            for each in schedule.buffers
        )
        return where(replace(schedule, buffers=buffers))

    (peak,) = level_peaks(hand_made(), ["SRAM"], reschedule)
    assert not any(row.remedies for row in peak.rows)


def test_the_smallest_change_that_helps_is_listed_and_each_plan_is_scheduled_once() -> None:
    asked: list[TrainingPlan] = []

    def reschedule(plan: TrainingPlan) -> Located:
        asked.append(plan)
        schedule = hand_made(plan).schedule
        shrink = 8 if plan.saved_bits in (2, 4) else 1
        buffers = tuple(replace(each, size_bytes=-(-each.size_bytes // shrink)) for each in schedule.buffers)
        return where(replace(schedule, buffers=buffers))

    (peak,) = level_peaks(hand_made(), ["SRAM"], reschedule)
    latents = next(row for row in peak.rows if row.placed.buffer.id == "latents")
    assert remedies_text(latents) == "saved_bits = 4 (peak 39 B)"  # 13 + 13 + 8 + 5
    assert not any(plan.saved_bits == 2 for plan in asked)
    assert len(asked) == len({repr(plan) for plan in asked})


def test_a_change_that_moves_buffers_to_another_level_counts_where_they_then_lie() -> None:
    """With a narrower dtype the weights go to another level here, and the gradient comes from there."""

    def reschedule(plan: TrainingPlan) -> Located:
        schedule, levels = where(hand_made(plan).schedule)
        moves = {"weights": "flash"} if plan.learning_dtype == "fp16" else {}
        moves |= {"replays": "SRAM"} if plan.learning_dtype == "int8" else {}
        return schedule, {**levels, **moves}

    (peak,) = level_peaks(hand_made(), ["SRAM"], reschedule)
    weights = next(row for row in peak.rows if row.placed.buffer.id == "weights")
    assert remedies_text(weights) == "learning_dtype = fp16 (peak 204 B)"  # 304 - 100
    flash = level_peaks(hand_made(), ["flash"], reschedule)[0]
    assert not any("fp16" in remedies_text(row) for row in flash.rows)


def test_a_change_that_the_board_cannot_run_is_not_listed() -> None:
    def reschedule(plan: TrainingPlan) -> Located | None:
        return where(hand_made(plan).schedule) if plan == PLAN else None

    (peak,) = level_peaks(hand_made(), ["SRAM"], reschedule)
    assert not any(row.remedies for row in peak.rows)
    with pytest.raises(ValueError, match="cannot be written again"):
        level_peaks(hand_made(), ["SRAM"], lambda plan: None)


def test_a_schedule_that_forgets_buffers_is_refused() -> None:
    """Every change would seem to save what was forgotten."""

    def forgets(plan: TrainingPlan) -> Located:
        schedule = hand_made(plan).schedule
        return where(
            replace(schedule, buffers=tuple(each for each in schedule.buffers if each.id != "weights"))
        )

    with pytest.raises(ValueError, match="has 204 live bytes on SRAM, not 304"):
        level_peaks(hand_made(), ["SRAM"], forgets)


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, head="ncm")])
def test_remedies_need_no_other_schedule(plan: TrainingPlan) -> None:
    (peak,) = level_peaks(hand_made(plan), ["SRAM"])
    assert all(remedy.peak_bytes is None for row in peak.rows for remedy in row.remedies)
