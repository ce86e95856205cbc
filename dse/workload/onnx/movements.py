"""Rules for operators that move elements or rename them: reshapes, transposes, parts, joins, resizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from dse.workload.base import Shape
from dse.workload.onnx import shapes
from dse.workload.onnx.arithmetic import split_sizes
from dse.workload.onnx.convolutions import global_average_pool, global_max_pool, mean, reduction
from dse.workload.onnx.elements import stretched_batch
from dse.workload.onnx.evaluate import flatten_target, reshape_target, squeeze_target, unsqueeze_target
from dse.workload.onnx.operations import Answer, Call, Dropped, Made, Rule, front
from dse.workload.onnx.tensors import (
    TYPE_WORDS,
    Refused,
    Tensor,
    as_constant,
    carried_axis,
    per_sample,
    sample_axis,
)


def same(call: Call) -> list[Answer]:
    """Identity, Dropout: readers read what it reads; a mask of Dropout is known by its shape."""
    tensor = call.tensor(0)
    mask = Made("unknown", (tensor,), tensor.shape, tensor.batch, dtype="bool")
    return [Dropped(tensor), mask]


def cast(call: Call) -> Dropped:
    """Cast: the numbers keep their meaning."""
    dtype = TYPE_WORDS.get(call.integer("to", 1), "")
    return Dropped(replace(call.tensor(0), dtype=dtype))


# --- other shapes for the same elements ---


def reshape(rule: Any) -> Rule:
    """Rule of an operator that gives the same elements another shape."""

    def answer(call: Call) -> Answer:
        tensor = call.tensor(0)
        whole = shapes.checked(rule(call, tensor))
        return viewed(tensor, whole, reshaped_batch(tensor, whole, call.batch_size))

    return answer


def viewed(tensor: Tensor, whole: Shape, batch: int | None) -> Answer:
    """Return a reshape, or nothing where one sample keeps its shape."""
    if per_sample(whole, batch) == per_sample(tensor.known, tensor.batch):
        return Dropped(replace(tensor, shape=whole, batch=batch))
    return Made("reshape", (tensor,), whole, batch, dtype=tensor.dtype)


def reshaped_batch(tensor: Tensor, whole: Shape, size: int) -> int | None:
    """Return where the batch axis is after a reshape; None where it is merged with another axis.

    A leading axis of one that appears where a batch of one was merged before is the batch again.
    """
    if tensor.batch is not None:
        return carried_axis(tensor.batch, tensor.known, whole)
    return 0 if size == 1 and whole[:1] == (1,) and len(whole) > len(tensor.known) else None


def transpose(call: Call) -> Answer:
    """Transpose; one that moves the batch alone is no operation."""
    tensor = call.tensor(0)
    order = call.integers("perm") or tuple(reversed(range(len(tensor.known))))
    whole = shapes.permuted(tensor.known, order)
    batch = None if tensor.batch is None else order.index(tensor.batch)
    within = tuple(sample_axis(axis, tensor.batch) for axis in order if axis != tensor.batch)
    if within == tuple(range(len(within))):
        return Dropped(replace(tensor, shape=whole, batch=batch))
    return Made("transpose", (tensor,), whole, batch, {"permutation": within}, dtype=tensor.dtype)


def blocks(call: Call) -> Made:
    """DepthToSpace, SpaceToDepth: positions and channels change places block by block."""
    tensor, side = call.tensor(0), call.integer("blocksize", 0)
    if len(tensor.known) != 4 or side < 1:
        raise Refused(f"blocks of {side} over {list(tensor.known)}")
    samples, channels, height, width = tensor.known
    if call.node.op == "DepthToSpace":
        parts = (channels, side * side), (samples, channels // side**2, height * side, width * side)
    else:
        parts = (height * width, side), (samples, channels * side**2, height // side, width // side)
    if parts[0][0] % parts[0][1]:
        raise Refused(f"blocks of {side} do not divide {list(tensor.known)}")
    return Made("gather", (tensor,), shapes.checked(parts[1]), tensor.batch, dtype=tensor.dtype)


# --- parts and copies ---


def pad(call: Call) -> Answer:
    """Pad; negative numbers cut."""
    tensor = call.tensor(0)
    shape = tensor.known
    numbers, axes = call.setting("pads", 1), call.numbers(3)
    places = range(len(shape)) if axes is None else [front(axis, len(shape)) for axis in axes]
    if numbers is None or len(numbers) != 2 * len(places):
        raise Refused(f"pads {list(numbers or ())} over {len(places)} axes")
    ends = [(0, 0)] * len(shape)
    for place, axis in enumerate(places):
        ends[axis] = (numbers[place], numbers[place + len(places)])
    if tensor.batch is not None and ends[tensor.batch] != (0, 0):
        raise Refused("it pads the batch")
    whole = shapes.checked([size + sum(end) for size, end in zip(shape, ends, strict=True)])
    if not any(map(any, ends)):
        return Dropped(tensor)
    within = tuple(end for axis, end in enumerate(ends) if axis != tensor.batch)
    value = call.real("value", 0.0) if "value" in call.node.attributes else (call.scalar(2) or 0.0)
    mode = call.text("mode", "constant")
    attributes = {"pads": within, "value": value} | ({} if mode == "constant" else {"mode": mode})
    return Made("pad", (tensor,), whole, tensor.batch, attributes, dtype=tensor.dtype)


def slice_(call: Call) -> Answer:
    """Slice, by attributes before version 10 and by inputs since."""
    tensor = call.tensor(0)
    starts, ends = (call.setting(name, place) for name, place in (("starts", 1), ("ends", 2)))
    parts = shapes.sliced(tensor.known, starts or (), ends or (), call.setting("axes", 3), call.numbers(4))
    return part_of(tensor, parts)


def part_of(tensor: Tensor, parts: Sequence[slice]) -> Answer:
    """Return the part of a tensor that slices take, or the tensor where they take all of it in order."""
    whole = shapes.checked(shapes.slice_sizes(parts))
    if all((part.start, part.step) == (0, 1) for part in parts) and whole == tensor.known:
        return Dropped(tensor)
    if tensor.batch is not None and whole[tensor.batch] != tensor.known[tensor.batch]:
        raise Refused("it takes part of the batch")
    begin = tuple(part.start for axis, part in enumerate(parts) if axis != tensor.batch)
    steps = tuple(part.step for axis, part in enumerate(parts) if axis != tensor.batch)
    return Made("slice", (tensor,), whole, tensor.batch, {"begin": begin, "steps": steps}, dtype=tensor.dtype)


def split(call: Call) -> list[Answer]:
    """Split: one part for each output."""
    tensor = call.tensor(0)
    shape = tensor.known
    axis = call.axis("axis", 0, len(shape))
    sizes, answers, start = split_sizes(call, shape[axis]), [], 0
    for size in sizes:
        parts = [slice(0, whole, 1) for whole in shape]
        parts[axis] = slice(start, start + size, 1)
        answers.append(part_of(tensor, parts))
        start += size
    return answers


def gather(call: Call) -> Made:
    """Gather along an axis; with a constant table it is an embedding."""
    tensor, indices = call.tensor(0), call.tensor(1)
    shape = tensor.known
    axis = call.axis("axis", 0, len(shape))
    whole = shapes.checked((*shape[:axis], *indices.known, *shape[axis + 1 :]))
    if tensor.constant:
        batch = None if indices.batch is None else indices.batch + axis
        return Made(
            "gather", (indices,), whole, batch, {}, {"table": as_constant(tensor)}, dtype=tensor.dtype
        )
    batch = tensor.batch
    if axis == batch and shape[axis] != 1:
        raise Refused("it takes part of the batch")
    if batch is not None:
        batch = None if axis == batch else batch + (len(indices.known) - 1) * (axis < batch)
    active = (tensor,) if indices.constant else (tensor, indices)
    return Made("gather", active, whole, batch, dtype=tensor.dtype)


def gather_elements(call: Call) -> Made:
    """GatherElements: one element for each index."""
    tensor, indices = call.tensor(0), call.tensor(1)
    active = tuple(one for one in (tensor, indices) if not one.constant)
    return Made("gather", active, shapes.checked(indices.known), stretched_batch(active, len(indices.known)))


def top_k(call: Call) -> list[Answer]:
    """TopK: the largest and where they are."""
    tensor, count = call.tensor(0), call.setting("k", 1)
    shape = tensor.known
    axis = call.axis("axis", -1, len(shape))
    if count is None or len(count) != 1 or not 0 < count[0] <= shape[axis] or axis == tensor.batch:
        raise Refused(f"the largest {list(count or ())} of axis {axis}")
    whole = (*shape[:axis], count[0], *shape[axis + 1 :])
    return [Made("unknown", (tensor,), whole, tensor.batch, dtype=word) for word in (tensor.dtype, "int64")]


def expand(call: Call) -> Answer:
    """Expand: axes of one stretch."""
    tensor, target = call.tensor(0), call.numbers(1)
    whole = shapes.checked(shapes.broadcast(tensor.known, target or ()))
    batch = stretched_batch((tensor,), len(whole))
    if whole == tensor.known:
        return Dropped(tensor)
    return Made("tile", (tensor,), whole, batch, dtype=tensor.dtype)


def tile(call: Call) -> Answer:
    """Tile: the tensor again and again along its axes."""
    tensor, repeats = call.tensor(0), call.numbers(1)
    if repeats is None or len(repeats) != len(tensor.known):
        raise Refused(f"{len(repeats or ())} repeats of {len(tensor.known)} axes")
    if tensor.batch is not None and repeats[tensor.batch] != 1:
        raise Refused("it repeats the batch")
    whole = shapes.checked([size * count for size, count in zip(tensor.known, repeats, strict=True)])
    return Dropped(tensor) if whole == tensor.known else Made("tile", (tensor,), whole, tensor.batch)


def concat(call: Call) -> Answer:
    """Concat; constants among the parts are kept by their place."""
    tensors = [tensor for tensor in call.inputs if tensor is not None]
    active = tuple(tensor for tensor in tensors if not tensor.constant)
    rank = len(tensors[0].known) if tensors else 0
    axis = call.axis("axis", 1, rank)
    if len({tensor.known[:axis] + tensor.known[axis + 1 :] for tensor in tensors}) != 1 or any(
        len(tensor.known) != rank for tensor in tensors
    ):
        raise Refused(f"{[list(tensor.known) for tensor in tensors]} along axis {axis}")
    whole = list(tensors[0].known)
    whole[axis] = sum(tensor.known[axis] for tensor in tensors)
    batch = stretched_batch(active, rank)
    if len(tensors) == 1:
        return Dropped(tensors[0])
    constants = {f"input_{place}": as_constant(part) for place, part in enumerate(tensors) if part.constant}
    where = {"axis": sample_axis(axis, batch)}
    return Made("concat", active, shapes.checked(whole), batch, where, constants, dtype=tensors[0].dtype)


# --- other sizes ---


def resize(call: Call) -> Answer:
    """Resize and Upsample, by factors or by sizes."""
    tensor = call.tensor(0)
    shape, axes = tensor.known, call.integers("axes")
    places = list(range(len(shape))) if axes is None else [front(axis, len(shape)) for axis in axes]
    sizes = _resized(call, [shape[axis] for axis in places])
    whole = list(shape)
    for axis, size in zip(places, sizes, strict=True):
        whole[axis] = size
    if tuple(whole) == shape:
        return Dropped(tensor)
    if tensor.batch is not None and whole[tensor.batch] != shape[tensor.batch]:
        raise Refused("it resizes the batch")
    mode = {"mode": call.text("mode", "nearest")}
    return Made("resize", (tensor,), shapes.checked(whole), tensor.batch, mode, dtype=tensor.dtype)


def _resized(call: Call, sizes: list[int]) -> list[int]:
    """Sizes after a resize, of the axes that it names."""
    scales, wanted = _factors(call), call.numbers(3) if call.opset >= 11 else None
    if wanted and not scales:
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if len(wanted) != len(sizes):
            raise Refused(f"sizes {list(wanted)} over {len(sizes)} axes")
        if policy == "stretch":
            return list(wanted)
        factors = [new / old for new, old in zip(wanted, sizes, strict=True)]
        factor = min(factors) if policy == "not_larger" else max(factors)
        return [int(factor * size + 0.5) for size in sizes]
    if len(scales) != len(sizes):
        raise Refused(f"{len(scales)} factors over {len(sizes)} axes")
    return [int(size * scale) for size, scale in zip(sizes, scales, strict=True)]


def _factors(call: Call) -> list[float]:
    given: Any = call.node.attributes.get("scales")
    if given is None:
        place = 2 if call.node.op == "Resize" and call.opset >= 11 else 1
        found = call.constant(place)
        if found is not None and found.value is None and found.shape != (0,):
            raise Refused("its factors are not known")
        given = () if found is None or found.value is None else tuple(found.value.reshape(-1)[:9].tolist())
    if (
        not isinstance(given, tuple)
        or len(given) > 8
        or not all(isinstance(one, int | float) and 0 < one < 2**20 for one in given)
    ):
        raise Refused("its factors are no numbers that make sense")
    return [float(one) for one in given]


def reduce_(call: Call) -> Answer:
    """ReduceMean and its kin; axes are attributes before version 18 and inputs since."""
    tensor, kind = call.tensor(0), call.node.op.removeprefix("Reduce").lower()
    axes, rank = call.setting("axes", 1), len(tensor.known)
    if not axes:
        if call.integer("noop_with_empty_axes", 0):
            return Dropped(tensor)
        axes = tuple(range(rank))
    over = tuple(sorted({front(axis, rank) for axis in axes}))
    keep = bool(call.integer("keepdims", 1))
    return mean(tensor, over, keep) if kind == "mean" else reduction(tensor, kind, over, keep)


REDUCTIONS: Final = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")

MOVEMENT_RULES: Final[dict[str, Rule]] = {
    "Identity": same, "Dropout": same, "Cast": cast, "CastLike": same, "Reshape": reshape(reshape_target),
    "Flatten": reshape(flatten_target), "Squeeze": reshape(squeeze_target),
    "Unsqueeze": reshape(unsqueeze_target), "Transpose": transpose, "DepthToSpace": blocks,
    "SpaceToDepth": blocks, "Pad": pad, "Slice": slice_, "Split": split, "Gather": gather,
    "GatherElements": gather_elements, "TopK": top_k, "Expand": expand, "Tile": tile, "Concat": concat,
    "Resize": resize, "Upsample": resize,
    "GlobalAveragePool": global_average_pool, "GlobalMaxPool": global_max_pool,
    **{f"Reduce{kind}": reduce_ for kind in REDUCTIONS},
}  # fmt: skip
"""Operator of ONNX's own domain -> its rule."""
