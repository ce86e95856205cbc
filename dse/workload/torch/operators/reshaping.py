"""Operations that leave the numbers in their order: reshapes, and identities that vanish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Final

from dse.workload.base import Shape
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Malformed
from dse.workload.torch.values import Tensor, Value

IDENTITIES: Final = (
    "dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "alias",
    "clone", "contiguous", "detach", "to", "_to_copy", "lift_fresh_copy", "lift_fresh", "type_as",
)  # fmt: skip

DROPPED: Final = "dropouts, copies and casts that do nothing in inference were dropped"


COPIES: Final = ("aten.clone", "aten._to_copy", "aten.lift_fresh_copy", "aten.native_dropout")
"""Identities whose result may be written in place without touching what they copy."""


def identity(c: Conversion, call: Call) -> Value:
    """Return the value itself."""
    c.notes[DROPPED] += 1
    found = c.value(call, "input" if "input" in call.arguments else "self")
    return replace(found) if call.operator in COPIES else found


def reshaped(c: Conversion, call: Call, x: Tensor, shape: Shape, batch: int | None) -> Tensor:
    """Return ``x`` in another whole shape; nothing is added where its own shape stays."""
    found = Tensor(x.producer, shape, batch)
    if prod(shape) != prod(x.shape):
        raise Malformed(f"a shape of {list(shape)} for one of {list(x.shape)}")
    return found if found.own == x.own else c.add(call, "reshape", [x], shape, batch)


def with_batch(c: Conversion, call: Call, x: Tensor, batch: int | None, rank: int) -> Tensor:
    """Return ``x`` with its batch where a result of ``rank`` axes has it, if it has an axis of one there."""
    place = None if batch is None else batch - (rank - len(x.shape))
    if place is None or place < 0 or place == x.batch or x.shape[place] != 1:
        return x
    return reshaped(c, call, x, x.shape, place)


def view(c: Conversion, call: Call) -> Value:
    """Return a tensor in the shape that the call names, one of whose sizes may be -1."""
    x = c.tensor(call, "self")
    sizes = list(call.integers("shape" if "shape" in call.arguments else "size"))
    if sizes and c.batch_size > 1:
        sizes = _one_sample(sizes, prod(x.shape), c.batch_size)
    if sizes.count(-1) == 1:
        rest = -prod(sizes)
        sizes[sizes.index(-1)] = prod(x.shape) // rest if rest else 0
    return reshaped(c, call, x, tuple(sizes), kept_batch(x, tuple(sizes)))


def _one_sample(sizes: list[int], elements: int, samples: int) -> list[int]:
    """Return sizes that a file states for ``samples`` samples as they are for one."""
    for place, size in enumerate(sizes):
        fits = -1 in sizes or prod(sizes) == elements * samples
        if size > 0 and size % samples == 0 and fits and (size == samples or place == 0):
            return [*sizes[:place], size // samples, *sizes[place + 1 :]]
    return sizes


def kept_batch(x: Tensor, shape: Shape) -> int | None:
    """Return where the batch of ``x`` is once it has the whole shape ``shape``; None where it is merged.

    It stays an axis of one with as many elements before it. Where it had been merged into another axis, the
    first axis of one that appears is taken for it.
    """
    if x.batch is None:
        return shape.index(1) if 1 in shape and 1 not in x.shape else None
    before = prod(x.shape[: x.batch])
    places = [axis for axis, size in enumerate(shape) if size == 1 and prod(shape[:axis]) == before]
    if x.batch in places:
        return x.batch
    return places[0] if places else None


def flatten(c: Conversion, call: Call) -> Value:
    """Return a tensor with a range of axes merged."""
    x = c.tensor(call, "self")
    first, last = x.whole(call.integer("start_dim", 0)), x.whole(call.integer("end_dim", -1))
    shape = (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return reshaped(c, call, x, shape, kept_batch(x, shape))


def unflatten(c: Conversion, call: Call) -> Value:
    """Return a tensor with one axis split."""
    x = c.tensor(call, "self")
    axis, parts = x.whole(call.integer("dim")), call.integers("sizes")
    known = abs(prod(part for part in parts if part != -1))
    if parts.count(-1) == 1 and known:
        rest = x.shape[axis] // known
        parts = tuple(rest if part == -1 else part for part in parts)
    shape = (*x.shape[:axis], *parts, *x.shape[axis + 1 :])
    return reshaped(c, call, x, shape, kept_batch(x, shape))


def squeeze(c: Conversion, call: Call) -> Value:
    """Return a tensor without axes of one: those named, or all."""
    x = c.tensor(call, "self")
    named = (
        range(len(x.shape)) if call.get("dim") is None else [x.whole(axis) for axis in call.integers("dim")]
    )
    gone = {axis for axis in named if x.shape[axis] == 1}
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in gone)
    batch = None
    if x.batch is not None and x.batch not in gone:
        batch = x.batch - sum(axis < x.batch for axis in gone)
    return reshaped(c, call, x, shape, batch)


def unsqueeze(c: Conversion, call: Call) -> Value:
    """Return a tensor with an axis of one more; it is the batch where the tensor had none."""
    x = c.tensor(call, "self")
    rank, axis = len(x.shape), call.integer("dim")
    if not -rank - 1 <= axis <= rank:
        raise Malformed(f"axis {axis} of a tensor of {rank} axes")
    axis %= rank + 1
    batch = axis if x.batch is None else x.batch + (axis <= x.batch)
    return reshaped(c, call, x, (*x.shape[:axis], 1, *x.shape[axis:]), batch)


RESHAPING: Final[Mapping[str, Converter]] = {
    **dict.fromkeys((f"aten.{name}" for name in IDENTITIES), identity),
    **dict.fromkeys(("aten.view", "aten.reshape", "aten._unsafe_view", "aten.view_copy"), view),
    "aten.flatten": flatten,
    "aten.unflatten": unflatten,
    **dict.fromkeys(("aten.squeeze", "aten.squeeze_copy"), squeeze),
    **dict.fromkeys(("aten.unsqueeze", "aten.unsqueeze_copy"), unsqueeze),
}
