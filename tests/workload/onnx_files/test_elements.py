"""Activations, arithmetic, normalisation: each form, whole and in the pieces that exporters write."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from tests.workload.onnx_files.graphs import Array, integers, node, proto, read, reals, single, words


def number(value: float) -> Array:
    return np.array(value, dtype=np.float32)


X = {"x": ["N", 4, 6, 6]}

CLIPS = {
    "relu6 by inputs": (11, {}, (number(0), number(6)), "relu6"),
    "relu6 by attributes": (6, {"min": 0.0, "max": 6.0}, (), "relu6"),
    "relu": (13, {}, (number(0),), "relu"),
    "largest number": (9, {"min": 0.0, "max": 3.4028234663852886e38}, (), "relu"),
    "open below": (13, {}, (None, number(1)), "clip"),
    "other bounds": (13, {}, (number(-1), number(1)), "clip"),
}


@pytest.mark.parametrize("case", CLIPS)
def test_clip(case: str, tmp_path: Path) -> None:
    opset, attributes, held, word = CLIPS[case]
    found = single(tmp_path, "Clip", [1, 4], *held, opset=opset, **attributes)
    assert found.operation == word
    if word == "clip":
        assert found.attributes == {"low": None if held[0] is None else -1.0, "high": 1.0}


@pytest.mark.parametrize(
    ("op", "attributes", "word"),
    [
        ("Relu", {}, "relu"),
        ("Sigmoid", {}, "sigmoid"),
        ("Tanh", {}, "tanh"),
        ("HardSwish", {}, "hard_swish"),
        ("HardSigmoid", {"alpha": 0.25}, "hard_sigmoid"),
        ("LeakyRelu", {"alpha": 0.1}, "leaky_relu"),
        ("Elu", {}, "elu"),
        ("Neg", {}, "negate"),
        ("Abs", {}, "abs"),
        ("Exp", {}, "exp"),
        ("Sqrt", {}, "sqrt"),
        ("Reciprocal", {}, "power"),
        ("Erf", {}, "unknown"),
        ("Floor", {}, "unknown"),
        ("Softplus", {}, "unknown"),
    ],
)
def test_on_every_element(op: str, attributes: dict, word: str, tmp_path: Path) -> None:
    found = single(tmp_path, op, ["N", 4, 6], **attributes)
    assert (found.operation, found.shape, found.source_operation) == (word, (4, 6), op)
    if "alpha" in attributes:
        assert found.attributes["alpha"] == pytest.approx(attributes["alpha"])


# --- in pieces ---

THREE, SIX = number(3), number(6)

PIECES = {
    "hard-swish by its gate": (
        [node("HardSigmoid", ["x"], ["g"], alpha=1 / 6, beta=0.5), node("Mul", ["x", "g"], ["y"])],
        {},
        ["hard_swish"],
    ),
    "hard-swish of six pieces": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["c"]),
            node("Div", ["c", "six"], ["d"]),
            node("Mul", ["x", "d"], ["y"]),
        ],
        {"three": THREE, "zero": number(0), "six": SIX},
        ["hard_swish"],
    ),
    "hard-swish divided at the end": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["c"]),
            node("Mul", ["x", "c"], ["m"]),
            node("Div", ["m", "six"], ["y"]),
        ],
        {"three": THREE, "zero": number(0), "six": SIX},
        ["hard_swish"],
    ),
    "hard-swish by minimum and maximum": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Max", ["a", "zero"], ["b"]),
            node("Min", ["b", "six"], ["c"]),
            node("Mul", ["c", "sixth"], ["d"]),
            node("Mul", ["d", "x"], ["y"]),
        ],
        {"three": THREE, "zero": number(0), "six": SIX, "sixth": number(1 / 6)},
        ["hard_swish"],
    ),
    "hard sigmoid alone": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["c"]),
            node("Div", ["c", "six"], ["y"]),
        ],
        {"three": THREE, "zero": number(0), "six": SIX},
        ["hard_sigmoid"],
    ),
    "swish": ([node("Sigmoid", ["x"], ["g"]), node("Mul", ["g", "x"], ["y"])], {}, ["swish"]),
    "gate of another tensor": (
        [node("Relu", ["x"], ["r"]), node("Sigmoid", ["r"], ["g"]), node("Mul", ["g", "x"], ["y"])],
        {},
        ["relu", "sigmoid", "multiply"],
    ),
    "gelu, half first": (
        [
            node("Div", ["x", "root"], ["a"]),
            node("Erf", ["a"], ["e"]),
            node("Add", ["e", "one"], ["f"]),
            node("Mul", ["x", "half"], ["h"]),
            node("Mul", ["h", "f"], ["y"]),
        ],
        {"root": number(sqrt(2)), "one": number(1), "half": number(0.5)},
        ["gelu"],
    ),
    "gelu, half last": (
        [
            node("Div", ["x", "root"], ["a"]),
            node("Erf", ["a"], ["e"]),
            node("Add", ["e", "one"], ["f"]),
            node("Mul", ["x", "f"], ["h"]),
            node("Mul", ["h", "half"], ["y"]),
        ],
        {"root": number(sqrt(2)), "one": number(1), "half": number(0.5)},
        ["gelu"],
    ),
    "gelu by tanh": (
        [
            node("Pow", ["x", "cube"], ["p"]),
            node("Mul", ["p", "small"], ["q"]),
            node("Add", ["x", "q"], ["r"]),
            node("Mul", ["r", "width"], ["s"]),
            node("Tanh", ["s"], ["t"]),
            node("Add", ["t", "one"], ["f"]),
            node("Mul", ["x", "f"], ["h"]),
            node("Mul", ["h", "half"], ["y"]),
        ],
        {
            "cube": number(3),
            "small": number(0.044715),
            "width": number(0.7978845608),
            "one": number(1),
            "half": number(0.5),
        },
        ["gelu"],
    ),
    "gelu by tanh, the cube by products": (
        [
            node("Mul", ["small", "x"], ["p"]),
            node("Mul", ["x", "p"], ["q"]),
            node("Mul", ["x", "q"], ["c"]),
            node("Add", ["x", "c"], ["r"]),
            node("Mul", ["width", "r"], ["s"]),
            node("Tanh", ["s"], ["t"]),
            node("Add", ["one", "t"], ["f"]),
            node("Mul", ["half", "f"], ["h"]),
            node("Mul", ["x", "h"], ["y"]),
        ],
        {"small": number(0.044715), "width": number(0.7978845608), "one": number(1), "half": number(0.5)},
        ["gelu"],
    ),
    "a square in place of the cube": (
        [
            node("Mul", ["small", "x"], ["p"]),
            node("Mul", ["x", "p"], ["c"]),
            node("Add", ["x", "c"], ["r"]),
            node("Mul", ["width", "r"], ["s"]),
            node("Tanh", ["s"], ["t"]),
            node("Add", ["one", "t"], ["f"]),
            node("Mul", ["half", "f"], ["h"]),
            node("Mul", ["x", "h"], ["y"]),
        ],
        {"small": number(0.044715), "width": number(0.7978845608), "one": number(1), "half": number(0.5)},
        ["multiply", "multiply", "add", "multiply", "tanh", "add", "multiply", "multiply"],
    ),
    "another function with erf": (
        [node("Erf", ["x"], ["e"]), node("Add", ["e", "one"], ["f"]), node("Mul", ["x", "f"], ["y"])],
        {"one": number(1)},
        ["unknown", "add", "multiply"],
    ),
    "clamp": (
        [node("Max", ["x", "low"], ["a"]), node("Min", ["a", "high"], ["y"])],
        {"low": number(-2), "high": number(2)},
        ["clip"],
    ),
}


@pytest.mark.parametrize("case", PIECES)
def test_in_pieces(case: str, tmp_path: Path) -> None:
    nodes, held, wanted = PIECES[case]
    found = read(proto(nodes, X, ["y"], held), tmp_path)
    assert words(found) == wanted
    assert found.faults == ()
    assert found.nodes[-1].shape == (4, 6, 6)
    if len(wanted) == 1:
        assert found.nodes[0].inputs == ("input:x",)
        assert found.outputs == (found.nodes[0].name,)


def test_a_piece_that_is_read_elsewhere_stays(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", ["x"], ["g"]), node("Mul", ["x", "g"], ["y"]), node("Relu", ["g"], ["z"])]
    assert words(read(proto(nodes, X, ["y", "z"]), tmp_path)) == ["sigmoid", "multiply", "relu"]
    assert words(read(proto(nodes[:2], X, ["y", "g"]), tmp_path)) == ["sigmoid", "multiply"]


def test_layer_norm_in_pieces(tmp_path: Path) -> None:
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[-1]),
        node("Sub", ["x", "m"], ["c"]),
        node("Pow", ["c", "two"], ["s"]),
        node("ReduceMean", ["s"], ["v"], axes=[-1]),
        node("Add", ["v", "eps"], ["e"]),
        node("Sqrt", ["e"], ["r"]),
        node("Div", ["c", "r"], ["n"]),
        node("Mul", ["n", "gamma"], ["g"]),
        node("Add", ["g", "beta"], ["y"]),
    ]
    held = {"two": number(2), "eps": number(1e-5), "gamma": reals(16), "beta": reals(16, seed=1)}
    found = read(proto(nodes, {"x": [1, 10, 16]}, ["y"], held), tmp_path)
    assert words(found) == ["layer_norm"]
    assert found.nodes[0].attributes == {"axis": 1, "epsilon": pytest.approx(1e-5)}
    np.testing.assert_array_equal(found.nodes[0].constants["gamma"].values, held["gamma"])
    np.testing.assert_array_equal(found.nodes[0].constants["beta"].values, held["beta"])


def test_layer_norm(tmp_path: Path) -> None:
    found = single(tmp_path, "LayerNormalization", ["N", 10, 16], reals(16), reals(16), epsilon=1e-6)
    assert (found.operation, found.shape, found.attributes["axis"]) == ("layer_norm", (10, 16), 1)
    assert found.attributes["epsilon"] == pytest.approx(1e-6)


@pytest.mark.parametrize(("opset", "scales"), [(18, 2), (21, 8)])
def test_group_norm(opset: int, scales: int, tmp_path: Path) -> None:
    held = (reals(scales), reals(scales))
    found = single(tmp_path, "GroupNormalization", [1, 8, 4, 4], *held, opset=opset, num_groups=2)
    assert (found.operation, found.attributes["groups"], found.constants["gamma"].shape) == (
        "group_norm",
        2,
        (scales,),
    )


def test_batch_norm(tmp_path: Path) -> None:
    parts = [reals(8, seed=seed) for seed in range(4)]
    found = single(tmp_path, "BatchNormalization", ["N", 8, 5, 5], *parts, epsilon=1e-3, momentum=0.9)
    assert (found.operation, found.channel_axis, found.shape) == ("batch_norm", 0, (8, 5, 5))
    assert found.attributes["epsilon"] == pytest.approx(1e-3)
    for name, part in zip(("gamma", "beta", "mean", "variance"), parts, strict=True):
        np.testing.assert_array_equal(found.constants[name].values, part)


# --- arithmetic ---


@pytest.mark.parametrize(
    ("op", "word"), [("Add", "add"), ("Sub", "subtract"), ("Mul", "multiply"), ("Div", "divide")]
)
def test_a_constant_operand_stretches_without_the_batch(op: str, word: str, tmp_path: Path) -> None:
    held = reals(1, 4, 1, 1)
    found = single(tmp_path, op, ["N", 4, 6, 6], held)
    assert (found.operation, found.shape) == (word, (4, 6, 6))
    assert found.constants["operand"].shape == (4, 1, 1)
    np.testing.assert_array_equal(found.constants["operand"].values, held[0])


def test_a_constant_before_a_tensor_is_said_to_be_first(tmp_path: Path) -> None:
    model = proto([node("Sub", ["one", "x"], ["y"])], X, ["y"], {"one": number(1)})
    assert read(model, tmp_path).nodes[0].attributes == {"operand_first": True}


def test_sums_of_many_and_of_one_twice(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Sum", ["x", "a", "x"], ["b"]), node("Mul", ["b", "b"], ["y"])]
    found = read(proto(nodes, X, ["y"]), tmp_path)
    assert words(found) == ["relu", "add", "multiply"]
    assert len(found.nodes[1].inputs) == 3
    assert found.nodes[2].inputs == (found.nodes[1].name,) * 2


@pytest.mark.parametrize(
    ("opset", "x", "axis", "wanted"),
    [
        (13, ["N", 10], None, {"axis": 0}),
        (13, ["N", 7, 10], None, {"axis": 1}),
        (13, ["N", 4, 6, 6], 1, {"axis": 0}),
        (11, ["N", 10], None, {"axis": 0}),
        (11, ["N", 10, 1, 1], None, {"axis": 0}),
        (11, ["N", 4, 6, 6], 1, {"axis": 0, "flattened": True}),
    ],
)
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax(op: str, opset: int, x: list, axis: int | None, wanted: dict, tmp_path: Path) -> None:
    attributes = {} if axis is None else {"axis": axis}
    found = single(tmp_path, op, x, opset=opset, **attributes)
    assert found.operation == "softmax"
    assert found.attributes == wanted | ({"log": True} if op == "LogSoftmax" else {})


def test_shapes_that_do_not_go_together_are_a_fault(tmp_path: Path) -> None:
    nodes = [node("Slice", ["x", "a", "b", "c"], ["s"]), node("Add", ["x", "s"], ["y"], "sum")]
    held = {"a": integers(0), "b": integers(3), "c": integers(1)}
    found = read(proto(nodes, X, ["y"], held), tmp_path)
    assert found.nodes[-1].shape is None
    assert "Add 'sum'" in found.faults[0]
    assert "3x6x6" in found.faults[0]


def test_long_products_of_products_are_left_alone(tmp_path: Path) -> None:
    """Each reads the one before twice, so that a walk down every path would never end."""
    nodes = [node("Mul", [f"p{i}", f"p{i}"], [f"p{i + 1}"]) for i in range(200)]
    nodes += [
        node("Add", ["p0", "p200"], ["r"]),
        node("Mul", ["width", "r"], ["s"]),
        node("Tanh", ["s"], ["t"]),
        node("Add", ["one", "t"], ["f"]),
        node("Mul", ["half", "f"], ["h"]),
        node("Mul", ["p0", "h"], ["y"]),
    ]
    held = {"width": number(0.7978845608), "one": number(1), "half": number(0.5)}
    assert "gelu" not in words(read(proto(nodes, {"p0": ["N", 4]}, ["y"], held), tmp_path))
