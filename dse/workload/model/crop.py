"""Positions that are cut off behind a convolution: where only its padding gave them, it pads less instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from dse.workload.base import Shape
from dse.workload.model.graph import Node
from dse.workload.model.kinds import window_of

Cuts = tuple[tuple[int, int], ...]
"""How many positions go at (begin, end) of each axis."""

_ELEMENTWISE: Final = (
    "relu", "relu6", "hard_swish", "sigmoid", "tanh", "hard_sigmoid", "swish", "gelu", "elu", "leaky_relu",
    "clip", "exp", "log", "sqrt", "abs", "negate", "add", "multiply", "subtract", "divide", "minimum",
    "maximum",
)  # fmt: skip
"""Operations that may stand between: what one position becomes depends on no other."""

_FARTHEST: Final = 8


def without_crops(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[tuple[Node, ...], list[str]]:
    """Return nodes without slices that undo the padding of a convolution of stride 1; and notes.

    Temporal convolutional networks (Bai, Kolter and Koltun, 2018) pad both ends and cut the later one.

    Parameters
    ----------
    nodes: in an order in which producers come first.
    outputs: names of nodes that are read from outside; these stay as they are.

    """
    kept, found, instead, notes = set(outputs), dict[str, Node](), dict[str, str](), list[str]()
    readers = Counter(name for node in nodes for name in set(node.inputs))
    for node in nodes:
        if any(name in instead for name in node.inputs):
            node = replace(node, inputs=tuple(instead.get(name, name) for name in node.inputs))
        above = _smaller(node, found, lambda name: readers[name] == 1 and name not in kept)
        if above is None or node.name in kept:
            found[node.name] = node
            continue
        found |= {one.name: one for one in above}
        instead[node.name] = node.inputs[0]
        readers[node.inputs[0]] = readers[node.name]
        notes.append(f"{node.name} cuts off what padding adds: now less padding of {above[-1].name}")
    return tuple(found.values()), notes


def _smaller(node: Node, found: Mapping[str, Node], is_sole: Callable[[str], bool]) -> list[Node] | None:
    """Return what stands before a slice, up to a convolution, without what it cuts off; None: it stays."""
    cuts, above = _cuts(node, found), list[Node]()
    while cuts is not None and len(above) < _FARTHEST and len(node.inputs) == 1 and is_sole(node.inputs[0]):
        source = found.get(node.inputs[0])
        if source is None or source.shape is None or len(source.shape) != len(cuts):
            return None
        if source.operation == "conv":
            conv = _less_padded(source, source.shape, cuts)
            return None if conv is None else [*above, conv]
        above.append(replace(source, shape=_left(source.shape, cuts)))
        node, cuts = source, _through(source, cuts, found)
    return None


def _cuts(node: Node, found: Mapping[str, Node]) -> Cuts | None:
    """Return what a slice without gaps cuts off its input; None for any other node."""
    begin, steps, after = node.attributes.get("begin"), node.attributes.get("steps"), node.shape
    before = _shape_before(node, found) if node.operation == "slice" else None
    if begin is None or steps is None or after is None or before is None or not min(after, default=0):
        return None
    if not len(begin) == len(steps) == len(after) == len(before) or any(step != 1 for step in steps):
        return None
    rows = zip(before, begin, after, strict=True)
    cuts = tuple((first, size - first - count) for size, first, count in rows)
    return cuts if min(map(min, cuts)) >= 0 else None


def _shape_before(node: Node, found: Mapping[str, Node]) -> Shape | None:
    source = found.get(node.inputs[0]) if len(node.inputs) == 1 else None
    return None if source is None else source.shape


def _through(node: Node, cuts: Cuts, found: Mapping[str, Node]) -> Cuts | None:
    """Return what may be cut off the input of ``node`` in place of its output; None: nothing may."""
    before, after = _shape_before(node, found), node.shape
    if before is None or after is None:
        return None
    if node.operation == "reshape":
        return _through_view(before, after, cuts)
    if before != after:
        return None
    if node.operation == "batch_norm":
        axis = node.channel_axis
        return cuts if axis is not None and 0 <= axis < len(cuts) and not any(cuts[axis]) else None
    held = [constant.shape for constant in node.constants.values()]
    fits = node.operation in _ELEMENTWISE and all(_is_alike(shape, cuts) for shape in held)
    return cuts if fits else None


def _through_view(before: Shape, after: Shape, cuts: Cuts) -> Cuts | None:
    """Return cuts seen before a reshape that only adds or drops axes of one."""
    if [size for size in before if size > 1] != [size for size in after if size > 1]:
        return None
    long = iter([cut for cut, size in zip(cuts, after, strict=True) if size > 1])
    return tuple(next(long) if size > 1 else (0, 0) for size in before)


def _is_alike(shape: Shape, cuts: Cuts) -> bool:
    """Whether a constant, stretched from the last axis on, is the same at every position of axes cut."""
    rows = zip(reversed(shape), reversed(cuts), strict=False)
    return max(shape[: -len(cuts)], default=1) == 1 and all(size == 1 or not any(cut) for size, cut in rows)


def _less_padded(conv: Node, shape: Shape, cuts: Cuts) -> Node | None:
    """Return a convolution that does not give what ``cuts`` take off it; None where its padding is less."""
    axis = conv.channel_axis
    if axis is None or not 0 <= axis < len(cuts) or any(cuts[axis]):
        return None
    try:
        window = window_of(conv, len(cuts) - 1)
    except ValueError:  # is named where the node is lowered
        return None
    around = (*cuts[:axis], *cuts[axis + 1 :])
    if any(any(cut) and step > 1 for cut, step in zip(around, window.stride, strict=True)):
        return None
    pads = tuple((a - c, b - d) for (a, b), (c, d) in zip(window.pads, around, strict=True))
    if min(map(min, pads), default=-1) < 0:
        return None
    return replace(conv, shape=_left(shape, cuts), attributes={**conv.attributes, "pads": pads})


def _left(shape: Shape, cuts: Cuts) -> Shape:
    return tuple(size - sum(cut) for size, cut in zip(shape, cuts, strict=True))
