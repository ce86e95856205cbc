"""Constants that a file calculates: worked out while reading, so that shapes and weights are known.

Exporters write the arithmetic of shapes as nodes (Shape, Gather, Concat, Reshape), and feed weights through
Transpose, Reshape, Cast or DequantizeLinear. A weight that is only moved keeps how it is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

import numpy as np

from dse.workload.onnx import shapes
from dse.workload.onnx.affine import dequantise, qonnx_quant, quantise
from dse.workload.onnx.arithmetic import ARITHMETIC, TooLarge
from dse.workload.onnx.operations import Call
from dse.workload.onnx.storage import Storage
from dse.workload.onnx.tensors import (
    TYPE_BITS,
    TYPE_WORDS,
    Array,
    Refused,
    Stored,
    Tensor,
    carried_axis,
    computed,
    moved_quantisation,
)

MOST_WORK: Final = 2**26
"""Numbers that arithmetic on constants may read and make in all."""

MOST_COPIED_BYTES: Final = 2**29
"""What constants that are moved or dequantised may take besides those of the file."""

_NUMPY_ERRORS: Final = (ValueError, TypeError, IndexError, OverflowError, MemoryError, ArithmeticError)


@dataclass
class Evaluator:
    """Works out constants within a bound; ``storage`` reads those in attributes."""

    storage: Storage
    work: int = 0
    copied_bytes: int = 0
    evaluated: int = 0

    def outputs(self, call: Call) -> list[Tensor] | None:
        """Return the outputs of a node that are constants; None where it is no arithmetic on constants.

        Raises Refused where the arithmetic does not go.
        """
        found = self._outputs(call)
        if found is not None and call.node.op != "Constant":
            self.evaluated += 1
            self.copied_bytes += sum(_copied_bytes(tensor.value) for tensor in found)
        return found

    def _outputs(self, call: Call) -> list[Tensor] | None:
        node = call.node
        if node.op == "Constant" and not node.domain:
            return [self._constant(call)]
        if node.op in ("Shape", "Size") and not node.domain:
            return [_shape_of(call)]
        present = [tensor for tensor in call.inputs if tensor is not None]
        if not present or not all(tensor.constant for tensor in present):
            return None
        moved = MOVES.get(node.op) if not node.domain or node.op == "Quant" else None
        if moved is not None:
            if self.copied_bytes > MOST_COPIED_BYTES:
                call = replace(call, inputs=(_unread(call.tensor(0)), *call.inputs[1:]))
            return [moved(call)]
        return self._arithmetic(call, present)

    def _arithmetic(self, call: Call, present: list[Tensor]) -> list[Tensor] | None:
        node, name = call.node, next(filter(None, call.node.outputs), "")
        function = None if node.domain else ARITHMETIC.get(node.op)
        fill = _fill(call, self.storage) if node.op == "ConstantOfShape" else None
        if function is None:
            return None
        self.work += sum(tensor.value.size for tensor in present if tensor.value is not None)
        if any(tensor.value is None for tensor in present) or self.work > MOST_WORK:
            return [Tensor(output, None) for output in node.outputs]
        arrays = [None if tensor is None else tensor.value for tensor in call.inputs]
        try:
            with np.errstate(all="ignore"):
                found = function(call, [*arrays[:1], fill] if fill is not None else arrays)
        except TooLarge as large:
            return [Tensor(name, large.shape, present[0].dtype if fill is None else str(fill.dtype))]
        except _NUMPY_ERRORS:
            raise Refused("its constants do not go together") from None
        several = found if isinstance(found, list) else [found]
        self.work += sum(value.size for value in several)
        return [computed(output, value) for output, value in zip(node.outputs, several, strict=False)]

    def _constant(self, call: Call) -> Tensor:
        name = next(filter(None, call.node.outputs), "")
        for word, value in call.node.attributes.items():
            if word == "value" and hasattr(value, "dims"):
                return self.storage.tensor(value, name)
            if word in ("value_int", "value_ints") and value is not None:
                return computed(name, np.array(value, dtype=np.int64))
            if word in ("value_float", "value_floats") and value is not None:
                return computed(name, np.array(value, dtype=np.float32))
        raise Refused("a constant without a number that can be read")


def _copied_bytes(value: Array | None) -> int:
    """What a result takes, or will take once it is brought in order."""
    if value is None or (value.base is not None and value.flags.c_contiguous):
        return 0
    return value.nbytes


def _unread(tensor: Tensor) -> Tensor:
    """The tensor without its numbers; single ones and shapes are kept, for they steer others."""
    return tensor if tensor.value is None or tensor.value.size <= 4096 else replace(tensor, value=None)


def _fill(call: Call, storage: Storage) -> Array:
    value = call.node.attributes.get("value")
    found = storage.tensor(value, "value").value if hasattr(value, "dims") else np.zeros(1, dtype=np.float32)
    if found is None or found.size != 1:
        raise Refused("its value is no single number")
    return found


def _shape_of(call: Call) -> Tensor:
    shape, name = call.shape(), call.node.outputs[0]
    if call.node.op == "Size":
        return computed(name, np.array(prod(shape), dtype=np.int64))
    part = shape[slice(call.integer("start", 0), call.integer("end", len(shape)))]
    return computed(name, np.array(part, dtype=np.int64))


# --- constants that are moved, not changed ---


def _reshape_move(rule: Callable[[Call, Tensor], tuple[int, ...]]) -> Callable[[Call], Tensor]:
    def move(call: Call) -> Tensor:
        tensor = call.tensor(0)
        before, after = tensor.known, rule(call, tensor)
        value = None if tensor.value is None else tensor.value.reshape(after)
        found = moved_quantisation(tensor.quantisation, lambda axis: carried_axis(axis, before, after))
        return replace(tensor, shape=after, value=value, quantisation=found)

    return move


def _transpose(call: Call) -> Tensor:
    tensor = call.tensor(0)
    rank = len(tensor.known)
    order = call.integers("perm") or tuple(reversed(range(rank)))
    after = shapes.permuted(tensor.known, order)
    value = None if tensor.value is None else tensor.value.transpose(order)
    return replace(
        tensor, shape=after, value=value, quantisation=moved_quantisation(tensor.quantisation, order.index)
    )


def _cast(call: Call) -> Tensor:
    tensor, word = call.tensor(0), TYPE_WORDS.get(call.integer("to", 1), "")
    if tensor.value is None or word == tensor.dtype:
        return replace(tensor, dtype=word)
    kind = "float32" if word == "bfloat16" else word
    if kind.startswith(("float8", "float4", "complex", "string")) or TYPE_BITS.get(kind, 8) < 8 or not kind:
        raise Refused(f"a cast to {word or 'an unknown type'}")
    with np.errstate(all="ignore"):
        value = tensor.value.astype(kind)
    stored = tensor.stored or Stored(word, value.nbytes)
    return replace(tensor, value=value, dtype=word, stored=stored)


def flatten_target(call: Call, tensor: Tensor) -> tuple[int, ...]:
    """Return the shape after Flatten: what is before the axis, and the rest."""
    shape, axis = tensor.known, call.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise Refused(f"axis {axis} of a tensor with {len(shape)} axes")
    place = axis + len(shape) if axis < 0 else axis
    return (prod(shape[:place]), prod(shape[place:]))


def reshape_target(call: Call, tensor: Tensor) -> tuple[int, ...]:
    """Return the shape after Reshape."""
    target = call.setting("shape", 1)
    if target is None:
        raise Refused("it does not say to which shape")
    return shapes.reshaped(tensor.known, target, bool(call.integer("allowzero", 0)))


def unsqueeze_target(call: Call, tensor: Tensor) -> tuple[int, ...]:
    """Return the shape after Unsqueeze."""
    return shapes.unsqueezed(tensor.known, call.setting("axes", 1) or ())


def squeeze_target(call: Call, tensor: Tensor) -> tuple[int, ...]:
    """Return the shape after Squeeze."""
    return shapes.squeezed(tensor.known, call.setting("axes", 1))


def _dropped(rule: Callable[[Call], Any]) -> Callable[[Call], Tensor]:
    return lambda call: rule(call).tensor


MOVES: Final[dict[str, Callable[[Call], Tensor]]] = {
    "Identity": lambda call: call.tensor(0), "Dropout": lambda call: call.tensor(0), "Cast": _cast,
    "Reshape": _reshape_move(reshape_target), "Flatten": _reshape_move(flatten_target),
    "Squeeze": _reshape_move(squeeze_target), "Unsqueeze": _reshape_move(unsqueeze_target),
    "Transpose": _transpose, "QuantizeLinear": _dropped(quantise), "DequantizeLinear": _dropped(dequantise),
    "Quant": _dropped(qonnx_quant),
}  # fmt: skip
"""Operators that leave the numbers of a constant alone, or only say how they are kept."""
