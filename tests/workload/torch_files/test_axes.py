"""Batches and dynamic axes: what is fixed to one, what has to be given, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import Dim

from dse.errors import UserError
from dse.workload.torch.structure import Malformed
from dse.workload.torch.symbols import evaluate
from tests.workload.exporters.torch_writer import archive_of, exported
from tests.workload.torch_files.reading import read_back, read_bytes


class Net(nn.Module):
    """A convolution over time, a reshape that names the batch, and a classifier of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(4, 6, 3, stride=2, padding=1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).transpose(1, 2)
        return self.out(y.reshape(y.shape[0] * y.shape[1], 6)).view(y.shape[0], y.shape[1], 3)


@pytest.fixture(scope="module")
def dynamic() -> bytes:
    shapes = {"x": {0: Dim("batch"), 2: Dim("T", min=4, max=100)}}
    return archive_of(exported(Net(), torch.zeros(2, 4, 10), dynamic_shapes=shapes))


@pytest.mark.parametrize("steps", [9, 49])
def test_an_axis_is_given_by_input_and_place(dynamic: bytes, steps: int) -> None:
    model = read_bytes(dynamic, {"x.2": steps})
    assert not model.faults
    assert model.inputs[0].shape == (4, steps)
    half = (steps - 1) // 2 + 1
    assert [node.shape for node in model.nodes] == [(6, half), (half, 6), (half, 3)]
    assert "the dynamic batch became 1" in model.notes


def test_an_axis_is_given_by_its_symbol(dynamic: bytes) -> None:
    with pytest.raises(UserError) as error:
        read_bytes(dynamic)
    problem = error.value.problems[0]
    assert problem.key == "axis x.2"
    symbol = problem.found.split()[-1]
    assert read_bytes(dynamic, {symbol: 9}).inputs[0].shape == (4, 9)


@pytest.mark.parametrize(
    ("axes", "said"),
    [({"x.2": 3}, "at least 4"), ({"x.2": 101}, "at most 100"), ({"x.2": 0}, "from 1"), ({"y": 5}, "x.2")],
)
def test_sizes_that_the_file_excludes_are_refused(dynamic: bytes, axes: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_bytes(dynamic, axes)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_becomes_one(batch: int) -> None:
    model = read_back(Net(), torch.zeros(batch, 4, 10))
    assert model.inputs[0].shape == (4, 10)
    assert [node.shape for node in model.nodes] == [(6, 5), (5, 6), (5, 3)]
    assert not model.faults
    assert any("became 1" in note for note in model.notes) == (batch > 1)


class Steps(nn.Module):
    """A recurrent layer that has its batch second."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


@pytest.mark.parametrize(
    ("module", "example", "shape", "out"),
    [
        (Steps(), (7, 1, 4), (7, 4), (7, 5)),
        (Steps(), (7, 4), (7, 4), (7, 5)),
        (nn.Conv1d(4, 6, 3), (4, 9), (4, 9), (6, 7)),
    ],
    ids=["second axis", "none, recurrent", "none, convolution"],
)
def test_where_the_batch_is(
    module: nn.Module, example: tuple[int, ...], shape: tuple[int, ...], out: tuple[int, ...]
) -> None:
    model = read_back(module, torch.zeros(example))
    assert model.inputs[0].shape == shape
    assert model.nodes[-1].shape == out
    assert not model.faults


# --- expressions ---


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[str, int]:
    """An expression as torch writes it, and its value for s0 = 7, s1 = 3 by Python's own arithmetic."""
    kinds = ["int", "symbol"] if depth == 0 else ["int", "symbol", "Add", "Mul", "FloorDiv", "Mod"]
    kind = draw(st.sampled_from(kinds))
    if kind == "int":
        number = draw(st.integers(-9, 9))
        return f"Integer({number})", number
    if kind == "symbol":
        name = draw(st.sampled_from(["s0", "s1"]))
        return f"Symbol('{name}', positive=True, integer=True)", {"s0": 7, "s1": 3}[name]
    (left, a), (right, b) = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    if kind in ("FloorDiv", "Mod") and b == 0:
        return left, a
    value = {"Add": a + b, "Mul": a * b, "FloorDiv": a // b if b else 0, "Mod": a % b if b else 0}[kind]
    return f"{kind}({left}, {right})", value


@given(expressions())
def test_expressions_have_the_value_of_arithmetic(case: tuple[str, int]) -> None:
    text, value = case
    assert evaluate(text, {"s0": 7, "s1": 3}) == value


@given(st.text(alphabet="s01(),' AddMulInteger-", max_size=60) | st.text(max_size=40))
def test_any_other_text_is_refused(text: str) -> None:
    try:
        found: Any = evaluate(text, {"s0": 7})
    except Malformed:
        return
    assert isinstance(found, int)


def test_expressions_are_bounded() -> None:
    for text in (
        "Add(" * 100 + "s0",
        "Integer(1)" * 200,
        "Mul(" + ", ".join(["Integer(999999999)"] * 40) + ")",
    ):
        with pytest.raises(Malformed):
            evaluate(text, {"s0": 7})
