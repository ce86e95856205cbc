"""Sound protobufs, unsound contents: other operators, attributes, constants, edges, claims at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from dse.errors import UserError
from dse.workload.onnx import read_onnx
from dse.workload.onnx.arithmetic import ARITHMETIC
from dse.workload.onnx.rules import CONTRIBUTED, OWN
from tests.workload.onnx_files.test_hostile import seeds

OPERATORS = sorted({*OWN, *CONTRIBUTED, *ARITHMETIC, "Shape", "Size", "Constant"})
NUMBERS = (0, 1, -1, 2, -2, 3, 5, 7, 100, 2**31, 2**62, -(2**63), 2**63 - 1)
NAMES = (
    "axis",
    "axes",
    "perm",
    "keepdims",
    "group",
    "pads",
    "strides",
    "kernel_shape",
    "to",
    "mode",
    "block_size",
    "split",
    "starts",
    "ends",
    "scales",
    "hidden_size",
    "direction",
    "layout",
    "transA",
    "transB",
    "alpha",
    "equation",
    "ceil_mode",
    "auto_pad",
    "num_groups",
    "blocksize",
    "output_padding",
    "output_shape",
    "allowzero",
)
VALUES = (
    0,
    1,
    -1,
    7,
    2**62,
    1.5,
    "SAME_UPPER",
    "x,y->z",
    [1, 1],
    [0, 2, 1],
    [2, 2, 2, 2],
    [0.5],
    [2**62, -(2**63)],
)

Change = Callable[[Any, Any, random.Random], None]


def number(graph: Any, node: Any, draw: random.Random) -> None:
    for entry in node.attribute:
        if entry.type == 2:
            entry.i = draw.choice(NUMBERS)
        elif entry.type == 7 and entry.ints:
            entry.ints[draw.randrange(len(entry.ints))] = draw.choice(NUMBERS)


def attribute(graph: Any, node: Any, draw: random.Random) -> None:
    node.attribute.append(helper.make_attribute(draw.choice(NAMES), draw.choice(VALUES)))


def operator(graph: Any, node: Any, draw: random.Random) -> None:
    node.op_type = draw.choice(OPERATORS)


def edge(graph: Any, node: Any, draw: random.Random) -> None:
    if node.input:
        names = ["", *(one.name for one in (*graph.initializer, *graph.input))]
        names += [name for one in graph.node for name in one.output]
        node.input[draw.randrange(len(node.input))] = draw.choice(names)


def fewer(graph: Any, node: Any, draw: random.Random) -> None:
    if node.input:
        del node.input[draw.randrange(len(node.input))]


def constant(graph: Any, node: Any, draw: random.Random) -> None:
    if graph.initializer:
        tensor = draw.choice(graph.initializer)
        shape = [draw.choice((0, 1, 2, 3, 5, 12)) for _ in range(draw.randrange(5))]
        kind = draw.choice(("f4", "f8", "i8", "i4", "i1", "u1", "f2", "?"))
        value = np.full(shape, draw.choice((0, 1, 7, -1 if kind[0] != "u" else 3))).astype(kind)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def claim(graph: Any, node: Any, draw: random.Random) -> None:
    shape = draw.choice([*graph.input, *graph.output, *graph.value_info]).type.tensor_type.shape
    if shape.dim:
        shape.dim[draw.randrange(len(shape.dim))].dim_value = draw.choice(NUMBERS)


CHANGES: tuple[Change, ...] = (number, attribute, operator, edge, fewer, constant, claim)


def read_changed(count: int, seed: int, folder: Path) -> int:
    """Read changed files; return how many gave a model. No rule may meet what it did not foresee."""
    draw, read = random.Random(seed), 0
    whole = [ModelProto.FromString(data) for data in seeds().values()]
    path = folder / "rewired.onnx"
    for _ in range(count):
        model = ModelProto()
        model.CopyFrom(draw.choice([*whole, *whole[-1:] * 4]))
        for _ in range(draw.choice((1, 1, 2, 3, 6))):
            draw.choice(CHANGES)(model.graph, draw.choice(model.graph.node), draw)
        path.write_bytes(model.SerializeToString())
        try:
            found = read_onnx(path, {})
        except UserError:
            continue
        assert not [fault for fault in found.faults if "does not fit its operator" in fault]
        read += 1
    return read


def test_rewired(tmp_path: Path) -> None:
    assert read_changed(400, 0, tmp_path) > 250


@pytest.mark.slow
def test_twenty_thousand_rewired(tmp_path: Path) -> None:
    assert read_changed(20_000, 1, tmp_path) > 12_000
