"""Operators of TFLite files that move elements or give them another shape, against what numpy gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dse.workload.tflite.slicing import resolve
from tests.workload.exporters.tflite_builder import TfliteBuilder
from tests.workload.tflite_files.samples import by_name, ints, only, ramp, read, sole


@pytest.mark.parametrize(("kind", "shape", "out", "options", "constants", "fields"), [
    ("RESHAPE", (1, 4, 4, 8), (1, 128), "ReshapeOptions", [ints(-1, 128)], {}),
    ("RESHAPE", (1, 4, 4, 8), (1, 16, 8), "ReshapeOptions", [], {"NewShape": (1, 16, 8)}),
    ("SQUEEZE", (1, 1, 1, 8), (1, 8), "SqueezeOptions", [], {"SqueezeDims": (1, -2)}),
    ("EXPAND_DIMS", (1, 16, 8), (1, 1, 16, 8), "ExpandDimsOptions", [ints(1)], {}),
    ("EXPAND_DIMS", (1, 16), (1, 16, 1), "ExpandDimsOptions", [ints(-1)], {}),
])  # fmt: skip
def test_views(
    kind: str,
    shape: tuple[int, ...],
    out: tuple[int, ...],
    options: str,
    constants: list[Any],
    fields: dict[str, Any],
) -> None:
    node = only(sole(kind, shape, out, options, constants, **fields))
    assert (node.operation, node.source_operation, node.shape) == ("reshape", kind, out[1:])


def test_a_squeeze_of_everything_takes_the_batch_too() -> None:
    node = only(sole("SQUEEZE", (1, 1, 1, 8), (8,), "SqueezeOptions"))
    assert node.shape == (8,)


def test_a_transpose_is_counted_without_the_batch() -> None:
    node = only(sole("TRANSPOSE", (1, 4, 5, 6), (1, 6, 4, 5), "", [ints(0, 3, 1, 2)]))
    assert (node.operation, node.shape, node.attributes) == (
        "transpose",
        (6, 4, 5),
        {"permutation": (2, 0, 1)},
    )


def test_a_transpose_of_axes_of_one_is_a_view() -> None:
    node = only(sole("TRANSPOSE", (1, 1, 5, 6), (1, 5, 1, 6), "", [ints(0, 2, 1, 3)]))
    assert (node.operation, node.shape) == ("reshape", (5, 1, 6))
    node = only(sole("TRANSPOSE", (1, 5, 6), (5, 1, 6), "", [ints(1, 0, 2)]))  # time before the batch
    assert (node.operation, node.shape) == ("reshape", (5, 1, 6))


def test_a_transpose_that_moves_the_batch_has_it_as_an_axis() -> None:
    view, moved = sole("TRANSPOSE", (1, 5, 6), (6, 1, 5), "", [ints(2, 0, 1)]).nodes
    assert (view.operation, view.shape) == ("reshape", (1, 5, 6))
    assert (moved.operation, moved.shape, moved.attributes) == (
        "transpose",
        (6, 1, 5),
        {"permutation": (2, 0, 1)},
    )


@pytest.mark.parametrize(
    ("axis", "out", "here"), [(3, (1, 4, 4, 5), 2), (-1, (1, 4, 4, 5), 2), (1, (1, 8, 4, 3), 0)]
)
def test_concatenation(axis: int, out: tuple[int, ...], here: int) -> None:
    build = TfliteBuilder()
    second = tuple(b - (0 if b == a else a) if b != a else a for a, b in zip((1, 4, 4, 3), out, strict=True))
    left, right, target = build.tensor("a", (1, 4, 4, 3)), build.tensor("b", second), build.tensor("y", out)
    build.operator("CONCATENATION", [left, right], target, "ConcatenationOptions", Axis=axis)
    node = only(read(build, [left, right], [target]))
    assert (node.operation, node.shape, node.attributes) == ("concat", out[1:], {"axis": here})


def test_packing_joins_along_a_new_axis() -> None:
    build = TfliteBuilder()
    parts = [build.tensor(name, (1, 4)) for name in "abc"]
    target = build.tensor("y", (1, 3, 4))
    build.operator("PACK", parts, target, "PackOptions", ValuesCount=3, Axis=1)
    *views, joined = read(build, parts, [target]).nodes
    assert [(view.operation, view.shape) for view in views] == [("reshape", (1, 4))] * 3
    assert (joined.operation, joined.shape, joined.attributes) == ("concat", (3, 4), {"axis": 0})


def test_parts_that_nobody_reads_are_left_out() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 6, 4))
    parts = [build.tensor(f"part{i}", (1, 2, 4)) for i in range(3)]
    build.operator("SPLIT", [build.ints("axis", (1,)), source], parts, "SplitOptions", NumSplits=3)
    target = build.operator("ADD", [parts[0], parts[2]], build.tensor("y", (1, 2, 4)), "AddOptions")
    nodes = by_name(read(build, [source], [target]))
    assert set(nodes) == {"part0", "part2", "y"}
    assert [nodes[name].operation for name in ("part0", "part2")] == ["slice", "slice"]
    assert [nodes[name].attributes["begin"] for name in ("part0", "part2")] == [(0, 0), (4, 0)]
    assert nodes["y"].inputs == ("part0", "part2")


def test_splits_of_unequal_size_and_unpacking() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 7, 4))
    parts = [build.tensor("a", (1, 2, 4)), build.tensor("b", (1, 5, 4))]
    build.operator(
        "SPLIT_V", [source, build.ints("sizes", (2, -1)), build.ints("axis", (1,))], parts, "SplitVOptions"
    )
    lines = [build.tensor(f"line{i}", (1, 4)) for i in range(2)]
    build.operator("UNPACK", [parts[0]], lines, "UnpackOptions", Num=2, Axis=1)
    model = read(build, [source], [parts[1], *lines])
    assert [(node.name, node.operation, node.shape) for node in model.nodes] == [
        ("a", "slice", (2, 4)), ("b", "slice", (5, 4)), ("line0", "slice", (4,)), ("line1", "slice", (4,)),
    ]  # fmt: skip
    assert model.nodes[1].attributes["begin"] == (2, 0)


@pytest.mark.parametrize("index", [
    np.s_[0:1, 2:6, :], np.s_[:, 1, :], np.s_[..., -1], np.s_[:, ::3, ::-1], np.s_[0, 1:4],
    np.s_[:, None, 1:3, 2], np.s_[..., 1:, 3], np.s_[:, -3:-1, ...],
], ids=str)  # fmt: skip
def test_slices_take_what_numpy_takes(index: Any) -> None:
    array = np.arange(1 * 8 * 4).reshape(1, 8, 4)
    taken = resolve(array.shape, index)
    wanted = array[index]
    assert taken.result == wanted.shape
    rows = zip(taken.begins, taken.sizes, taken.steps, strict=True)
    places = np.ix_(*(range(begin, begin + size * step, step) for begin, size, step in rows))
    np.testing.assert_array_equal(array[places].reshape(-1), wanted.reshape(-1))


def test_strided_slice_reads_its_masks() -> None:
    constants = [ints(0, 2, 1), ints(0, 0, 2), ints(1, 2, 1)]
    model = sole("STRIDED_SLICE", (1, 9, 4), (1, 4), "StridedSliceOptions", constants, BeginMask=1, EndMask=3,
                 ShrinkAxisMask=4)  # fmt: skip
    node = only(model)
    assert (node.operation, node.shape) == ("slice", (4,))  # x[:, 2::2, 1]
    assert node.attributes == {"begin": (2, 1), "steps": (2, 1)}


def test_slice_and_what_lies_outside() -> None:
    node = only(sole("SLICE", (1, 9, 4), (1, 3, 4), "SliceOptions", [ints(0, 2, 0), ints(1, 3, -1)]))
    assert (node.operation, node.shape, node.attributes["begin"]) == ("slice", (3, 4), (2, 0))
    model = sole("SLICE", (1, 9, 4), (1, 3, 4), "SliceOptions", [ints(0, 8, 0), ints(1, 3, -1)])
    assert "lie outside 9" in model.faults[0]


def test_pads() -> None:
    pads = ints(0, 0, 1, 2, 3, 4, 0, 0).reshape(4, 2)
    node = only(sole("PAD", (1, 5, 5, 3), (1, 8, 12, 3), "PadOptions", [pads]))
    assert (node.operation, node.shape) == ("pad", (8, 12, 3))
    assert node.attributes == {"pads": ((1, 2), (3, 4), (0, 0)), "value": 0.0}
    node = only(sole("PADV2", (1, 5, 5, 3), (1, 8, 12, 3), "PadV2Options", [pads, np.float32([2.5])]))
    assert node.attributes["value"] == 2.5
    node = only(sole("MIRROR_PAD", (1, 5, 5, 3), (1, 8, 12, 3), "MirrorPadOptions", [pads], Mode=1))
    assert (node.attributes["value"], node.attributes["mode"]) == (None, "symmetric")


def test_gather_resize_and_tile() -> None:
    node = only(
        sole(
            "GATHER", (1, 9, 4), (1, 2, 3, 4), "GatherOptions", [ints(1, 2, 3, 4, 5, 6).reshape(2, 3)], Axis=1
        )
    )
    assert (node.operation, node.shape, node.attributes) == ("gather", (2, 3, 4), {"axis": 0})
    node = only(sole("RESIZE_BILINEAR", (1, 4, 4, 3), (1, 8, 6, 3), "ResizeBilinearOptions", [ints(8, 6)]))
    assert (node.operation, node.shape, node.attributes) == ("resize", (8, 6, 3), {"mode": "bilinear"})
    node = only(sole("TILE", (1, 4, 3), (1, 8, 9), "TileOptions", [ints(1, 2, 3)]))
    assert (node.operation, node.shape) == ("tile", (8, 9))
    node = only(sole("BROADCAST_TO", (1, 1, 3), (1, 5, 3), "BroadcastToOptions", [ints(1, 5, 3)]))
    assert (node.operation, node.shape) == ("tile", (5, 3))


def test_constants_behind_a_transpose_are_turned() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 3)), build.tensor("y", (1, 4))
    stored = build.constant("w", ramp(3, 4))
    weight = build.operator(
        "TRANSPOSE", [stored, build.ints("order", (1, 0))], build.tensor("wt", (4, 3)), "TransposeOptions"
    )
    build.operator("FULLY_CONNECTED", [source, weight, -1], target, "FullyConnectedOptions")
    node = only(read(build, [source], [target]))
    np.testing.assert_array_equal(node.constants["weight"].values, ramp(3, 4).T)


def attention(build: TfliteBuilder) -> tuple[int, int]:
    """Two heads of width 4 over 6 tokens, written as converters write them."""
    source = build.tensor("x", (1, 6, 8))
    heads = []
    for name in "qkv":
        flat = build.operator(
            "FULLY_CONNECTED",
            [source, build.constant(f"w{name}", ramp(8, 8)), -1],
            build.tensor(name, (1, 6, 8)),
            "FullyConnectedOptions",
            KeepNumDims=True,
        )
        split = build.operator("RESHAPE", [flat, build.ints(f"s{name}", (1, 6, 2, 4))],
                               build.tensor(f"{name}/split", (1, 6, 2, 4)), "ReshapeOptions")  # fmt: skip
        heads.append(
            build.operator(
                "TRANSPOSE",
                [split, build.ints(f"p{name}", (0, 2, 1, 3))],
                build.tensor(f"{name}/heads", (1, 2, 6, 4)),
                "TransposeOptions",
            )
        )
    scores = build.operator(
        "BATCH_MATMUL", heads[:2], build.tensor("scores", (1, 2, 6, 6)), "BatchMatMulOptions", AdjY=True
    )
    chances = build.operator(
        "SOFTMAX", [scores], build.tensor("chances", (1, 2, 6, 6)), "SoftmaxOptions", Beta=1.0
    )
    mixed = build.operator(
        "BATCH_MATMUL", [chances, heads[2]], build.tensor("mixed", (1, 2, 6, 4)), "BatchMatMulOptions"
    )
    return source, mixed


def test_an_attention_block() -> None:
    build = TfliteBuilder()
    source, mixed = attention(build)
    model = read(build, [source], [mixed])
    nodes = by_name(model)
    assert not model.faults
    assert (nodes["q"].operation, nodes["q"].shape) == ("linear", (6, 8))
    assert nodes["q/heads"].attributes["permutation"] == (1, 0, 2)
    assert (nodes["scores"].shape, nodes["scores"].attributes["transpose_b"]) == ((2, 6, 6), True)
    assert (nodes["mixed"].operation, nodes["mixed"].shape) == ("matmul", (2, 6, 4))


def blocked(image: Any, block: int) -> Any:
    """DEPTH_TO_SPACE of an image (height, width, channels), element by element."""
    height, width, channels = image.shape
    out = np.empty((height * block, width * block, channels // block**2))
    for row, column, channel in np.ndindex(out.shape):
        part = (row % block) * block + column % block
        out[row, column, channel] = image[row // block, column // block, part * out.shape[2] + channel]
    return out


@pytest.mark.parametrize("kind", ["DEPTH_TO_SPACE", "SPACE_TO_DEPTH"])
def test_blocks_change_places_with_channels(kind: str) -> None:
    deep = np.random.default_rng(0).random((2, 3, 12))
    wide = blocked(deep, 2)
    options = {"DEPTH_TO_SPACE": "DepthToSpaceOptions", "SPACE_TO_DEPTH": "SpaceToDepthOptions"}
    before, after = (deep, wide) if kind == "DEPTH_TO_SPACE" else (wide, deep)
    model = sole(kind, (1, *before.shape), (1, *after.shape), options[kind], BlockSize=2)
    assert [node.operation for node in model.nodes] == ["reshape", "transpose", "reshape"]
    found = before
    for node in model.nodes:
        found = found.transpose(node.attributes.get("permutation", range(found.ndim))).reshape(
            node.shape or ()
        )
    np.testing.assert_array_equal(found, after)
    assert not model.faults
    assert not model.notes
    assert model.outputs == ("y",)


@pytest.mark.parametrize(("shape", "block"), [((1, 2, 2, 3), 2), ((1, 2, 2, 4), 0)])
def test_blocks_that_do_not_fit_are_faults(shape: tuple[int, ...], block: int) -> None:
    model = sole("DEPTH_TO_SPACE", shape, (1, 4, 4, 1), "DepthToSpaceOptions", BlockSize=block)
    assert "blocks of" in model.faults[0] or "into blocks" in model.faults[0]
