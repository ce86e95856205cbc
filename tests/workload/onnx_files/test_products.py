"""Linear layers and attention: which side is a weight, how it is turned, what is added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.workload.onnx_files.graphs import integers, node, proto, read, reals, single, words

W, B = reals(6, 4), reals(6, seed=1)


@pytest.mark.parametrize("flip", [0, 1])
def test_gemm(flip: int, tmp_path: Path) -> None:
    found = single(tmp_path, "Gemm", ["N", 4], W if flip else W.T, B, transB=flip)
    assert (found.operation, found.shape, found.channel_axis) == ("linear", (6,), 0)
    np.testing.assert_array_equal(found.constants["weight"].values, W)
    np.testing.assert_array_equal(found.constants["bias"].values, B)


def test_gemm_with_factors(tmp_path: Path) -> None:
    found = single(tmp_path, "Gemm", [1, 4], W.T, B[None], alpha=0.5, beta=2.0)
    np.testing.assert_allclose(found.constants["weight"].values, W * 0.5)
    np.testing.assert_allclose(found.constants["bias"].values, B * 2)


def test_gemm_with_one_number_for_all_outputs(tmp_path: Path) -> None:
    found = single(tmp_path, "Gemm", [1, 4], W.T, np.array(3, np.float32))
    np.testing.assert_array_equal(found.constants["bias"].values, np.full(6, 3, np.float32))
    assert "bias" not in single(tmp_path, "Gemm", [1, 4], W.T).constants


@pytest.mark.parametrize("x", [["N", 4], ["N", 10, 4], ["N", 3, 10, 4]])
def test_matmul_with_a_constant_is_linear(x: list, tmp_path: Path) -> None:
    found = single(tmp_path, "MatMul", x, W.T)
    assert (found.operation, found.shape) == ("linear", (*x[1:-1], 6))
    assert found.channel_axis == len(x) - 2
    np.testing.assert_array_equal(found.constants["weight"].values, W)


@pytest.mark.parametrize("order", [["m", "b"], ["b", "m"]])
def test_a_bias_behind_a_matmul_is_its_own(order: list[str], tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["m"], "fc"),
        node("Add", order, ["a"], "plus"),
        node("Relu", ["a"], ["y"]),
    ]
    found = read(proto(nodes, {"x": ["N", 10, 4]}, ["y"], {"w": W.T, "b": B}), tmp_path)
    assert [(one.name, one.operation, one.inputs) for one in found.nodes] == [
        ("fc", "linear", ("input:x",)),
        ("y", "relu", ("fc",)),
    ]
    np.testing.assert_array_equal(found.nodes[0].constants["bias"].values, B)


def test_a_bias_at_the_output_renames_the_output(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"], "fc"), node("Add", ["m", "b"], ["y"], "plus")]
    found = read(proto(nodes, {"x": ["N", 4]}, ["y"], {"w": W.T, "b": B}), tmp_path)
    assert found.outputs == ("fc",)


def test_a_linear_layer_that_is_read_twice_keeps_its_addition(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"], "fc"), node("Add", ["m", "b"], ["y"], "plus")]
    found = read(proto(nodes, {"x": ["N", 4]}, ["y", "m"], {"w": W.T, "b": B}), tmp_path)
    assert words(found) == ["linear", "add"]


def test_a_matrix_for_each_head_stays_a_product(tmp_path: Path) -> None:
    found = single(tmp_path, "MatMul", ["N", 3, 10, 4], reals(3, 4, 6))
    assert (found.operation, found.shape) == ("matmul", (3, 10, 6))
    assert found.constants["operand"].shape == (3, 4, 6)
    assert found.attributes["operand_first"] is False


def test_weights_turned_by_nodes(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("Identity", ["t"], ["u"]),
        node("MatMul", ["x", "u"], ["y"]),
    ]
    found = read(proto(nodes, {"x": ["N", 4]}, ["y"], {"w": W}), tmp_path)
    assert words(found) == ["linear"]
    np.testing.assert_array_equal(found.nodes[0].constants["weight"].values, W)
    assert found.nodes[0].constants["weight"].stored_bytes == W.nbytes


def test_attention(tmp_path: Path) -> None:
    """Two heads of 4 over 10 tokens of 8, as exporters write scaled dot-product attention."""
    held = {f"w{name}": reals(8, 8, seed=place) for place, name in enumerate("qkvo")}
    held |= {"heads": integers(0, 10, 2, 4), "join": integers(0, 10, 8), "scale": np.array(0.5, np.float32)}
    nodes = []
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            node("MatMul", ["x", f"w{name}"], [f"{name}0"]),
            node("Reshape", [f"{name}0", "heads"], [f"{name}1"]),
            node("Transpose", [f"{name}1"], [name], perm=perm),
        ]
    nodes += [
        node("MatMul", ["q", "k"], ["qk"], "scores"),
        node("Mul", ["qk", "scale"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["pv"], "mixed"),
        node("Transpose", ["pv"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "join"], ["j"]),
        node("MatMul", ["j", "wo"], ["y"], "out"),
    ]
    found = read(proto(nodes, {"x": ["N", 10, 8]}, ["y"], held), tmp_path)
    shapes = {one.name: one.shape for one in found.nodes}
    assert (shapes["scores"], shapes["mixed"], shapes["out"]) == ((2, 10, 10), (2, 10, 4), (10, 8))
    assert words(found).count("linear") == 4
    assert words(found).count("matmul") == 2
    assert next(one for one in found.nodes if one.operation == "softmax").attributes["axis"] == 2
    assert found.faults == ()


@pytest.mark.parametrize(
    ("equation", "shapes", "wanted", "flips"),
    [
        ("bhqd,bhkd->bhqk", ([1, 2, 10, 4], [1, 2, 7, 4]), (2, 10, 7), (False, True)),
        ("bij,bjk->bik", ([1, 3, 4], [1, 4, 5]), (3, 5), (False, False)),
    ],
)
def test_einsum_that_is_a_product(
    equation: str, shapes: tuple, wanted: tuple, flips: tuple, tmp_path: Path
) -> None:
    model = proto(
        [node("Einsum", ["a", "b"], ["y"], equation=equation)], {"a": shapes[0], "b": shapes[1]}, ["y"]
    )
    found = read(model, tmp_path).nodes[0]
    assert (found.operation, found.shape) == ("matmul", wanted)
    assert (found.attributes["transpose_a"], found.attributes["transpose_b"]) == flips


def test_another_einsum_has_its_shape(tmp_path: Path) -> None:
    model = proto(
        [node("Einsum", ["a", "b"], ["y"], equation="nctv,vw->nctw")],
        {"a": [1, 3, 5, 4]},
        ["y"],
        {"b": reals(4, 6)},
    )
    found = read(model, tmp_path).nodes[0]
    assert found.shape == (3, 5, 6)
    assert found.constants["input_1"].shape == (4, 6)


def test_sizes_that_do_not_multiply_are_a_fault(tmp_path: Path) -> None:
    found = read(proto([node("MatMul", ["x", "w"], ["y"], "fc")], {"x": [1, 5]}, ["y"], {"w": W.T}), tmp_path)
    assert found.nodes[0].shape is None
    assert "MatMul 'fc'" in found.faults[0]
