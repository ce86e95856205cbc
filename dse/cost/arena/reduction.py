"""A placement problem made smaller without losing its best solution.

Four steps, each of which keeps an optimal placement:

**Units.** Every offset is a multiple of the smallest alignment q, so no two buffers that fit raw collide
when sizes are rounded up to q. Push every buffer down until it stands on 0 or on another one, rounded up to
its own alignment: the arena does not grow, and every offset is now made of rounded sizes and of alignments
above q. All of it is therefore counted in units of their greatest common divisor. Only the arena's own size
needs raw bytes: a buffer that ends the arena need not pay for its padding.

**Time.** Intervals that overlap pairwise share a point, so it is enough to look at the moments at which the
set of live buffers is maximal: a lifespan becomes a range of such moments, and the rest of time vanishes.

**Throughout.** Let b be alive during every moment, at offset o, and its size a multiple of the largest
alignment. Nothing else ever lies within b's bytes, so all others are wholly below or wholly above. Move b
to 0 and those below up by its size: nothing collides, alignments hold, and the arena is as large as before,
unless b ended it with padding unpaid. Hence all such buffers go to the bottom; the best arena over them is
R + H, with R their summed size and H the best height of the rest; or, with the one b of them on top of
everything, R - b + H rounded up to b's alignment + b's raw size. The smaller is taken.

**Components.** Where no remaining buffer lives across a moment's border, both sides are problems of their own
that start from the same height. Each is reduced again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Final, NamedTuple

from dse.cost.arena.problem import ArenaBuffer, aligned

DEEPEST: Final = 150
"""Reductions within each other, at most: what is left then is a leaf (Python bounds recursion)."""


class Item(NamedTuple):
    """``buffer`` is its place in the list given; moments ``first`` to ``last`` inclusive, sizes in units."""

    buffer: int
    first: int
    last: int
    size: int
    alignment: int
    padding_bytes: int
    """Bytes by which ``size`` units exceed the raw size."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """What is not reduced further; moments run from 0 to ``moments`` - 1."""

    items: tuple[Item, ...]
    moments: int


@dataclass(frozen=True)
class Node:
    """Items alive throughout at the bottom, and independent parts above them, all from the same height."""

    throughout: tuple[Item, ...]
    parts: tuple[Node | Leaf, ...]


@dataclass(frozen=True)
class Reduced:
    """A whole problem: offsets of its tree count in ``unit_bytes`` [B]."""

    root: Node
    leaves: tuple[Leaf, ...]
    unit_bytes: int

    def arena_bytes(self, heights: Mapping[Leaf, int]) -> int:
        """Return the arena [B] when each leaf takes ``heights`` [B, raw]; it grows with each of them."""
        return _height(self.root, heights, self.unit_bytes)

    def offsets(self, heights: Mapping[Leaf, int], placed: Mapping[Leaf, Sequence[int]]) -> dict[int, int]:
        """Return the offset [B] of every buffer by its index, from those [units] of each leaf's items."""
        found: dict[int, int] = {}

        def lay(node: Node | Leaf, base: int) -> None:
            if isinstance(node, Leaf):
                offsets = zip(node.items, placed[node], strict=True)
                found.update({item.buffer: (base + offset) * self.unit_bytes for item, offset in offsets})
                return
            rest = max((_height(part, heights, self.unit_bytes) for part in node.parts), default=0)
            top = _top_item(node, rest, self.unit_bytes)
            for item in node.throughout:
                if item is not top:
                    found[item.buffer] = base * self.unit_bytes
                    base += item.size
            for part in node.parts:
                lay(part, base)
            if top is not None:
                found[top.buffer] = (base + _on_top(top, rest, self.unit_bytes)) * self.unit_bytes

        lay(self.root, 0)
        return found


def reduced(buffers: Sequence[ArenaBuffer]) -> Reduced:
    """Return ``buffers`` in units, moments and independent parts."""
    least = min((buffer.alignment for buffer in buffers), default=1)
    sizes = [aligned(buffer.size_bytes, least) for buffer in buffers]
    unit = gcd(*sizes, *(buffer.alignment for buffer in buffers if buffer.alignment > least)) or 1
    items = [
        Item(
            index,
            buffer.start,
            buffer.end,
            size // unit,
            max(buffer.alignment // unit, 1),
            size - buffer.size_bytes,
        )
        for index, (buffer, size) in enumerate(zip(buffers, sizes, strict=True))
    ]
    leaves: list[Leaf] = []
    root = Node((), tuple(_tree(part, leaves) for part in _components(items)))
    return Reduced(root, tuple(leaves), unit)


def _tree(items: list[Item], leaves: list[Leaf], depth: int = 0) -> Node | Leaf:
    """Reduce one component, whose items already count in its own moments."""
    last = max(item.last for item in items)
    largest = max(item.alignment for item in items)
    throughout = tuple(
        item for item in items if item.first == 0 and item.last == last and item.size % largest == 0
    )
    if not throughout or depth == DEEPEST:
        leaves.append(Leaf(tuple(items), last + 1))
        return leaves[-1]
    fixed = {item.buffer for item in throughout}
    rest = [item for item in items if item.buffer not in fixed]
    return Node(throughout, tuple(_tree(part, leaves, depth + 1) for part in _components(rest)))


def _components(items: Sequence[Item]) -> list[list[Item]]:
    """Split ``items`` where nothing lives across; each part counts in moments of its own, from 0."""
    parts: list[list[Item]] = []
    begin = reach = -1
    for item in sorted(_moments(items), key=lambda one: (one.first, one.buffer)):
        if item.first > reach:
            parts.append([])
            begin = item.first
        parts[-1].append(item._replace(first=item.first - begin, last=item.last - begin))
        reach = max(reach, item.last)
    return parts


def _moments(items: Sequence[Item]) -> list[Item]:
    """Count lifespans in moments at which the set of live items is maximal.

    Such a moment is the last start before an end, where one lies between that end and the one before it.
    """
    starts = sorted({item.first for item in items})
    moments: list[int] = []
    passed = 0
    for end in sorted({item.last for item in items}):
        begun = bisect_right(starts, end)
        if begun > passed:
            moments.append(starts[begun - 1])
            passed = begun
    return [
        item._replace(first=bisect_left(moments, item.first), last=bisect_right(moments, item.last) - 1)
        for item in items
    ]


def _height(node: Node | Leaf, heights: Mapping[Leaf, int], unit: int) -> int:
    """Return the raw height [B] of ``node`` above its base."""
    if isinstance(node, Leaf):
        return heights[node]
    rest = max((_height(part, heights, unit) for part in node.parts), default=0)
    top = _top_item(node, rest, unit)
    below = sum(item.size for item in node.throughout if item is not top)
    if top is None:
        return below * unit + rest
    return (below + _on_top(top, rest, unit) + top.size) * unit - top.padding_bytes


def _top_item(node: Node, rest: int, unit: int) -> Item | None:
    """Return the item alive throughout that is better on top of the others than below them, if any."""

    def saved(item: Item) -> int:
        return rest + item.padding_bytes - _on_top(item, rest, unit) * unit

    best = max(node.throughout, key=saved, default=None)
    return best if best is not None and saved(best) > 0 else None


def _on_top(item: Item, rest: int, unit: int) -> int:
    """Return the least offset [units] of ``item`` above ``rest`` [B]."""
    return aligned(-(-rest // unit), item.alignment)
