"""Converters of operators that give the same elements another shape or place."""

from __future__ import annotations

from math import prod
from typing import Final

from dse.workload.base import Shape
from dse.workload.model import Node
from dse.workload.tflite.flat import Operator
from dse.workload.tflite.nodes import Nodes, axis_of, known
from dse.workload.tflite.stored import Unreadable
from dse.workload.tflite.tensors import Value


def axis_here(value: Value, axis: int) -> int:
    """Count an axis of the file without the batch."""
    return axis - 1 if value.batched else axis


def _open(nodes: Nodes, operator: Operator, place: int, axis: int) -> tuple[Value, int]:
    """Input ``place`` and an axis of it from 0; the batch becomes an axis where it is meant."""
    value = nodes.value(operator, place)
    axis = axis_of(axis, len(known(value)))
    return (nodes.explicit(value) if value.batched and axis == 0 else value), axis


def _view(nodes: Nodes, operator: Operator, value: Value, full: Shape) -> None:
    batched = len(full) > 1 and full[0] == 1
    nodes.add(operator, "reshape", [value], full, batched=batched)


def reshape(nodes: Nodes, operator: Operator) -> None:
    """RESHAPE; its shape is its second input, or an option where it has none."""
    value = nodes.value(operator, 0)
    full = known(value)
    asked = nodes.whole(operator, 1) if nodes.has(operator, 1) else nodes.option(operator, "NewShape")
    _view(nodes, operator, value, reshape_sizes(full, tuple(asked), nodes.batch))


def reshape_sizes(full: Shape, asked: Shape, batch: int = 1) -> Shape:
    """Sizes that a reshape to ``asked`` gives: one may be -1, a leading ``batch`` was fixed to 1.

    >>> reshape_sizes((1, 4, 4, 8), (-1, 128)), reshape_sizes((1, 12), (5, 3, 4), 5)
    ((1, 128), (1, 3, 4))
    """
    total, sizes = prod(full), list(asked)
    if batch > 1 and sizes[:1] and sizes[0] % batch == 0 and -1 not in sizes and prod(sizes) == batch * total:
        sizes[0] //= batch
    rest = prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and rest > 0 and total % rest == 0:
        sizes[sizes.index(-1)] = total // rest
    if min(sizes, default=1) < 1 or prod(sizes) != total:
        raise Unreadable(f"shape {list(full)} cannot become {list(asked)}")
    return tuple(sizes)


def squeeze(nodes: Nodes, operator: Operator) -> None:
    """SQUEEZE; without axes all of size 1 go, the batch too."""
    value = nodes.value(operator, 0)
    full = known(value)
    asked = (operator.options or {}).get("SqueezeDims", ())
    axes = {axis_of(axis, len(full)) for axis in asked} or {i for i, size in enumerate(full) if size == 1}
    if any(full[axis] != 1 for axis in axes):
        raise Unreadable(f"axes {sorted(axes)} of {list(full)} are not all 1")
    _view(nodes, operator, value, tuple(size for axis, size in enumerate(full) if axis not in axes))


def expand_dims(nodes: Nodes, operator: Operator) -> None:
    """EXPAND_DIMS."""
    value = nodes.value(operator, 0)
    full = known(value)
    axis = axis_of(nodes.whole(operator, 1)[0] if nodes.whole(operator, 1) else 0, len(full) + 1)
    _view(nodes, operator, value, (*full[:axis], 1, *full[axis:]))


def transpose(nodes: Nodes, operator: Operator) -> None:
    """TRANSPOSE; one that moves only axes of size 1 is a view."""
    value = nodes.value(operator, 0)
    full, order = known(value), nodes.whole(operator, 1)
    order = tuple(axis_of(axis, len(full)) for axis in order)
    if sorted(order) != list(range(len(full))):
        raise Unreadable(f"{list(order)} is no order of {len(full)} axes")
    result = tuple(full[axis] for axis in order)
    long = [axis for axis in order if full[axis] > 1]
    if long == sorted(long):
        _view(nodes, operator, value, result)
        return
    stays = value.batched and order[0] == 0
    source = value if stays else nodes.explicit(value)
    permutation = tuple(axis - stays for axis in order[stays:])
    nodes.add(operator, "transpose", [source], result, batched=stays, attributes={"permutation": permutation})


def concatenation(nodes: Nodes, operator: Operator) -> None:
    """CONCATENATION of computed tensors."""
    rank = len(known(nodes.value(operator, 0)))
    axis = axis_of(nodes.option(operator, "Axis"), rank)
    values = [_open(nodes, operator, place, axis)[0] for place in range(len(operator.inputs))]
    _join(nodes, operator, values, axis)


