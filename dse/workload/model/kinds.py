"""Which layer kind a window of the file is: convolutions and pools, with their numbers checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dse.workload.base import Layer, Padding, Shape, shape_text
from dse.workload.convolutions import Conv1d, Conv2d, Depthwise, Depthwise1d, Pointwise
from dse.workload.layers import AvgPool, MaxPool
from dse.workload.model.graph import Constant, Node
from dse.workload.windows import same_padding

WINDOWED: Final = ("conv", "max_pool", "avg_pool")

_CONVOLUTIONS: Final[Mapping[int, tuple[type[Conv2d | Conv1d], type[Depthwise]]]] = {
    1: (Conv1d, Depthwise1d),
    2: (Conv2d, Depthwise),
}


@dataclass(frozen=True)
class Window:
    """A sliding window by position axis, in the file's order: sizes, steps, and (before, after) padding."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def rank(self) -> int:
        """How many position axes it slides over."""
        return len(self.kernel)

    @property
    def is_dilated(self) -> bool:
        """Whether its taps stand apart."""
        return any(by > 1 and size > 1 for by, size in zip(self.dilation, self.kernel, strict=True))

    def is_still(self, axis: int) -> bool:
        """Whether it neither reaches beyond one position on ``axis`` nor adds any."""
        return self.kernel[axis] == 1 and not any(self.pads[axis])

    @property
    def is_point(self) -> bool:
        """Whether it looks at one position alone."""
        return all(self.is_still(axis) for axis in range(self.rank))

    def without(self, axis: int) -> Window:
        """Return the window over the other axes."""
        parts = (self.kernel, self.stride, self.dilation, self.pads)
        return Window(*(part[:axis] + part[axis + 1 :] for part in parts))  # type: ignore[arg-type]

    def padding(self, sizes: Shape) -> Padding:
        """Return ``"same"`` where the pads are what that adds to axes of ``sizes``, else the numbers."""
        extents = [(size - 1) * by + 1 for size, by in zip(self.kernel, self.dilation, strict=True)]
        same = tuple(map(same_padding, sizes, extents, self.stride))
        if self.pads == same:
            return "same"
        return self.numbers()

    def numbers(self) -> Padding:
        """Return the padding as numbers, pairs where the ends differ."""
        return tuple(before if before == after else (before, after) for before, after in self.pads)


def window_of(node: Node, positions: int) -> Window:
    """Read the window of a node over so many position axes; raises ValueError where it is none."""
    said = node.attributes
    ones = (1,) * positions
    kernel = _numbers(said, "kernel", None, positions)
    pads = said.get("pads", ((0, 0),) * positions)
    if len(pads) != positions or any(len(pair) != 2 or min(pair) < 0 for pair in pads):
        raise ValueError(f"pads need (before, after) of at least 0 for {positions} axes, found {pads}")
    return Window(
        kernel,
        _numbers(said, "stride", ones, positions),
        _numbers(said, "dilation", ones, positions),
        tuple((int(before), int(after)) for before, after in pads),
    )


def _numbers(said: Mapping[str, Any], key: str, default: Shape | None, positions: int) -> tuple[int, ...]:
    found = said.get(key, default)
    if found is None or len(found) != positions or min(found) < 1:
        raise ValueError(f"{key} needs {positions} numbers of at least 1, found {found}")
    return tuple(int(number) for number in found)


def conv_layer(
    node: Node, weight: Constant, window: Window, shape: Shape, name: str, source: str
) -> Layer:  # fmt: skip
    """Return the convolution of ``node`` on an input of ``shape`` (C, positions...), channels first."""
    groups, out = _groups(node), weight.shape[0]
    given: dict[str, Any] = {"name": name, "inputs": (source,), "bias": False}
    if groups == 1 and window.is_point and max(window.stride) == 1:
        return Pointwise(**given, out_channels=out)
    given |= {"kernel": window.kernel, "stride": window.stride, "padding": window.padding(shape[1:])}
    if window.is_dilated:
        given["dilation"] = window.dilation
    dense, depthwise = _CONVOLUTIONS[window.rank]
    if groups == shape[0] == out and groups > 1:
        return depthwise(**given)
    return dense(**given, out_channels=out, groups=groups)


def _groups(node: Node) -> int:
    groups = node.attributes.get("groups", 1)
    if type(groups) is not int or groups < 1:
        raise ValueError(f"groups must be at least 1, found {groups!r}")
    return groups


def check_conv(node: Node, weight: Constant, channels: int, positions: int) -> None:
    """Refuse weights that do not fit the channels that the convolution reads, or its own kernel."""
    kernel = tuple(node.attributes.get("kernel", ()))
    wanted = (*weight.shape[:1], channels // _groups(node), *kernel)
    if len(weight.shape) != positions + 2 or weight.shape != wanted or channels % _groups(node):
        found = f"weights of {shape_text(weight.shape)} with {_groups(node)} groups"
        raise ValueError(f"{found} do not fit {channels} channels and a kernel of {shape_text(kernel)}")


def pool_layer(node: Node, window: Window, shape: Shape, name: str, source: str) -> Layer | None:
    """Return the pool of ``node`` on an input of ``shape``, channels first; None where no kind is it."""
    if window.is_dilated or any(
        max(pair) >= size for pair, size in zip(window.pads, window.kernel, strict=True)
    ):
        return None
    kernel, stride = _alike(window.kernel), _alike(window.stride)
    given: dict[str, Any] = {"name": name, "inputs": (source,), "kernel": kernel, "stride": stride}
    if not any(map(any, window.pads)):
        return _POOLS[node.operation](**given, padding=(0,))
    padding = window.padding(shape[1:])
    if node.operation == "max_pool":
        return MaxPool(**given, padding=padding)
    if node.attributes.get("count_include_pad", False):
        return AvgPool(**given, padding=window.numbers())
    return AvgPool(**given, padding="same") if padding == "same" else None


def pools_all(node: Node, window: Window, sizes: Shape) -> bool:
    """Whether an average pool has one window over all positions, with pads that do not count."""
    if node.attributes.get("count_include_pad", False) or window.is_dilated or not any(map(any, window.pads)):
        return False
    rows = zip(sizes, window.kernel, window.pads, window.stride, strict=True)
    return all(
        before + size <= kernel and (before + size + after - kernel) < stride
        for size, kernel, (before, after), stride in rows
    )


_POOLS: Final[Mapping[str, type[AvgPool]]] = {"max_pool": MaxPool, "avg_pool": AvgPool}


def _alike(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return one size for all axes where they agree, as network files have it."""
    return sizes[:1] if len(set(sizes)) == 1 else sizes


def droppable_axis(window: Window, sizes: Shape) -> set[int]:
    """Return the position axes of size 1 on which a window over two axes does nothing."""
    return {axis for axis in range(window.rank) if sizes[axis] == 1 and window.is_still(axis)}


def positions_of(shape: Shape, axis: int) -> Shape:
    """Return the sizes of all axes but the channels'."""
    return shape[:axis] + shape[axis + 1 :]
