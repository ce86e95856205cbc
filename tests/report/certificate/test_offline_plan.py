"""The metadata for TensorFlow Lite Micro: its integers by hand, and what it refuses."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest

from dse.errors import UserError
from dse.report.certificate import metadata_bytes, offline_plan, offline_problems
from dse.report.certificate.offline_plan import plan_json
from tests.report.certificate.maps import PLAN, hand_made, moved


def test_integers_by_hand() -> None:
    plan = offline_plan(hand_made())
    assert (plan.level, plan.base, plan.extent_bytes) == ("SRAM", 112, 112)
    assert [tensor.name for tensor in plan.tensors] == ["input", "conv1", "pool", "classifier"]
    assert plan.integers == (0, 1, 4, 0, 48, 0, 16)  # version, subgraphs, count, offsets from byte 112
    assert metadata_bytes(plan.integers).hex(" ", 4) == (
        "00000000 01000000 04000000 00000000 30000000 00000000 10000000"
    )


def test_the_bytes_are_little_endian_signed_integers() -> None:
    assert struct.unpack("<4i", metadata_bytes((0, 0, 1, -1))) == (0, 0, 1, -1)
    assert metadata_bytes((-1, 258)) == b"\xff\xff\xff\xff\x02\x01\x00\x00"


def test_offsets_by_the_tensors_of_a_file() -> None:
    """As a converter lists them: constants between, activation fused, flatten and softmax on their own."""
    plan = offline_plan(hand_made())
    listed = ("input", None, None, "conv1.relu", None, "flatten", None, "classifier", "classifier.softmax")
    assert plan.in_order(listed) == (0, 1, 9, 0, -1, -1, 48, -1, 0, -1, 16, 16)


def test_a_file_that_does_not_fit_is_refused_with_every_reason() -> None:
    with pytest.raises(UserError) as caught:
        offline_plan(hand_made()).in_order(("input", "conv7", None, "classifier"))
    assert [str(problem) for problem in caught.value.problems] == [
        "OfflineMemoryAllocation: tensor 1: no activation of the plan is called 'conv7'",
        "OfflineMemoryAllocation: conv1: no tensor of the model holds it",
        "OfflineMemoryAllocation: pool: no tensor of the model holds it",
    ]


def test_the_readable_plan_lists_the_tensors_in_order() -> None:
    content = json.loads(plan_json(offline_plan(hand_made())))
    assert content["metadata"] == "OfflineMemoryAllocation"
    assert content["arena_starts_at"] == 112
    assert content["beside"] == []
    assert content["tensors"][1] == {
        "index": 1, "tensor": "conv1", "layers": ["conv1", "conv1.batch_norm", "conv1.relu"], "offset": 48,
        "id": "conv1, inference", "map_offset": 160, "size_bytes": 64, "first": 8, "last": 9,
    }  # fmt: skip
    notes = " ".join(content["notes"])
    assert "order and number have to be those" in notes
    assert "multiple of 16" in notes


def test_what_else_lies_between_the_tensors_is_said() -> None:
    between = moved(hand_made(), "weights", 124)  # alive throughout, over [124, 224)
    content = json.loads(plan_json(offline_plan(between)))
    assert [record["id"] for record in content["beside"]] == ["weights"]
    assert any("may overwrite them" in note for note in content["notes"])
    assert offline_plan(moved(hand_made(), "weights", 224)).beside == ()  # behind the last tensor
    assert offline_plan(moved(hand_made(), "weights", 12)).beside == ()  # [12, 112): up to the first


def test_offsets_that_the_interpreter_cannot_use_are_refused() -> None:
    crooked = moved(moved(hand_made(), "pool, inference", 116), "logits, inference", 136)
    (problem,) = offline_problems(crooked)
    assert problem.found == "2 of 4 offsets are no multiples of 16: pool at 116, classifier at 136"
    assert problem.allowed == "place the buffers with alignment = 16"
    with pytest.raises(UserError, match="no multiples of 16"):
        offline_plan(crooked)


def test_plans_that_the_interpreter_cannot_run_are_refused_with_every_reason() -> None:
    patched = hand_made(replace(PLAN, patches="2x2 to 2"))
    apart = tuple(
        replace(placed, level="flash", offset=8) if placed.buffer.id == "pool, inference" else placed
        for placed in patched.entries
    )
    found = [problem.key for problem in offline_problems(replace(patched, entries=apart))]
    assert found == ["patches", "level", "alignment"]


def test_depthwise_convolutions_in_place_are_refused_where_there_are_any() -> None:
    import dse

    in_place = hand_made(replace(PLAN, in_place="depthwise"))
    assert not list(offline_problems(in_place))  # resnet8 has none
    mobile = replace(in_place.schedule, workload=dse.load_network("mobilenet-v1-0.25"))
    own = [placed for placed in in_place.entries if placed.buffer.id in ("conv1, inference",)]
    (problem,) = offline_problems(replace(in_place, schedule=mobile, entries=tuple(own)))
    assert problem.key == "in_place"


def test_a_schedule_without_an_inference_has_no_plan() -> None:
    memory_map = hand_made()
    training = tuple(placed for placed in memory_map.entries if "inference" not in placed.buffer.id)
    (problem,) = offline_problems(replace(memory_map, entries=training))
    assert problem.found == "the schedule has no inference"
