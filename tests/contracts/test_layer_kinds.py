"""What every layer kind promises; a new entry of LAYER_KINDS is tested as soon as it has an example."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from dse.vocabulary import (
    ELEMENT_OPERATIONS,
    FORWARD_ELEMENT_OPERATIONS,
    FORWARD_OPERATORS,
    OPERATORS,
    PASSES,
    Saved,
)
from dse.workload import LAYER_KINDS, Layer, Shape, load_network
from dse.workload.base import MAC_PASSES, elements

ONE = ("before",)
TWO = ("before", "other")

EXAMPLES: dict[str, tuple[dict[str, object], tuple[Shape, ...]]] = {
    "conv2d": (
        {"out_channels": 8, "kernel": (3, 5), "stride": (2, 1), "groups": 2, "dilation": (1, 2)},
        ((4, 9, 8),),
    ),
    "conv1d": ({"out_channels": 8, "kernel": (5,), "padding": ((8, 0),), "dilation": (2,)}, ((4, 16),)),
    "depthwise": (
        {"kernel": (3, 3), "stride": (2, 2), "bias": False, "padding": ((0, 1), 1)},
        ((4, 9, 8),),
    ),
    "depthwise1d": ({"kernel": (3,), "padding": ((1, 3),), "dilation": (2,)}, ((4, 16),)),
    "pointwise": ({"out_channels": 6}, ((4, 9, 8),)),
    "linear": ({"out_features": 5}, ((4,),)),
    "avg_pool": ({"kernel": (3, 2), "padding": (1, (1, 0))}, ((4, 9, 8),)),
    "max_pool": ({"kernel": (2, 2), "stride": (1, 1), "padding": "same"}, ((4, 9, 8),)),
    "global_avg_pool": ({}, ((4, 9, 8),)),
    "add": ({}, ((4, 9, 8), (4, 9, 8))),
    "concat": ({}, ((4, 9, 8), (3, 9, 8))),
    "relu": ({}, ((4, 9, 8),)),
    "relu6": ({}, ((4, 16),)),
    "hard_swish": ({}, ((4, 9, 8),)),
    "batch_norm": ({}, ((4, 9, 8),)),
    "softmax": ({}, ((4,),)),
    "flatten": ({}, ((4, 9, 8),)),
    "forward_only": (
        {"operation": "lstm", "shape": (16, 6), "forward_macs": 3840, "weights": 240, "biases": 48},
        ((16, 4),),
    ),
}

FORWARD_ONLY = "forward_only"  # has one pass, and a geometry of its own

READ_BECAUSE_SAVED = {
    Saved.NOTHING: None,
    Saved.INPUT: ("bwd_input", "input"),
    Saved.INPUT_FOR_WEIGHTS: ("bwd_weight", "input"),
    Saved.MASK: ("bwd_input", "mask"),
    Saved.INDEX: ("bwd_input", "index"),
    Saved.NORM: ("bwd_input", "norm"),
    Saved.PROBABILITIES: ("bwd_input", "probabilities"),
}


def make(kind: str) -> tuple[Layer, tuple[Shape, ...]]:
    geometry, shapes = EXAMPLES[kind]
    return LAYER_KINDS[kind](name="layer", inputs=ONE if len(shapes) == 1 else TWO, **geometry), shapes


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == set(LAYER_KINDS)


every_kind = pytest.mark.parametrize("kind", LAYER_KINDS)


@every_kind
def test_is_a_frozen_class_that_knows_its_name(kind: str) -> None:
    layer, _ = make(kind)
    assert layer.kind == kind
    assert type(layer).__doc__
    with pytest.raises(FrozenInstanceError):
        layer.name = "other"  # type: ignore[misc]


@every_kind
def test_is_priced_by_macs_or_by_elements_or_moves_nothing(kind: str) -> None:
    layer, shapes = make(kind)
    priced = [layer.operator, layer.element_operation]
    assert priced.count(None) == 1 or (priced == [None, None] and layer.in_place)
    assert layer.operator in (None, *OPERATORS, *FORWARD_OPERATORS)
    assert layer.element_operation in (None, *ELEMENT_OPERATIONS, *FORWARD_ELEMENT_OPERATIONS)
    assert (layer.operator_on(*shapes) is None) == (layer.operator is None)


@every_kind
def test_output_shape_is_positive(kind: str) -> None:
    layer, shapes = make(kind)
    shape = layer.output_shape(*shapes)
    assert shape
    assert all(type(size) is int and size > 0 for size in shape)


@every_kind
def test_macs_exist_for_operators_only_and_are_equal_in_the_passes(kind: str) -> None:
    layer, shapes = make(kind)
    macs = layer.macs(*shapes)
    assert tuple(macs) == MAC_PASSES
    assert {macs["bwd_input"], macs["bwd_weight"]} == {0 if kind == FORWARD_ONLY else macs["fwd"]}
    assert (macs["fwd"] > 0) == (layer.operator is not None)


@every_kind
def test_macs_are_weights_times_output_positions(kind: str) -> None:
    layer, shapes = make(kind)
    if layer.operator is not None and kind != FORWARD_ONLY:
        output = layer.output_shape(*shapes)
        assert layer.macs(*shapes)["fwd"] * output[0] == layer.weight_params(*shapes) * elements(output)


@every_kind
def test_reads_are_declared_for_every_pass(kind: str) -> None:
    layer, shapes = make(kind)
    assert "input" in layer.reads("fwd")
    assert ("weights" in layer.reads("fwd")) == (layer.weight_params(*shapes) > 0)
    learns = layer.weight_params(*shapes) > 0 and not layer.forward_only
    assert bool(layer.reads("bwd_weight")) == learns
    assert bool(layer.reads("update")) == learns
    assert bool(layer.reads("bwd_input")) != layer.forward_only
    assert all(isinstance(layer.reads(pass_), tuple) for pass_ in PASSES)
    with pytest.raises(ValueError, match="unknown pass 'backward'; allowed: fwd"):
        layer.reads("backward")


@every_kind
def test_saves_exactly_what_its_backward_passes_read(kind: str) -> None:
    layer, _ = make(kind)
    passing = {"weights", "output_gradient", "labels"}  # there without the forward pass keeping them
    kept = {
        (pass_, what)
        for pass_ in ("bwd_input", "bwd_weight")
        for what in layer.reads(pass_)
        if what not in passing
    }
    expected = READ_BECAUSE_SAVED[layer.saves]
    assert kept - {("bwd_weight", "norm")} == ({expected} if expected else set())


@every_kind
def test_in_place_layers_keep_their_size(kind: str) -> None:
    layer, shapes = make(kind)
    if layer.in_place:
        assert len(shapes) == 1
        assert elements(layer.output_shape(*shapes)) == elements(shapes[0])


@every_kind
def test_can_be_written_in_a_network_file(kind: str, tmp_path: Path) -> None:
    geometry, shapes = EXAMPLES[kind]
    axes = {1: ("features",), 2: ("channels", "length"), 3: ("channels", "height", "width")}[len(shapes[0])]
    opening = {1: "linear", 2: "pointwise", 3: "pointwise"}[len(shapes[0])]
    size = "out_features" if opening == "linear" else "out_channels"
    names = TWO[: len(shapes)]
    layers: list[dict[str, object]] = [
        {"kind": opening, "name": name, "inputs": ["input"], size: shape[0]}
        for name, shape in zip(names, shapes, strict=True)
    ]
    layers.append({"kind": kind, "name": "layer", "inputs": list(names), **geometry})
    layers += [
        {"kind": "flatten", "name": "flat"},
        {"kind": "linear", "name": "last", "out_features": "classes"},
    ]
    path = tmp_path / "network.toml"
    path.write_text(toml({**dict(zip(axes, shapes[0], strict=True))}, layers), encoding="utf-8")
    workload = load_network(path)
    found = next(layer for layer in workload.layers if layer.name == "layer")
    expected, _ = make(kind)
    own = [field.name for field in fields(expected) if field.name not in ("name", "inputs")]
    assert type(found) is LAYER_KINDS[kind]
    assert [getattr(found, name) for name in own] == [getattr(expected, name) for name in own]


def toml(axes: dict[str, int], layers: list[dict[str, object]]) -> str:
    head = 'name = "n"\ntitle = "t"\nsource = "s"\nclasses = 3\nlegal_cuts = [{last}]\n'
    sizes = ", ".join(f"{axis} = {size}" for axis, size in axes.items())
    units = sum(LAYER_KINDS[str(layer["kind"])].operator is not None for layer in layers)  # an LSTM is one
    tables = ",\n".join(
        "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in layer.items()) + " }"
        for layer in layers
    )
    return head.format(last=units - 1) + f"input = {{ {sizes} }}\nlayers = [\n{tables}\n]\n"
