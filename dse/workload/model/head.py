"""A new last layer for another number of classes; everything before it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dse.errors import Problem, UserError
from dse.workload.base import Shape
from dse.workload.model.graph import Constant, Node

_BEHIND: Final = (
    "reshape", "transpose", "softmax", "relu", "relu6", "hard_swish", "batch_norm", "add", "subtract",
    "multiply", "divide", "global_avg_pool", "avg_pool", "max_pool", "reduce",
)  # fmt: skip
"""What may stand between the last layer and the output: none of it joins numbers of two classes."""
_WEIGHTED: Final = ("linear", "conv")


def with_classes(
    nodes: Sequence[Node], output: str, classes: int, file: str
) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """Return nodes whose last layer gives ``classes`` outputs and has no numbers, with a note.

    Raises UserError where nothing that can be replaced stands before ``output``.
    """
    by_name = {node.name: node for node in nodes}
    chain = [by_name[output]]
    while chain[-1].operation in _BEHIND and len(chain[-1].inputs) == 1 and chain[-1].inputs[0] in by_name:
        chain.append(by_name[chain[-1].inputs[0]])
    head = chain[-1]
    weight = head.constants.get("weight")
    if (
        head.operation not in _WEIGHTED
        or weight is None
        or not weight.shape
        or head.attributes.get("groups", 1) != 1
    ):
        found = f"{head.name} ({head.source_operation}) stands before the output"
        raise UserError(Problem(file, "classes", found, "a linear layer or a convolution can be replaced"))
    if weight.shape[0] == classes:
        return tuple(nodes), ()
    return _replaced(nodes, chain, weight.shape[0], classes)


def _replaced(
    nodes: Sequence[Node], chain: Sequence[Node], old: int, classes: int
) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    changed: dict[str, Node] = {}
    before: Node | None = None
    axis: int | None = None  # of the outputs, where the layer or an operation behind it says so
    for node in reversed(chain):
        alike = before is not None and node.operation != "transpose" and node.shape == before.shape
        axis = node.channel_axis if node.channel_axis is not None else axis if alike else None
        changed[node.name] = _resized(node, old, classes, axis)
        before = node
    note = f"{chain[-1].name} gives {classes} outputs in place of {old}: its weights are left out"
    return tuple(changed.get(node.name, node) for node in nodes), (note,)


def _resized(node: Node, old: int, classes: int, axis: int | None) -> Node:
    constants = {name: _emptied(constant, old, classes) for name, constant in node.constants.items()}
    shape = None if node.shape is None else _swapped(node.shape, old, classes, axis)
    return replace(node, shape=shape, constants=constants, quantisation=None)


def _swapped(shape: Shape, old: int, classes: int, axis: int | None) -> Shape:
    """Replace the axis of the old outputs: ``axis``, or else the last of their size."""
    if axis is not None and axis < len(shape) and shape[axis] == old:
        return (*shape[:axis], classes, *shape[axis + 1 :])
    places = [place for place, size in enumerate(shape) if size == old]
    return tuple(classes if place in places[-1:] else size for place, size in enumerate(shape))


def _emptied(constant: Constant, old: int, classes: int) -> Constant:
    """Return a constant of the new size without numbers; weights have their outputs in front."""
    if old not in constant.shape:
        return constant
    place = constant.shape.index(old)
    shape = (*constant.shape[:place], classes, *constant.shape[place + 1 :])
    stored = constant.stored_bytes // old * classes
    return replace(constant, shape=shape, stored_bytes=stored, values=None, quantisation=None)
