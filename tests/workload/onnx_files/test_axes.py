"""Open axes: the batch is fixed, everything else is asked for by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.errors import UserError
from tests.workload.onnx_files.graphs import Dims, node, proto, read, reals


def network(dims: Dims) -> object:
    return proto([node("Conv", ["x", "w"], ["y"], "conv")], {"x": dims}, ["y"], {"w": reals(4, 3, 3)})


@pytest.mark.parametrize(
    ("dims", "noted"),
    [
        ([1, 3, 50], False),
        (["N", 3, 50], True),
        ([None, 3, 50], True),
        ([-1, 3, 50], True),
        ([0, 3, 50], True),
        ([16, 3, 50], True),
        (["odd name", 3, 50], True),
    ],
)
def test_the_batch_is_fixed_to_one(dims: Dims, noted: bool, tmp_path: Path) -> None:
    found = read(network(dims), tmp_path)
    assert (found.inputs[0].shape, found.nodes[0].shape) == ((3, 50), (4, 48))
    assert any("batch" in note for note in found.notes) is noted


def test_a_given_axis(tmp_path: Path) -> None:
    found = read(network(["N", 3, "T"]), tmp_path, T=100)
    assert (found.inputs[0].shape, found.nodes[0].shape) == ((3, 100), (4, 98))


def test_an_axis_without_a_name_has_one_of_its_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"axis\.x_2=N"):
        read(network(["N", 3, None]), tmp_path)
    assert read(network(["N", 3, None]), tmp_path, x_2=20).nodes[0].shape == (4, 18)


def test_every_missing_axis_is_told(tmp_path: Path) -> None:
    model = proto([node("Relu", ["x"], ["y"])], {"x": ["N", "C", "T"]}, ["y"])
    with pytest.raises(UserError) as caught:
        read(model, tmp_path)
    assert [problem.key for problem in caught.value.problems] == ["axis.C", "axis.T"]
    assert "input 'x'" in str(caught.value)
    assert "axis.T=N" in str(caught.value)


def test_an_unknown_axis_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'time'"):
        read(network(["N", 3, "time"]), tmp_path, tine=7, time=50)
    with pytest.raises(UserError, match="allowed: none"):
        read(network([1, 3, 50]), tmp_path, T=7)


@pytest.mark.parametrize("size", [0, -3, 2**40, True, 1.5, "8"])
def test_sizes_that_are_none(size: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"axis\.T"):
        read(network(["N", 3, "T"]), tmp_path, T=size)


def test_one_name_on_two_inputs(tmp_path: Path) -> None:
    model = proto([node("Add", ["a", "b"], ["y"])], {"a": ["N", "T", 8], "b": ["N", "T", 8]}, ["y"])
    found = read(model, tmp_path, T=30)
    assert [one.shape for one in found.inputs] == [(30, 8), (30, 8)]
    assert found.nodes[0].shape == (30, 8)


def test_an_axis_that_is_called_batch_is_it_wherever_it_stands(tmp_path: Path) -> None:
    model = proto([node("MatMul", ["x", "w"], ["y"])], {"x": ["T", "batch", 8]}, ["y"], {"w": reals(8, 4)})
    found = read(model, tmp_path, T=30)
    assert (found.inputs[0].shape, found.nodes[0].shape) == ((30, 8), (30, 4))


def test_a_first_axis_that_is_given_is_no_batch(tmp_path: Path) -> None:
    model = proto([node("MatMul", ["x", "w"], ["y"])], {"x": ["T", 8]}, ["y"], {"w": reals(8, 4)})
    assert read(model, tmp_path, T=30).nodes[0].shape == (30, 4)


def test_a_vector_has_no_batch(tmp_path: Path) -> None:
    assert read(proto([node("Relu", ["x"], ["y"])], {"x": [8]}, ["y"]), tmp_path).nodes[0].shape == (8,)


def test_an_input_without_a_shape_is_a_fault(tmp_path: Path) -> None:
    found = read(proto([node("Relu", ["x"], ["y"], "relu")], {"x": None}, ["y"]), tmp_path)
    assert found.inputs[0].shape is None
    assert (found.nodes[0].operation, found.nodes[0].shape) == ("relu", None)
    assert found.faults == ("input 'x' has no shape",)


def test_a_batch_that_is_merged_with_another_axis_is_not_counted_silently(tmp_path: Path) -> None:
    from tests.workload.onnx_files.graphs import integers

    nodes = [node("Reshape", ["x", "s"], ["r"], "merge"), node("Relu", ["r"], ["y"])]
    model = proto(nodes, {"x": [8, 10, 4]}, ["y"], {"s": integers(80, 4)})
    found = read(model, tmp_path)
    assert found.nodes[0].shape is None
    assert "batch of 8" in found.faults[0]
