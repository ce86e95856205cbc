"""Graphs as a whole: order, cycles, names, claims, what is not known, what is not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from dse.errors import UserError
from tests.workload.onnx_files.graphs import node, proto, read, reals, words

X = {"x": ["N", 4]}


def test_nodes_are_put_in_order(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["b"], ["y"], "third"),
        node("Tanh", ["a"], ["b"], "second"),
        node("Exp", ["x"], ["a"], "first"),
    ]
    assert [one.name for one in read(proto(nodes, X, ["y"]), tmp_path).nodes] == ["first", "second", "third"]


def test_a_cycle_is_named(tmp_path: Path) -> None:
    nodes = [
        node("Add", ["x", "c"], ["a"], "one"),
        node("Relu", ["a"], ["b"], "two"),
        node("Tanh", ["b"], ["c"], "three"),
        node("Relu", ["c"], ["y"], "out"),
    ]
    with pytest.raises(UserError, match="one -> two -> three -> one"):
        read(proto(nodes, X, ["y"]), tmp_path)
    with pytest.raises(UserError, match="self -> self"):
        read(proto([node("Relu", ["y"], ["y"], "self")], X, ["y"]), tmp_path)


@pytest.mark.parametrize("second", ["a", "x", "w"])
def test_two_producers_are_refused(second: str, tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["a"], "one"),
        node("Tanh", ["x"], [second], "two"),
        node("Add", ["a", "w"], ["y"]),
    ]
    with pytest.raises(UserError, match=f"{second!r}.*two"):
        read(proto(nodes, X, ["y"], {"w": reals(4)}), tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"not a model at all", b"\x08\x09", ModelProto(ir_version=8).SerializeToString()]
)
def test_what_is_no_model(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(data, tmp_path)
    assert len(caught.value.problems) == 1


def test_a_tensor_that_nothing_makes_is_a_fault(tmp_path: Path) -> None:
    found = read(proto([node("Add", ["x", "lost"], ["y"], "sum")], X, ["y"]), tmp_path)
    assert "'lost', which nothing makes" in found.faults[0]
    assert found.nodes[0].shape is None


def test_names_are_printable_and_unlike(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["a"], "same\x1b[2J"),
        node("Relu", ["a"], ["b"], "same\x1b[2J"),
        node("Relu", ["b"], ["y"], "input:x"),
    ]
    found = read(proto(nodes, X, ["y"]), tmp_path)
    assert [one.name for one in found.nodes] == ["same_[2J", "same_[2J~2", "input_x"]
    assert found.nodes[1].inputs == ("same_[2J",)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    data = proto(
        [node("Relu", ["x"], ["middle"]), node("Relu", ["middle"], ["y"])], X, ["y"]
    ).SerializeToString()
    found = read(data.replace(b"middle", b"mid\xff\xfee"), tmp_path)
    assert found.nodes[1].inputs == (found.nodes[0].name,)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    nodes = [
        node("Add", ["a", "b"], ["s"], "sum"),
        node("Relu", ["s"], ["y"], "top"),
        node("Tanh", ["b"], ["z"], "side"),
    ]
    found = read(proto(nodes, {"a": [1, 4], "b": [1, 4]}, ["y", "z", "s"]), tmp_path)
    assert [one.name for one in found.inputs] == ["a", "b"]
    assert found.outputs == ("top", "side", "sum")
    assert found.nodes[0].inputs == ("input:a", "input:b")


def test_what_no_output_needs_is_left_out(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"], "kept"), node("Tanh", ["x"], ["z"], "dead")]
    found = read(proto(nodes, X, ["y"]), tmp_path)
    assert [one.name for one in found.nodes] == ["kept"]
    assert any("1 operations are left out" in note for note in found.notes)


def test_without_outputs_the_ends_are_the_outputs(tmp_path: Path) -> None:
    found = read(proto([node("Relu", ["x"], ["y"], "top")], X, []), tmp_path)
    assert found.outputs == ("top",)


# --- what is not known ---


def test_an_unknown_operator_has_the_shape_that_the_file_claims(tmp_path: Path) -> None:
    nodes = [
        node("Fancy", ["x", "w"], ["a"], "odd", domain="com.example"),
        node("Relu", ["a"], ["y"], "relu"),
    ]
    model = proto(nodes, X, ["y"], {"w": reals(5, 4)}, domains={"com.example": 1}, claims={"a": ["N", 7]})
    found = read(model, tmp_path)
    assert (found.nodes[0].operation, found.nodes[0].source_operation) == ("unknown", "com.example::Fancy")
    assert [one.shape for one in found.nodes] == [(7,), (7,)]
    assert sum(one.elements for one in found.nodes[0].constants.values()) == 20
    assert found.faults == ("operator com.example::Fancy is not known",)


def test_an_unknown_operator_without_a_claim_has_no_shape(tmp_path: Path) -> None:
    nodes = [
        node("Fancy", ["x"], ["a"], "odd"),
        node("Relu", ["a"], ["b"], "relu"),
        node("Tanh", ["b"], ["y"]),
    ]
    found = read(proto(nodes, X, ["y"]), tmp_path)
    assert [one.operation for one in found.nodes] == ["unknown", "relu", "tanh"]
    assert [one.shape for one in found.nodes] == [None, None, None]
    assert len([fault for fault in found.faults if "shape is not known" in fault]) == 1


def test_a_claim_helps_behind_what_is_not_known(tmp_path: Path) -> None:
    nodes = [
        node("Fancy", ["x"], ["a"], "odd"),
        node("Relu", ["a"], ["b"], "relu"),
        node("Gemm", ["b", "w"], ["y"]),
    ]
    found = read(proto(nodes, X, ["y"], {"w": reals(7, 3)}, claims={"b": [1, 7]}), tmp_path)
    assert [one.shape for one in found.nodes] == [None, (7,), (3,)]


def test_a_claim_that_contradicts_is_a_fault(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["a"], "conv"), node("Relu", ["a"], ["y"])]
    model = proto(nodes, {"x": [1, 3, 8, 8]}, ["y"], {"w": reals(4, 3, 3, 3)}, claims={"a": [1, 4, 8, 8]})
    found = read(model, tmp_path)
    assert found.nodes[0].shape == (4, 6, 6)
    assert found.faults == ("Conv 'conv': the file claims 1x4x8x8, its inputs give 1x4x6x6",)


def test_a_rule_that_fails_falls_back_on_the_claim(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["a"], "conv", group=7), node("Relu", ["a"], ["y"])]
    model = proto(nodes, {"x": [1, 3, 8, 8]}, ["y"], {"w": reals(4, 3, 3, 3)}, claims={"a": [1, 4, 8, 8]})
    found = read(model, tmp_path)
    assert [one.shape for one in found.nodes] == [(4, 8, 8), (4, 8, 8)]
    assert "Conv 'conv'" in found.faults[0]


@pytest.mark.parametrize("op", ["If", "Loop", "Scan"])
def test_control_flow_is_named(op: str, tmp_path: Path) -> None:
    info = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 4])
    inside = helper.make_graph([node("Relu", ["outer"], ["inner"])], "inside", [], [info])
    attributes = {"then_branch": inside, "else_branch": inside} if op == "If" else {"body": inside}
    nodes = [
        node("Tanh", ["x"], ["outer"], "outer"),
        node("Not", ["flag"], ["turned"]),
        node(op, ["turned"], ["y"], "flow", **attributes),
    ]
    found = read(proto(nodes, X, [("y", ["N", 4])], {"flag": np.array(True)}), tmp_path)
    flow = found.nodes[-1]
    assert (flow.operation, flow.source_operation, flow.shape, flow.inputs) == (
        "unknown",
        op,
        (4,),
        ("outer",),
    )
    assert f"operator {op} is not known" in found.faults


def test_a_training_graph_is_named(tmp_path: Path) -> None:
    nodes = [
        node("Gemm", ["x", "w"], ["h"], "fc"),
        node("Relu", ["h"], ["y"], "relu"),
        node("ReluGrad", ["dy", "y"], ["dh"], "relu_grad", domain="com.microsoft"),
        node("Gemm", ["x", "dh"], ["dw"], "fc_grad", transA=1),
        node("AdamOptimizer", ["w", "dw"], ["w2"], "step", domain="com.microsoft"),
    ]
    model = proto(nodes, {"x": [1, 4], "w": [4, 3], "dy": [1, 3]}, ["y", "w2"], domains={"com.microsoft": 1})
    found = read(model, tmp_path)
    by_name = {one.name: one for one in found.nodes}
    assert by_name["fc"].shape == (3,)
    assert by_name["step"].operation == "unknown"
    assert any("training graph" in note for note in found.notes)
    assert any("com.microsoft::AdamOptimizer" in fault for fault in found.faults)


def test_functions_and_training_info_are_noted(tmp_path: Path) -> None:
    model = proto([node("Relu", ["x"], ["y"])], X, ["y"])
    model.functions.add(name="f", domain="local")
    model.training_info.add()
    notes = " ".join(read(model, tmp_path).notes)
    assert "1 functions" in notes
    assert "training_info" in notes


def test_the_head_of_the_model(tmp_path: Path) -> None:
    model = proto([node("Relu", ["x"], ["y"])], X, ["y"])
    model.producer_name, model.producer_version = "exporter", "2.0"
    found = read(model, tmp_path)
    assert (found.name, found.format, found.producer) == ("small", "onnx", "exporter 2.0")
    assert found.file_bytes == (tmp_path / "small.onnx").stat().st_size
    assert words(found) == ["relu"]
