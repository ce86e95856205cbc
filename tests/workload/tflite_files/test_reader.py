"""What a TFLite file says as a whole: its batch, dynamic axes, names, order, and what it lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dse.errors import UserError
from dse.workload.tflite import read_tflite
from tests.workload.exporters.tflite_builder import TfliteBuilder
from tests.workload.tflite_files.samples import CONV, by_name, ramp, read, read_bytes, sampler


def test_what_the_model_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "my model.tflite"
    path.write_bytes(sampler())
    model = read_tflite(path, {})
    assert (model.name, model.format, model.producer) == ("my model", "tflite", "written by a test")
    assert (model.file, model.file_bytes) == (str(path), path.stat().st_size)
    assert [(found.name, found.shape, found.channel_axis) for found in model.inputs] == [
        ("image", (8, 8, 4), 2)
    ]
    assert "1 subgraphs besides the first are left out: other" in model.notes
    assert not model.faults


def test_producers_come_first() -> None:
    model = read_bytes(sampler())
    done = {f"input:{found.name}" for found in model.inputs}
    for node in model.nodes:
        assert set(node.inputs) <= done
        done.add(node.name)
    assert set(model.outputs) <= done
    assert len(done) == len(model.nodes) + len(model.inputs)


def test_a_reshape_to_a_computed_shape_is_worked_out() -> None:
    nodes = by_name(read_bytes(sampler()))
    assert nodes["series"].shape == (4, 4)  # SHAPE, STRIDED_SLICE and PACK of it leave no node
    assert not {"size", "first", "wanted"} & set(nodes)


# --- batch and dynamic axes ---


def series(
    shape: tuple[int, ...], signature: tuple[int, ...] | None = None
) -> tuple[TfliteBuilder, int, int]:
    build = TfliteBuilder()
    source = build.tensor("x", shape, signature=signature)
    out = tuple(1 if signature and signature[i] < 0 else size for i, size in enumerate(shape[:-1]))
    target = build.tensor("y", (*out, 2), signature=None if signature is None else (*signature[:-1], 2))
    build.operator("FULLY_CONNECTED", [source, build.constant("w", ramp(2, shape[-1])), -1], target,
                   "FullyConnectedOptions", KeepNumDims=True)  # fmt: skip
    return build, source, target


def test_the_batch_is_fixed_to_one() -> None:
    build, source, target = series((1, 7, 3), (-1, 7, 3))
    model = read(build, [source], [target])
    assert model.nodes[0].shape == (7, 2)
    assert "input x: the dynamic batch is fixed to 1" in model.notes
    build, source, target = series((16, 7, 3))
    model = read(build, [source], [target])
    assert (model.inputs[0].shape, model.nodes[0].shape) == ((7, 3), (7, 2))
    assert "input x: the batch of 16 is fixed to 1" in model.notes


def test_dynamic_axes_are_asked_for_by_name() -> None:
    build, source, target = series((1, 1, 3), (-1, -1, 3))
    with pytest.raises(UserError, match=r"axis x\.1: dynamic in the file; give its size: axis x\.1"):
        read(build, [source], [target])
    model = read(build, [source], [target], {"x.1": 50})
    assert (model.inputs[0].shape, model.nodes[0].shape) == ((50, 3), (50, 2))


@pytest.mark.parametrize("size", [0, -1, 2**41, True])
def test_sizes_of_axes_are_checked(size: int) -> None:
    build, source, target = series((1, 1, 3), (-1, -1, 3))
    with pytest.raises(UserError, match=r"axis x\.1"):
        read(build, [source], [target], {"x.1": size})


def test_sizes_for_axes_that_are_not_dynamic_are_refused() -> None:
    build, source, target = series((1, 7, 3))
    with pytest.raises(UserError, match=r"axis x\.1: no dynamic axis of the model"):
        read(build, [source], [target], {"x.1": 50})


def test_a_shape_that_is_lost_is_one_fault() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 4))
    lost = build.operator("CUSTOM:Filter", [source], build.tensor("lost", (1, 1), signature=(1, -1)))
    target = build.operator("RELU", [lost], build.tensor("y", (1, 1), signature=(1, -1)))
    model = read(build, [source], [target])
    assert [node.shape for node in model.nodes] == [None, None]
    assert model.faults[0] == "lost: CUSTOM:Filter gives a shape that is not known"
    assert "operators behind a shape that is not known: 1" in model.notes


def test_an_input_of_one_axis_is_a_sample() -> None:
    build = TfliteBuilder()
    source = build.tensor("wave", (400,))
    image = build.operator(
        "RESHAPE", [source, build.ints("s", (1, 20, 20, 1))], build.tensor("image", (1, 20, 20, 1))
    )
    conv = build.tensor("y", (1, 20, 20, 4))
    build.operator("CONV_2D", [image, build.constant("w", ramp(4, 3, 3, 1))], conv, "Conv2DOptions", **CONV)
    model = read(build, [source], [conv])
    assert (model.inputs[0].shape, model.nodes[0].shape, model.nodes[1].shape) == (
        (400,),
        (20, 20, 1),
        (20, 20, 4),
    )
    assert not model.faults


# --- names ---


def test_names_are_kept_made_printable_and_made_unique() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 4))
    first = build.operator("RELU", [source], build.tensor("model/a;b\x1b[31m\n", (1, 4)))
    second = build.operator("RELU", [first], build.tensor("model/a;b\x1b[31m\n", (1, 4)))
    third = build.operator("TANH", [second], build.tensor("", (1, 4)))
    assert [node.name for node in read(build, [source], [third]).nodes] == [
        "model/a;b_[31m", "model/a;b_[31m~2", "tanh_2",
    ]  # fmt: skip


# --- what interpreters refuse ---


def lacking(**lacks: object) -> bytes:
    build, source, target = series((1, 7, 3))
    return build.finish([source], [target], **lacks)  # type: ignore[arg-type]


def test_what_a_file_lacks_is_named() -> None:
    model = read_bytes(lacking(identifier=False))
    assert any("TFL3" in note for note in model.notes)
    assert model.nodes[0].operation == "linear"
    assert any("schema version 2" in note for note in read_bytes(lacking(version=2)).notes)


def test_a_file_without_buffers_has_shapes_and_no_numbers() -> None:
    build, source, target = series((1, 7, 3))
    for tensor in build.tensors:
        tensor.data = None
    model = read_bytes(build.finish([source], [target], buffers=False))
    weight = model.nodes[0].constants["weight"]
    assert (weight.shape, weight.values, weight.stored_bytes) == ((2, 3), None, 24)
    assert any("no buffers" in note for note in model.notes)
    assert any("without numbers" in note for note in model.notes)


def test_an_operator_without_inputs_is_unknown() -> None:
    build = TfliteBuilder()
    source, other, target = build.tensor("x", (1, 4)), build.tensor("z", (1, 4)), build.tensor("y", (1, 4))
    build.operator("RELU", [], other)
    build.operator("ADD", [source, other], target, "AddOptions")
    model = read(build, [source], [target])
    assert [node.operation for node in model.nodes] == ["unknown", "add"]
    assert model.faults == ("z: RELU: input 0 is missing",)


# --- order ---


def test_operators_out_of_order_and_cycles_are_refused() -> None:
    build = TfliteBuilder()
    source, left, right = (build.tensor(name, (1, 4)) for name in "xab")
    build.operator("ADD", [source, right], left, "AddOptions")
    build.operator("RELU", [left], right)
    with pytest.raises(UserError, match="operator 0: reads tensor 2 before operator 1 computes it"):
        read(build, [source], [right])


def test_a_tensor_is_computed_once() -> None:
    build = TfliteBuilder()
    source, out = build.tensor("x", (1, 4)), build.tensor("y", (1, 4))
    build.operator("RELU", [source], out)
    build.operator("TANH", [source], out)
    with pytest.raises(UserError, match="operator 1: computes tensor 1, which exists"):
        read(build, [source], [out])


@pytest.mark.parametrize("ends", [([], [1]), ([0], [])])
def test_a_graph_needs_ends(ends: tuple[list[int], list[int]]) -> None:
    build = TfliteBuilder()
    build.operator("RELU", [build.tensor("x", (1, 4))], build.tensor("y", (1, 4)))
    with pytest.raises(UserError, match="a graph without"):
        read(build, *ends)


def test_an_output_that_nothing_computes_is_a_fault() -> None:
    build = TfliteBuilder()
    source, stray = build.tensor("x", (1, 4)), build.constant("c", np.ones((1, 4), dtype=np.float32))
    out = build.operator("RELU", [source], build.tensor("y", (1, 4)))
    model = read(build, [source], [out, stray])
    assert model.outputs == ("y",)
    assert model.faults == (f"output tensor {stray} is not computed by an operator",)


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tflite", None)
    with pytest.raises(UserError, match=r"tinyml-dse\[tflite\]"):
        read_bytes(sampler())
