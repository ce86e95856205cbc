"""Layers as they are made from the nodes of a model: names, orders of axes, and what had to be moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from dse.errors import Problem
from dse.workload.base import Layer, Shape, shape_text
from dse.workload.build import INPUT
from dse.workload.forward_only import VIEW, ForwardOnly
from dse.workload.layers import Flatten
from dse.workload.model.fold import Weights
from dse.workload.model.formulas import weights_and_shifts
from dse.workload.model.graph import INPUT_PREFIX, Constant, Model, ModelInput, Node, Quantisation
from dse.workload.model.layout import Layout, channel_axis, channels_first, moved, plain
from dse.workload.model.limits import clean_name
from dse.workload.model.readers import Readers

NO_SHAPE: Final = "its output has no known shape"
FEW_CHANNELS: Final = (1, 3)
"""Channels that tell an image's last axis from its height."""


@dataclass(frozen=True)
class Value:
    """A tensor: the layer that makes it, its shape there, and how the file's numbers lie in it."""

    layer: str
    shape: Shape
    file_shape: Shape
    layout: Layout
    sole: bool = False  # nothing else reads it
    moved_by: str = ""  # the file's reshape or transpose since the layer

    @property
    def axis(self) -> int | None:
        """Axis of the file's shape that is in front here; None where the order is another one."""
        return channel_axis(self.layout, self.file_shape, self.shape[0])


class Emission:
    """What has become of the nodes so far.

    ``layers`` in their order, ``shapes`` of their outputs, ``weights`` by layer (and by the batch norm behind
    it), ``values`` by node, ``made``: the last layer that each node became.
    """

    def __init__(self, model: Model, nodes: Sequence[Node], batch_norm: str, outputs: Sequence[str]) -> None:
        self.model, self.nodes, self.batch_norm = model, nodes, batch_norm
        given = {INPUT_PREFIX + item.name: item.shape for item in model.inputs}
        self.readers = Readers(nodes, given | {node.name: node.shape for node in nodes}, outputs)
        self.layers: dict[str, Layer] = {}
        self.shapes: dict[str, Shape] = {}
        self.weights: dict[str, Weights] = {}
        self.values: dict[str, Value] = {}
        self.made: dict[str, str] = {}
        self.folded: set[str] = set()
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.quantisation: dict[str, Quantisation] = {}
        self._taken = {INPUT, *(node.name for node in nodes if node.name != INPUT)}
        self._moved: dict[tuple[str, Layout, Layout, Shape], Value] = {}

    def fault(self, node: str, found: str, allowed: str = "") -> None:
        """Note what is wrong with a node."""
        self.problems.append(Problem(self.model.file, node, found, allowed))

    # --- inputs ---

    def take_input(self, given: ModelInput, name: str) -> None:
        """Let ``name`` stand for an input of the model, in the order in which its first reader wants it."""
        key, shape = INPUT_PREFIX + given.name, given.shape
        if shape is None:
            self.fault(given.name, "an input of unknown shape", "say its open axes by axis.NAME=N")
            return
        if not shape or min(shape) < 1:
            self.fault(given.name, f"an input of {shape_text(shape) or 'no axes'}", "axes of at least 1")
            return
        layout, own = self.readers.wanted(key, shape) or _usual(shape, given.channel_axis)
        value = Value(name, own, shape, layout, self.readers.is_sole(key))
        self.values[key], self.shapes[name] = value, own
        if own != shape or not layout.is_plain:
            how = "" if layout.is_plain else ", channels first"
            self.notes.append(
                f"input {given.name}: {shape_text(shape)} in the file, {shape_text(own)} here{how}"
            )
        if given.quantisation is not None and given.quantisation.axis is None:
            self.quantisation[name] = given.quantisation

    # --- layers ---

    def name_of(self, node: Node) -> str:
        """Return the name of the layer that ``node`` becomes: its own, but for the input's."""
        return node.name if node.name != INPUT else self.free_name(node.name)

    def free_name(self, name: str) -> str:
        """Return ``name``, or one like it that no layer and no node has; it is taken from now on."""
        free = clean_name(name, self._taken)
        self._taken.add(free)
        return free

    def add(self, layer: Layer, node: str = "") -> Shape:
        """Add a layer that ``node`` becomes; return its output's shape; raises ValueError."""
        shape = layer.output_shape(*(self.shapes[name] for name in layer.inputs))
        self.layers[layer.name], self.shapes[layer.name] = layer, shape
        if node:
            self.made[node] = layer.name
        return shape

    def sole(self, node: Node) -> bool:
        """Whether at most one reads what ``node`` gives."""
        return self.readers.is_sole(node.name)

    def became(self, node: Node, layer: Layer, layout: Layout) -> Value:
        """Add ``layer`` as what ``node`` becomes, its output laid out by ``layout``."""
        shape = self.add(layer, node.name)
        return Value(layer.name, shape, shape_of(node), layout, self.sole(node))

    def same(self, node: Node, value: Value) -> Value:
        """Return the value of a node that does nothing here."""
        return replace(value, file_shape=shape_of(node), sole=value.sole and self.sole(node))

    def ahead(
        self, node: Node, operation: str, values: Sequence[Value], shape: Shape, layout: Layout, macs: int = 0
    ) -> Value:
        """Add a layer that runs forward only."""
        weights, biases = weights_and_shifts(node.constants.items())
        layer = ForwardOnly(
            name=self.name_of(node), inputs=tuple(dict.fromkeys(value.layer for value in values)),
            operation=operation, shape=shape, forward_macs=macs, weights=weights, biases=biases,
        )  # fmt: skip
        return self.became(node, layer, layout)

    def ahead_anew(self, node: Node, operation: str, values: Sequence[Value], macs: int = 0) -> Value:
        """Add a layer that runs forward only, whose output is in an order of its own."""
        layout, shape = self._order_of(node, values)
        return self.ahead(node, operation, [self.natural(value) for value in values], shape, layout, macs)

    def _order_of(self, node: Node, values: Sequence[Value]) -> tuple[Layout, Shape]:
        """Choose the order of axes of a new tensor: the operation's own, the next reader's, the input's."""
        shape, axis = shape_of(node), node.channel_axis
        want = self.readers.wanted(node.name, shape)
        if want is not None and axis in (None, channel_axis(want[0], shape, want[1][0])):
            axis = channel_axis(want[0], shape, want[1][0])
            if axis is not None:
                return want
        if axis is None:
            near = next((value for value in values if len(value.file_shape) == len(shape)), None)
            axis = near.axis if near is not None else None
        return _usual(shape, axis) if axis is not None and axis < len(shape) else (plain(shape), slim(shape))

    # --- orders of axes ---

    def natural(self, value: Value) -> Value:
        """Return a tensor in the file's order, or with one axis moved to the front; copies any other."""
        if value.layout.is_plain or value.axis is not None:
            return value
        return self.arranged(value, plain(value.file_shape), slim(value.file_shape))

    def vector(self, value: Value) -> Value:
        """Return a tensor as a vector, in whatever order it is."""
        return self.arranged(value, value.layout, (prod(value.shape),))

    def arranged(self, value: Value, layout: Layout, shape: Shape) -> Value:
        """Return a tensor in an order and a shape: itself, flat, viewed anew, or copied."""
        if (value.layout, value.shape) == (layout, shape):
            return value
        if prod(value.shape) != prod(shape):
            raise ValueError(f"reads {shape_text(shape)}, its input has {shape_text(value.shape)}")
        key = (value.layer, value.layout, layout, shape)
        if key not in self._moved:
            self._moved[key] = self._rearranged(value, layout, shape)
        return replace(self._moved[key], file_shape=value.file_shape)

    def _rearranged(self, value: Value, layout: Layout, shape: Shape) -> Value:
        is_view = value.layout == layout
        what = ("flatten" if len(shape) == 1 else VIEW) if is_view else "copy"
        origin = value.moved_by if value.moved_by not in self.layers else ""
        name = origin if origin and origin != INPUT else self.free_name(f"{value.layer}.{what}")
        if what == "flatten":
            layer: Layer = Flatten(name=name, inputs=(value.layer,))
        else:
            layer = ForwardOnly(name=name, inputs=(value.layer,), operation=what, shape=shape)
        self.add(layer, origin)
        return Value(name, shape, value.file_shape, layout)


