"""A placement in well under a second: greedy rankings first, then a seeded search over rankings.

The work is bounded by counts, never by a clock, so that the same buffers and seed always give the same map.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dse.cost.arena.reduction import Item, Leaf
from dse.cost.arena.skyline import fill_holes, fill_valleys

EFFORT: Final = 60_000
"""Items that the search places, at most, over all leaves: about half a second of one core."""

RANKINGS: Final[dict[str, Callable[[Item], tuple[float, ...]]]] = {
    "lifetime": lambda item: (-(item.last - item.first), -item.size),
    "area": lambda item: (-(item.last - item.first + 1) * item.size,),
    "size": lambda item: (-item.size, -(item.last - item.first)),
    "start": lambda item: (item.first, -(item.last - item.first), -item.size),
    "end": lambda item: (-item.last, -(item.last - item.first), -item.size),
}
"""Name of a ranking -> what items are sorted by; ties keep the order given."""


@dataclass(frozen=True)
class Placement:
    """Offsets [units] of a leaf's items and the raw height [B] that they reach."""

    offsets: tuple[int, ...]
    height: int
    method: str


def height_bytes(leaf: Leaf, offsets: Sequence[int], unit: int) -> int:
    """Return the raw height [B] of ``leaf`` at ``offsets`` [units]."""
    return max(
        (offset + item.size) * unit - item.padding_bytes
        for item, offset in zip(leaf.items, offsets, strict=True)
    )


def constructed(leaf: Leaf, unit: int, target: int) -> Placement:
    """Return the best greedy placement; the first that is at most ``target`` [B] high is taken."""
    best: Placement | None = None
    for placement in _greedy(leaf, unit):
        if best is None or placement.height < best.height:
            best = placement
        if best.height <= target:
            break
    assert best is not None, "there is always a ranking"
    return best


def _greedy(leaf: Leaf, unit: int) -> Iterator[Placement]:
    for name in RANKINGS:
        offsets = fill_valleys(leaf.items, leaf.moments, ranked(leaf, name))
        yield Placement(tuple(offsets), height_bytes(leaf, offsets, unit), f"valleys by {name}")
    orders = {name: ranked(leaf, name) for name in RANKINGS}
    orders["contention"] = by_contention(leaf)
    for name, order in orders.items():
        for best in (False, True):
            offsets = fill_holes(leaf.items, order, best=best)
            fit = "best fit" if best else "first fit"
            yield Placement(tuple(offsets), height_bytes(leaf, offsets, unit), f"{fit} by {name}")


def ranked(leaf: Leaf, name: str) -> list[int]:
    """Return places in ``leaf.items``, sorted by the ranking ``name``."""
    key = RANKINGS[name]
    return sorted(range(len(leaf.items)), key=lambda place: key(leaf.items[place]))


def by_contention(leaf: Leaf) -> list[int]:
    """Return places by the fullest moment that an item lives through: those of the peak first, long-lived first."""
    live = [0] * leaf.moments
    for item in leaf.items:
        for moment in range(item.first, item.last + 1):
            live[moment] += item.size

    def key(place: int) -> tuple[int, int, int]:
        item = leaf.items[place]
        return -max(live[item.first : item.last + 1]), item.first - item.last, -item.size

    return sorted(range(len(leaf.items)), key=key)


