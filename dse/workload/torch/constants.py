"""Operations on constants alone: weights transposed or normalised before the network reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.workload.model import limits
from dse.workload.model.graph import Constant
from dse.workload.torch.program import Call, Ref
from dse.workload.torch.structure import Malformed, Unsupported

Array = NDArray[np.float32]
Read = Callable[[str], Constant]

MOST_FILLED: Final = 2**20
"""Numbers of a constant that the graph fills by itself; a larger one keeps its shape alone."""


MOST_PRODUCTS: Final = 2**24
"""Multiplications of a matrix product of constants."""


def evaluate(call: Call, read: Read, declared: tuple[int, ...] | None) -> Constant:
    """Return what ``call`` makes of constants; its numbers are None where the operation is not known here.

    ``read`` returns a constant by its name in the graph. The result keeps name and stored type of the first
    constant; raises Malformed where the arguments contradict each other.
    """
    refs = call.refs()
    operator = call.operator.removesuffix("_")
    if not refs:
        return _filled(call, declared)
    first = read(refs[0])
    if operator in UNCHANGED:
        return first
    function = FUNCTIONS.get(operator)
    arrays = {name: read(ref).values for name, ref in call.arguments.items() if isinstance(ref, Ref)}
    if function is None or any(array is None for array in arrays.values()):
        return _opaque(call, read, declared)
    values = np.asarray(function(call, arrays), dtype=np.float32)
    quantisation = first.quantisation if values.size == first.elements else None
    if quantisation is not None and quantisation.axis is not None and values.shape != first.shape:
        quantisation = replace(quantisation, axis=_moved_axis(call, quantisation.axis, first.shape))
    item = first.stored_bytes // max(first.elements, 1)
    return Constant(first.name, values.shape, first.stored_type, item * values.size, values, quantisation)


def parts(call: Call, read: Read) -> list[Constant]:
    """Return the pieces that a split makes of a constant."""
    whole = read(call.refs()[0])
    axis = call.integer("dim", 0)
    if whole.values is None or not -len(whole.shape) <= axis < len(whole.shape):
        raise Malformed(f"splits axis {axis} of a constant of shape {list(whole.shape)}")
    total = whole.shape[axis]
    sizes = call.get("split_sizes", call.get("split_size", call.get("chunks")))
    if not isinstance(sizes, tuple):
        step = max(1, -(-total // max(1, sizes)) if "chunks" in call.arguments else sizes)
        sizes = (step,) * min(-(-total // step), len(call.outputs) + 1)
    if sum(sizes) < total or len(sizes) > len(call.outputs):
        raise Malformed(f"splits {total} into {len(call.outputs)} parts")
    cuts = np.cumsum(sizes)[:-1]
    item = whole.stored_bytes // max(whole.elements, 1)
    return [
        Constant(f"{whole.name}[{place}]", piece.shape, whole.stored_type, item * piece.size, piece)
        for place, piece in enumerate(np.split(whole.values, cuts, axis))
    ]


SPLITS: Final = frozenset({"aten.split", "aten.split_with_sizes", "aten.chunk"})


def _moved_axis(call: Call, axis: int, shape: tuple[int, ...]) -> int | None:
    order = _order(call, len(shape))
    return order.index(axis) if order else axis


def _filled(call: Call, declared: tuple[int, ...] | None) -> Constant:
    """Return zeros, ones, ranges and the like: they belong to the graph and take no bytes of the file."""
    if declared is None:
        raise Malformed("makes a constant of unknown shape")
    values: Array | None = None
    operator = call.operator
    if prod(declared) <= MOST_FILLED and operator == "aten.arange" and len(declared) == 1:
        start, step = call.real("start", 0.0), call.real("step", 1.0)
        values = (start + step * np.arange(declared[0])).astype(np.float32)
    elif prod(declared) <= MOST_FILLED and operator in _FILLS:
        fill = _FILLS[operator]
        number = call.real("fill_value" if operator == "aten.full" else "s") if fill is None else fill
        values = np.full(declared, number, dtype=np.float32)
    return Constant(call.name, declared, "generated", 0, values)


def _opaque(call: Call, read: Read, declared: tuple[int, ...] | None) -> Constant:
    """Return a constant whose numbers are not known, of the bytes of what it is computed from."""
    parts = [read(ref) for ref in call.refs()]
    if declared is None:
        raise Malformed("makes a constant of unknown shape")
    stored = sum(part.stored_bytes for part in parts)
    return Constant(parts[0].name, declared, parts[0].stored_type, stored, None)


# --- operations by name ---


def _order(call: Call, rank: int) -> list[int]:
    """Return the order of axes that a transposition gives; empty for other operations."""
    order = list(range(rank))
    name = call.operator.removeprefix("aten.")
    if name == "permute":
        order = [axis % rank for axis in call.integers("dims")]
    elif name in ("transpose", "swapaxes") or (name == "t" and rank == 2):
        first, second = (0, 1) if name == "t" else (call.integer("dim0") % rank, call.integer("dim1") % rank)
        order[first], order[second] = order[second], order[first]
    elif name != "t":
        return []
    return order


def _transposed(call: Call, arrays: Mapping[str, Array]) -> Array:
    return arrays["self"].transpose(_order(call, arrays["self"].ndim))


def _reshaped(call: Call, arrays: Mapping[str, Array]) -> Array:
    name = "shape" if call.operator == "aten.reshape" else "size"
    return arrays["self"].reshape(call.integers(name))


def _flattened(call: Call, arrays: Mapping[str, Array]) -> Array:
    array = arrays["self"]
    first, last = call.integer("start_dim", 0) % array.ndim, call.integer("end_dim", -1) % array.ndim
    return array.reshape((*array.shape[:first], -1, *array.shape[last + 1 :]))


def _squeezed(call: Call, arrays: Mapping[str, Array]) -> Array:
    array, axes = arrays["self"], call.get("dim")
    if axes is None:
        return array.squeeze()
    ones = {axis % array.ndim for axis in call.integers("dim") if array.shape[axis % array.ndim] == 1}
    return array.squeeze(tuple(sorted(ones)))


def _expanded(call: Call, arrays: Mapping[str, Array]) -> Array:
    array, sizes = arrays["self"], call.integers("size")
    held = (1,) * (len(sizes) - array.ndim) + array.shape
    shape = tuple(own if size == -1 else size for size, own in zip(sizes, held, strict=True))
    if min(shape, default=0) < 0 or prod(shape) > limits.MOST_VALUES:
        raise Malformed(f"expands a constant to {list(shape)!s:.60}")
    return np.broadcast_to(array, shape)


def _selected(call: Call, arrays: Mapping[str, Array]) -> Array:
    return np.take(arrays["self"], [call.integer("index")], axis=call.integer("dim")).squeeze(
        call.integer("dim")
    )


def _sliced(call: Call, arrays: Mapping[str, Array]) -> Array:
    array, axis = arrays["self"], call.integer("dim", 0)
    span = slice(call.get("start"), call.get("end"), call.integer("step", 1))
    return np.moveaxis(np.moveaxis(array, axis, 0)[span], 0, axis)


def _looked_up(call: Call, arrays: Mapping[str, Array]) -> Array:
    table, places = arrays["weight"], arrays["indices"].astype(np.int64)
    if table.ndim != 2 or places.size * table.shape[1] > limits.MOST_VALUES:
        raise Malformed("looks up more numbers than a model has")
    return table[places]


def _normalised(call: Call, arrays: Mapping[str, Array]) -> Array:
    """Return g v / |v|, the norm over all axes but ``dim`` (Salimans and Kingma, arXiv 1602.07868, Eq. 2)."""
    direction, length = arrays["v"], arrays["g"]
    kept = call.integer("dim", 0) % direction.ndim
    rest = tuple(axis for axis in range(direction.ndim) if axis != kept)
    norms = np.sqrt(np.square(direction, dtype=np.float64).sum(axis=rest, keepdims=True))
    scale: Array = (length / norms).astype(np.float32)
    return scale * direction


def _norm(call: Call, arrays: Mapping[str, Array]) -> Array:
    if call.real("ord", 2.0) != 2.0:
        raise Unsupported("a norm other than the Euclidean")
    axes = tuple(call.integers("dim")) if call.get("dim") is not None else None
    squares = np.square(arrays["self"], dtype=np.float64)
    norms: Array = np.sqrt(squares.sum(axis=axes, keepdims=call.flag("keepdim")))
    return norms


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Call, Mapping[str, Array]], Array]:
    def apply(call: Call, arrays: Mapping[str, Array]) -> Array:
        left = arrays["self"] if "self" in arrays else call.real("self")
        right = arrays["other"] if "other" in arrays else call.real("other")
        if prod(np.broadcast_shapes(np.shape(left), np.shape(right))) > limits.MOST_VALUES:
            raise Malformed("a constant that is larger than a model")
        found: Array = function(left, right * call.real("alpha", 1.0))
        return found

    return apply


def _unary(function: Callable[[Any], Any]) -> Callable[[Call, Mapping[str, Array]], Array]:
    return lambda call, arrays: function(arrays["self"])


def _product(call: Call, arrays: Mapping[str, Array]) -> Array:
    left, right = (arrays["mat1"], arrays["mat2"]) if "mat1" in arrays else (arrays["self"], arrays["mat2"])
    if left.ndim != 2 or right.ndim != 2 or left.size * right.shape[1] > MOST_PRODUCTS:
        raise Unsupported("a product of constants that is not computed")
    found: Array = left @ right
    return found + arrays["self"] if "mat1" in arrays else found


FUNCTIONS: Final[Mapping[str, Callable[[Call, Mapping[str, Any]], Array]]] = {
    **dict.fromkeys(("aten.permute", "aten.transpose", "aten.t", "aten.swapaxes"), _transposed),
    **dict.fromkeys(("aten.view", "aten.reshape", "aten._unsafe_view"), _reshaped),
    "aten.flatten": _flattened,
    "aten.squeeze": _squeezed,
    "aten.unsqueeze": lambda call, arrays: np.expand_dims(arrays["self"], call.integer("dim")),
    "aten.expand": _expanded,
    "aten.select": _selected,
    "aten.slice": _sliced,
    "aten.embedding": _looked_up,
    "aten._weight_norm": _normalised,
    "aten._weight_norm_interface": _normalised,
    "aten.linalg_vector_norm": _norm,
    "aten.add": _binary(np.add),
    "aten.sub": _binary(np.subtract),
    "aten.mul": _binary(np.multiply),
    "aten.div": _binary(np.divide),
    "aten.remainder": _binary(np.remainder),
    "aten.mm": _product,
    "aten.addmm": _product,
    "aten.sqrt": _unary(np.sqrt),
    "aten.rsqrt": _unary(lambda array: 1 / np.sqrt(array)),
    "aten.exp": _unary(np.exp),
    "aten.neg": _unary(np.negative),
    "aten.reciprocal": _unary(lambda array: 1 / array),
}

UNCHANGED: Final = frozenset(
    f"aten.{name}"
    for name in (
        "clone", "detach", "alias", "contiguous", "lift_fresh_copy", "lift_fresh", "to", "_to_copy",
        "dropout",
    )
)  # fmt: skip
"""Operations that leave numbers and shape as they are."""

_FILLS: Final[Mapping[str, float | None]] = {
    "aten.zeros": 0.0, "aten.ones": 1.0, "aten.full": None, "aten.scalar_tensor": None,
}  # fmt: skip
