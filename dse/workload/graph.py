"""A network: its layers in order, who reads whom, its units, and where it may be cut.

Users count units: conv and linear layers, from 0 in topological order. Batch norm, activation, add, pooling
and flatten belong to the unit that they follow. LR layer l is the tensor behind unit l with its batch norm
and activation; for the last unit it is the vector that enters it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import IllegalPlan, Problem
from dse.workload.base import Layer, Shape, elements
from dse.workload.numbers import NO_NUMBERS, Numbers

_FORWARD_RULE: Final = "runs forward only, so that a cut lies at or behind it"

NETWORK_INPUT = -1
"""Stands for the network input wherever a layer or a cut is meant."""


@dataclass(frozen=True)
class Unit:
    """A conv or linear layer with what follows it; counts are for one sample."""

    index: int
    name: str
    layer: int  # position in Workload.layers
    followers: tuple[int, ...]
    operator: str
    macs: int  # of one pass
    weight_params: int
    bias_params: int  # its own, or what folding its batch norm leaves
    norm_channels: int  # 0: no batch norm
    in_channels: int
    out_channels: int
    input_elements: int
    output_elements: int  # of the conv or linear itself
    kernel: tuple[int, ...]
    cut_layer: int  # layer whose output is LR layer ``index``; -1: the network input


@dataclass(frozen=True)
class Workload:
    """A network that can be trained: layers in topological order, checked when it was built."""

    name: str
    title: str
    source: str
    input_shape: Shape
    classes: int
    layers: tuple[Layer, ...]
    units: tuple[Unit, ...]
    shapes: tuple[Shape, ...]  # output of each layer
    inputs: tuple[tuple[int, ...], ...]  # producers of each layer; -1: the network input
    legal_cuts: tuple[int, ...]  # unit indices; see ``cuts`` for the network input
    numbers: Numbers = NO_NUMBERS  # where training starts; layers without any are drawn

    def __hash__(self) -> int:
        """Hash of the structure; computed once, because plans look workloads up in caches."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.content_hash))

    # --- per layer [L] ---

    @cached_property
    def out_elements(self) -> NDArray[np.int64]:
        """Elements of each layer's output, (L,)."""
        return _frozen([elements(shape) for shape in self.shapes])

    @cached_property
    def in_elements(self) -> NDArray[np.int64]:
        """Elements of each layer's first input, (L,)."""
        return _frozen([elements(self.shape_of(producers[0])) for producers in self.inputs])

    @cached_property
    def side_weights(self) -> NDArray[np.int64]:
        """Weights of layers that run forward only and are no unit, (L,); 0 elsewhere."""
        return self._side("weight_params")

    @cached_property
    def side_biases(self) -> NDArray[np.int64]:
        """Biases of layers that run forward only and are no unit, (L,); 0 elsewhere."""
        return self._side("bias_params")

    def _side(self, what: str) -> NDArray[np.int64]:
        sides = (layer.forward_only and layer.operator is None for layer in self.layers)
        pairs = zip(self.layers, sides, strict=True)
        return _frozen([getattr(layer, what)() if side else 0 for layer, side in pairs])

    @cached_property
    def unit_of_layer(self) -> NDArray[np.int64]:
        """Unit that each layer belongs to, (L,); -1 before the first unit."""
        owner = np.full(len(self.layers), -1, dtype=np.int64)
        for unit in self.units:
            owner[[unit.layer, *unit.followers]] = unit.index
        owner.flags.writeable = False
        return owner

    def shape_of(self, layer: int) -> Shape:
        """Shape of a layer's output; of the network input for -1."""
        return self.input_shape if layer == NETWORK_INPUT else self.shapes[layer]

    # --- cuts ---

    def cut_layer(self, cut: int) -> int:
        """Layer whose output is LR layer ``cut``; -1 for the network input."""
        return NETWORK_INPUT if cut == NETWORK_INPUT else self.units[self._unit(cut)].cut_layer

    def cut_shape(self, cut: int) -> Shape:
        """Shape of LR layer ``cut`` (-1: the network input)."""
        return self.shape_of(self.cut_layer(cut))

    def cut_elements(self, cut: int) -> int:
        """Elements of LR layer ``cut`` (-1: the network input)."""
        return elements(self.cut_shape(cut))

    def crossing(self, cut: int) -> tuple[int, ...]:
        """Layers (-1: the network input) whose tensors are made at or before the cut and read after it."""
        edge = self.cut_layer(cut)
        made = self._last_reader[: edge + 2]
        return tuple(int(place) - 1 for place in np.flatnonzero(made > edge))

    @cached_property
    def _last_reader(self) -> NDArray[np.int64]:
        """Last layer that reads each tensor, (1 + L,), the network input first; -1 where nobody does."""
        last = [-1] * (1 + len(self.layers))
        for reader, producers in enumerate(self.inputs):
            for producer in producers:
                last[producer + 1] = reader
        return _frozen(last)

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Every cut that a plan may have: the network input first (-1), where it is one, then units."""
        units = tuple(cut for cut in self.legal_cuts if cut != NETWORK_INPUT)
        return units if self.forward_only else (NETWORK_INPUT, *units)

    @cached_property
    def forward_only(self) -> tuple[int, ...]:
        """Layers that run forward only; a cut lies at or behind the last of them."""
        return tuple(index for index, layer in enumerate(self.layers) if layer.forward_only)

    @property
    def last_forward_only(self) -> str:
        """Name and operation of the last layer that runs forward only; empty where none does."""
        if not self.forward_only:
            return ""
        layer: Any = self.layers[self.forward_only[-1]]
        return f"{layer.name} ({layer.operation})"

    def require_cut(self, cut: int) -> None:
        """Raise IllegalPlan, naming the legal cuts, unless ``cut`` is one of them (see ``cuts``)."""
        if cut in self.cuts:
            return
        listed = ", ".join("input (-1)" if one < 0 else str(one) for one in self.cuts)
        raise IllegalPlan(Problem("plan", "cut", self.refusal(cut), f"legal cuts of {self.name}: {listed}"))

    def refusal(self, cut: int) -> str:
        """Say why ``cut`` is refused."""
        if cut == NETWORK_INPUT and self.forward_only:
            return f"{self.last_forward_only} {_FORWARD_RULE}: no cut at the network input"
        if not 0 <= cut < len(self.units):
            return f"no unit {cut}, the units are 0 to {len(self.units) - 1}"
        if self.forward_only and self.cut_layer(cut) < self.forward_only[-1]:
            return (
                f"{self.last_forward_only} {_FORWARD_RULE}: unit {cut} ({self.units[cut].name}) lies below it"
            )
        crossing = self.crossing(cut)
        if len(crossing) == 1:
            return f"unit {cut} ({self.units[cut].name}) is not offered as a cut"
        names = ", ".join("input" if layer < 0 else self.layers[layer].name for layer in crossing)
        return f"{len(crossing)} tensors cross at unit {cut} ({self.units[cut].name}): {names}"

    def _unit(self, cut: int) -> int:
        if not 0 <= cut < len(self.units):
            raise IllegalPlan(Problem("plan", "cut", self.refusal(cut), ""))
        return cut

    # --- totals ---

    @property
    def total_macs(self) -> int:
        """MACs of one forward pass of one sample."""
        return sum(unit.macs for unit in self.units)

    @property
    def total_weights(self) -> int:
        """Weights of all units and forward-only layers, without biases and batch norms."""
        return sum(unit.weight_params for unit in self.units) + int(self.side_weights.sum())

    def to_frame(self) -> Any:
        """Return the units as a pandas DataFrame: operator, MACs, weights, elements, legality as a cut."""
        import pandas as pd

        columns = (
            "index", "name", "operator", "macs", "weight_params", "bias_params", "in_channels",
            "out_channels", "input_elements", "output_elements",
        )  # fmt: skip
        frame = pd.DataFrame({name: [getattr(unit, name) for unit in self.units] for name in columns})
        frame["cut_elements"] = [self.cut_elements(unit.index) for unit in self.units]
        frame["cut_is_legal"] = [unit.index in self.legal_cuts for unit in self.units]
        return frame

    # --- identity ---

    @cached_property
    def content_hash(self) -> str:
        """Sha256 of what is computed and where it may be cut; names, title and source do not enter."""
        structure = {
            "input": self.input_shape,
            "classes": self.classes,
            "layers": [
                [layer.kind, producers, _geometry(layer)]
                for layer, producers in zip(self.layers, self.inputs, strict=True)
            ],
            "legal_cuts": self.legal_cuts,
        }
        return hashlib.sha256(json.dumps(structure, sort_keys=True).encode()).hexdigest()

    @property
    def weights(self) -> str:
        """Where its numbers come from; empty where it has none."""
        return self.numbers.source

    @property
    def weights_sha256(self) -> str:
        """Sha256 of its numbers; empty where it has none."""
        return self.numbers.sha256

    @cached_property
    def training_hash(self) -> str:
        """Sha256 of what training starts from: ``content_hash``, and the network's own numbers."""
        if not self.numbers:
            return self.content_hash
        return hashlib.sha256(f"{self.content_hash} {self.weights_sha256}".encode()).hexdigest()


def _geometry(layer: Layer) -> Mapping[str, object]:
    own = [field.name for field in fields(layer) if field.name not in ("name", "inputs")]
    found = {name: getattr(layer, name) for name in own}
    if set(found.get("dilation", ())) == {1}:  # the same layer as one that says nothing of it
        del found["dilation"]
    return found


def _frozen(values: list[int]) -> NDArray[np.int64]:
    array = np.array(values, dtype=np.int64)
    array.flags.writeable = False
    return array
