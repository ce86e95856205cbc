"""Layers that run forward only: what they say of themselves, and where a network with them may be cut."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dse.errors import IllegalPlan, UserError
from dse.vocabulary import ELEMENT_OPERATIONS, FORWARD_ELEMENT_OPERATIONS, FORWARD_OPERATORS, OPERATORS
from dse.workload.forward_only import (
    FORWARD_ONLY_OPERATIONS,
    ForwardOnly,
    custom_operation,
    require_executed,
)
from dse.workload.model.graph import COUNTED_OPERATIONS
from dse.workload.model.graph import ELEMENT_OPERATIONS as IMPORTED
from dse.workload.units import single_tensor_cuts
from tests.workload.recurrent import (
    ATTENTION,
    LSTM,
    LSTM_BIASES,
    LSTM_MACS,
    LSTM_WEIGHTS,
    load,
    write,
)


def layer(operation: str, shape: tuple[int, ...] = (4, 4), **values: Any) -> ForwardOnly:
    return ForwardOnly(name="a", inputs=("input",), operation=operation, shape=shape, **values)


# --- one layer ---


@pytest.mark.parametrize(
    ("made", "operator", "element"),
    [
        (layer("lstm", forward_macs=9), "lstm", None),
        (layer("custom:Fancy", forward_macs=9), "custom:Fancy", None),
        (layer("custom:Fancy"), None, "custom:Fancy"),
        (layer("sigmoid"), None, "sigmoid"),
        (layer("add"), None, "add"),
        (layer("view"), None, None),
    ],
)
def test_macs_decide_between_operator_and_element_operation(
    made: ForwardOnly, operator: str | None, element: str | None
) -> None:
    assert (made.operator, made.element_operation) == (operator, element)
    assert made.in_place == (made.operation == "view")


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"operation": "sigmoyd"}, "operation must be one of"),
        ({"operation": "custom:"}, "operation must be one of"),
        ({"operation": "custom:a b"}, "operation must be one of"),
        ({"operation": "softmax_loss"}, "operation must be one of"),
        ({"operation": "update_sgd"}, "operation must be one of"),
        ({"operation": "lstm"}, "lstm is priced by its MACs, found forward_macs 0"),
        ({"operation": "sigmoid", "forward_macs": 1}, "sigmoid has no MACs, found forward_macs 1"),
        ({"operation": "view", "weights": 3}, "a view has no weights, found 3"),
        ({"operation": "copy", "shape": ()}, "shape needs one or more sizes of at least 1, found []"),
        ({"operation": "copy", "shape": (3, 0)}, "shape needs one or more sizes of at least 1, found [3, 0]"),
        ({"operation": "copy", "biases": -1}, "biases must be at least 0, found -1"),
    ],
)
def test_values_that_exclude_each_other_are_refused(values: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}"):
        layer(**values)


def test_a_view_keeps_the_number_of_elements_of_its_only_input() -> None:
    assert layer("view", (2, 8)).output_shape((4, 4)) == (2, 8)
    for inputs in (((4, 5),), ((4, 4), (4, 4))):
        with pytest.raises(ValueError, match="a view has one input of 16 elements"):
            layer("view", (2, 8)).output_shape(*inputs)


def test_whatever_an_importer_calls_an_operation_has_a_word_here() -> None:
    assert set(COUNTED_OPERATIONS) == set(FORWARD_OPERATORS)
    assert set(IMPORTED) <= set(FORWARD_ELEMENT_OPERATIONS)
    assert not set(FORWARD_OPERATORS) & set(OPERATORS)
    assert not set(FORWARD_ELEMENT_OPERATIONS) & set(ELEMENT_OPERATIONS)


def test_every_word_makes_a_layer_and_any_name_a_custom_one() -> None:
    for word in FORWARD_ONLY_OPERATIONS:
        counted = word in (*FORWARD_OPERATORS, "linear", "pointwise")
        assert layer(word, forward_macs=int(counted)).operation == word
    for name in ("com.example::Fancy Op", "", "ü=..,\n", "x" * 300):
        assert layer(custom_operation(name)).element_operation == custom_operation(name)


# --- a network ---


def test_an_lstm_is_a_unit_with_its_macs_and_weights(tmp_path: Path) -> None:
    network = load(LSTM, tmp_path)
    cells, head = network.units
    assert (cells.operator, cells.macs) == ("lstm", LSTM_MACS)
    assert (cells.weight_params, cells.bias_params) == (LSTM_WEIGHTS, LSTM_BIASES)
    assert (head.operator, head.macs, head.weight_params) == ("linear", 32, 32)
    assert network.total_macs == LSTM_MACS + 32


def test_weights_of_layers_that_are_no_unit_count(tmp_path: Path) -> None:
    network = load(ATTENTION, tmp_path)
    assert [unit.operator for unit in network.units] == ["pointwise", "matmul", "linear"]
    assert network.total_weights == 4 * 8 + 8 + 64 * 2
    assert int(network.side_biases.sum()) == 8


def test_a_cut_lies_at_or_behind_the_last_of_them(tmp_path: Path) -> None:
    network = load(LSTM, tmp_path)
    assert network.cuts == (0, 1)  # the network input is none
    assert [network.layers[network.cut_layer(cut)].name for cut in network.cuts] == ["cells", "cells"]
    assert single_tensor_cuts(load(ATTENTION, tmp_path)) == (1, 2)
    with pytest.raises(IllegalPlan) as caught:
        network.require_cut(-1)
    assert str(caught.value) == (
        "plan: cut: cells (lstm) runs forward only, so that a cut lies at or behind it: no cut at the "
        "network input; legal cuts of keyword: 0, 1"
    )


def test_a_listed_cut_below_one_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(ATTENTION.replace("legal_cuts = [2]", "legal_cuts = [0, 2]"), tmp_path)
    assert [(problem.key, problem.found) for problem in caught.value.problems] == [
        (
            "legal_cuts",
            "flat (view) runs forward only, so that a cut lies at or behind it: unit 0 (embed) lies below it",
        )
    ]


def test_a_network_that_ends_in_one_has_nothing_to_train(tmp_path: Path) -> None:
    end = '{ kind = "forward_only", name = "squash", operation = "sigmoid", shape = [4] },\n]'
    with pytest.raises(UserError) as caught:
        load(LSTM.rstrip().removesuffix("]") + end, tmp_path)
    assert "squash (sigmoid) runs forward only, and nothing behind it can learn" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('operation = "lstm"', 'operation = "lstn"', "operation must be one of"),
        ("forward_macs = 8960", "forward_macs = 0", "lstm is priced by its MACs"),
        ("forward_macs = 8960", "forward_macs = -1", "-1; must be a whole number from 0"),
        ("forward_macs = 8960", f"forward_macs = {2**41}", f"{2**41}; must be a whole number from 0"),
        ("shape = [8]", "shape = 8", "8; must be a list of 1 to 8 sizes"),
        ("shape = [8]", "shape = [0]", "each size must be a whole number"),
        (', operation = "copy"', "", "missing; forward_only needs it"),
        ("shape = [20, 6]", "shape = [20, 6], inputs = []", "must be a list of names"),
        ("shape = [20, 6]", 'shape = [20, 6], inputs = ["input", "input"]', "one or more different ones"),
    ],
)
def test_mistakes_in_a_file(old: str, new: str, found: str, tmp_path: Path) -> None:
    assert old in LSTM
    with pytest.raises(UserError) as caught:
        load(LSTM.replace(old, new, 1), tmp_path)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("variant", "found"),
    [
        ("length=40", "input: resized to 6x40; turn runs forward only and has one shape"),
        ("channels=3", "input: resized to 3x20; turn runs forward only and has one shape"),
        ("width=0.5", "layers.turn: width 0.5; a layer that runs forward only has one size"),
    ],
)
def test_it_has_one_size(variant: str, found: str, tmp_path: Path) -> None:
    from dse.workload import load_network

    with pytest.raises(UserError) as caught:
        load_network(f"{write(LSTM, tmp_path)}@{variant}")
    assert found in str(caught.value)


def test_other_classes_are_another_head(tmp_path: Path) -> None:
    from dse.workload import load_network

    network = load_network(write(LSTM, tmp_path), classes=9)
    assert network.shapes[-1] == (9,)
    assert network.units[0].macs == LSTM_MACS


def test_what_executes_layers_refuses_and_says_which(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        require_executed(load(LSTM, tmp_path), "training")
    assert str(caught.value) == (
        "keyword: layers: 2 layers run forward only (copy, lstm); such a network is priced and placed, not "
        "executed: no training"
    )
