"""A model file operation by operation: what each costs and becomes, also where no network comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from dse.workload.base import Shape
from dse.workload.build import INPUT
from dse.workload.forward_only import VIEW, ForwardOnly
from dse.workload.model.choice import without_pads
from dse.workload.model.crop import without_crops
from dse.workload.model.emission import Emission, slim
from dse.workload.model.formulas import STATISTICS
from dse.workload.model.graph import COUNTED_OPERATIONS, INPUT_PREFIX, UNKNOWN, Constant, Model, Node, is_same
from dse.workload.model.layout import moved
from dse.workload.model.lower import emit
from dse.workload.model.options import NodeRow

FLOAT_BITS: Final = 32
_WITH_MACS: Final = ("conv", "linear", *COUNTED_OPERATIONS, UNKNOWN)


def node_rows(model: Model) -> tuple[NodeRow, ...]:
    """Return a row for every operation of ``model``, in its order, batch norms kept as layers."""
    shapes = {INPUT_PREFIX + item.name: item.shape for item in model.inputs}
    shapes |= {node.name: node.shape for node in model.nodes}
    nodes, _ = without_pads(model.nodes, model.outputs, shapes)
    nodes, _ = without_crops(nodes, model.outputs)
    emission = Emission(model, nodes, "keep", model.outputs)
    for place, given in enumerate(model.inputs):
        emission.take_input(given, INPUT if place == 0 else emission.free_name(INPUT_PREFIX + given.name))
    emit(emission)
    left = {node.name: node for node in nodes}
    return tuple(
        _row(emission, left.get(node.name, node), merged=node.name not in left) for node in model.nodes
    )


def _row(emission: Emission, node: Node, *, merged: bool) -> NodeRow:
    constants, weight = node.constants.values(), _weight(node)
    quantised = node.quantisation
    return NodeRow(
        name=node.name,
        operation=node.operation,
        source_operation=node.source_operation,
        shape=_shape(emission, node),
        macs=0 if merged else _macs(emission, node),
        parameters=sum(constant.elements for constant in learnt(node)),
        parameter_bytes=sum(constant.stored_bytes for constant in constants),
        weight_bits=None if weight is None else _bits(weight),
        activation_bits=FLOAT_BITS if quantised is None else quantised.bits,
        becomes="folded" if merged else _becomes(emission, node),
    )


def learnt(node: Node) -> Iterator[Constant]:
    """Yield the constants that are parameters: stored in the file, and no statistics of a batch norm."""
    for name, constant in node.constants.items():
        if name not in STATISTICS and constant.stored_bytes:
            yield constant


def once(constants: Iterable[Constant]) -> Iterator[Constant]:
    """Yield constants, those that several operations read once."""
    seen: dict[str, list[Constant]] = {}
    for constant in constants:
        known = seen.setdefault(constant.name, [])
        if not constant.name or not any(is_same(constant, other) for other in known):
            known.append(constant)
            yield constant


def _weight(node: Node) -> Constant | None:
    """Return the constant that holds the weights: by its name, or the largest."""
    largest: Iterable[Constant] = sorted(node.constants.values(), key=lambda constant: -constant.elements)
    return node.constants.get("weight") or next(iter(largest), None)


def _bits(constant: Constant) -> int:
    if constant.quantisation is not None:
        return constant.quantisation.bits
    return 8 * constant.stored_bytes // max(constant.elements, 1)


def _shape(emission: Emission, node: Node) -> Shape | None:
    """Return the output's shape with its channels first, as far as it is known where they are."""
    value, axis = emission.values.get(node.name), node.channel_axis
    if node.shape is None:
        return None
    axis = value.axis if value is not None else axis
    short = slim(node.shape)
    return moved(short, axis) if len(short) > 1 and axis is not None and axis < len(short) else short


def _macs(emission: Emission, node: Node) -> int | None:
    """Return the MACs by the layer that the node became; None where nobody can say."""
    if node.name not in emission.values:
        return None if node.operation in _WITH_MACS else 0
    layer = emission.layers.get(emission.made.get(node.name, ""))
    if layer is None:
        return 0
    macs = layer.macs(*(emission.shapes[name] for name in layer.inputs))["fwd"]
    return None if node.operation == UNKNOWN and not macs else macs


def _becomes(emission: Emission, node: Node) -> str:
    if node.name not in emission.values:
        return "unknown"
    if node.name in emission.folded:
        return "folded"
    layer = emission.layers.get(emission.made.get(node.name, ""))
    if layer is None or (isinstance(layer, ForwardOnly) and layer.operation == VIEW):
        return "view"
    if isinstance(layer, ForwardOnly):
        return "unknown" if node.operation == UNKNOWN else "forward only"
    return layer.kind
