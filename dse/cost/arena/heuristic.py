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

LARGE: Final = 1_500
"""Items of a leaf at which each that is placed counts twice, because the work for one grows with the leaf."""

HOLES_UP_TO: Final = 500
"""Items of a leaf up to which holes are filled too: it takes quadratic time and seldom beats the valleys."""

MOST_RANKINGS: Final = 600
"""Rankings that the search tries for one leaf, at most: a small one has seen most of them by then."""

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


def placed(leaf: Leaf, offsets: Sequence[int], unit: int, method: str) -> Placement:
    """Return ``offsets`` [units] of ``leaf`` with the height that they reach."""
    return Placement(tuple(offsets), height_bytes(leaf, offsets, unit), method)


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
        yield placed(leaf, offsets, unit, f"valleys by {name}")
    if len(leaf.items) > HOLES_UP_TO:
        return
    orders = {name: ranked(leaf, name) for name in RANKINGS}
    orders["contention"] = by_contention(leaf)
    for name, order in orders.items():
        for best in (False, True):
            offsets = fill_holes(leaf.items, order, best=best)
            yield placed(leaf, offsets, unit, f"{'best' if best else 'first'} fit by {name}")


def ranked(leaf: Leaf, name: str) -> list[int]:
    """Return places in ``leaf.items``, sorted by the ranking ``name``."""
    key = RANKINGS[name]
    return sorted(range(len(leaf.items)), key=lambda place: key(leaf.items[place]))


def by_contention(leaf: Leaf) -> list[int]:
    """Return places by the fullest moment that an item lives through, the fullest and longest first."""
    live = [0] * leaf.moments
    for item in leaf.items:
        for moment in range(item.first, item.last + 1):
            live[moment] += item.size

    def key(place: int) -> tuple[int, int, int]:
        item = leaf.items[place]
        return -max(live[item.first : item.last + 1]), item.first - item.last, -item.size

    return sorted(range(len(leaf.items)), key=key)


def searched(
    leaf: Leaf, unit: int, start: Placement, target: int, *, seed: int, items_placed: int
) -> Placement:
    """Return a placement at most as high as ``start``, from a search over rankings for the valleys.

    Hill climbing that accepts equals, from the best greedy ranking: either an item that reaches above
    ``target`` [B] is ranked higher, or two items that are alive together change ranks. What counts is first
    the height and then by how much the moments exceed the target in all. It ends at ``target``, or after
    ``items_placed``.
    """
    draw, goal, best = random.Random(seed), target // unit, start
    order = min(
        (ranked(leaf, name) for name in RANKINGS), key=lambda one: _cost(leaf, _valleys(leaf, one), goal)
    )
    offsets = _valleys(leaf, order)
    cost = _cost(leaf, offsets, goal)
    count = len(leaf.items)
    for _ in range(min(items_placed // (count + count * count // LARGE), MOST_RANKINGS)):
        if best.height <= target:
            break
        changed = (
            _raised(draw, leaf, order, offsets, goal) if draw.random() < 0.5 else _swapped(draw, leaf, order)
        )
        tried = _valleys(leaf, changed)
        reached = _cost(leaf, tried, goal)
        if reached <= cost:
            order, offsets, cost = changed, tried, reached
            if height_bytes(leaf, tried, unit) < best.height:
                best = placed(leaf, tried, unit, f"search over rankings, seed {seed}")
    return best


def _valleys(leaf: Leaf, order: Sequence[int]) -> list[int]:
    return fill_valleys(leaf.items, leaf.moments, order)


def _cost(leaf: Leaf, offsets: Sequence[int], goal: int) -> tuple[int, int]:
    """Return the height [units], and the sum over moments of what lies above ``goal`` [units]."""
    above = [0] * leaf.moments
    for item, offset in zip(leaf.items, offsets, strict=True):
        excess = offset + item.size - goal
        if excess > 0:
            for moment in range(item.first, item.last + 1):
                above[moment] = max(above[moment], excess)
    return max(offset + item.size for item, offset in zip(leaf.items, offsets, strict=True)), sum(above)


def _raised(
    draw: random.Random, leaf: Leaf, order: Sequence[int], offsets: Sequence[int], goal: int
) -> list[int]:
    """Return ``order`` with one item that reaches above ``goal`` [units] moved to an earlier rank."""
    high = [rank for rank, place in enumerate(order) if offsets[place] + leaf.items[place].size > goal]
    changed = list(order)
    rank = draw.choice(high) if high else draw.randrange(len(order))
    changed.insert(draw.randrange(rank + 1), changed.pop(rank))
    return changed


def _swapped(draw: random.Random, leaf: Leaf, order: Sequence[int]) -> list[int]:
    """Return ``order`` with two items exchanged, which are alive together where a few draws find such."""
    changed = list(order)
    for _ in range(20):
        one, other = draw.randrange(len(order)), draw.randrange(len(order))
        first, second = leaf.items[order[one]], leaf.items[order[other]]
        if one != other and first.first <= second.last and second.first <= first.last:
            break
    changed[one], changed[other] = changed[other], changed[one]
    return changed