def _join(nodes: Nodes, operator: Operator, values: list[Value], axis: int) -> None:
    batched = all(value.batched for value in values)
    if not batched:
        values = [nodes.explicit(value) for value in values]
    shapes = [known(value) for value in values]
    if len({(*full[:axis], *full[axis + 1 :]) for full in shapes}) != 1 or axis >= min(map(len, shapes)):
        raise Unreadable(f"shapes {' and '.join(str(list(full)) for full in shapes[:4])} do not fit")
    full = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    nodes.add(operator, "concat", values, full, batched=batched, attributes={"axis": axis - batched})


def pack(nodes: Nodes, operator: Operator) -> None:
    """PACK: every input gets an axis of 1, along which they are joined."""
    rank = len(known(nodes.value(operator, 0))) + 1
    axis = axis_of(nodes.option(operator, "Axis"), rank)
    values = []
    for place in range(len(operator.inputs)):
        value = nodes.value(operator, place)
        value = nodes.explicit(value) if axis == 0 else value
        full = known(value)
        wide = (*full[:axis], 1, *full[axis:])
        values.append(nodes.reshape(value, wide, batched=value.batched, suffix="packed"))
    _join(nodes, operator, values, axis)


def pad(nodes: Nodes, operator: Operator) -> None:
    """PAD, PADV2 and MIRROR_PAD."""
    value = nodes.value(operator, 0)
    full, flat = known(value), nodes.whole(operator, 1)
    if len(flat) != 2 * len(full) or min(flat, default=0) < 0:
        raise Unreadable(f"{list(flat)[:16]} are no pads of {len(full)} axes")
    pads = tuple(zip(flat[::2], flat[1::2], strict=True))
    if value.batched and pads[0] != (0, 0):
        value = nodes.explicit(value)
    mode = _pad_mode(nodes, operator)
    attributes = {"pads": pads[value.batched :]} | mode
    sizes = tuple(size + before + after for size, (before, after) in zip(full, pads, strict=True))
    nodes.add(operator, "pad", [value], sizes, batched=value.batched, attributes=attributes)


def _pad_mode(nodes: Nodes, operator: Operator) -> dict[str, object]:
    """Real value of the pads; quantised tensors are padded with their zero point unless PADV2 says else."""
    if operator.kind == "MIRROR_PAD":
        return {"value": None, "mode": "symmetric" if nodes.option(operator, "Mode") else "reflect"}
    if operator.kind == "PAD":
        return {"value": 0.0}
    constant = nodes.constant(nodes.index(operator, 2))
    if nodes.is_computed(operator, 2) or constant.elements != 1 or constant.values is None:
        raise Unreadable("its pad value is no constant number")
    return {"value": float(constant.values.reshape(-1)[0])}


