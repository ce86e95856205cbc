"""The walk over the nodes of a graph: constants worked out, rules asked, operations written down.

What a rule refuses keeps its name, its inputs and the shape that the file claims.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from dse.workload.base import Shape, shape_text
from dse.workload.model.graph import INPUT_PREFIX, UNKNOWN, Constant, Node, Quantisation
from dse.workload.model.limits import clean_name
from dse.workload.onnx import shapes
from dse.workload.onnx.affine import affine
from dse.workload.onnx.axes import Sizes
from dse.workload.onnx.document import FileGraph, FileNode
from dse.workload.onnx.evaluate import Evaluator
from dse.workload.onnx.operations import Answer, Call, Dropped, Made
from dse.workload.onnx.rules import WORDS, find
from dse.workload.onnx.tensors import Refused, Tensor, Unresolved, as_constant, per_sample

MOST_KEPT_BYTES: Final = 2**29
"""Numbers of all constants of the model, as float32."""

_RULE_ERRORS: Final = (ArithmeticError, IndexError, KeyError, TypeError, ValueError)


@dataclass
class Names:
    """Names of nodes: printable, and no two alike."""

    taken: set[str] = field(default_factory=set)
    next_number: Counter[str] = field(default_factory=Counter)

    def new(self, text: str) -> str:
        """Return a name like ``text`` that nothing has."""
        base = clean_name(text)
        base = base.replace(":", "_", 1) if base.startswith(INPUT_PREFIX) else base
        name = base
        while name in self.taken:
            self.next_number[base] += 1
            name = f"{base}~{self.next_number[base] + 1}"
        self.taken.add(name)
        return name


@dataclass
class Reading:
    """State of one walk; ``tensors`` by their names in the file."""

    graph: FileGraph
    sizes: Sizes
    evaluator: Evaluator
    tensors: dict[str, Tensor]
    read_names: frozenset[str]
    names: Names = field(default_factory=Names)
    nodes: dict[str, Node] = field(default_factory=dict)
    quantisations: dict[str, Quantisation] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    input_names: dict[str, str] = field(default_factory=dict)
    kept_bytes: int = 0
    kept: dict[int, Any] = field(default_factory=dict)

    def node(self, node: FileNode) -> None:
        """Read one node, whose producers have been read."""
        call = self._call(node)
        try:
            constants = self.evaluator.outputs(call)
        except Refused as reason:
            self.faults.append(f"{node.title}: not worked out: {reason}")
            constants = [Tensor(name, self._claimed_shape(name)) for name in node.outputs]
        if constants is not None:
            self.tensors |= dict(zip(node.outputs, constants, strict=False))
            return
        answers = self._scaled(call) or self._answers(call)
        self._write(call, answers)

    def _call(self, node: FileNode) -> Call:
        for name in (*node.inputs, *node.captured):
            if name and name not in self.tensors:
                self.faults.append(f"{node.title} reads {clean_name(name)!r}, which nothing makes")
                self.tensors[name] = Tensor(clean_name(name), self._claimed_shape(name))
        inputs = tuple(self.tensors[name] if name else None for name in node.inputs)
        opset = self.graph.opsets.get(node.domain, self.graph.opset)
        wanted = tuple(name in self.read_names for name in node.outputs)
        return Call(node, inputs, opset, self.sizes.batch_size, wanted)

    # --- rules ---

    def _answers(self, call: Call) -> list[Answer]:
        found = find(call.node)
        if found is None:
            self.unknown[call.node.label] += 1
            return self._as_claimed(call, "")
        try:
            answer = found.rule(call)
        except Unresolved:
            return self._as_claimed(call, "")
        except Refused as reason:
            return self._as_claimed(call, str(reason))
        except _RULE_ERRORS:  # numbers that no rule foresaw: the file is damaged, the rest of it may be sound
            return self._as_claimed(call, "it does not fit its operator")
        answers = answer if isinstance(answer, list) else [answer]
        return answers if found.has_word else [self._with_constants(call, one) for one in answers]

    def _with_constants(self, call: Call, answer: Answer) -> Answer:
        return replace(answer, constants=_all_constants(call)) if isinstance(answer, Made) else answer

    def _as_claimed(self, call: Call, reason: str) -> list[Answer]:
        """The operation as far as it can be known without a rule."""
        node = call.node
        active = tuple(tensor for tensor in call.inputs if tensor is not None and not tensor.constant)
        active += tuple(self.tensors[name] for name in node.captured if not self.tensors[name].constant)
        word = UNKNOWN if reason or node.domain else WORDS.get(node.op, UNKNOWN)
        if word == "matmul" and any(tensor is not None and tensor.constant for tensor in call.inputs):
            word = UNKNOWN
        answers: list[Answer] = []
        for name in node.outputs:
            shape = self._claimed_shape(name)
            if name and shape is None:
                why = f": {reason}" if reason else "" if find(node) else ": the operator is not known"
                behind = active and all(tensor.shape is None for tensor in active) and not reason
                if not behind:
                    self.faults.append(f"{node.title}: its shape is not known{why}")
            elif name and reason:
                self.faults.append(f"{node.title}: {reason}; its shape is the one that the file claims")
            batch = _claimed_batch(active, shape, self.sizes.batch_size)
            answers.append(Made(word, active, shape, batch, {}, _all_constants(call, word)))
        return answers

    def _claimed_shape(self, name: str) -> Shape | None:
        """Shape that the file claims for a tensor, open axes as they were fixed; None if one stays open."""
        claim = self.graph.claims.get(name)
        if claim is None or claim.dims is None:
            return None
        sizes = [size if isinstance(size, int) else self.sizes.names.get(size or "") for size in claim.dims]
        found = [size for size in sizes if size is not None]
        if len(found) < len(sizes):
            return None
        try:
            return shapes.checked(found)
        except Refused:
            return None

    # --- scales of dynamic quantisation ---

    def _scaled(self, call: Call) -> list[Answer] | None:
        """A product with a scale that only a run knows: its constant part goes to the weights."""
        scales = [tensor for tensor in call.inputs if tensor is not None and tensor.scale_factor is not None]
        if (
            not scales
            or call.node.domain
            or call.node.op not in ("Mul", "Cast", "Reshape", "Squeeze", "Unsqueeze")
        ):
            return None
        others = [tensor for tensor in call.inputs if tensor is not None and tensor.scale_factor is None]
        if call.node.op != "Mul":
            return [Dropped(scales[0])] if call.inputs[0] is scales[0] else None
        factors = [tensor.value for tensor in others if tensor.constant and tensor.value is not None]
        active = [tensor for tensor in others if not tensor.constant]
        product = scales[0].scale_factor
        for factor in (*factors, *(scale.scale_factor for scale in scales[1:])):
            if (
                product is None
                or factor is None
                or factor.dtype.kind != "f"
                or min(factor.size, product.size) > 1
            ):
                return None
            product = product.reshape(-1) * factor.reshape(-1)
        if len(active) == 1 and product is not None:
            self._scale_weights(call.node, active[0], product)
            return [Dropped(replace(active[0], dtype="float32"))]
        return None if active else [Dropped(replace(scales[0], scale_factor=product))]

    def _scale_weights(self, node: FileNode, tensor: Tensor, factor: Any) -> None:
        made = self.nodes.get(tensor.producer or "")
        weight = made.constants.get("weight") if made is not None else None
        if made is None or weight is None or factor.size not in (1, weight.shape[0]):
            self.faults.append(f"{node.title}: a scale of dynamic quantisation has no weights to go to")
            return
        spread = (
            factor.reshape(-1, *(1,) * (len(weight.shape) - 1)) if factor.size > 1 else factor.reshape(())
        )
        with np.errstate(all="ignore"):
            values = None if weight.values is None else (weight.values * spread).astype(np.float32)
        found = weight.quantisation
        if found is not None:
            scale = found.scale * factor
            points = np.broadcast_to(found.zero_point, scale.shape)
            found = replace(found, scale=scale, zero_point=points, axis=0 if scale.size > 1 else None)
        weight = replace(weight, values=values, quantisation=found)
        self.nodes[made.name] = replace(made, constants={**made.constants, "weight": weight})

    # --- writing down ---

    def _write(self, call: Call, answers: list[Answer]) -> None:
        first: Tensor | None = None
        for name, answer in zip(call.node.outputs, answers, strict=False):
            if not name:
                continue
            if isinstance(answer, Dropped):
                self.tensors[name] = answer.tensor
                self.note_quantisation(answer.tensor, answer.quantisation)
                if answer is answers[0]:
                    self.dropped[call.node.label] += 1
            elif name in self.read_names:
                made = answer if answer.inputs or first is None else replace(answer, inputs=(first,))
                text = (call.node.name or name) if first is None else name
                self.tensors[name] = self._emit(call, made, text, name)
                first = first or self.tensors[name]
            self._compare(call.node, name)
        for name in call.node.outputs:
            if name and name not in self.tensors:
                self.tensors[name] = Tensor(clean_name(name), None)

    def _emit(self, call: Call, made: Made, text: str, output: str) -> Tensor:
        made = self._with_batch(call, made)
        name = self.names.new(text)
        producers = tuple(tensor.producer for tensor in made.inputs if tensor.producer is not None)
        constants = {word: self._bounded(constant) for word, constant in made.constants.items()}
        self.nodes[name] = Node(
            name, made.operation, producers, _without(made.shape, made.batch), call.node.label,
            dict(made.attributes), constants, channel_axis=_moved(made.channel_axis, made.batch),
        )  # fmt: skip
        tensor = Tensor(name, made.shape, made.dtype, made.batch, producer=name)
        for word, attributes in made.then:
            tensor = self._follow(call, tensor, word, attributes)
        self.note_quantisation(tensor, made.quantisation)
        self._note_input(call)
        return tensor

    def _follow(self, call: Call, tensor: Tensor, word: str, attributes: Mapping[str, Any]) -> Tensor:
        """Write down an activation fused behind an operation."""
        name = self.names.new(f"{tensor.name}.{word}")
        shape = _without(tensor.shape, tensor.batch)
        self.nodes[name] = Node(
            name, word, (tensor.producer or "",), shape, call.node.label, dict(attributes)
        )
        return replace(tensor, name=name, producer=name)

    def _with_batch(self, call: Call, made: Made) -> Made:
        """Refuse a shape in which the samples of a batch cannot be told apart."""
        lost = made.batch is None and any(tensor.batch is not None for tensor in made.inputs)
        if self.sizes.batch_size == 1 or not lost or made.shape is None:
            return made
        found = f"the batch of {self.sizes.batch_size} is merged with another axis; export with a batch of 1"
        self.faults.append(f"{call.node.title}: {found}")
        return replace(made, shape=None, channel_axis=None)

    def _bounded(self, constant: Constant) -> Constant:
        values = constant.values
        if values is None or id(values) in self.kept:
            return constant
        self.kept_bytes += values.nbytes
        if self.kept_bytes > MOST_KEPT_BYTES:
            return replace(constant, values=None)
        self.kept[id(values)] = values
        return constant

    def _compare(self, node: FileNode, name: str) -> None:
        """Note a shape that contradicts what the file claims."""
        claim, tensor = self.graph.claims.get(name), self.tensors.get(name)
        if claim is None or claim.dims is None or tensor is None or tensor.shape is None:
            return
        sizes = [size if isinstance(size, int) else self.sizes.names.get(size or "") for size in claim.dims]
        pairs = zip(sizes, tensor.shape, strict=False)
        if len(sizes) != len(tensor.shape) or any(size not in (None, own) for size, own in pairs):
            said = "x".join(str(size or "?") for size in sizes)
            self.faults.append(
                f"{node.title}: the file claims {said}, its inputs give {shape_text(tensor.shape)}"
            )

    # --- quantisation ---

    def note_quantisation(self, tensor: Tensor, found: Quantisation | None) -> None:
        """Note how the numbers of a tensor are kept, where nothing was said before."""
        if found is None or tensor.producer is None:
            return
        axis = _moved(found.axis, tensor.batch)
        if found.axis is None or axis is not None:
            self.quantisations.setdefault(tensor.producer, replace(found, axis=axis))

    def _note_input(self, call: Call) -> None:
        """What an operator on integers says of its first input holds for a network input."""
        tensor = call.at(0)
        if (
            not call.node.op.startswith(("QLinear", "QGemm"))
            or tensor is None
            or call.node.op == "QLinearConcat"
        ):
            return
        scale, points = call.at(1), call.at(2)
        if tensor.producer is None or scale is None or not scale.constant or points is None:
            return
        with suppress(Refused):  # the rule of the operator has named it
            self.note_quantisation(tensor, affine(scale, points, points.dtype, None, 0))


def _all_constants(call: Call, word: str = UNKNOWN) -> dict[str, Constant]:
    roles: Mapping[int, str] = {}
    if word in ("conv", "conv_transpose", "linear"):
        roles = {1: "weight", 2: "bias"}
    found = {}
    for place, tensor in enumerate(call.inputs):
        if tensor is not None and tensor.constant and tensor.shape is not None:
            found[roles.get(place, f"input_{place}")] = as_constant(tensor)
    return found


def _claimed_batch(active: Iterable[Tensor], shape: Shape | None, size: int) -> int | None:
    """Batch axis of a claimed shape: that of the inputs, the first one where theirs is lost."""
    for tensor in active:
        axis = 0 if tensor.shape is None else tensor.batch
        if axis is not None and shape is not None and len(shape) > 1 and shape[axis : axis + 1] == (size,):
            return axis
    return None


def _without(shape: Shape | None, batch: int | None) -> Shape | None:
    return None if shape is None else per_sample(shape, batch)


def _moved(axis: int | None, batch: int | None) -> int | None:
    if axis is None or axis == batch:
        return None
    return axis - (batch is not None and axis > batch)
