"""Operations that take elements from one place to another: transpositions, parts, pads, joins, look-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from dse.workload.base import Shape
from dse.workload.model.graph import Constant
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.operators.reshaping import reshaped, with_batch
from dse.workload.torch.program import Call, Ref
from dse.workload.torch.structure import Malformed, Unsupported
from dse.workload.torch.values import Tensor, Value

# --- transposition ---


def permute(c: Conversion, call: Call) -> Value:
    """Return a tensor with its axes in the order that the call names."""
    x = c.tensor(call, "self")
    order = [x.whole(axis) for axis in call.integers("dims")]
    if sorted(order) != list(range(len(x.shape))):
        raise Malformed(f"an order of axes {order!s:.60}")
    return _transposed(c, call, x, order)


def transpose(c: Conversion, call: Call) -> Value:
    """Return a tensor with two axes exchanged."""
    x = c.tensor(call, "self")
    order = list(range(len(x.shape)))
    if call.operator == "aten.t":
        return _transposed(c, call, x, order[::-1]) if len(order) == 2 else x
    names = ("dim0", "dim1") if "dim0" in call.arguments else ("axis0", "axis1")
    first, second = (x.whole(call.integer(name)) for name in names)
    order[first], order[second] = order[second], order[first]
    return _transposed(c, call, x, order)


def _transposed(c: Conversion, call: Call, x: Tensor, order: list[int]) -> Tensor:
    shape = tuple(x.shape[axis] for axis in order)
    batch = None if x.batch is None else order.index(x.batch)
    permutation = tuple(x.axis(axis) for axis in order if axis != x.batch)
    if permutation == tuple(range(len(permutation))):
        return Tensor(x.producer, shape, batch)
    return c.add(call, "transpose", [x], shape, batch, attributes={"permutation": permutation})


# --- parts ---


def select(c: Conversion, call: Call) -> Value:
    """Return one index of an axis, without the axis."""
    x = c.tensor(call, "self")
    axis, index = x.whole(call.integer("dim")), call.integer("index")
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    if axis == x.batch:
        return Tensor(x.producer, shape, None)
    if not -x.shape[axis] <= index < x.shape[axis]:
        raise Malformed(f"index {index} of {x.shape[axis]}")
    batch = None if x.batch is None else x.batch - (axis < x.batch)
    if x.shape[axis] == 1:
        return reshaped(c, call, x, shape, batch)
    attributes = _place(x, axis, index % x.shape[axis])
    return c.add(call, "slice", [x], shape, batch, attributes=attributes)


def sliced(c: Conversion, call: Call) -> Value:
    """Return a stretch of an axis."""
    x = c.tensor(call, "self")
    axis, step = x.whole(call.integer("dim", 0)), call.integer("step", 1)
    if step < 1:
        raise Malformed(f"a step of {step}")
    start, end, _ = slice(call.get("start"), call.get("end")).indices(x.shape[axis])
    return part(c, call, x, axis, start, end, step)


def part(
    c: Conversion, call: Call, x: Tensor, axis: int, start: int, end: int, step: int = 1, suffix: str = ""
) -> Tensor:
    """Add a stretch of one axis of the whole shape; nothing is added where it is all of it."""
    count = len(range(start, end, step))
    if count == x.shape[axis] or axis == x.batch:
        return x
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    attributes = _place(x, axis, start, step)
    return c.add(call, "slice", [x], shape, x.batch, suffix=suffix, attributes=attributes)


def _place(x: Tensor, axis: int, begin: int, step: int = 1) -> dict[str, Any]:
    """Return where a part that begins at ``begin`` of one axis of the whole shape lies."""
    rank, own = len(x.own), x.axis(axis)
    return {
        "begin": tuple(begin if place == own else 0 for place in range(rank)),
        "steps": tuple(step if place == own else 1 for place in range(rank)),
    }


def split(c: Conversion, call: Call) -> Sequence[Value]:
    """Return consecutive stretches of an axis."""
    x = c.tensor(call, "self")
    axis = x.whole(call.integer("dim", 0))
    sizes = _sizes(call, x.shape[axis])
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        raise Malformed(f"parts of {list(sizes)!s:.60} of {x.shape[axis]}")
    spans = zip(accumulate(sizes), sizes, strict=True)
    return [
        part(c, call, x, axis, end - size, end, suffix=f".{place}") for place, (end, size) in enumerate(spans)
    ]


def _sizes(call: Call, total: int) -> tuple[int, ...]:
    found = call.get("split_sizes", call.get("split_size", call.get("chunks")))
    if isinstance(found, tuple):
        return call.integers("split_sizes" if "split_sizes" in call.arguments else "split_size")
    if not isinstance(found, int) or found < 1:
        raise Malformed("parts of no size")
    size = -(-total // found) if "chunks" in call.arguments else found
    if len(call.outputs) < -(-total // max(size, 1)):
        raise Malformed("more parts than outputs")
    return tuple(min(size, total - start) for start in range(0, total, max(size, 1)))


def unbind(c: Conversion, call: Call) -> Sequence[Value]:
    """Return every index of an axis, without the axis."""
    x = c.tensor(call, "self")
    axis = x.whole(call.integer("dim", 0))
    if x.shape[axis] != len(call.outputs) or axis == x.batch:
        raise Malformed(f"{len(call.outputs)} parts of {x.shape[axis]}")
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    batch = None if x.batch is None else x.batch - (axis < x.batch)
    return [
        c.add(
            call, "slice", [x], shape, batch, suffix=f".{place}",
            attributes=_place(x, axis, place),
        )
        for place in range(x.shape[axis])
    ]  # fmt: skip


# --- joins, pads, copies ---


def concat(c: Conversion, call: Call) -> Value:
    """Return tensors joined along an axis; a constant among them is held as ``operand_<place>``.

    Where that axis is the batch, the parts are steps of one sample: it is an axis like any other from there.
    """
    values = c.many(call, "tensors")
    tensors = [value for value in values if isinstance(value, Tensor)]
    first = tensors[0]
    axis = first.whole(call.integer("dim", 0))
    rests = {value.shape[:axis] + value.shape[axis + 1 :] for value in values}
    if len(rests) != 1 or len({len(value.shape) for value in values}) != 1:
        raise Malformed(f"joins {len(values)} tensors of shapes that do not fit")
    shape = (*first.shape[:axis], sum(value.shape[axis] for value in values), *first.shape[axis + 1 :])
    batch = next((tensor.batch for tensor in tensors if tensor.batch is not None), None)
    if batch == axis:
        batch, tensors = None, [reshaped(c, call, tensor, tensor.shape, None) for tensor in tensors]
    tensors = [with_batch(c, call, tensor, batch, len(shape)) for tensor in tensors]
    held = {f"operand_{place}": value for place, value in enumerate(values) if isinstance(value, Constant)}
    attributes = {"axis": tensors[0].axis(axis)}
    return c.add(call, "concat", tensors, shape, batch, attributes=attributes, constants=held)


def stack(c: Conversion, call: Call) -> Value:
    """Return tensors joined along a new axis."""
    values = c.many(call, "tensors")
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) != len(values) or len({tensor.shape for tensor in tensors}) != 1:
        raise Unsupported("stacks tensors of several shapes, or constants")
    first = tensors[0]
    axis = call.integer("dim", 0) % (len(first.shape) + 1)
    batch = None if first.batch is None else first.batch + (axis <= first.batch)
    wide = (*first.shape[:axis], 1, *first.shape[axis:])
    parts = [reshaped(c, call, tensor, wide, batch) for tensor in tensors]
    shape = (*first.shape[:axis], len(parts), *first.shape[axis:])
    return c.add(call, "concat", parts, shape, batch, attributes={"axis": parts[0].axis(axis)})


def pad(c: Conversion, call: Call) -> Value:
    """Return a padded tensor; negative pads cut positions off."""
    x, numbers = c.tensor(call, "self"), call.integers("pad" if "pad" in call.arguments else "padding")
    if len(numbers) % 2 or len(numbers) > 2 * len(x.shape):
        raise Malformed(f"pads of {list(numbers)!s:.60}")
    pads = [(0, 0)] * len(x.shape)
    for place in range(len(numbers) // 2):
        pads[-1 - place] = (numbers[2 * place], numbers[2 * place + 1])
    shape = tuple(size + sum(pair) for size, pair in zip(x.shape, pads, strict=True))
    if shape == x.shape and not any(map(any, pads)):
        return x
    own = tuple(pair for axis, pair in enumerate(pads) if axis != x.batch)
    if x.batch is not None and any(pads[x.batch]):
        raise Unsupported("pads the batch")
    attributes: dict[str, Any] = {"pads": own, "value": call.real("value", 0.0), "mode": _mode(call)}
    if max(map(max, own)) <= 0:
        attributes = {"begin": tuple(-before for before, _ in own), "steps": (1,) * len(own)}
    operation = "slice" if min(map(min, own)) < 0 else "pad"
    return c.add(call, operation, [x], shape, x.batch, attributes=attributes)


def _mode(call: Call) -> str:
    if "pad_nd" in call.operator or call.operator == "aten.pad":
        return str(call.get("mode", "constant"))
    return call.operator.removeprefix("aten.").partition("_")[0]


def expand(c: Conversion, call: Call) -> Value:
    """Return a tensor repeated along axes of one."""
    x, sizes = c.tensor(call, "self"), call.integers("size")
    added = len(sizes) - len(x.shape)
    if added < 0:
        raise Malformed(f"expands {list(x.shape)} to {list(sizes)!s:.60}")
    batch = None if x.batch is None else x.batch + added
    held = (*(1,) * added, *x.shape)
    shape = tuple(
        own if size == -1 or axis == batch else size
        for axis, (own, size) in enumerate(zip(held, sizes, strict=True))
    )
    if any(own not in (1, size) for own, size in zip(held, shape, strict=True)):
        raise Malformed(f"expands {list(x.shape)} to {list(sizes)!s:.60}")
    return _tiled(c, call, x, shape, batch)


def repeat(c: Conversion, call: Call) -> Value:
    """Return a tensor repeated along its axes."""
    x, counts = c.tensor(call, "self"), call.integers("repeats" if "repeats" in call.arguments else "dims")
    added = len(counts) - len(x.shape)
    if added < 0 or min(counts, default=1) < 1:
        raise Malformed(f"repeats {list(x.shape)} by {list(counts)!s:.60}")
    held = (*(1,) * added, *x.shape)
    shape = tuple(size * count for size, count in zip(held, counts, strict=True))
    batch = None if x.batch is None else x.batch + added
    return _tiled(c, call, x, shape, batch if batch is None or shape[batch] == 1 else None)


def _tiled(c: Conversion, call: Call, x: Tensor, shape: Shape, batch: int | None) -> Tensor:
    found = Tensor(x.producer, shape, batch)
    return found if found.own == x.own else c.add(call, "tile", [x], shape, batch)


# --- look-ups and sizes ---


def embedding(c: Conversion, call: Call) -> Value:
    """Return rows of a table by indices that are the input."""
    table, places = c.constant(call, "weight"), c.tensor(call, "indices")
    shape = (*places.shape, *table.shape[1:])
    name = table.name.removesuffix(".weight") or call.name
    return c.add(call, "gather", [places], shape, places.batch, name=name, constants={"weight": table})


def index(c: Conversion, call: Call) -> Value:
    """Return the indices of one axis that a constant names."""
    x = c.tensor(call, "self")
    axis, places = _indexed(c, call, x)
    shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
    batch = x.batch
    if batch is not None and batch > axis:
        batch += len(places.shape) - 1
    return c.add(call, "gather", [x], shape, batch, attributes={"axis": x.axis(axis)})


def _indexed(c: Conversion, call: Call, x: Tensor) -> tuple[int, Constant]:
    if call.operator == "aten.index_select":
        return x.whole(call.integer("dim")), c.constant(call, "index")
    entries = call.get("indices", ())
    named = [place for place, entry in enumerate(entries) if isinstance(entry, Ref)]
    found = c.of(entries[named[0]]) if len(named) == 1 else None
    if not isinstance(found, Constant) or found.stored_type == "bool":
        raise Unsupported("an index that is not one constant list")
    return x.whole(named[0]), found


def flip(c: Conversion, call: Call) -> Value:
    """Return a tensor with some axes in reverse."""
    x = c.tensor(call, "self")
    axes = tuple(x.axis(axis) for axis in call.integers("dims"))
    return c.add(call, "gather", [x], x.shape, x.batch, attributes={"reversed_axes": axes})


def resize(c: Conversion, call: Call) -> Value:
    """Return a tensor of more or fewer positions, of the shape that the file states."""
    x = c.tensor(call, "input" if "input" in call.arguments else "self")
    shape = c.declared.get(call.outputs[0])
    if shape is None or len(shape) != len(x.shape) or x.batch != 0:
        raise Unsupported("a result of unknown shape")
    return c.add(call, "resize", [x], (1, *shape[1:]), 0)


RESIZES: Final = (
    "nearest1d", "nearest2d", "nearest3d", "bilinear2d", "linear1d", "bicubic2d", "trilinear3d",
)  # fmt: skip

MOVING: Final[Mapping[str, Converter]] = {
    "aten.permute": permute,
    **dict.fromkeys(("aten.transpose", "aten.t", "aten.swapaxes"), transpose),
    "aten.select": select,
    "aten.slice": sliced,
    **dict.fromkeys(("aten.split", "aten.split_with_sizes", "aten.chunk"), split),
    "aten.unbind": unbind,
    **dict.fromkeys(("aten.cat", "aten.concat"), concat),
    **{f"aten.{kind}_pad{axes}d": pad for kind in ("reflection", "replication") for axes in (1, 2, 3)},
    **dict.fromkeys(("aten.pad", "aten.constant_pad_nd"), pad),
    "aten.stack": stack,
    "aten.expand": expand,
    **dict.fromkeys(("aten.repeat", "aten.tile"), repeat),
    "aten.embedding": embedding,
    "aten.flip": flip,
    **dict.fromkeys(("aten.index", "aten.index_select"), index),
    **dict.fromkeys((f"aten.upsample_{kind}" for kind in RESIZES), resize),
}
