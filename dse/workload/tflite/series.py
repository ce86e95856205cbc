"""Series as images of height 1: convolutions over time, which the format does not have, become what they are.

A reshape that gives a tensor (T, C) a height of 1 starts a region in which every operation acts along the
other axes alone; it ends where a reshape takes the height away again. Inside, the height is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from dse.workload.base import Shape
from dse.workload.model import Constant, Node
from dse.workload.model.graph import ELEMENT_OPERATIONS
from dse.workload.tflite.stored import Unreadable, reshaped
from dse.workload.tflite.tensors import Report

NOTE: Final = "windows over images of height 1 read as windows over time"

_WINDOWS: Final = ("conv", "max_pool", "avg_pool")
_PER_AXIS: Final[Mapping[str, Any]] = {"kernel": 1, "stride": 1, "dilation": 1, "pads": (0, 0)}
_OTHER: Final = ("layer_norm", "group_norm", "reduce", "resize")
_PLAIN: Final = ("add", "relu", "relu6", "hard_swish", *(set(ELEMENT_OPERATIONS) - set(_OTHER)))


def as_series(
    nodes: tuple[Node, ...], inputs: Mapping[str, Shape], outputs: tuple[str, ...], report: Report
) -> tuple[Node, ...]:
    """Return nodes in which images of height (or width) 1 that are made of series are series.

    ``inputs`` gives the shapes of the model's inputs by producer; nodes in ``outputs`` keep their shapes.
    """
    found = _Regions(nodes, inputs, outputs)
    for node in nodes:
        found.visit(node)
    windows = sum(found.slim[name].operation in _WINDOWS for name in found.lost)
    if not windows:
        return nodes
    for _ in range(windows):
        report.count(NOTE)
    return tuple(found.result(nodes))


class _Regions:
    """Nodes whose axis ``lost[name]`` of 1 goes, and what they are without it."""

    def __init__(
        self, nodes: tuple[Node, ...], inputs: Mapping[str, Shape], outputs: tuple[str, ...]
    ) -> None:
        self.outputs = frozenset(outputs)
        self.lost: dict[str, int] = {}
        self.slim: dict[str, Node] = {}
        self.shapes: dict[str, Shape | None] = {**inputs, **{node.name: node.shape for node in nodes}}
        self.before_window = {node.inputs[0] for node in nodes if node.operation in (*_WINDOWS, "pad")}
        self.same: dict[str, str] = {}
        self.made: list[Node] = []

    def visit(self, node: Node) -> None:
        """Decide whether ``node`` starts or goes on a region."""
        if node.shape is None or len(node.shape) != 3 or node.name in self.outputs:
            return
        axis = self._started(node) if node.operation == "reshape" else self._continued(node)
        if axis is None or node.shape[axis] != 1:
            return
        try:
            self.slim[node.name] = _without(node, axis)
        except Unreadable:
            return
        self.lost[node.name] = axis

    def _slim_shape(self, name: str) -> Shape | None:
        return self.slim[name].shape if name in self.slim else self.shapes.get(name)

    def _started(self, node: Node) -> int | None:
        """Axis that a reshape adds to a series before a window."""
        before = self._slim_shape(node.inputs[0])
        if node.name not in self.before_window or before is None or len(before) != 2 or node.shape is None:
            return None
        return next((axis for axis in (0, 1) if _dropped(node.shape, axis) == before), None)

    def _continued(self, node: Node) -> int | None:
        axes = {self.lost.get(name) for name in node.inputs}
        axis = axes.pop() if len(axes) == 1 else None
        return axis if node.operation in (*_WINDOWS, *_PLAIN, "pad", "concat") else None

    # --- the nodes afterwards ---

    def result(self, nodes: tuple[Node, ...]) -> list[Node]:
        """Nodes without the dropped axes, and reshapes back where a reader needs them."""
        wide: dict[str, str] = {}
        for node in nodes:
            inputs = tuple(self._read(node, name, wide) for name in node.inputs)
            made = replace(self._seen(node), inputs=inputs)
            if made.operation == "reshape" and self._changes_nothing(node.name, made):
                self.same[node.name] = inputs[0]
                continue
            self.shapes[node.name] = made.shape
            self.made.append(made)
        return self.made

    def _changes_nothing(self, name: str, made: Node) -> bool:
        alike = name in self.lost or self.shapes.get(made.inputs[0]) == made.shape
        return alike and name not in self.outputs

    def _seen(self, node: Node) -> Node:
        """Return ``node`` as it is afterwards, apart from whom it reads."""
        if node.name in self.slim:
            return self.slim[node.name]
        if _pools_all(node) and node.inputs[0] in self.lost:
            return replace(node, attributes={**node.attributes, "input_channel_axis": 1})
        return node

    def _read(self, node: Node, name: str, wide: dict[str, str]) -> str:
        """Whom ``node`` reads in place of ``name``: a reshape back where it needs the axis."""
        producer = self.same.get(name, name)
        if name not in self.lost or node.name in self.lost or node.operation == "reshape" or _pools_all(node):
            return producer
        if name not in wide:
            wide[name] = f"{name}.height"
            back = Node(wide[name], "reshape", (producer,), self._wide_shape(name), "RESHAPE")
            self.made.append(back)
        return wide[name]

    def _wide_shape(self, name: str) -> Shape:
        slim = self.slim[name].shape or ()
        return (*slim[: self.lost[name]], 1, *slim[self.lost[name] :])


def _pools_all(node: Node) -> bool:
    return node.operation == "global_avg_pool" and node.attributes["input_channel_axis"] == 2


def _dropped(items: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return (*items[:axis], *items[axis + 1 :])


def _without(node: Node, axis: int) -> Node:
    """Return ``node`` without an axis of 1; raises Unreadable where it acts along it."""
    attributes = dict(node.attributes)
    if node.operation in _WINDOWS:
        for key, neutral in _PER_AXIS.items():
            if attributes[key][axis] != neutral:
                raise Unreadable(f"{key} along the axis")
            attributes[key] = _dropped(attributes[key], axis)
    elif node.operation == "pad":
        if attributes["pads"][axis] != (0, 0):
            raise Unreadable("pads along the axis")
        attributes["pads"] = _dropped(attributes["pads"], axis)
    elif node.operation == "concat":
        if attributes["axis"] == axis:
            raise Unreadable("joined along the axis")
        attributes["axis"] -= attributes["axis"] > axis
    constants = {key: _thinner(key, constant, axis) for key, constant in node.constants.items()}
    scheme = node.quantisation
    if scheme is not None and scheme.axis is not None:
        scheme = replace(scheme, axis=scheme.axis - (scheme.axis > axis))
    channel = None if node.channel_axis is None else node.channel_axis - (node.channel_axis > axis)
    return replace(node, shape=_dropped(node.shape or (), axis), attributes=attributes, constants=constants,
                   quantisation=scheme, channel_axis=channel)  # fmt: skip


def _thinner(key: str, constant: Constant, axis: int) -> Constant:
    """Take the axis off a constant: of the kernel of weights, of an operand that has it."""
    rank = len(constant.shape)
    if key == "weight":
        return reshaped(constant, _dropped(constant.shape, 2 + axis))
    if rank == 3:
        return reshaped(constant, _dropped(constant.shape, axis))
    if rank == 2 and axis == 1:
        return reshaped(constant, _dropped(constant.shape, 0))
    return constant
