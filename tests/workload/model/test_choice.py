"""Which part of a file becomes the network, what a new head replaces, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.errors import UnknownName, UserError
from dse.workload.model.counts import node_rows
from dse.workload.model.graph import INPUT_PREFIX, Model, ModelInput, Node, Quantisation
from dse.workload.model.lower import lower
from dse.workload.model.options import ImportOptions
from dse.workload.parameters import parameter_shapes
from tests.workload.model.building import Builder, constant


def small(*, softmax: bool = True) -> Builder:
    builder = Builder((3, 6, 6))
    builder.conv(4, (3, 3), name="first")
    builder.node("relu", name="act")
    builder.global_pool()
    builder.linear(5, name="fc")
    if softmax:
        builder.node("softmax", axis=0, name="prob")
    return builder


def refusal(model: Model, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        lower(model, ImportOptions(**options))  # type: ignore[arg-type]
    return str(caught.value)


# --- outputs and inputs ---


def test_one_of_several_outputs() -> None:
    builder = small()
    model = builder.model("prob", "act")
    assert "2 outputs: prob, act; choose one by output=NAME" in refusal(model)
    found = lower(model, ImportOptions(output="fc"))
    assert [layer.name for layer in found.workload.layers][-1] == "fc"
    assert any(note.startswith("left out, not on the way to fc: prob") for note in found.notes)


def test_an_output_that_is_not_there() -> None:
    with pytest.raises(UnknownName, match="did you mean 'prob'"):
        lower(small().model(), ImportOptions(output="probs"))


def test_an_image_is_no_result() -> None:
    text = refusal(small().model(), output="act")
    assert "net.onnx: act: gives 4x4x4; a network gives a vector" in text
    builder = small(softmax=False)
    builder.reshape(5, 1)
    builder.raw("tile", (5, 6))
    assert "by output=NAME one that does: " in (text := refusal(builder.model()))
    assert "fc" in text


def test_the_input_that_reaches_the_output() -> None:
    model = small().model()
    beside = Node("beside", "relu", (INPUT_PREFIX + "mask",), (7,), "RELU")
    more = replace(model, inputs=(ModelInput("mask", (7,)), *model.inputs), nodes=(beside, *model.nodes))
    assert lower(more).workload == lower(model).workload
    both = Node("both", "multiply", ("fc", INPUT_PREFIX + "mask"), (5,), "MUL")
    assert "2 inputs: mask, x" in refusal(replace(more, nodes=(*more.nodes, both), outputs=("both",)))
    assert len(node_rows(more)) == len(more.nodes)


def test_an_input_of_unknown_shape() -> None:
    model = small().model()
    text = refusal(replace(model, inputs=(ModelInput("x", None),), faults=("x: axis T is open",)))
    assert "x: an input of unknown shape; say its open axes by axis.NAME=N" in text
    assert "axis T is open" in text


# --- a new head ---


def test_a_new_head_has_no_numbers() -> None:
    old, new = lower(small().model()), lower(small().model(), ImportOptions(classes=9))
    assert (old.workload.classes, new.workload.classes) == (5, 9)
    assert set(parameter_shapes(new.workload)) - set(new.parameters) == {"fc.weight", "fc.bias"}
    assert new.parameters.keys() == old.parameters.keys() - {"fc.weight", "fc.bias"}
    assert np.array_equal(new.parameters["first.weight"], old.parameters["first.weight"])
    assert any("fc gives 9 outputs in place of 5" in note for note in new.notes)


def test_the_same_number_of_classes_keeps_the_head() -> None:
    found = lower(small().model(), ImportOptions(classes=5))
    assert set(found.parameters) == set(parameter_shapes(found.workload))


def test_a_new_head_that_is_a_convolution() -> None:
    builder = Builder((6, 6, 3), "NHWC")
    builder.conv(4, (3, 3))
    builder.batch_norm()
    builder.global_pool(keep=True)
    builder.conv(5, (1, 1), bias=False)
    builder.scale("add", np.ones(5))
    builder.reshape(5)
    builder.node("softmax", axis=0)
    found = lower(builder.model(), ImportOptions(classes=2))
    assert found.workload.classes == 2
    assert found.workload.units[-1].weight_params == 8
    assert not any(name.startswith("conv3") for name in found.parameters)


def test_no_head_to_replace() -> None:
    builder = small(softmax=False)
    builder.raw("unknown", (5,), source_operation="Vote")
    assert "classes: unknown5 (Vote) stands before the output" in refusal(builder.model(), classes=3).replace(
        "4", "5"
    )


@pytest.mark.parametrize(
    "wrong", [{"classes": 0}, {"batch_norm": "melt"}, {"axes": {"T": -1}}, {"classes": True}]
)
def test_options_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match="options"):
        ImportOptions(**wrong)  # type: ignore[arg-type]


# --- what cannot be planned is named, all of it ---


def test_every_node_that_is_at_fault_is_named() -> None:
    builder = Builder((3, 6, 6))
    builder.conv(4, (3, 3), name="first")
    start = builder.last
    builder.raw("lstm", (4, 4, 4), name="cell", attributes={"hidden_size": 3})
    builder.last = start
    builder.raw("concat", (4, 4, 4), start, name="joined", attributes={"axis": 7})
    builder.raw("unknown", None, "cell", "joined", name="odd")
    builder.raw("linear", (2,), "odd", name="fc", constants={})
    text = refusal(builder.model())
    assert "net.onnx: cell: LSTM: a recurrent layer needs hidden_size, steps" in text
    assert "net.onnx: joined: CONCAT: no axis 7 to join along" in text
    assert "odd" not in text  # its inputs are at fault already
    assert {row.becomes for row in node_rows(builder.model()) if row.name != "first"} == {"unknown"}


BROKEN = {
    "weights of 4x3x3x3 with 1 groups do not fit": lambda b: b.conv(4, (3, 3)),
    "kernel needs 2 numbers": lambda b: b.raw(
        "max_pool", (3, 2, 2), attributes={"kernel": (2,)}, channel_axis=0
    ),
    "no axis of channels": lambda b: b.raw("avg_pool", (3, 1, 1), attributes={"kernel": (6, 6)}),
    "is no order of 3 axes": lambda b: b.raw("transpose", (3, 6, 6), attributes={"permutation": (0, 0, 1)}),
    "its output has no known shape": lambda b: b.raw("unknown", None),
    "needs a constant weight": lambda b: b.raw("linear", (3, 6, 2)),
    "the file says 3x9x9": lambda b: b.raw("relu", (3, 9, 9)),
    "epsilon must be": lambda b: [b.batch_norm(), b.nodes[-1].attributes.update(epsilon="x")],  # type: ignore[attr-defined]
    "variance has 3 values, 6 are needed": lambda b: [
        b.batch_norm(),
        b.nodes.append(replace(b.nodes.pop(), channel_axis=2)),
    ],
}


@pytest.mark.parametrize("found", BROKEN)
def test_nodes_that_do_not_fit(found: str) -> None:
    builder = Builder((3, 6, 6))
    BROKEN[found](builder)
    if "weights of" in found:
        builder.nodes[0] = replace(
            builder.nodes[0], attributes={**builder.nodes[0].attributes, "kernel": (5, 5)}
        )
    builder.flatten()
    builder.linear(2)
    assert found in refusal(builder.model())


@pytest.mark.parametrize("batch_norm", ["keep", "fold"])
def test_numbers_that_no_training_can_take(batch_norm: str) -> None:
    builder = small()
    held = {"gamma": np.ones(4), "beta": np.zeros(4), "mean": np.zeros(4), "variance": np.full(4, -1.0)}
    builder = Builder((3, 6, 6))
    builder.conv(4, (3, 3), name="first")
    with np.errstate(invalid="ignore"):
        builder.node("batch_norm", constants=held, channel_axis=0, epsilon=1e-3)
    builder.global_pool()
    builder.linear(2)
    assert "NaN or infinite values; numbers must be finite" in refusal(builder.model(), batch_norm=batch_norm)


def test_weights_that_the_file_lacks_are_left_to_training() -> None:
    model = small().model()
    bare = {key: replace(held, values=None) for key, held in model.nodes[0].constants.items()}
    found = lower(replace(model, nodes=(replace(model.nodes[0], constants=bare), *model.nodes[1:])))
    assert not any(name.startswith("first") for name in found.parameters)
    assert any(note == "no numbers in the file for first" for note in found.notes)


# --- names, notes, quantisation ---


def test_a_node_called_input() -> None:
    builder = Builder((3, 6, 6))
    builder.conv(4, (3, 3), name="input")
    builder.global_pool()
    builder.linear(2)
    found = lower(builder.model())
    assert found.workload.layers[0].name == "input~2"
    assert "input~2.weight" in found.parameters


def test_where_a_network_comes_from() -> None:
    found = lower(replace(small().model(), file="some/where/net.onnx")).workload
    assert found.source == "imported from net.onnx, ONNX, producer a test"
    assert found.title == "net, 3x6x6, 5 outputs"


def test_quantisation_goes_with_its_layer() -> None:
    def levels(*scales: float, axis: int | None = None) -> Quantisation:
        return Quantisation(8, True, np.array(scales), np.zeros(len(scales), dtype=np.int64), axis)

    model = small().model()
    first, act, *rest = model.nodes
    weight = replace(first.constants["weight"], quantisation=levels(0.1, 0.2, 0.3, 0.4, axis=0))
    first = replace(first, constants={**first.constants, "weight": weight}, quantisation=levels(0.5))
    act = replace(act, quantisation=levels(0.25))
    given = (replace(model.inputs[0], quantisation=levels(0.7)),)
    model = replace(model, inputs=given, nodes=(first, act, *rest))
    found = lower(model).quantisation
    assert set(found) == {"input", "first.weight", "first.output", "act.output"}
    assert found["first.weight"].scale.tolist() == [0.1, 0.2, 0.3, 0.4]
    row = node_rows(model)[0]
    assert (row.weight_bits, row.activation_bits) == (8, 8)
    scaled = Node(
        "gain", "multiply", (first.name,), first.shape, "MUL",
        constants={"operand": constant("gain.operand", np.full(1, 2.0))},
    )  # fmt: skip
    model = replace(model, nodes=(first, scaled, replace(act, inputs=("gain",)), *rest))
    assert "first.weight" not in lower(model).quantisation  # they are others now, of no such scales


def test_rows_of_a_whole_file() -> None:
    builder = Builder((6, 6, 3), "NHWC")
    builder.node("pad", pads=((1, 1), (1, 1), (0, 0)), value=0.0)
    builder.conv(4, (3, 3), bias=False)
    builder.scale("add", np.ones(4))
    builder.batch_norm()
    builder.flatten()
    builder.linear(2)
    rows = node_rows(builder.model())
    assert [row.becomes for row in rows] == ["folded", "conv2d", "folded", "batch_norm", "flatten", "linear"]
    assert [row.macs for row in rows] == [0, 4 * 27 * 36, 0, 0, 0, 288]
    assert [row.shape for row in rows][1] == (4, 6, 6)
    assert [row.parameters for row in rows] == [0, 108, 4, 8, 0, 290]


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_convolution_before_the_mean_is_a_head_too(order: str, keep: bool) -> None:
    """As many positions along each axis as old classes: the axis of channels must be told from them."""
    builder = Builder((3, 4, 4) if order == "NCHW" else (4, 4, 3), order)
    builder.conv(6, (1, 1), name="body")
    builder.node("relu")
    builder.conv(4, (1, 1), name="head")
    builder.node("relu")
    builder.global_pool(keep=keep)
    found = lower(builder.model(), ImportOptions(classes=7))
    assert found.workload.classes == 7
    names = [layer.name for layer in found.workload.layers]
    assert found.workload.shape_of(names.index("head")) == (7, 4, 4)
    assert {name for name in found.parameters if name.startswith("head")} == set()
    assert "head gives 7 outputs in place of 4: its weights are left out" in found.notes
