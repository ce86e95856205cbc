"""Counts of what runs forward only, against counting multiplications one by one and PyTorch's sizes."""

from __future__ import annotations

from itertools import product

import pytest

from dse.workload.model.formulas import (
    matmul_macs,
    recurrent_macs,
    recurrent_node_macs,
    scattered_macs,
    weights_and_shifts,
)
from dse.workload.model.graph import Constant, Node

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(("layers", "both"), [(1, False), (3, False), (2, True)])
def test_recurrent_layers_multiply_each_weight_once_a_step(kind: str, layers: int, both: bool) -> None:
    torch = pytest.importorskip("torch", exc_type=ImportError)
    cell = getattr(torch.nn, CELLS[kind])(7, 5, num_layers=layers, bidirectional=both)
    weights = sum(values.numel() for name, values in cell.named_parameters() if name.startswith("weight"))
    found = recurrent_macs(kind, 7, 5, 11, directions=1 + both, layers=layers)
    assert found == 11 * weights


def test_lstm_by_hand() -> None:
    assert recurrent_macs("lstm", 10, 20, 1) == 4 * 20 * (10 + 20)
    assert recurrent_macs("gru", 10, 20, 2) == 2 * 3 * 20 * 30
    assert recurrent_macs("rnn", 10, 20, 3, directions=2) == 2 * 3 * 20 * 30


def test_products_one_by_one() -> None:
    count = sum(1 for _ in product(range(3), range(4), range(6), range(5)))  # heads, rows, columns, inner
    assert matmul_macs((3, 4, 5), (3, 4, 6)) == count
    assert matmul_macs((3, 5, 4), (3, 4, 6), transposed=True) == count
    assert matmul_macs((5,), (6,)) == 30


def test_transposed_convolutions_one_by_one() -> None:
    """Each of 4 x 3 input positions of 2 channels adds a 3 x 3 window to each of 5 output channels."""
    count = sum(1 for _ in product(range(4), range(3), range(2), range(5), range(3), range(3)))
    assert scattered_macs(2 * 5 * 3 * 3, 4 * 3) == count


@pytest.mark.parametrize("missing", ["hidden_size", "steps"])
def test_a_recurrent_node_says_its_sizes(missing: str) -> None:
    said = {"hidden_size": 4, "steps": 3, "directions": 2}
    node = Node("cell", "lstm", ("x",), (3, 8), "LSTM", said)
    assert recurrent_node_macs(node, 6) == 2 * 3 * 4 * 4 * 10
    del said[missing]
    with pytest.raises(ValueError, match=missing):
        recurrent_node_macs(node, 6)


def test_biases_are_told_from_weights() -> None:
    sizes = {"weight_input_l0": 8, "bias_recurrent_l0": 2, "gamma": 3, "beta": 3}
    held = [(name, Constant(name, (size,), "float32", 4 * size)) for name, size in sizes.items()]
    assert weights_and_shifts(held) == (11, 5)
