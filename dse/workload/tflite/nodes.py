"""Makes nodes out of operators: their names, checked shapes, quantisation and fused activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, Final

from dse.errors import Problem, UserError
from dse.workload.base import Shape
from dse.workload.model import Constant, Node, Quantisation
from dse.workload.model.graph import INPUT_PREFIX, UNKNOWN
from dse.workload.model.limits import MOST_AXES, MOST_ELEMENTS, MOST_NODES
from dse.workload.tflite.flat import NO_TENSOR, Graph, Operator
from dse.workload.tflite.stored import Unreadable
from dse.workload.tflite.tensors import Tensors, Value

FUSED: Final[Mapping[int, tuple[str, str, Mapping[str, Any]]]] = {
    1: ("relu", "relu", {}),
    2: ("relu_n1_to_1", "clip", {"low": -1.0, "high": 1.0}),
    3: ("relu6", "relu6", {}),
    4: ("tanh", "tanh", {}),
}
"""Fused activation of the schema -> suffix of its node, operation, attributes; 0 is none."""

_ACTIVATION: Final = "FusedActivationFunction"


class Shapeless(Unreadable):
    """The shape of an input is not known, which has been said where it was lost."""


class Nodes(Tensors):
    """The nodes made so far, and what operators say and read."""

    def __init__(self, graph: Graph, file: str) -> None:
        super().__init__(graph, file)
        self.nodes: list[Node] = []
        self.place: dict[str, int] = {}
        self.input_schemes: dict[str, Quantisation] = {}
        self.handles: dict[int, str] = {}
        self.held: dict[str, Value] = {}
        self.states: list[tuple[str, Shape, int]] = []
        self._read = {*graph.outputs, *(index for item in graph.operators for index in item.inputs)}

    def is_read(self, index: int) -> bool:
        """Whether any operator reads a tensor, or the graph gives it."""
        return index in self._read

    def take_back(self, made: int, outputs: Iterable[int]) -> None:
        """Forget the nodes behind the first ``made``, and what they were to compute."""
        for node in self.nodes[made:]:
            del self.place[node.name]
            self.names.free(node.name)
        del self.nodes[made:]
        for index in outputs:
            self.values.pop(index, None)

    # --- what an operator reads ---

    def has(self, operator: Operator, place: int) -> bool:
        """Whether input ``place`` is given."""
        return place < len(operator.inputs) and operator.inputs[place] != NO_TENSOR

    def index(self, operator: Operator, place: int) -> int:
        """Tensor of input ``place``; raises Unreadable where it is left out."""
        if not self.has(operator, place):
            raise Unreadable(f"input {place} is missing")
        return operator.inputs[place]

    def value(self, operator: Operator, place: int) -> Value:
        """Computed tensor of input ``place``; raises Unreadable where there is none of known shape."""
        index = self.index(operator, place)
        if index not in self.values:
            raise Unreadable(f"input {place} is constant")
        if self.values[index].full is None:
            raise Shapeless("the shape of its input is not known")
        return self.values[index]

    def is_computed(self, operator: Operator, place: int) -> bool:
        """Whether input ``place`` is given and computed."""
        return self.has(operator, place) and not self.is_constant(operator.inputs[place])

    def weights(self, operator: Operator, place: int, rank: int, what: str) -> Constant:
        """Constant of input ``place`` with ``rank`` axes; raises Unreadable where it is none."""
        index = self.index(operator, place)
        if not self.is_constant(index):
            raise Unreadable(f"{what} are computed, not constant")
        constant = self.constant(index)
        if len(constant.shape) != rank or min(constant.shape, default=1) < 1:
            raise Unreadable(f"{what} of shape {list(constant.shape)}, which needs {rank} axes")
        return constant

    def bias(self, operator: Operator, place: int, channels: int) -> dict[str, Constant]:
        """Bias under its name where there is one; raises Unreadable where its length is wrong."""
        if not self.has(operator, place):
            return {}
        constant = self.weights(operator, place, 1, "biases")
        if constant.shape != (channels,):
            raise Unreadable(f"{constant.elements} biases for {channels} channels")
        return {"bias": constant}

    def whole(self, operator: Operator, place: int) -> tuple[int, ...]:
        """Whole numbers of input ``place`` as a flat list."""
        return tuple(int(number) for number in self.whole_numbers(self.index(operator, place)).reshape(-1))

    def option(self, operator: Operator, name: str) -> Any:
        """Option of an operator that cannot be read without; raises Unreadable where the file has none."""
        if operator.options is None:
            raise Unreadable("it has no options of its kind, without which interpreters refuse it")
        return operator.options[name]

    def output(self, operator: Operator, place: int = 0) -> int:
        """Tensor of an output; raises Unreadable where it is missing."""
        if place >= len(operator.outputs):
            raise Unreadable(f"output {place} is missing")
        return operator.outputs[place]

    # --- what it computes ---

    def add(
        self,
        operator: Operator,
        operation: str,
        inputs: Sequence[Value],
        full: Shape,
        *,
        batched: bool = True,
        attributes: Mapping[str, Any] | None = None,
        constants: Mapping[str, Constant] | None = None,
        channel_last: bool = False,
        output: int = 0,
    ) -> None:
        """Add the node of an operator, with its fused activation behind it.

        ``full`` is the shape of output ``output`` with all axes; ``batched``: its first axis is the batch.
        """
        index = self.output(operator, output)
        fused = self._fused(operator)
        self._check(index, full)
        shape = full[1:] if batched else full
        node = Node(
            self._name(index, operator), operation, tuple(value.producer for value in inputs), shape,
            operator.kind, attributes or {}, constants or {}, self.scheme(index, batched=batched),
            len(shape) - 1 if channel_last else None,
        )  # fmt: skip
        self.append(node)
        if fused is not None:
            suffix, activation, found = fused
            name = self.names.new(f"{node.name}.{suffix}")
            self.append(replace(node, name=name, operation=activation, inputs=(node.name,), attributes=found,
                                constants={}, channel_axis=None))  # fmt: skip
        self.values[index] = Value(self.nodes[-1].name, full, batched)

    def append(self, node: Node) -> None:
        """Add a node as it is."""
        if len(self.nodes) >= MOST_NODES:
            found = f"more than {MOST_NODES} operations"
            raise UserError(Problem(self.file, "", found, "a network for a microcontroller has fewer"))
        self.place[node.name] = len(self.nodes)
        self.nodes.append(node)

    def reshape(self, value: Value, full: Shape, *, batched: bool, suffix: str) -> Value:
        """Look at a tensor in another shape, as a node of its own behind ``value``'s."""
        shape = full[1:] if batched else full
        if shape == value.shape:
            return Value(value.producer, full, batched)
        name = self.names.new(f"{value.producer.removeprefix(INPUT_PREFIX)}.{suffix}")
        self.append(Node(name, "reshape", (value.producer,), shape, "RESHAPE"))
        return Value(name, full, batched)

    def explicit(self, value: Value) -> Value:
        """Make the batch an axis like the others."""
        full = known(value)
        return self.reshape(value, full, batched=False, suffix="batch") if value.batched else value

    def per_sample(self, value: Value) -> Value:
        """Make the first axis the batch; raises Unreadable where it is not 1."""
        full = known(value)
        if value.batched:
            return value
        if len(full) < 2 or full[0] != 1:
            raise Unreadable(f"its input has the shape {list(full)}, whose first axis is no batch of 1")
        return self.reshape(value, full, batched=True, suffix="sample")

    def unknown(self, operator: Operator) -> None:
        """Add an operator that nothing here knows: one node per output, its constants kept with the first."""
        given = [i for i, index in enumerate(operator.inputs) if index != NO_TENSOR]
        inputs = tuple(
            self.values[operator.inputs[i]].producer for i in given if self.is_computed(operator, i)
        )
        constants = self._kept(operator, given)
        kind = self.kind(operator)
        for place, index in enumerate(operator.outputs):
            full = self.stored_full(index)
            batched = full is not None and len(full) > 1 and full[0] == 1
            value = Value("", full, batched)
            name = self._name(index, operator)
            self.append(Node(name, UNKNOWN, inputs, value.shape, kind, {}, constants if place == 0 else {},
                             self.scheme(index, batched=batched)))  # fmt: skip
            self.values[index] = replace(value, producer=name)
            if full is None:
                self.report.fault(f"{name}: {kind} gives a shape that is not known")

    def _kept(self, operator: Operator, given: list[int]) -> dict[str, Constant]:
        """Constants that an operator reads, by the place of the input; its state is none."""
        found: dict[str, Constant] = {}
        for place in given:
            index = operator.inputs[place]
            if self.is_constant(index) and not self.graph.tensors[index].variable:
                try:
                    found[f"input_{place}"] = self.constant(index)
                except Unreadable as error:
                    self.report.fault(str(error))
        return found

    def kind(self, operator: Operator) -> str:
        """Printable word of what the file calls the operator."""
        return "".join(sign if sign.isprintable() else "_" for sign in operator.kind[:100])

    def _name(self, index: int, operator: Operator) -> str:
        text = self.graph.tensors[index].name.strip()
        return self.names.new(text or f"{operator.kind.lower()}_{operator.index}")

    def _fused(self, operator: Operator) -> tuple[str, str, Mapping[str, Any]] | None:
        number = (operator.options or {}).get(_ACTIVATION, 0)
        if number == 0:
            return None
        if number not in FUSED:
            raise Unreadable(f"its fused activation {number} is not known")
        return FUSED[number]

    def _check(self, index: int, full: Shape) -> None:
        """Refuse shapes that hold nothing or too much; the file's own word is compared, not believed."""
        if len(full) > MOST_AXES or min(full, default=1) < 1 or prod(full) > MOST_ELEMENTS:
            raise Unreadable(f"its output would have the shape {list(full)}")
        stored = self.stored_full(index)
        if stored is not None and stored != full:
            self.report.count(
                "outputs whose shape in the file is not what their operator gives (taken: the operator's)"
            )


def known(value: Value) -> Shape:
    """Shape with all axes of a value; raises Shapeless where there is none."""
    if value.full is None:
        raise Shapeless("the shape of its input is not known")
    return value.full


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from 0; raises Unreadable where ``rank`` axes have none such.

    >>> axis_of(-1, 4)
    3
    """
    if not -rank <= axis < rank:
        raise Unreadable(f"axis {axis} of {rank}")
    return axis % rank
