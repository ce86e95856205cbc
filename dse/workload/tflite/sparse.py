"""Constant tensors that are stored as their blocks other than zero, and how they become whole again.

The format is that of the schema's ``SparsityParameters``: the axes of the tensor, and behind them those of
the blocks, are walked in the order of traversal, each either at every index or at the listed ones alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.workload.base import Shape

MOST_ELEMENTS: Final = 2**23
"""Elements of one such tensor, of which few are stored: a small file could claim any number of them."""

Whole = NDArray[np.int64]


class Misfit(ValueError):
    """A description that does not fit its tensor."""


@dataclass(frozen=True, eq=False)
class Level:
    """One axis of the walk: ``size`` indices each, or those between two ``segments`` in ``indices``."""

    size: int
    segments: NDArray[np.integer] | None = None
    indices: NDArray[np.integer] | None = None


@dataclass(frozen=True, eq=False)
class Sparsity:
    """How a tensor is stored: ``order`` of the walk, the axis that each of ``blocks`` cuts, the levels."""

    order: tuple[int, ...]
    blocks: tuple[int, ...]
    levels: tuple[Level, ...]


def places(sparsity: Sparsity, shape: Shape, stored: int) -> Whole:
    """Return the flat place in a tensor of ``shape`` of each of its ``stored`` elements, in their order.

    Raises Misfit where the description does not give each a place of its own.
    """
    strides, sizes = _strides(sparsity, shape)
    most = max([stored, *(len(level.segments) for level in sparsity.levels if level.segments is not None)])
    found = np.zeros(1, dtype=np.int64)
    for level, stride, size in zip(sparsity.levels, strides, sizes, strict=True):
        if level.segments is None or level.indices is None:
            found = _every(found, stride, size, most)
        else:
            found = _listed(found, level.segments, level.indices, stride, size)
    if len(found) != stored:
        raise Misfit(f"{stored} elements are stored, {len(found)} are described")
    if len(np.unique(found)) != stored:
        raise Misfit("two elements have the same place")
    return found


def _strides(sparsity: Sparsity, shape: Shape) -> tuple[list[int], list[int]]:
    """Return, by level, how far apart neighbours are in the tensor, and how many indices there are."""
    rank, blocks = len(shape), sparsity.blocks
    if sorted(sparsity.order) != list(range(rank + len(blocks))) or len(sparsity.levels) != len(
        sparsity.order
    ):
        raise Misfit(f"{len(sparsity.levels)} levels in the order {list(sparsity.order)} for {rank} axes")
    if prod(shape) > MOST_ELEMENTS:
        raise Misfit(f"{prod(shape)} elements, at most {MOST_ELEMENTS} are read")
    if len(set(blocks)) != len(blocks) or any(not 0 <= axis < rank for axis in blocks):
        raise Misfit(f"blocks of the axes {list(blocks)} of {rank}")
    level_of = {axis: level for level, axis in enumerate(sparsity.order)}
    apart, sizes = [prod(shape[axis + 1 :]) for axis in range(rank)], list(shape)
    for place, axis in enumerate(blocks):
        block = sparsity.levels[level_of[rank + place]].size
        if block < 1 or shape[axis] % block:
            raise Misfit(f"blocks of {block} along an axis of {shape[axis]}")
        apart, sizes = [*apart, apart[axis]], [*sizes, block]
        apart[axis], sizes[axis] = apart[axis] * block, sizes[axis] // block
    return [apart[axis] for axis in sparsity.order], [sizes[axis] for axis in sparsity.order]


def _every(found: Whole, stride: int, size: int, most: int) -> Whole:
    if len(found) * size > most:
        raise Misfit(f"{len(found) * size} places are described, at most {most} are stored")
    return (found[:, None] + np.arange(size, dtype=np.int64) * stride).reshape(-1)


def _listed(
    found: Whole, segments: NDArray[np.integer], indices: NDArray[np.integer], stride: int, size: int
) -> Whole:  # fmt: skip
    """Take from each place so far to those that its segment lists: segments stand in the order of places."""
    bounds, listed = segments.astype(np.int64), indices.astype(np.int64)
    counts = np.diff(bounds)
    if len(bounds) != len(found) + 1 or bounds[0] != 0 or bounds[-1] != len(listed) or counts.min() < 0:
        raise Misfit(f"{len(bounds)} segment ends that do not fit {len(found)} rows of {len(listed)} indices")
    if listed.min(initial=0) < 0 or listed.max(initial=0) >= size:
        raise Misfit(f"indices outside an axis of {size}")
    return np.repeat(found, counts) + listed * stride
