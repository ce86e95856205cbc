"""A softmax that an exporter wrote in pieces: exponentials over their sum, the largest taken off before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isinf
from typing import Protocol

from dse.workload.base import Shape
from dse.workload.model.graph import Node


class Graph(Protocol):
    """What is asked of the nodes that are rewritten."""

    nodes: dict[str, Node]
    outputs: frozenset[str]
    readers: dict[str, list[str]]

    def inner(self, name: str, operation: str, source: str | None = None) -> Node | None:
        """Node of that operation which one reader reads, and no output."""

    def replace(self, old: Node, new: Node, pieces: Iterable[str]) -> None:
        """Put ``new`` into the place of ``old`` and take the inner pieces away."""


def softmax(graph: Graph, node: Node) -> bool:
    """Put exp(x - max x) / sum exp(x - max x) together, both over one axis, with or without the largest."""
    if node.operation != "divide" or len(node.inputs) != 2 or node.shape is None:
        return False
    powers = graph.nodes.get(node.inputs[0])
    if powers is None or powers.operation != "exp" or powers.shape != node.shape:
        return False
    found = _over_axis(graph, node.inputs[1], "sum", powers.name, node.shape)
    if found is None or powers.name in graph.outputs:
        return False
    axis, pieces = found
    if set(graph.readers[powers.name]) != {node.name, pieces[-1]}:
        return False
    source, more = _without_largest(graph, powers, axis)
    new = replace(node, operation="softmax", inputs=(source,), attributes={"axis": axis}, constants={})
    graph.replace(node, new, [*pieces, powers.name, *more])
    return True


def _without_largest(graph: Graph, powers: Node, axis: int) -> tuple[str, list[str]]:
    """What the exponentials are of, without a difference to its own largest; and the pieces of that."""
    source = powers.inputs[0]
    shifted = graph.inner(source, "subtract")
    if shifted is not None and len(shifted.inputs) == 2 and powers.shape is not None:
        found = _over_axis(graph, shifted.inputs[1], "max", shifted.inputs[0], powers.shape)
        if found is not None and found[0] == axis:
            return shifted.inputs[0], [shifted.name, *found[1]]
    return source, []


def _over_axis(
    graph: Graph, name: str, kind: str, source: str, whole: Shape
) -> tuple[int, list[str]] | None:  # fmt: skip
    """Return the axis of ``source``, of shape ``whole``, that a reduction behind ``name`` takes; its pieces.

    None where it is another reduction, is read elsewhere, or its result is spread over another axis.
    """
    pieces = []
    top = graph.nodes.get(name)
    given = top.shape if top is not None else None
    while (view := graph.inner(name, "reshape") or _open_clip(graph, name)) is not None:
        pieces.append(name)
        name = view.inputs[0]
    node = graph.inner(name, "reduce")
    if node is None or node.inputs != (source,) or node.attributes.get("kind") != kind:
        return None
    axes = node.attributes.get("axes", ())
    if len(axes) != 1 or given != (*whole[: axes[0]], 1, *whole[axes[0] + 1 :]):
        return None
    return axes[0], [*pieces, name]


def _open_clip(graph: Graph, name: str) -> Node | None:
    """Return a clip that changes nothing: its bounds are open or infinite."""
    node = graph.inner(name, "clip")
    bounds = () if node is None else (node.attributes.get("low"), node.attributes.get("high"))
    return node if node is not None and all(bound is None or isinf(bound) for bound in bounds) else None
