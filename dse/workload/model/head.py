"""A new last layer for another number of classes; everything before it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Final

from dse.errors import Problem, UserError
from dse.workload.model.graph import Constant, Node

_BEHIND: Final = (
    "reshape", "transpose", "softmax", "relu", "relu6", "hard_swish", "batch_norm", "add", "subtract",
    "multiply", "divide", "global_avg_pool", "avg_pool", "max_pool", "reduce",
)  # fmt: skip
"""What may stand between the last layer and the output."""
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
    found = f"{head.name} ({head.source_operation}) stands before the output"
    refusal = UserError(Problem(file, "classes", found, "a linear layer or a convolution can be replaced"))
    if head.operation not in _WEIGHTED or weight is None or not weight.shape:
        raise refusal
    if head.attributes.get("groups", 1) != 1 or prod(by_name[output].shape or ()) != weight.shape[0]:
        raise refusal  # one output for each of its own, so that another number of them is the same network
    if weight.shape[0] == classes:
        return tuple(nodes), ()
    return _replaced(nodes, chain, weight.shape[0], classes)


def _replaced(
    nodes: Sequence[Node], chain: Sequence[Node], old: int, classes: int
) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    changed: dict[str, Node] = {}
    place: int | None = None
    for node in reversed(chain):
        place = _place(node, place, old)
        changed[node.name] = _resized(node, place, old, classes)
    note = f"{chain[-1].name} gives {classes} outputs in place of {old}: its weights are left out"
    return tuple(changed.get(node.name, node) for node in nodes), (note,)


def _place(node: Node, before: int | None, old: int) -> int | None:
    """Return the axis of the outputs in what ``node`` gives; ``before`` is that in what it reads."""
    shape = node.shape or ()
    order = list(node.attributes.get("permutation", ()))
    if node.operation == "transpose":
        before = order.index(before) if before in order else None
    elif node.channel_axis is not None:
        before = node.channel_axis
    elif node.operation == "reshape":
        before = None
    if before is not None and before < len(shape) and shape[before] == old:
        return before
    places = [place for place, size in enumerate(shape) if size == old]
    return places[-1] if places else None


def _resized(node: Node, place: int | None, old: int, classes: int) -> Node:
    constants = {name: _emptied(constant, old, classes) for name, constant in node.constants.items()}
    shape = node.shape
    if shape is not None and place is not None:
        shape = (*shape[:place], classes, *shape[place + 1 :])
    return replace(node, shape=shape, constants=constants, quantisation=None)


def _emptied(constant: Constant, old: int, classes: int) -> Constant:
    """Return a constant of the new size without numbers; weights have their outputs in front."""
    if old not in constant.shape:
        return constant
    place = constant.shape.index(old)
    shape = (*constant.shape[:place], classes, *constant.shape[place + 1 :])
    stored = constant.stored_bytes // old * classes
    return replace(constant, shape=shape, stored_bytes=stored, values=None, quantisation=None)
