"""Simplifies converted nodes: pads into convolutions, activations that are written out, unread results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from dse.workload.model.graph import Node
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.rewriting import Graph

UNREAD: Final = "operations whose result nobody reads were dropped"
FOLDED: Final = "zero pads became pads of the convolution behind them"


def simplified(c: Conversion, outputs: list[str]) -> tuple[Node, ...]:
    """Return the nodes that the outputs need, simplified; names in ``outputs`` follow."""
    graph = Graph(c.nodes, outputs)
    dropped = sum(node.operation != "slice" for node in graph.prune())
    for step in STEPS:
        for name in list(graph.nodes):
            if name in graph.nodes:
                step(c, graph, graph.nodes[name])
    graph.prune()
    if dropped:
        c.notes[UNREAD] += dropped
    return tuple(graph.nodes.values())


def merge_clips(c: Conversion, graph: Graph, node: Node) -> None:
    """Two clamps in a row, each open on one side, are one."""
    below = graph.only_input(node)
    if below is None or not graph.read_once(below):
        return
    low, high = _bounds(below)
    low_here, high_here = _bounds(node)
    if (low, high_here) != (None, None) and high is None and low_here is None and high_here is not None:
        relu6 = (low, high_here) == (0, 6)
        attributes = {} if relu6 else {"low": low, "high": high_here}
        operation = "relu6" if relu6 else "clip"
        graph.put(replace(node, operation=operation, inputs=below.inputs, attributes=attributes))


def _bounds(node: Node) -> tuple[float | None, float | None]:
    """Bounds of a clamp; (0, 0) for what is none, which fits no pattern."""
    known: dict[str, tuple[float | None, float | None]] = {"relu": (0, None), "relu6": (0, 6)}
    if node.operation == "clip":
        return node.attributes.get("low"), node.attributes.get("high")
    return known.get(node.operation, (0, 0))


def hard_activations(c: Conversion, graph: Graph, node: Node) -> None:
    """relu6(x + 3) / 6 is hard sigmoid, x times it hard swish (Howard et al., arXiv 1905.02244, 5.2)."""
    if _operand(node) is None:
        return
    six = (node.operation == "divide" and _operand(node) == 6) or (
        node.operation == "multiply" and abs((_operand(node) or 0) - 1 / 6) < 1e-6
    )
    inner = graph.only_input(node)
    if not six or inner is None or node.attributes.get("operand_first") or not graph.read_once(inner):
        return
    source = _shifted(graph, inner)
    if source is not None:
        graph.put(replace(node, operation="hard_sigmoid", inputs=(source,), attributes={}, constants={}))
    elif inner.operation == "multiply" and len(inner.inputs) == 2:
        for factor, other in (inner.inputs, inner.inputs[::-1]):
            gate = graph.nodes.get(factor)
            if gate is not None and graph.read_once(gate) and _shifted(graph, gate) == other:
                graph.put(replace(node, operation="hard_swish", inputs=(other,), attributes={}, constants={}))
                return


def _shifted(graph: Graph, node: Node) -> str | None:
    """Return x where ``node`` is relu6(x + 3) and nobody else reads the sum."""
    if node.operation != "relu6":
        return None
    total = graph.only_input(node)
    fits = total is not None and total.operation == "add" and _operand(total) == 3 and graph.read_once(total)
    return total.inputs[0] if total is not None and fits and len(total.inputs) == 1 else None


def _operand(node: Node) -> float | None:
    constant = node.constants.get("operand")
    if constant is None or constant.values is None or constant.elements != 1:
        return None
    return float(constant.values.reshape(-1)[0])


def gated(c: Conversion, graph: Graph, node: Node) -> None:
    """X sigmoid(x) is swish, x hard_sigmoid(x) hard swish."""
    if node.operation != "multiply" or len(node.inputs) != 2:
        return
    words = {"sigmoid": "swish", "hard_sigmoid": "hard_swish"}
    for factor, other in (node.inputs, node.inputs[::-1]):
        gate = graph.nodes.get(factor)
        if (
            gate is None
            or gate.operation not in words
            or gate.inputs != (other,)
            or not graph.read_once(gate)
        ):
            continue
        if gate.quantisation is None:
            graph.put(replace(node, operation=words[gate.operation], inputs=(other,), attributes={}))
            return


def fold_pads(c: Conversion, graph: Graph, node: Node) -> None:
    """A pad of zeros along positions, read by one convolution alone, belongs to the convolution."""
    below = graph.only_input(node)
    if node.operation != "conv" or below is None or below.operation != "pad" or not graph.read_once(below):
        return
    pads = below.attributes["pads"]
    plain = below.attributes["value"] == 0 and below.attributes["mode"] == "constant"
    if not plain or any(pads[0]) or below.quantisation is not None:
        return
    both = zip(pads[1:], node.attributes["pads"], strict=True)
    summed = tuple((a[0] + b[0], a[1] + b[1]) for a, b in both)
    graph.put(replace(node, inputs=below.inputs, attributes={**node.attributes, "pads": summed}))
    c.notes[FOLDED] += 1


def flat_pools(c: Conversion, graph: Graph, node: Node) -> None:
    """A pool between a reshape that adds an axis of one and one that removes it needs neither.

    That is how decomposed graphs write pools over one axis.
    """
    below = graph.only_input(node)
    if below is None or below.operation != "reshape" or below.shape is None or not graph.read_once(below):
        return
    source = graph.shape_of(below.inputs[0])
    if source is None or not source or source[0] != below.shape[0] or node.shape is None:
        return
    if node.operation == "global_avg_pool" and node.attributes["input_channel_axis"] == 0:
        graph.put(replace(node, inputs=below.inputs))
    elif node.operation in ("max_pool", "avg_pool") and len(source) == len(below.shape) - 1:
        _flatten_pool(graph, node, below, source)


def _flatten_pool(graph: Graph, node: Node, below: Node, source: tuple[int, ...]) -> None:
    after = graph.only_reader(node)
    assert below.shape is not None
    assert node.shape is not None
    places = [axis for axis in range(1, len(below.shape)) if _dropped(below.shape, axis) == source]
    for axis in places:
        windows = [node.attributes[key][axis - 1] for key in ("kernel", "stride", "pads")]
        shape = _dropped(node.shape, axis)
        if windows != [1, 1, (0, 0)] or after is None or after.operation != "reshape" or after.shape != shape:
            continue
        keys = ("kernel", "stride", "dilation", "pads")
        flat = {key: _dropped(node.attributes[key], axis - 1) for key in keys}
        attributes = {**node.attributes, **flat}
        graph.put(replace(node, inputs=below.inputs, shape=shape, attributes=attributes))
        graph.bypass(after)
        return


def _dropped(entries: tuple[int, ...], place: int) -> tuple[int, ...]:
    return entries[:place] + entries[place + 1 :]


def safe_softmax(c: Conversion, graph: Graph, node: Node) -> None:
    """Decomposed attention puts zeros for rows without a finite score; there are none without a mask."""
    if node.source_operation != "aten.where" or not 2 <= len(node.inputs) <= 3:
        return
    results = [name for name in node.inputs if graph.operation_of(name) == "softmax"]
    tests = [name for name in node.inputs if name not in results]
    sources = {graph.nodes[name].source_operation for name in tests if name in graph.nodes}
    if len(results) == 1 and sources and sources <= {"aten.logical_not", "aten.full_like"}:
        graph.bypass(node, results[0])


def learned_slope(c: Conversion, graph: Graph, node: Node) -> None:
    """where(x > 0, x, slope x) is a rectifier with a learned slope."""
    if node.source_operation != "aten.where" or len(node.inputs) != 3:
        return
    test, x, scaled = node.inputs
    if test not in graph.nodes or scaled not in graph.nodes:
        return
    positive, product = graph.nodes[test], graph.nodes[scaled]
    compares = (positive.source_operation, positive.attributes.get("other")) == ("aten.gt", 0)
    slope = product.constants.get("operand")
    scales = product.operation == "multiply" and product.inputs == (x,) == positive.inputs
    if compares and scales and slope is not None and graph.read_once(product):
        values = None if slope.values is None else slope.values.reshape(-1)
        slope = replace(slope, shape=(slope.elements,), values=values)
        made = replace(node, operation="prelu", inputs=(x,), attributes={}, constants={"slope": slope})
        graph.put(replace(made, channel_axis=0))


STEPS: Final[Sequence[Callable[[Conversion, Graph, Node], None]]] = (
    safe_softmax, learned_slope, merge_clips, hard_activations, gated, fold_pads, flat_pools,
)  # fmt: skip
