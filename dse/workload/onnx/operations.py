"""What a rule for one operator is given, and what it answers with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dse.workload.base import Shape
from dse.workload.model.graph import Constant, Quantisation
from dse.workload.onnx.document import FileNode
from dse.workload.onnx.tensors import Refused, Tensor

_MOST = 2**31


@dataclass(frozen=True, eq=False)
class Call:
    """One node with what is known of its inputs; None stands for an optional input that is left out.

    ``opset`` is the version of the operator's domain; ``batch_size`` [samples] what the batch axis holds;
    ``outputs_read`` says of each output whether anything reads it.
    """

    node: FileNode
    inputs: tuple[Tensor | None, ...]
    opset: int
    batch_size: int
    outputs_read: tuple[bool, ...] = ()

    # --- inputs ---

    def at(self, index: int) -> Tensor | None:
        """Input by its place; None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def tensor(self, index: int) -> Tensor:
        """Input that must be there."""
        found = self.at(index)
        if found is None:
            raise Refused(f"input {index + 1} is missing")
        return found

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input; raises Unresolved where it is not known."""
        return self.tensor(index).known

    def constant(self, index: int) -> Tensor | None:
        """Constant input; None where it is left out, Refused where it is computed."""
        found = self.at(index)
        if found is not None and not found.constant:
            raise Refused(f"input {index + 1} is no constant")
        return found

    def numbers(self, index: int) -> tuple[int, ...] | None:
        """Whole numbers of a constant input; None where it is left out."""
        found = self.constant(index)
        if found is None or (found.shape == (0,) and found.value is None):
            return None
        if found.value is None or found.value.size > 4096 or found.value.dtype.kind not in "iu":
            raise Refused(f"input {index + 1} holds no whole numbers that are known")
        return tuple(int(value) for value in found.value.reshape(-1))

    def scalar(self, index: int) -> float | None:
        """Single number of a constant input; None where it is left out."""
        found = self.constant(index)
        if found is None:
            return None
        if found.value is None or found.value.size != 1 or found.value.dtype.kind not in "iufb":
            raise Refused(f"input {index + 1} is no single number")
        return float(found.value.reshape(-1)[0])

    # --- attributes ---

    def integer(self, name: str, default: int) -> int:
        """Whole number of an attribute."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int) or abs(value) > _MOST:
            raise Refused(f"attribute {name} is no whole number")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Whole numbers of an attribute; None where it is left out."""
        value = self.node.attributes.get(name)
        if value is None and name not in self.node.attributes:
            return None
        fine = isinstance(value, tuple) and len(value) <= 4096 and all(isinstance(one, int) for one in value)
        if not fine:
            raise Refused(f"attribute {name} is no list of whole numbers")
        return tuple(value or ())

    def real(self, name: str, default: float) -> float:
        """Finite number of an attribute."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise Refused(f"attribute {name} is no number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        """Text of an attribute."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, str):
            raise Refused(f"attribute {name} is no text")
        return value

    def setting(self, name: str, index: int) -> tuple[int, ...] | None:
        """Whole numbers that older versions keep in an attribute and newer ones in an input."""
        found = self.integers(name)
        return self.numbers(index) if found is None else found

    def axis(self, name: str, default: int, rank: int) -> int:
        """Axis of an attribute, counted from the front."""
        return front(self.integer(name, default), rank)


def front(axis: int, rank: int) -> int:
    """Return an axis counted from the front; raises Refused where the tensor has no such axis."""
    if not -rank <= axis < rank:
        raise Refused(f"axis {axis} of a tensor with {rank} axes")
    return axis % rank


@dataclass(frozen=True, eq=False)
class Made:
    """An operation of the model, with the batch axis still in ``shape``, ``channel_axis``, ``quantisation``.

    ``attributes`` count axes without the batch already. ``then`` are activations fused behind it.
    """

    operation: str
    inputs: tuple[Tensor, ...]
    shape: Shape | None
    batch: int | None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Constant] = field(default_factory=dict)
    channel_axis: int | None = None
    quantisation: Quantisation | None = None
    dtype: str = ""
    then: tuple[tuple[str, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True, eq=False)
class Dropped:
    """An operation that leaves the numbers as they are: readers read ``tensor``."""

    tensor: Tensor
    quantisation: Quantisation | None = None  # of what is read, axes with the batch


Answer = Made | Dropped
Rule = Callable[[Call], Answer | list[Answer]]
"""One answer, or one per output; raises Refused (Unresolved where an input has no known shape)."""


def like(call: Call, operation: str, **attributes: Any) -> Made:
    """Answer with an operation on every element of the first input."""
    tensor = call.tensor(0)
    return Made(operation, (tensor,), tensor.known, tensor.batch, attributes, dtype=tensor.dtype)
