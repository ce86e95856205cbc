"""The tensors of a network as memory sees them: values that in-place layers share, and who reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from dse.workload import Workload

VIEWS: Final = (None, "softmax_loss")
"""Element operations of layers that never get a buffer of their own: flattening, and the loss."""


@dataclass(frozen=True)
class Tensor:
    """One stored value: written by layer ``root``, rewritten in place up to ``last``, read by ``readers``."""

    root: int
    last: int
    members: tuple[int, ...]
    readers: tuple[int, ...]
    elements: int


@lru_cache(maxsize=64)
def tensors_of(
    workload: Workload, in_place: str = "elementwise"
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Return the tensors in order of their roots, and for each layer the position of its tensor.

    A layer works in place when its kind and ``in_place`` (a word of ``decisions.IN_PLACE``) allow it and
    nobody else reads its input.
    """
    consumers: list[list[int]] = [[] for _ in workload.layers]
    for index, producers in enumerate(workload.inputs):
        for producer in producers:
            if producer >= 0:
                consumers[producer].append(index)
    root: list[int] = []
    for index in range(len(workload.layers)):
        source = workload.inputs[index][0]
        shares = source >= 0 and (
            _is_view(workload, index)
            or (_overwrites(workload, index, in_place) and _reads_last(consumers, root, index, source))
        )
        root.append(root[source] if shares else index)
    tensors: list[Tensor] = []
    position: dict[int, int] = {}
    for start in sorted(set(root)):
        members = tuple(index for index, owner in enumerate(root) if owner == start)
        position[start] = len(tensors)
        readers = tuple(sorted({reader for member in members for reader in consumers[member]} - {*members}))
        elements = int(workload.out_elements[start])
        tensors.append(Tensor(start, members[-1], members, readers, elements))
    return tuple(tensors), tuple(position[owner] for owner in root)


def _is_view(workload: Workload, index: int) -> bool:
    """Whether a layer of the frozen stage names its input's bytes anew, whoever else reads them."""
    layer = workload.layers[index]
    return layer.forward_only and layer.in_place


def _reads_last(consumers: list[list[int]], root: list[int], index: int, source: int) -> bool:
    """Whether nobody but ``index`` reads the value in the buffer of ``source``, by whatever name."""
    members = {member for member, owner in enumerate(root) if owner == root[source]}
    return {reader for member in members for reader in consumers[member]} - members == {index}


def _overwrites(workload: Workload, index: int, in_place: str) -> bool:
    """Whether a layer may write over its input: views and the loss always, the others by the mode."""
    layer = workload.layers[index]
    if layer.in_place and layer.element_operation in VIEWS:
        return True
    if in_place == "depthwise" and overwrites_depthwise(workload, index):
        return True
    return layer.in_place and in_place != "none"


def overwrites_depthwise(workload: Workload, index: int) -> bool:
    """Whether a layer is a depthwise convolution that can overwrite its input channel by channel."""
    source, layer = workload.inputs[index][0], workload.layers[index]
    if source < 0 or layer.operator_on(workload.shape_of(source)) != "depthwise":
        return False
    return workload.shapes[index] == workload.shape_of(source) and set(getattr(layer, "stride", ())) == {1}


def owner_of(workload: Workload, tensor: Tensor) -> int:
    """Return the unit that a tensor belongs to; the first where it stands before all of them."""
    return max(int(workload.unit_of_layer[tensor.root]), 0)


def input_readers(workload: Workload) -> tuple[int, ...]:
    """Return the layers that read the network input."""
    return tuple(index for index, producers in enumerate(workload.inputs) if -1 in producers)