def blocks(nodes: Nodes, operator: Operator) -> None:
    """DEPTH_TO_SPACE and SPACE_TO_DEPTH: channels and positions change places, block by block.

    Channel (i b + j) c + k is position (i, j) of a block of b x b, and channel k there.
    """
    value, block = nodes.per_sample(nodes.value(operator, 0)), int(nodes.option(operator, "BlockSize"))
    full = known(value)
    if len(full) != 4 or block < 1:
        raise Unreadable(f"blocks of {block} in an input of {list(full)}")
    _, height, width, channels = full
    if operator.kind == "DEPTH_TO_SPACE":
        cut = (height, width, block, block, channels // block**2)
        after = (1, height * block, width * block, channels // block**2)
    else:
        cut = (height // block, block, width // block, block, channels)
        after = (1, height // block, width // block, block**2 * channels)
    if prod(cut) != prod(full):
        raise Unreadable(f"{list(full)} cannot be cut into blocks of {block}")
    fine = nodes.reshape(value, (1, *cut), batched=True, suffix="blocks")
    name = nodes.names.new(f"{nodes.graph.tensors[nodes.output(operator)].name}.turned")
    turned = (cut[0], cut[2], cut[1], *cut[3:])
    nodes.append(Node(name, "transpose", (fine.producer,), turned, operator.kind, {"permutation": _TURNED}))
    nodes.add(operator, "reshape", [Value(name, (1, *turned), batched=True)], after)


_TURNED: Final = (0, 2, 1, 3, 4)


# --- parts ---


def slice_(nodes: Nodes, operator: Operator) -> None:
    """SLICE: begins and sizes, -1 for all that is left."""
    full = known(nodes.value(operator, 0))
    begins, sizes = nodes.whole(operator, 1), nodes.whole(operator, 2)
    if not len(begins) == len(sizes) == len(full):
        raise Unreadable(f"{len(begins)} begins and {len(sizes)} sizes for {len(full)} axes")
    rows = zip(full, begins, sizes, strict=True)
    result = tuple(most - begin if size == -1 else size for most, begin, size in rows)
    part(nodes, operator, begins, result, result)


def part(
    nodes: Nodes, operator: Operator, begins: Shape, sizes: Shape, result: Shape, *,
    place: int = 0, output: int = 0, steps: Shape | None = None,
) -> None:  # fmt: skip
    """Add the node that takes ``sizes`` elements from ``begins`` on, seen in the shape ``result``."""
    value = nodes.value(operator, place)
    full, steps = known(value), steps or (1,) * len(begins)
    for most, begin, size, step in zip(full, begins, sizes, steps, strict=True):
        last = begin + (size - 1) * step
        if size < 1 or not (0 <= begin < most and 0 <= last < most):
            raise Unreadable(f"{size} from {begin} on lie outside {most}")
    whole = value.batched and len(result) > 1 and result[0] == 1
    attributes = {"begin": begins[value.batched :], "steps": steps[value.batched :]}
    nodes.add(operator, "slice", [value], result, batched=whole, attributes=attributes, output=output)


def split(nodes: Nodes, operator: Operator) -> None:
    """SPLIT into equal parts along an axis; parts that nobody reads are left out."""
    axes, count = nodes.whole(operator, 0), len(operator.outputs)
    full = known(nodes.value(operator, 1))
    axis = axis_of(axes[0] if axes else 0, len(full))
    if not count or full[axis] % count:
        raise Unreadable(f"{full[axis]} cannot be split into {count}")
    _parts(nodes, operator, 1, axis, (full[axis] // count,) * count)


def split_v(nodes: Nodes, operator: Operator) -> None:
    """SPLIT_V into parts of given sizes, one of which may be -1."""
    full, axes, sizes = known(nodes.value(operator, 0)), nodes.whole(operator, 2), nodes.whole(operator, 1)
    axis = axis_of(axes[0] if axes else 0, len(full))
    rest = full[axis] - sum(size for size in sizes if size != -1)
    sizes = tuple(rest if size == -1 else size for size in sizes)
    if len(sizes) != len(operator.outputs) or sum(sizes) != full[axis] or min(sizes, default=0) < 1:
        raise Unreadable(f"{full[axis]} cannot be split into {list(sizes)}")
    _parts(nodes, operator, 0, axis, sizes)


def unpack(nodes: Nodes, operator: Operator) -> None:
    """UNPACK: one part per index of an axis, which goes."""
    full = known(nodes.value(operator, 0))
    axis = axis_of(nodes.option(operator, "Axis"), len(full))
    if len(operator.outputs) != full[axis]:
        raise Unreadable(f"{full[axis]} indices and {len(operator.outputs)} outputs")
    _parts(nodes, operator, 0, axis, (1,) * full[axis], drop=True)


def _parts(
    nodes: Nodes, operator: Operator, place: int, axis: int, sizes: Shape, *, drop: bool = False
) -> None:
    full = known(nodes.value(operator, place))
    begin = 0
    for output, size in enumerate(sizes):
        begins = tuple(begin if i == axis else 0 for i in range(len(full)))
        taken = (*full[:axis], size, *full[axis + 1 :])
        begin += size
        if nodes.is_read(operator.outputs[output]):
            result = (*full[:axis], *full[axis + 1 :]) if drop else taken
            part(nodes, operator, begins, taken, result, place=place, output=output)


def gather(nodes: Nodes, operator: Operator) -> None:
    """GATHER along one axis by constant indices."""
    if nodes.option(operator, "BatchDims"):
        raise Unreadable("it gathers per batch")
    value, axis = _open(nodes, operator, 0, nodes.option(operator, "Axis"))
    index = nodes.index(operator, 1)
    if nodes.is_computed(operator, 1):
        raise Unreadable("its indices are computed")
    indices, full = nodes.constant(index).shape, known(value)
    result = (*full[:axis], *indices, *full[axis + 1 :])
    nodes.add(operator, "gather", [value], result, batched=value.batched,
              attributes={"axis": axis_here(value, axis)})  # fmt: skip


def resize(nodes: Nodes, operator: Operator) -> None:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR."""
    value = nodes.per_sample(nodes.value(operator, 0))
    full, sizes = known(value), nodes.whole(operator, 1)
    if len(full) != 4 or len(sizes) != 2:
        raise Unreadable(f"sizes {list(sizes)} for an input of {list(full)}")
    mode = "bilinear" if operator.kind == "RESIZE_BILINEAR" else "nearest"
    nodes.add(operator, "resize", [value], (1, *sizes, full[3]), attributes={"mode": mode}, channel_last=True)


def tile(nodes: Nodes, operator: Operator) -> None:
    """TILE and BROADCAST_TO."""
    value = nodes.value(operator, 0)
    full, asked = known(value), nodes.whole(operator, 1)
    if operator.kind == "BROADCAST_TO":
        full = (1,) * (len(asked) - len(full)) + full
        rows = zip(full, asked, strict=False)
        asked = tuple(size // most if most and size % most == 0 else 0 for most, size in rows)
    if len(asked) != len(full):
        raise Unreadable(f"{list(asked)} do not fit an input of {list(full)}")
    result = tuple(size * times for size, times in zip(full, asked, strict=True))
    stays = value.batched and len(full) == len(known(value)) and asked[0] == 1
    source = value if stays else nodes.explicit(value)
    nodes.add(operator, "tile", [source], result, batched=stays)
