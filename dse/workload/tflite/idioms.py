"""Groups of operators that together are one operation: clamps, swish, layer norm, pads before a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from dse.workload.base import Shape
from dse.workload.model import Constant, Node
from dse.workload.tflite.normalising import layer_norm
from dse.workload.tflite.rewriting import Rewriting
from dse.workload.tflite.series import as_series
from dse.workload.tflite.tensors import Report

Rule = Callable[[Rewriting, Node], bool]
Rules = Mapping[str, tuple[tuple[str, Rule], ...]]


def recognise(
    nodes: tuple[Node, ...], inputs: Mapping[str, Shape], outputs: tuple[str, ...], report: Report
) -> tuple[Node, ...]:
    """Return nodes with the groups in them recognised, the names of their last nodes kept.

    ``inputs`` gives the shapes of the model's inputs by producer.
    """
    for rules in (GROUPS, PADS):
        nodes = as_series(nodes, inputs, outputs, report) if rules is PADS else nodes
        rewriting = Rewriting(nodes, outputs)
        for name in [node.name for node in nodes]:
            if name in rewriting.nodes:
                _apply(rewriting, name, rules, report)
        nodes = tuple(rewriting.nodes.values())
    return nodes


def _apply(rewriting: Rewriting, name: str, rules: Rules, report: Report) -> None:
    for text, rule in rules.get(rewriting.nodes[name].operation, ()):
        if rule(rewriting, rewriting.nodes[name]):
            report.count(text)
            return


def _is(constant: Constant | None, number: float) -> bool:
    """Whether a constant is ``number`` everywhere, as near as its quantisation can say it."""
    if constant is None or constant.values is None or not constant.values.size:
        return False
    step = 0.0 if constant.quantisation is None else float(constant.quantisation.scale.max())
    return bool(np.all(np.abs(constant.values - number) <= 1e-3 * abs(number) + step / 2))


def _by(node: Node | None, number: float) -> bool:
    return node is not None and len(node.inputs) == 1 and _is(node.constants.get("operand"), number)


def _becomes(rewriting: Rewriting, node: Node, operation: str, source: str, *removed: Node) -> bool:
    """Make ``node`` an operation on ``source`` alone."""
    shape = rewriting.nodes[source].shape if source in rewriting.nodes else node.shape
    if shape != node.shape:  # an operand spread its other operand
        return False
    plain: dict[str, Any] = {"attributes": {}, "constants": {}, "channel_axis": None}
    rewriting.replace(replace(node, operation=operation, inputs=(source,), **plain), *removed)
    return True


def _clamp_below(rewriting: Rewriting, node: Node) -> bool:
    """max(x, 0)."""
    return _by(node, 0.0) and _becomes(rewriting, node, "relu", node.inputs[0])


def _clamp_above(rewriting: Rewriting, node: Node) -> bool:
    """min(relu(x), 6)."""
    below = rewriting.inner(node, "relu")
    return below is not None and _by(node, 6.0) and _becomes(rewriting, node, "relu6", below.inputs[0], below)


def _swish(rewriting: Rewriting, node: Node) -> bool:
    """Product of x and sigmoid(x)."""
    for place in (0, 1):
        gate = rewriting.inner(node, "sigmoid", place) if len(node.inputs) == 2 else None
        if gate is not None and gate.inputs[0] == node.inputs[1 - place]:
            return _becomes(rewriting, node, "swish", gate.inputs[0], gate)
    return False


def _shifted(rewriting: Rewriting, node: Node, place: int) -> tuple[Node, Node] | None:
    """relu6(x + 3) at input ``place``: the clamp and the addition."""
    clamp = rewriting.inner(node, "relu6", place)
    shift = rewriting.inner(clamp, "add") if clamp is not None else None
    return (clamp, shift) if clamp is not None and shift is not None and _by(shift, 3.0) else None


def _is_sixth(node: Node) -> bool:
    return _by(node, 1 / 6) if node.operation == "multiply" else (
        _by(node, 6.0) and not node.attributes.get("constant_first")
    )  # fmt: skip


def _hard_sigmoid(rewriting: Rewriting, node: Node) -> bool:
    """relu6(x + 3) / 6."""
    found = _shifted(rewriting, node, 0) if _is_sixth(node) else None
    return found is not None and _becomes(rewriting, node, "hard_sigmoid", found[1].inputs[0], *found)


def _hard_swish_by_gate(rewriting: Rewriting, node: Node) -> bool:
    """Product of x and hard_sigmoid(x)."""
    for place in (0, 1):
        gate = rewriting.inner(node, "hard_sigmoid", place) if len(node.inputs) == 2 else None
        if gate is not None and gate.inputs[0] == node.inputs[1 - place]:
            return _becomes(rewriting, node, "hard_swish", gate.inputs[0], gate)
    return False


def _hard_swish_last_sixth(rewriting: Rewriting, node: Node) -> bool:
    """(x relu6(x + 3)) / 6."""
    product = rewriting.inner(node, "multiply") if _is_sixth(node) else None
    if product is None or len(product.inputs) != 2:
        return False
    for place in (0, 1):
        found = _shifted(rewriting, product, place)
        if found is not None and found[1].inputs[0] == product.inputs[1 - place]:
            return _becomes(rewriting, node, "hard_swish", found[1].inputs[0], product, *found)
    return False


# --- pads ---


def _padded_conv(rewriting: Rewriting, node: Node) -> bool:
    """Zeros before a convolution are pads of its own."""
    pad = rewriting.inner(node, "pad")
    return pad is not None and pad.attributes["value"] == 0 and _take_pads(rewriting, node, pad)


def _padded_max_pool(rewriting: Rewriting, node: Node) -> bool:
    """Zeros before a maximum over rectified numbers win nowhere that a number stands."""
    pad = rewriting.inner(node, "pad")
    before = rewriting.source(pad) if pad is not None else None
    if pad is None or before is None or before.operation not in ("relu", "relu6"):
        return False
    kernel = node.attributes["kernel"]
    return pad.attributes["value"] == 0 and _take_pads(rewriting, node, pad, kernel)


def _take_pads(rewriting: Rewriting, node: Node, pad: Node, narrower: Shape = ()) -> bool:
    *ends, channels = pad.attributes["pads"]
    own = node.attributes["pads"]
    if channels != (0, 0) or len(ends) != len(own):
        return False
    pads = tuple((a + c, b + d) for (a, b), (c, d) in zip(ends, own, strict=True))
    if any(max(ends) >= taps for ends, taps in zip(pads, narrower, strict=False)):
        return False
    attributes = {**node.attributes, "pads": pads}
    rewriting.replace(replace(node, inputs=pad.inputs, attributes=attributes), pad)
    return True


_FOLDED: Final = "PAD operators folded into the window behind them"
_GATES: Final = "groups of operators recognised as one activation"

GROUPS: Final[Rules] = {
    "maximum": ((_GATES, _clamp_below),),
    "minimum": ((_GATES, _clamp_above),),
    "multiply": (
        (_GATES, _swish),
        (_GATES, _hard_swish_by_gate),
        (_GATES, _hard_swish_last_sixth),
        (_GATES, _hard_sigmoid),
    ),
    "divide": ((_GATES, _hard_swish_last_sixth), (_GATES, _hard_sigmoid)),
    "add": (("groups of operators recognised as layer norm", layer_norm),),
}
"""Operation of the last node of a group -> what may be recognised there, with the note that says so."""

PADS: Final[Rules] = {"conv": ((_FOLDED, _padded_conv),), "max_pool": ((_FOLDED, _padded_max_pool),)}
"""What is recognised once series are series."""