def _usual(shape: Shape, axis: int | None) -> tuple[Layout, Shape]:
    """Return the order of a tensor that nobody wants otherwise: channels first, or a vector."""
    short = slim(shape)
    if len(short) == 1 or (len(shape) > 3 and axis is None):
        return plain(shape), short
    if axis is None or axis >= len(shape):
        last = shape[-1] in FEW_CHANNELS and shape[0] not in FEW_CHANNELS
        axis = len(shape) - 1 if last and len(shape) == 3 else 0
    return channels_first(shape, axis), moved(shape, axis)


def slim(shape: Shape) -> Shape:
    """Return a shape as it is, but a vector where one axis at most is longer than 1."""
    long = tuple(size for size in shape if size > 1)
    return shape if len(long) > 1 else (prod(shape),)


def shape_of(node: Node) -> Shape:
    """Return the shape of a node's output in the file; raises ValueError where it is not known."""
    if node.shape is None:
        raise ValueError(NO_SHAPE)
    return node.shape


def constant_of(node: Node, name: str, elements: int | None = None) -> Constant:
    """Return a constant of a node; raises ValueError where it is missing or has another size."""
    found = node.constants.get(name)
    if found is None:
        raise ValueError(f"{node.operation} needs a constant {name}")
    if elements is not None and found.elements != elements:
        raise ValueError(f"{name} has {found.elements} values, {elements} are needed")
    return found
