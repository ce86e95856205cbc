"""Who reads which tensor of a model, and in which order of axes the next of them wants it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from dse.workload.base import Shape
from dse.workload.model.graph import ELEMENT_OPERATIONS, Node
from dse.workload.model.kinds import WINDOWED, droppable_axis, positions_of, window_of
from dse.workload.model.layout import Layout, chained, channel_axis, channels_first, moved, reduced

RECURRENT: Final = ("lstm", "gru", "rnn")
VIEWS: Final = ("reshape", "transpose")

FARTHEST: Final = 32
"""Readers that are looked at behind a tensor, so that long chains stay cheap."""

_RESIZING: Final = ("pad", "slice", "tile", "resize", "concat", "gather")
_ELEMENTWISE: Final = (
    "relu", "relu6", "hard_swish", "batch_norm", "add", "softmax", *ELEMENT_OPERATIONS,
)  # fmt: skip

Want = tuple[Layout, Shape]
"""The order in which a reader wants a tensor of the file, and the planner's shape of it."""

_Step = Callable[[Want], Want | None]


@dataclass(frozen=True)
class _Path:
    """A tensor on the way, with what leads back to where the search began, nearest first."""

    name: str
    shape: Shape
    back: tuple[_Step, ...]


class Readers:
    """The readers of every tensor of ``nodes``; ``outputs`` are read from outside besides."""

    def __init__(
        self, nodes: Sequence[Node], shapes: Mapping[str, Shape | None], outputs: Iterable[str]
    ) -> None:
        self.shapes = shapes
        self.by_name: dict[str, list[Node]] = {}
        for node in nodes:
            for name in dict.fromkeys(node.inputs):
                self.by_name.setdefault(name, []).append(node)
        self.outputs = frozenset(outputs)
        self.flat_axis = self._flat_axis(nodes)

    def is_sole(self, name: str) -> bool:
        """Whether at most one reads a tensor."""
        return len(self.by_name.get(name, ())) + (name in self.outputs) <= 1

    def is_final(self, name: str) -> bool:
        """Whether nothing but views follow."""
        while name not in self.outputs or self.by_name.get(name):
            behind = self.by_name.get(name, [])
            if len(behind) > 1 or any(node.operation not in VIEWS for node in behind):
                return False
            if not behind:
                return True
            name = behind[0].name
        return True

    def _flat_axis(self, nodes: Sequence[Node]) -> int | None:
        """Return the position axis on which no window of the model over two axes does anything."""
        common: set[int] | None = None
        for node in nodes:
            if node.operation in WINDOWED and len(node.attributes.get("kernel", ())) == 2:
                still = self._still_axes(node)
                common = still if common is None else common & still
        return min(common) if common is not None and len(common) == 1 else None

    def _still_axes(self, node: Node) -> set[int]:
        shape = self.shapes.get(node.inputs[0]) if node.inputs else None
        if shape is None or node.channel_axis is None or not node.channel_axis < len(shape) == 3:
            return set()
        try:
            return droppable_axis(window_of(node, 2), positions_of(shape, node.channel_axis))
        except ValueError:  # is named where the node is lowered
            return set()

    # --- what the next reader wants ---

    def wanted(self, name: str, shape: Shape) -> Want | None:
        """Return how the first reader that cares wants ``name``, of ``shape``; None: nobody does."""
        waiting, seen, looks = deque([_Path(name, shape, ())]), {name}, 0
        while waiting:
            path = waiting.popleft()
            for node in self.by_name.get(path.name, ()):
                looks += 1
                if looks > FARTHEST:
                    return None
                want = _led_back(self._demand(node, path.shape), path.back)
                if want is not None:
                    return want
                step = self._step_back(node, path.shape)
                if step is not None and node.shape is not None and node.name not in seen:
                    seen.add(node.name)
                    waiting.append(_Path(node.name, node.shape, (step, *path.back)))
        return None

    def _demand(self, node: Node, shape: Shape) -> Want | None:
        """Return in which order an operation itself wants an input of ``shape``."""
        if node.operation in WINDOWED:
            return self._windowed(node, shape)
        axis = None
        if node.operation == "global_avg_pool":
            axis = node.attributes.get("input_channel_axis")
        elif node.operation in (*RECURRENT, "linear", "conv_transpose") and prod(shape[:-1]) > 1:
            axis = len(shape) - 1 if node.operation != "conv_transpose" else node.channel_axis
        if axis is None or not 0 <= axis < len(shape):
            return None
        return channels_first(shape, axis), pooled(moved(shape, axis))

    def _windowed(self, node: Node, shape: Shape) -> Want | None:
        axis = node.channel_axis
        if axis is None or not 0 <= axis < len(shape) or prod(positions_of(shape, axis)) == 1:
            return None
        return channels_first(shape, axis), self.window_shape(shape, axis)

    def window_shape(self, shape: Shape, axis: int) -> Shape:
        """Return (C, positions...) as windows of this model see it: without an axis that none moves along."""
        positions = positions_of(shape, axis)
        if self.flat_axis is not None and len(positions) == 2:
            positions = positions_of(positions, self.flat_axis)
        return (shape[axis], *positions)

    # --- the way back ---

    def _step_back(self, node: Node, shape: Shape) -> _Step | None:
        """Return what turns a wish for the output of ``node`` into one for its input; None: nothing does."""
        order = node.attributes.get("permutation", ())
        if node.operation == "transpose" and sorted(order) == [*range(len(shape))]:
            return lambda want: _before_transpose(want, shape, order)
        if node.operation == "transpose" or node.shape is None:
            return None
        after = node.shape
        if node.operation == "reshape" or (node.operation in _ELEMENTWISE and after == shape):
            return lambda want: want
        if node.operation in _RESIZING and len(after) == len(shape):
            return lambda want: self._before_resize(want, shape, after)
        return None

    def _before_resize(self, want: Want, shape: Shape, after: Shape) -> Want | None:
        axis = channel_axis(want[0], after, want[1][0])
        if axis is None:
            return None
        kept = self.window_shape(shape, axis)
        return channels_first(shape, axis), kept if len(want[1]) == len(kept) else pooled(moved(shape, axis))


def _led_back(want: Want | None, back: tuple[_Step, ...]) -> Want | None:
    for step in back:
        want = step(want) if want is not None else None
    return want


def _before_transpose(want: Want, shape: Shape, order: Sequence[int]) -> Want | None:
    layout = chained(reduced(shape, order), want[0])
    return None if layout is None else (layout, want[1])


def pooled(shape: Shape) -> Shape:
    """Return a shape with at most two position axes, as the layer kinds have it.

    >>> pooled((8, 2, 3, 4)), pooled((8, 3, 4))
    ((8, 24), (8, 3, 4))
    """
    return shape if len(shape) <= 3 else (shape[0], prod(shape[1:]))
