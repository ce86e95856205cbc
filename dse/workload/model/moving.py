"""Operations that give numbers another shape or place: many of them are nothing once channels come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dse.workload.forward_only import custom_operation
from dse.workload.layers import Concat
from dse.workload.model.emission import Emission, Value, shape_of
from dse.workload.model.graph import Node
from dse.workload.model.layout import channels_first, moved, plain, transposed


def reshape(emission: Emission, node: Node, value: Value) -> Value:
    """Return the same numbers under another shape; nothing is made until somebody needs that shape."""
    return replace(emission.same(node, value), moved_by=node.name)


def transpose(emission: Emission, node: Node, value: Value) -> Value:
    """Return the same numbers in another order of the file's axes; copied only where a reader needs that."""
    order = node.attributes.get("permutation", ())
    if sorted(order) != list(range(len(value.file_shape))):
        raise ValueError(f"{list(order)} is no order of {len(value.file_shape)} axes")
    layout = transposed(value.layout, value.file_shape, order)
    if layout is None:
        whole = plain(value.file_shape)
        value = emission.arranged(value, whole, value.file_shape)
        layout = transposed(whole, value.file_shape, order)
    assert layout is not None  # numbers in the file's order can be cut at any axis
    return replace(emission.same(node, value), layout=layout, moved_by=node.name)


def pad(emission: Emission, node: Node, value: Value) -> Value:
    """Return padding as a copy; none is nothing."""
    if shape_of(node) == value.file_shape:
        return emission.same(node, value)
    return copied(emission, node, [value])


def copied(emission: Emission, node: Node, values: Sequence[Value]) -> Value:
    """Return elements that are copied from place to place."""
    if node.operation == "tile" and values[0].file_shape == shape_of(node):
        return emission.same(node, values[0])
    return emission.ahead_anew(node, "copy", values)


def resize(emission: Emission, node: Node, value: Value) -> Value:
    """Return an image at another size."""
    return emission.ahead_anew(node, "resize", [value])


def concat(emission: Emission, node: Node, values: Sequence[Value]) -> Value:
    """Return tensors joined along their channels as a layer that learns, along another axis forward only."""
    axis = node.attributes.get("axis")
    if type(axis) is not int or any(not 0 <= axis < len(value.file_shape) for value in values):
        raise ValueError(f"no axis {axis!r} to join along")
    layouts = [channels_first(value.file_shape, axis) for value in values]
    fits = [value.layout == layout for value, layout in zip(values, layouts, strict=True)]
    distinct = len({value.layer for value in values}) == len(values) > 1
    if node.constants or not distinct or not any(fits):
        return emission.ahead_anew(node, "concat", values)
    lead = next(value for value, fit in zip(values, fits, strict=True) if fit)
    positions = lead.shape[1:] if lead.shape[0] == lead.file_shape[axis] else moved(lead.file_shape, axis)[1:]
    joined = [
        emission.arranged(value, layout, (value.file_shape[axis], *positions))
        for value, layout in zip(values, layouts, strict=True)
    ]
    layer = Concat(name=emission.name_of(node), inputs=tuple(value.layer for value in joined))
    return emission.became(node, layer, channels_first(shape_of(node), axis))


def unknown(emission: Emission, node: Node, values: Sequence[Value]) -> Value:
    """Return an operation that nothing here knows, by the file's name for it."""
    return emission.ahead_anew(node, custom_operation(node.source_operation), values)
