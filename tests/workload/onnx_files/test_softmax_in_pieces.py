"""A softmax written as exponentials over their sum, in the forms that exporters have for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.workload.onnx_files.graphs import integers, node, proto, read, words

X = {"x": ["N", 4, 6, 6]}

PIECES = {
    "softmax": (
        [
            node("ReduceMax", ["x"], ["m"], axes=[1], keepdims=1),
            node("Sub", ["x", "m"], ["d"]),
            node("Exp", ["d"], ["e"]),
            node("ReduceSum", ["e", "axis"], ["s"], keepdims=1),
            node("Div", ["e", "s"], ["y"]),
        ],
        {"axis": integers(1)},
        ["softmax"],
    ),
    "softmax without the largest": (
        [
            node("Exp", ["x"], ["e"]),
            node("ReduceSum", ["e", "axis"], ["s"], keepdims=1),
            node("Div", ["e", "s"], ["y"]),
        ],
        {"axis": integers(-1)},
        ["softmax"],
    ),
    "softmax, the axis put back": (
        [
            node("ReduceMax", ["x"], ["m"], axes=[1], keepdims=0),
            node("Max", ["m", "least"], ["l"]),
            node("Reshape", ["l", "wide"], ["w"]),
            node("Sub", ["x", "w"], ["d"]),
            node("Exp", ["d"], ["e"]),
            node("ReduceSum", ["e", "axis"], ["s"], keepdims=0),
            node("Reshape", ["s", "wide"], ["v"]),
            node("Div", ["e", "v"], ["y"]),
        ],
        {"axis": integers(1), "wide": integers(-1, 1, 6, 6), "least": np.array(-np.inf, dtype=np.float32)},
        ["softmax"],
    ),
    "the largest over another axis": (
        [
            node("ReduceMax", ["x"], ["m"], axes=[2], keepdims=1),
            node("Sub", ["x", "m"], ["d"]),
            node("Exp", ["d"], ["e"]),
            node("ReduceSum", ["e", "axis"], ["s"], keepdims=1),
            node("Div", ["e", "s"], ["y"]),
        ],
        {"axis": integers(1)},
        ["reduce", "subtract", "softmax"],
    ),
    "the sum spread over another axis": (
        [
            node("Exp", ["x"], ["e"]),
            node("ReduceSum", ["e", "axis"], ["s"], keepdims=0),
            node("Reshape", ["s", "wide"], ["v"]),
            node("Div", ["e", "v"], ["y"]),
        ],
        {"axis": integers(2), "wide": integers(-1, 4, 6, 1)},
        ["exp", "reduce", "reshape", "divide"],
    ),
}


@pytest.mark.parametrize("case", PIECES)
def test_in_pieces(case: str, tmp_path: Path) -> None:
    nodes, held, wanted = PIECES[case]
    found = read(proto(nodes, X, ["y"], held), tmp_path)
    assert (words(found), found.faults) == (wanted, ())
    assert found.nodes[-1].shape == (4, 6, 6)
    if len(wanted) == 1:
        assert found.nodes[0].inputs == ("input:x",)


def test_the_axis_of_a_softmax_in_pieces(tmp_path: Path) -> None:
    nodes, held, _ = PIECES["softmax, the axis put back"]
    assert read(proto(nodes, X, ["y"], held), tmp_path).nodes[0].attributes == {"axis": 0}


def test_exponentials_that_are_read_elsewhere_stay(tmp_path: Path) -> None:
    nodes, held, _ = PIECES["softmax without the largest"]
    for more in ([], [node("Relu", ["e"], ["z"])]):
        found = read(proto([*nodes, *more], X, ["y", "z" if more else "e"], held), tmp_path)
        assert words(found)[:3] == ["exp", "reduce", "divide"]
