"""Reshapes, parts and joins: shapes by hand, and the arithmetic of shapes that exporters write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.workload.onnx_files.graphs import Array, integers, node, proto, read, reals, single, words

RESHAPES = {
    # operator, input, constants, attributes, opset -> shape
    "minus one": ("Reshape", ["N", 4, 6, 6], (integers(-1, 144),), {}, 17, (144,)),
    "keep the batch": ("Reshape", ["N", 4, 6, 6], (integers(0, 4, 36),), {}, 17, (4, 36)),
    "batch written as one": ("Reshape", [1, 4, 6, 6], (integers(1, -1),), {}, 13, (144,)),
    "channels split": ("Reshape", ["N", 8, 5, 5], (integers(0, 2, 4, 5, 5),), {}, 13, (2, 4, 5, 5)),
    "flatten": ("Flatten", ["N", 4, 6, 6], (), {}, 17, (144,)),
    "flatten from axis 2": ("Flatten", [1, 4, 6, 6], (), {"axis": 2}, 17, (4, 36)),
    "squeeze by attribute": ("Squeeze", ["N", 8, 1, 1], (), {"axes": [2, 3]}, 11, (8,)),
    "squeeze by input": ("Squeeze", ["N", 8, 1, 1], (integers(-1, -2),), {}, 13, (8,)),
    "unsqueeze by attribute": ("Unsqueeze", ["N", 8, 5], (), {"axes": [1]}, 11, (1, 8, 5)),
    "unsqueeze by input": ("Unsqueeze", ["N", 8, 5], (integers(-1),), {}, 13, (8, 5, 1)),
}


@pytest.mark.parametrize("case", RESHAPES)
def test_reshape(case: str, tmp_path: Path) -> None:
    op, x, held, attributes, opset, shape = RESHAPES[case]
    found = single(tmp_path, op, x, *held, opset=opset, **attributes)
    assert (found.operation, found.shape) == ("reshape", shape)


MOVES = {
    "transpose": ("Transpose", ["N", 4, 6, 5], (), {"perm": [0, 2, 3, 1]}, "transpose", (6, 5, 4)),
    "pad": ("Pad", ["N", 4, 6, 6], (integers(0, 0, 1, 2, 0, 0, 3, 4),), {}, "pad", (4, 10, 12)),
    "slice": ("Slice", ["N", 8, 6, 6], (integers(2), integers(2**62), integers(1)), {}, "slice", (6, 6, 6)),
    "slice in steps": (
        "Slice",
        ["N", 8, 6, 6],
        (integers(0, 0), integers(6, 6), integers(2, 3), integers(2, 2)),
        {},
        "slice",
        (8, 3, 3),
    ),
    "slice backwards": (
        "Slice",
        ["N", 8],
        (integers(-1), integers(-9), integers(1), integers(-1)),
        {},
        "slice",
        (8,),
    ),
    "gather": ("Gather", ["N", 8, 6], (integers(1, 3),), {"axis": 1}, "gather", (2, 6)),
    "gather one": ("Gather", ["N", 8, 6], (np.array(3),), {"axis": 1}, "gather", (6,)),
    "expand": ("Expand", ["N", 1, 6], (integers(1, 5, 1),), {}, "tile", (5, 6)),
    "tile": ("Tile", ["N", 2, 6], (integers(1, 3, 2),), {}, "tile", (6, 12)),
    "shuffle": ("DepthToSpace", ["N", 8, 3, 3], (), {"blocksize": 2}, "gather", (2, 6, 6)),
    "space to depth": ("SpaceToDepth", ["N", 2, 6, 6], (), {"blocksize": 3}, "gather", (18, 2, 2)),
}


@pytest.mark.parametrize("case", MOVES)
def test_movement(case: str, tmp_path: Path) -> None:
    op, x, held, attributes, word, shape = MOVES[case]
    found = single(tmp_path, op, x, *held, opset=13, **attributes)
    assert (found.operation, found.shape) == (word, shape)


def test_permutation_and_pads_count_axes_without_the_batch(tmp_path: Path) -> None:
    turned = single(tmp_path, "Transpose", ["N", 4, 6, 5], perm=[0, 2, 3, 1])
    assert turned.attributes["permutation"] == (1, 2, 0)
    padded = single(tmp_path, "Pad", ["N", 4, 6], opset=10, pads=[0, 0, 2, 0, 0, 1], value=1.5)
    assert padded.attributes == {"pads": ((0, 0), (2, 1)), "value": 1.5}
    newer = single(tmp_path, "Pad", ["N", 4, 6], integers(2, 1), None, integers(-1), opset=18)
    assert newer.attributes["pads"] == ((0, 0), (2, 1))


@pytest.mark.parametrize(
    ("opset", "attributes", "held"),
    [(11, {"split": [2, 6]}, ()), (13, {}, (integers(2, 6),)), (18, {"num_outputs": 2}, ())],
)
def test_each_part_of_a_split_is_a_slice(
    opset: int, attributes: dict, held: tuple[Array, ...], tmp_path: Path
) -> None:
    names = ["x", *(["sizes"] if held else [])]
    parted = node("Split", names, ["a", "b"], "parted", axis=1, **attributes)
    found = read(
        proto(
            [parted], {"x": ["N", 8, 5]}, ["a", "b"], dict(zip(["sizes"], held, strict=False)), opset=opset
        ),
        tmp_path,
    )
    assert words(found) == ["slice", "slice"]
    wanted = [(4, 5), (4, 5)] if opset == 18 else [(2, 5), (6, 5)]
    assert [one.shape for one in found.nodes] == wanted
    assert found.nodes[1].attributes == {"begin": (wanted[0][0], 0), "steps": (1, 1)}


def test_a_part_that_nobody_reads_is_no_node(tmp_path: Path) -> None:
    parted = node("Split", ["x"], ["a", "b"], "parted", axis=1)
    found = read(proto([parted, node("Relu", ["b"], ["y"])], {"x": [1, 8, 5]}, ["y"]), tmp_path)
    assert [(one.name, one.operation) for one in found.nodes] == [("parted", "slice"), ("y", "relu")]


RESIZES = {
    "factors, version 10": (10, ["x", "scales"], {"scales": np.array([1, 1, 2, 1.5], np.float32)}),
    "factors": (13, ["x", "", "scales"], {"scales": np.array([1, 1, 2, 1.5], np.float32)}),
    "sizes": (13, ["x", "", "", "sizes"], {"sizes": integers(1, 4, 12, 9)}),
    "empty factors": (
        11,
        ["x", "roi", "none", "sizes"],
        {"roi": np.zeros(0, np.float32), "none": np.zeros(0, np.float32), "sizes": integers(1, 4, 12, 9)},
    ),
    "sizes of two axes": (18, ["x", "", "", "sizes"], {"sizes": integers(12, 9)}),
}


@pytest.mark.parametrize("case", RESIZES)
def test_resize(case: str, tmp_path: Path) -> None:
    opset, names, held = RESIZES[case]
    attributes = {"axes": [2, 3]} if opset == 18 else {}
    resized = node("Resize", names, ["y"], mode="linear", **attributes)
    found = read(proto([resized], {"x": ["N", 4, 6, 6]}, ["y"], held, opset=opset), tmp_path)
    assert (words(found), found.nodes[0].shape, found.faults) == (["resize"], (4, 12, 9), ())


def test_upsample_of_version_7(tmp_path: Path) -> None:
    found = single(tmp_path, "Upsample", [1, 4, 6, 6], opset=7, scales=[1.0, 1.0, 2.0, 2.0])
    assert (found.operation, found.shape) == ("resize", (4, 12, 12))


def test_concat(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Concat", ["x", "a", "held"], ["y"], "joined", axis=-3)]
    found = read(proto(nodes, {"x": ["N", 4, 6, 6]}, ["y"], {"held": reals(1, 2, 6, 6)}), tmp_path)
    joined = found.nodes[1]
    assert (joined.operation, joined.shape, joined.attributes) == ("concat", (10, 6, 6), {"axis": 0})
    assert joined.constants["input_2"].elements == 72


def test_embedding(tmp_path: Path) -> None:
    model = proto([node("Gather", ["table", "x"], ["y"])], {"x": ["N", 20]}, ["y"], {"table": reals(100, 16)})
    found = read(model, tmp_path).nodes[0]
    assert (found.operation, found.shape, found.constants["table"].shape) == ("gather", (20, 16), (100, 16))


# --- nothing moves ---


def test_what_changes_no_number_is_left_out_and_counted(tmp_path: Path) -> None:
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("Dropout", ["a"], ["b", "mask"]),
        node("Cast", ["b"], ["c"], to=1),
        node("Reshape", ["c", "same"], ["d"]),
        node("Relu", ["d"], ["y"], "relu"),
    ]
    found = read(proto(nodes, {"x": ["N", 4]}, ["y"], {"same": integers(-1, 4)}), tmp_path)
    assert [(one.name, one.inputs) for one in found.nodes] == [("relu", ("input:x",))]
    assert any("1 Cast, 1 Dropout, 1 Identity, 1 Reshape" in note for note in found.notes)


def test_a_transpose_of_the_batch_alone_is_nothing(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), node("Relu", ["t"], ["y"])]
    found = read(proto(nodes, {"x": ["N", 20, 8]}, ["y"]), tmp_path)
    assert (words(found), found.nodes[0].shape) == (["relu"], (20, 8))


# --- the arithmetic of shapes ---


def test_flatten_as_older_exporters_write_it(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n"], ["n1"], axes=[0]),
        node("Constant", [], ["rest"], value_ints=[-1]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    found = read(proto(nodes, {"x": ["N", 4, 6, 6]}, ["y"], {"zero": np.array(0)}, opset=12), tmp_path)
    assert (words(found), found.nodes[0].shape, found.faults) == (["reshape"], (144,), ())


def test_channel_shuffle_computed_from_the_shape(tmp_path: Path) -> None:
    held = {
        "one": np.array(1),
        "two": np.array(2),
        "three": np.array(3),
        "groups": np.array(2),
        "axes": integers(0),
    }
    nodes = [node("Shape", ["x"], ["s"])]
    for place, name in (("one", "c"), ("two", "h"), ("three", "w")):
        nodes.append(node("Gather", ["s", place], [name], axis=0))
    nodes += [
        node("Div", ["c", "groups"], ["per"]),
        node("Slice", ["s", "axes", "ends"], ["n1"]),
        *(node("Unsqueeze", [name, "axes"], [f"{name}1"]) for name in ("groups", "per", "h", "w", "c")),
        node("Concat", ["n1", "groups1", "per1", "h1", "w1"], ["split"], axis=0),
        node("Reshape", ["x", "split"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        node("Concat", ["n1", "c1", "h1", "w1"], ["joined"], axis=0),
        node("Reshape", ["b", "joined"], ["y"]),
    ]
    found = read(proto(nodes, {"x": ["N", 8, 5, 6]}, ["y"], held | {"ends": integers(1)}), tmp_path)
    assert [one.shape for one in found.nodes] == [(2, 4, 5, 6), (4, 2, 5, 6), (8, 5, 6)]
    assert found.nodes[1].attributes["permutation"] == (1, 0, 2, 3)


def test_upsampling_to_the_size_of_another_tensor(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", ["p"], ["ps"]),
        node("Slice", ["ps", "zero", "two"], ["front"]),
        node("Shape", ["x"], ["xs"]),
        node("Slice", ["xs", "two", "four"], ["back"]),
        node("Cast", ["back"], ["back64"], to=7),
        node("Concat", ["front", "back64"], ["sizes"], axis=0),
        node("Resize", ["p", "", "", "sizes"], ["y"]),
    ]
    held = {"zero": integers(0), "two": integers(2), "four": integers(4)}
    found = read(proto(nodes, {"x": ["N", 4, 10, 12]}, ["y"], held), tmp_path)
    assert [one.shape for one in found.nodes] == [(4, 5, 6), (4, 10, 12)]


def test_expand_of_a_token_to_the_batch(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "minus", "minus"], ["want"], axis=0),
        node("ConstantOfShape", ["three"], ["ones"], value=None),
        node("Mul", ["ones", "minus"], ["less"]),
        node("Equal", ["want", "less"], ["open"]),
        node("Where", ["open", "ones", "want"], ["target"]),
        node("Expand", ["token", "target"], ["tokens"]),
        node("Concat", ["tokens", "x"], ["y"], axis=1),
    ]
    nodes[4] = node("ConstantOfShape", ["three"], ["ones"], value=_one())
    held = {
        "zero": np.array(0),
        "axes": integers(0),
        "minus": integers(-1),
        "three": integers(3),
        "token": reals(1, 1, 8),
    }
    found = read(proto(nodes, {"x": ["N", 20, 8]}, ["y"], held), tmp_path)
    assert (words(found), found.nodes[0].shape, found.faults) == (["concat"], (21, 8), ())


def _one():
    from onnx import numpy_helper

    return numpy_helper.from_array(integers(1))
