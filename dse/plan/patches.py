"""Patch by patch: which part of every early tensor a patch of the last one needs.

The first layers of a network make its largest tensors. Run for one patch of their result at a time, they
need only the part of each tensor that this patch looks at; neighbouring patches look at overlapping parts,
which are computed again (arXiv 2110.15352, Sec. 3). Axes are independent, so that a patch is a product of
intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from dse.plan.structure import Patches
from dse.workload import Workload
from dse.workload.windows import Sliding

Interval = tuple[int, int]
"""First position and one behind the last, on one axis."""

ELEMENTWISE = ("relu", "relu6", "hard_swish", "batch_norm", "add", "concat", "pointwise")


@dataclass(frozen=True)
class Regions:
    """Intervals of each tensor (-1: the network input) by axis and patch: layer -> [axis][patch]."""

    intervals: dict[int, tuple[tuple[Interval, ...], ...]]
    shapes: dict[int, tuple[int, ...]]

    def most_elements(self, layer: int) -> int:
        """Elements of the largest part of the tensor that one patch needs."""
        widest = [max(end - start for start, end in axis) for axis in self.intervals[layer]]
        return self.shapes[layer][0] * prod(widest)

    def repeat(self, layer: int) -> float:
        """How many times each element of the tensor is computed, in the mean."""
        summed = [sum(end - start for start, end in axis) for axis in self.intervals[layer]]
        return prod(summed) / prod(self.shapes[layer][1:])


@lru_cache(maxsize=64)
def regions_of(workload: Workload, patches: Patches) -> Regions:
    """Return what each patch needs of every tensor up to the patches' unit; ValueError where impossible."""
    reason = refusal(workload, patches)
    if reason:
        raise ValueError(reason)
    edge = workload.units[patches.unit].cut_layer
    needed: dict[int, list[list[Interval]]] = {edge: _grid(workload.shapes[edge][1:], patches.tiles)}
    for layer in range(edge, -1, -1):
        if layer not in needed:
            continue
        for producer in workload.inputs[layer]:
            wanted = _inputs(workload, layer, producer, needed[layer])
            needed[producer] = _hull(needed.get(producer), wanted)
    shapes = {layer: tuple(workload.shape_of(layer)) for layer in needed}
    return Regions({layer: tuple(map(tuple, axes)) for layer, axes in needed.items()}, shapes)


def refusal(workload: Workload, patches: Patches) -> str:
    """Say why the layers up to the patches' unit cannot run patch by patch; empty where they can."""
    if not 0 <= patches.unit < len(workload.units) - 1:
        return f"patches end behind a unit from 0 to {len(workload.units) - 2}"
    edge = workload.units[patches.unit].cut_layer
    if workload.crossing(patches.unit) != (edge,):
        return "patches end where more than one tensor crosses"
    for layer in workload.layers[: edge + 1]:
        if not isinstance(layer, Sliding) and layer.kind not in ELEMENTWISE:
            return f"patches cannot pass a layer of kind {layer.kind}"
    if min(workload.shapes[edge][1:], default=0) < patches.tiles:
        return "more patches than positions"
    return ""


def _grid(sizes: tuple[int, ...], tiles: int) -> list[list[Interval]]:
    return [[(size * tile // tiles, size * (tile + 1) // tiles) for tile in range(tiles)] for size in sizes]


def _inputs(
    workload: Workload, layer: int, producer: int, axes: list[list[Interval]]
) -> list[list[Interval]]:
    """Return the part of ``producer`` that the part ``axes`` of ``layer`` reads."""
    kind: Any = workload.layers[layer]
    if not isinstance(kind, Sliding):
        return axes
    windows = kind.axes(workload.shape_of(producer))
    return [[window.touched(*span) for span in spans] for window, spans in zip(windows, axes, strict=True)]


def _hull(known: list[list[Interval]] | None, wanted: list[list[Interval]]) -> list[list[Interval]]:
    if known is None:
        return wanted
    return [
        [_around(*pair) for pair in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(known, wanted, strict=True)
    ]


def _around(one: Interval, other: Interval) -> Interval:
    """Return the shortest interval around both; windows that meet padding alone need nothing."""
    spans = [span for span in (one, other) if span[0] < span[1]]
    return (min(first for first, _ in spans), max(end for _, end in spans)) if spans else (0, 0)
