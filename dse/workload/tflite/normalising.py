"""Layer normalisation out of the operators that it is exported as.

Both forms begin with the mean of the last axis and the mean of the squared distances from it. One goes on
as (x - mean) r gamma + beta with r = 1 / sqrt(variance + epsilon), the other as x g + (beta - mean g) with
g = r gamma.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from dse.workload.model import Constant, Node
from dse.workload.tflite.rewriting import Rewriting


@dataclass(frozen=True)
class _Scaled:
    """1 / sqrt(variance + epsilon) of ``source``, with the nodes that compute it, ``mean`` among them."""

    source: str
    mean: str
    epsilon: float
    nodes: tuple[Node, ...]


def layer_norm(rewriting: Rewriting, node: Node) -> bool:
    """Recognise a layer normalisation that ends in the addition ``node``."""
    return _shifted_first(rewriting, node) or _scaled_first(rewriting, node)


def _shifted_first(rewriting: Rewriting, node: Node) -> bool:
    """Match ((x - mean) r) gamma + beta."""
    gained = rewriting.source(node)
    if len(node.inputs) != 1 or gained is None or gained.operation != "multiply" or len(gained.inputs) != 1:
        return False
    product = rewriting.source(gained)
    if product is None or product.operation != "multiply" or len(product.inputs) != 2:
        return False
    for place in (0, 1):
        scaled, distance = _scale(rewriting, product, place), rewriting.source(product, 1 - place)
        if scaled is None or distance is None or distance.operation != "subtract":
            continue
        if distance.inputs == (scaled.source, scaled.mean):
            parts = (*scaled.nodes, distance, product, gained)
            return _put(rewriting, node, scaled, _one(gained), _one(node), parts)
    return False


def _scaled_first(rewriting: Rewriting, node: Node) -> bool:
    """Match x g + (beta - mean g)."""
    if len(node.inputs) != 2:
        return False
    for place in (0, 1):
        product, rest = rewriting.source(node, place), rewriting.source(node, 1 - place)
        if product is None or rest is None or (product.operation, rest.operation) != ("multiply", "subtract"):
            continue
        shift = rewriting.source(rest)
        if shift is None or shift.operation != "multiply" or not rest.attributes.get("constant_first"):
            continue
        found = _gain(rewriting, product, shift)
        if found is not None:
            scaled, gain = found
            return _put(
                rewriting, node, scaled, _one(gain), _one(rest), (*scaled.nodes, gain, product, shift, rest)
            )
    return False


def _gain(rewriting: Rewriting, product: Node, shift: Node) -> tuple[_Scaled, Node] | None:
    """Gain g of x g and mean g, where both multiply by the same one."""
    for name in set(product.inputs) & set(shift.inputs):
        gain = rewriting.nodes.get(name)
        if gain is None or gain.operation != "multiply" or len(gain.inputs) != 1:
            continue
        scaled = _scale(rewriting, gain, 0)
        if scaled is not None and {scaled.source, name} == set(product.inputs):
            return (scaled, gain) if {scaled.mean, name} == set(shift.inputs) else None
    return None


def _scale(rewriting: Rewriting, reader: Node, place: int) -> _Scaled | None:
    root = rewriting.source(reader, place)
    if root is None or root.operation != "power" or root.attributes.get("exponent") != -0.5:
        return None
    shifted = rewriting.source(root)
    epsilon = None if shifted is None or shifted.operation != "add" else _one(shifted)
    variance = rewriting.source(shifted) if shifted is not None else None
    square = rewriting.source(variance) if _is_mean(variance) and variance is not None else None
    if shifted is None or variance is None or square is None or epsilon is None or epsilon.values is None:
        return None
    distance = rewriting.source(square) if square.attributes.get("exponent") == 2 else None
    if distance is None or distance.operation != "subtract" or len(distance.inputs) != 2:
        return None
    mean = rewriting.source(distance, 1)
    if not _is_mean(mean) or mean is None or mean.inputs != distance.inputs[:1] or epsilon.elements != 1:
        return None
    number = float(epsilon.values.reshape(-1)[0])
    return _Scaled(mean.inputs[0], mean.name, number, (root, shifted, variance, square, distance, mean))


def _is_mean(node: Node | None) -> bool:
    """Whether a node is the mean of the last axis, which stays as an axis of 1."""
    if node is None or node.operation != "reduce" or not node.shape:
        return False
    found = node.attributes
    return bool(found["kind"] == "mean" and found["keepdims"] and found["axes"] == (len(node.shape) - 1,))


def _one(node: Node) -> Constant | None:
    return node.constants.get("operand")


def _put(
    rewriting: Rewriting, node: Node, scaled: _Scaled, gamma: Constant | None, beta: Constant | None,
    parts: tuple[Node, ...],
) -> bool:  # fmt: skip
    removed = {part.name: part for part in parts}
    inside = Counter(name for part in (*removed.values(), node) for name in part.inputs)
    width = node.shape[-1] if node.shape else 0
    if gamma is None or beta is None or gamma.elements != width or beta.elements != width:
        return False
    if any(rewriting.readers[name] != inside[name] for name in removed):
        return False
    attributes = {"axis": len(node.shape or ()) - 1, "epsilon": scaled.epsilon}
    constants = {"gamma": gamma, "beta": beta}
    normal = replace(
        node, operation="layer_norm", inputs=(scaled.source,), attributes=attributes, constants=constants
    )
    rewriting.replace(normal, *removed.values())
    return True
