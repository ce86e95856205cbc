"""Operations that exporters write in pieces, put together again: hard-swish, swish, gelu, layer norm, biases.

A pattern is replaced where nothing outside it reads its inner tensors. The last piece keeps its name, except
that a bias goes to the linear layer before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isclose, pi, prod, sqrt
from typing import Any, Final

import numpy as np

from dse.workload.model.graph import Constant, Node
from dse.workload.onnx.softmax import softmax


@dataclass
class Graph:
    """Nodes that are rewritten one after another; ``readers`` counts who reads each."""

    nodes: dict[str, Node]
    outputs: frozenset[str]
    readers: dict[str, list[str]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.nodes.values():
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node.name)

    def inner(self, name: str, operation: str, source: str | None = None) -> Node | None:
        """Node of that operation which one reader reads (maybe twice), and no output."""
        node = self.nodes.get(name)
        if node is None or node.operation != operation or (source and node.source_operation != source):
            return None
        return node if len(set(self.readers.get(name, ()))) == 1 and name not in self.outputs else None

    def scaled(self, name: str) -> tuple[str, float] | None:
        """What a private product or quotient with one number reads, and the factor."""
        for operation in ("multiply", "divide"):
            node = self.inner(name, operation)
            if node is not None:
                found = factor(node)
                return None if found is None else (node.inputs[0], found)
        return None

    def replace(self, old: Node, new: Node, pieces: Iterable[str]) -> None:
        """Put ``new`` into the place of ``old`` and take the inner pieces away."""
        for name in (*pieces, old.name):
            for source in self.nodes[name].inputs:
                self.readers[source] = [reader for reader in self.readers[source] if reader != name]
            if name != old.name:
                del self.nodes[name]
        self.nodes[old.name] = new
        for source in new.inputs:
            self.readers.setdefault(source, []).append(old.name)


def number(constant: Constant | None) -> float | None:
    """Return the one number that a constant repeats."""
    if constant is None or constant.values is None or not 0 < constant.values.size <= 2**16:
        return None
    first = float(constant.values.reshape(-1)[0])
    return first if np.all(constant.values == constant.values.reshape(-1)[0]) else None


def addend(node: Node) -> float | None:
    """Return the number that an addition adds."""
    return (
        number(node.constants.get("operand")) if node.operation == "add" and len(node.inputs) == 1 else None
    )


def factor(node: Node) -> float | None:
    """Return the number that a product multiplies by, or the inverse of what a quotient divides by."""
    found = number(node.constants.get("operand")) if len(node.inputs) == 1 else None
    if found is None or node.operation == "multiply":
        return found
    return (
        1 / found if node.operation == "divide" and found and "operand_first" not in node.attributes else None
    )


def _near(value: float | None, wanted: float) -> bool:
    return value is not None and isclose(value, wanted, rel_tol=2e-3)


# --- activations ---


def bounded(graph: Graph, node: Node) -> bool:
    """Put minimum and maximum with one number together: relu, relu6, clip."""
    value = number(node.constants.get("operand")) if len(node.inputs) == 1 else None
    if value is None or node.operation not in ("minimum", "maximum"):
        return False
    if node.operation == "maximum":
        new = ("relu", {}) if value == 0 else ("clip", {"low": value, "high": None})
        graph.replace(node, _becomes(node, *new, node.inputs[0]), ())
        return True
    before = graph.inner(node.inputs[0], "relu") or graph.inner(node.inputs[0], "clip")
    low = None if before is None else 0.0 if before.operation == "relu" else before.attributes["low"]
    if before is None or (before.operation == "clip" and before.attributes["high"] is not None):
        new = ("clip", {"low": None, "high": value})
        graph.replace(node, _becomes(node, *new, node.inputs[0]), ())
        return True
    new = ("relu6", {}) if (low, value) == (0, 6) else ("clip", {"low": low, "high": value})
    graph.replace(node, _becomes(node, *new, before.inputs[0]), [before.name])
    return True


def hard_sigmoid(graph: Graph, node: Node) -> bool:
    """Put relu6(x + 3) / 6 together."""
    if not _near(factor(node), 1 / 6):
        return False
    top = graph.inner(node.inputs[0], "relu6")
    shifted = graph.inner(top.inputs[0], "add") if top else None
    if top is None or shifted is None or not _near(addend(shifted), 3):
        return False
    attributes = {"alpha": 1 / 6, "beta": 0.5}
    graph.replace(
        node, _becomes(node, "hard_sigmoid", attributes, shifted.inputs[0]), [top.name, shifted.name]
    )
    return True


def gated(graph: Graph, node: Node) -> bool:
    """Put x sigmoid(x) together as swish, x hard_sigmoid(x) as hard-swish."""
    if node.operation != "multiply" or len(node.inputs) != 2:
        return False
    for x, name in (node.inputs, node.inputs[::-1]):
        soft, hard = graph.inner(name, "sigmoid"), graph.inner(name, "hard_sigmoid")
        gate = soft or hard
        if gate is None or gate.inputs[0] != x:
            continue
        if hard and not (_near(hard.attributes["alpha"], 1 / 6) and _near(hard.attributes["beta"], 0.5)):
            continue
        graph.replace(node, _becomes(node, "hard_swish" if hard else "swish", {}, x), [gate.name])
        return True
    return False


def late_hard_swish(graph: Graph, node: Node) -> bool:
    """Put x relu6(x + 3) / 6 together, where the division comes last."""
    whole = graph.inner(node.inputs[0], "multiply") if node.inputs and _near(factor(node), 1 / 6) else None
    if whole is None or len(whole.inputs) != 2:
        return False
    for x, name in (whole.inputs, whole.inputs[::-1]):
        top = graph.inner(name, "relu6")
        shifted = graph.inner(top.inputs[0], "add") if top else None
        if top and shifted and shifted.inputs[0] == x and _near(addend(shifted), 3):
            graph.replace(node, _becomes(node, "hard_swish", {}, x), [whole.name, top.name, shifted.name])
            return True
    return False


def gelu(graph: Graph, node: Node) -> bool:
    """Put x (1 + erf(x / sqrt 2)) / 2 together, and its tanh form; the factors stand in any order."""
    if node.operation != "multiply":
        return False
    scale, rest, pieces = _factors(graph, node)
    if not _near(scale, 0.5) or len(rest) != 2:
        return False
    for x, name in (rest, rest[::-1]):
        inside = graph.inner(name, "add")
        found = _error_function(graph, inside, x) if inside is not None and addend(inside) == 1 else None
        if inside is not None and found is not None:
            kind, more = found
            graph.replace(
                node, _becomes(node, "gelu", {"approximate": kind}, x), [*pieces, inside.name, *more]
            )
            return True
    return False


def _factors(graph: Graph, node: Node) -> tuple[float, list[str], list[str]]:
    """Number, tensors and inner products that a product of products consists of."""
    scale, rest, pieces = 1.0, [], []
    own = factor(node)
    for name in node.inputs:
        inner = graph.inner(name, "multiply")
        if inner is None or (own is None and len(node.inputs) == 1):
            rest.append(name)
            continue
        pieces.append(name)
        scale *= factor(inner) or 1.0
        rest += inner.inputs
        if len(inner.inputs) == 1 and factor(inner) is None:
            scale = float("nan")
    return (scale if own is None else scale * own), rest, pieces


def _error_function(graph: Graph, one_plus: Node, x: str) -> tuple[str, list[str]] | None:
    """Which form of gelu of ``x`` stands in 1 + ..., with its pieces; None where it is none."""
    exact = graph.inner(one_plus.inputs[0], "unknown", "Erf")
    if exact is not None:
        found = graph.scaled(exact.inputs[0])
        fits = found is not None and found[0] == x and _near(found[1], 1 / sqrt(2))
        return ("none", [exact.name, exact.inputs[0]]) if fits else None
    curve = graph.inner(one_plus.inputs[0], "tanh")
    outer = graph.scaled(curve.inputs[0]) if curve else None
    if curve is None or outer is None or not _near(outer[1], sqrt(2 / pi)):
        return None
    total = graph.inner(outer[0], "add")
    cubes = [name for name in total.inputs if name != x] if total else []
    cube = _power_of(graph, cubes[0], x) if len(cubes) == 1 else None
    if total is None or cube is None or cube[1] != 3 or not _near(cube[0], 0.044715):
        return None
    return "tanh", [curve.name, curve.inputs[0], total.name, *cube[2]]


def _power_of(
    graph: Graph, name: str, x: str, levels: int = 4
) -> tuple[float, float, list[str]] | None:  # fmt: skip
    """Return factor, exponent and private pieces of a tensor that is a power of ``x``; None for any other."""
    if name == x or not levels:
        return (1.0, 1.0, []) if name == x else None
    node = graph.inner(name, "power")
    if node is not None:
        exponent = node.attributes.get("exponent")
        return (1.0, exponent, [name]) if exponent is not None and node.inputs == (x,) else None
    node = graph.inner(name, "multiply") or graph.inner(name, "divide")
    scale = 1.0 if node is not None and node.operation == "multiply" and len(node.inputs) == 2 else None
    if node is not None and scale is None:
        scale = factor(node)
    parts = [_power_of(graph, source, x, levels - 1) for source in node.inputs] if node and scale else []
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts) or scale is None:
        return None
    product = scale * prod(part[0] for part in found)
    return product, sum(part[1] for part in found), [name, *(piece for part in found for piece in part[2])]


# --- normalisation and biases ---


def layer_norm(graph: Graph, node: Node) -> bool:
    """Put (x - mean) / sqrt(variance + epsilon) together, both over the last axes."""
    if node.operation != "divide" or len(node.inputs) != 2:
        return False
    root = graph.inner(node.inputs[1], "sqrt")
    summed = graph.inner(root.inputs[0], "add") if root else None
    spread = _mean(graph, summed.inputs[0]) if summed and addend(summed) is not None else None
    squares = graph.inner(spread.inputs[0], "power") if spread else None
    centred = graph.nodes.get(node.inputs[0])
    if (
        squares is None
        or centred is None
        or squares.inputs != (centred.name,)
        or centred.operation != "subtract"
    ):
        return False
    mean = _mean(graph, centred.inputs[1]) if len(centred.inputs) == 2 else None
    inside = {node.name, squares.name}
    if mean is None or mean.inputs[0] != centred.inputs[0] or set(graph.readers[centred.name]) != inside:
        return False
    if not root or not summed or not spread or squares.attributes.get("exponent") != 2:
        return False
    axis = _last_axes(mean)
    if axis is None or axis != _last_axes(spread) or centred.name in graph.outputs:
        return False
    attributes = {"axis": axis, "epsilon": addend(summed)}
    pieces = [root.name, summed.name, spread.name, squares.name, centred.name, mean.name]
    graph.replace(node, _becomes(node, "layer_norm", attributes, centred.inputs[0]), pieces)
    return True


def _mean(graph: Graph, name: str) -> Node | None:
    node = graph.inner(name, "reduce") or graph.inner(name, "global_avg_pool")
    return node if node is not None and node.attributes.get("kind", "mean") == "mean" else None


def _last_axes(node: Node) -> int | None:
    """First of the axes that a mean runs over, where they are the last ones and stay as one."""
    rank = len(node.shape or ())
    axes = node.attributes.get("axes")
    if axes is None:
        axes = tuple(axis for axis in range(rank) if axis != node.attributes["input_channel_axis"])
    return axes[0] if axes and tuple(axes) == tuple(range(axes[0], rank)) else None


def norm_parts(graph: Graph, node: Node) -> bool:
    """Give scale and shift to the layer norm before them that was put together."""
    word = {"multiply": "gamma", "add": "beta"}.get(node.operation)
    part = node.constants.get("operand")
    if word is None or part is None or len(node.inputs) != 1:
        return False
    norm = graph.inner(node.inputs[0], "layer_norm")
    if (
        norm is None
        or norm.shape is None
        or norm.source_operation == "LayerNormalization"
        or word in norm.constants
    ):
        return False
    if part.shape != norm.shape[norm.attributes["axis"] :] or "beta" in norm.constants:
        return False
    new = _becomes(node, "layer_norm", norm.attributes, norm.inputs[0])
    graph.replace(node, replace(new, constants={**norm.constants, word: part}), [norm.name])
    return True


def linear_bias(graph: Graph, node: Node) -> bool:
    """Give what is added to each output to the linear layer before it as its bias."""
    part = node.constants.get("operand")
    if node.operation != "add" or part is None or len(node.inputs) != 1:
        return False
    before = graph.inner(node.inputs[0], "linear")
    if before is None or "bias" in before.constants or node.shape != before.shape:
        return False
    out = before.constants["weight"].shape[0]
    if part.shape[-1:] != (out,) or part.elements != out:
        return False
    values = None if part.values is None else part.values.reshape(out)
    scales = part.quantisation
    if scales is not None and scales.axis is not None:
        scales = replace(scales, axis=0)
    bias = replace(part, shape=(out,), values=values, quantisation=scales)
    new = replace(before, constants={**before.constants, "bias": bias}, quantisation=node.quantisation)
    graph.replace(node, new, [before.name])
    graph.renamed[node.name] = before.name
    return True


PATTERNS: Final[tuple[Callable[[Graph, Node], bool], ...]] = (
    bounded, hard_sigmoid, late_hard_swish, gated, gelu, layer_norm, norm_parts, linear_bias, softmax,
)  # fmt: skip


def _becomes(node: Node, operation: str, attributes: Mapping[str, Any], x: str) -> Node:
    return replace(node, operation=operation, attributes=dict(attributes), inputs=(x,), constants={})


def fused(nodes: Iterable[Node], outputs: frozenset[str]) -> tuple[tuple[Node, ...], dict[str, str]]:
    """Return the nodes with patterns put together, and the names that changed."""
    graph = Graph({node.name: node for node in nodes}, outputs)
    for name in list(graph.nodes):
        for pattern in PATTERNS:
            node = graph.nodes.get(name)
            if node is not None:
                pattern(graph, node)
    names = graph.renamed
    final = [
        replace(node, inputs=tuple(names.get(source, source) for source in node.inputs))
        for node in graph.nodes.values()
    ]
    return tuple(final), names
