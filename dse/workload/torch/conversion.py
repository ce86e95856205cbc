"""The graph while it is converted: what each value of torch's graph has become, and how a node is added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dse.workload.base import Shape
from dse.workload.model import limits
from dse.workload.model.graph import INPUT_PREFIX, Constant, ModelInput, Node, Quantisation
from dse.workload.torch.program import Call, Ref
from dse.workload.torch.structure import Malformed, Unsupported
from dse.workload.torch.tensors import bounded
from dse.workload.torch.values import Shapeless, Tensor, Value, Values, without


@dataclass
class Conversion:
    """Values by their name in torch's graph, nodes by their name in the model, notes and faults."""

    values: Values = field(default_factory=Values)
    inputs: dict[str, ModelInput] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    declared: dict[str, Shape | None] = field(default_factory=dict)
    """Shapes that the file states, with symbols resolved; None where they cannot be."""
    batch_size: int = 1
    """Samples per call that the file was exported for; shapes in its arguments count them."""

    notes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    repeats: Counter[str] = field(default_factory=Counter)
    """How often a name of a node was wanted again; counting keeps a file of one name from being slow."""

    computed: int = 0
    """Numbers of constants computed so far."""

    # --- reading arguments ---

    def value(self, call: Call, name: str) -> Value:
        """Return the value of an argument that has to be a tensor."""
        ref = call.get(name)
        if not isinstance(ref, Ref):
            raise Malformed(f"{name} has to be a tensor")
        return self.of(ref)

    def of(self, ref: str) -> Value:
        """Return what a value of torch's graph has become; raises Malformed where nothing made it before."""
        found = self.values.get(ref)
        if found is None:
            raise Malformed(f"reads {ref[:60]!r}, which nothing makes before")
        if isinstance(found, Shapeless):
            raise Unsupported("reads a tensor of unknown shape")
        return found

    def tensor(self, call: Call, name: str) -> Tensor:
        """Return an argument that depends on the input."""
        found = self.value(call, name)
        if isinstance(found, Constant):
            raise Malformed(f"{name} is a constant")
        return found

    def constant(self, call: Call, name: str) -> Constant:
        """Return an argument that has to be held by the file."""
        found = self.value(call, name)
        if isinstance(found, Tensor):
            raise Unsupported(f"{name} is computed from the input")
        return found

    def optional(self, call: Call, name: str) -> Constant | None:
        """Return an argument held by the file, None where it is absent."""
        return None if call.get(name) is None else self.constant(call, name)

    def many(self, call: Call, name: str) -> list[Value]:
        """Return an argument that is a list of tensors."""
        refs = call.get(name, ())
        if not isinstance(refs, tuple) or not all(isinstance(ref, Ref) for ref in refs):
            raise Malformed(f"{name} has to be a list of tensors")
        return [self.of(ref) for ref in refs]

    # --- adding nodes ---

    def add(
        self,
        call: Call,
        operation: str,
        inputs: Sequence[Tensor],
        shape: Shape,
        batch: int | None,
        *,
        name: str = "",
        suffix: str = "",
        attributes: Mapping[str, Any] | None = None,
        constants: Mapping[str, Constant] | None = None,
        channel_axis: int | None = None,
    ) -> Tensor:
        """Add a node and return its output; ``shape`` is whole, ``channel_axis`` counts in the own shape.

        Raises Malformed where no tensor can have such a shape.
        """
        shape = bounded(tuple(int(entry) for entry in shape))
        chosen = self.free_name(f"{name or call.name}{suffix}")
        self.nodes[chosen] = Node(
            chosen,
            operation,
            tuple(tensor.producer for tensor in inputs),
            without(shape, batch),
            limits.clean_name(call.operator),
            dict(attributes or {}),
            dict(constants or {}),
            None,
            channel_axis,
        )
        return Tensor(chosen, shape, batch)

    def free_name(self, text: str) -> str:
        """Return ``text`` as the name of a new node: clean, and unlike every other."""
        name = limits.clean_name(text)
        if name not in self.nodes:
            return name
        self.repeats[name] += 1
        return limits.clean_name(f"{name}~{self.repeats[name] + 1}", self.nodes)

    def spend(self, constant: Constant) -> None:
        """Count the numbers of a computed constant; raises Malformed where they are more than a model has."""
        self.computed += constant.elements if constant.values is not None else 0
        if self.computed > limits.MOST_VALUES:
            raise Malformed(f"more than {limits.MOST_VALUES} computed numbers")

    def quantise(self, tensor: Tensor, quantisation: Quantisation) -> None:
        """Note how a tensor is quantised at its producer; a second way of doing so is a note."""
        producer = tensor.producer
        holder: dict[str, Any] = self.nodes
        if producer.startswith(INPUT_PREFIX):
            holder, producer = self.inputs, producer.removeprefix(INPUT_PREFIX)
        held = holder[producer]
        if held.quantisation is None:
            holder[producer] = replace(held, quantisation=quantisation)
        elif not _same(held.quantisation, quantisation):
            self.notes["tensors quantised in two ways: the first one stands"] += 1


def _same(a: Quantisation, b: Quantisation) -> bool:
    alike = (a.bits, a.signed, a.axis) == (b.bits, b.signed, b.axis)
    return alike and np.array_equal(a.scale, b.scale) and np.array_equal(a.zero_point, b.zero_point)


def layer_name(call: Call, weight: Constant) -> str:
    """Name of a layer: that of its weight without the last word, the module's path, or the call's name.

    >>> from types import SimpleNamespace
    >>> layer_name(SimpleNamespace(module="", name="conv2d"), SimpleNamespace(name="features.0.0.weight"))
    'features.0.0'
    """
    path = weight.name.partition(".parametrizations.")[0]
    if path != weight.name:
        return path
    for ending in (".weight", "_weight"):
        if weight.name.endswith(ending):
            return weight.name.removesuffix(ending)
    return call.module or call.name


def scalar(value: float) -> Constant:
    """Return a number that stands in the graph itself: it is stored as no parameter and takes no bytes."""
    return Constant("", (), "immediate", 0, np.array(value, dtype=np.float32))


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Return the shape that tensors of ``shapes`` have together; raises Malformed where they have none."""
    rank = max((len(shape) for shape in shapes), default=0)
    result = []
    for place in range(-rank, 0):
        sizes = {shape[place] for shape in shapes if len(shape) >= -place} - {1}
        if len(sizes) > 1:
            raise Malformed(f"shapes {' and '.join(map(str, shapes))} do not fit together")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)
