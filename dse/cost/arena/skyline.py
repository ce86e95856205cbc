"""Two ways to turn a ranking of items into offsets: filling valleys of a skyline, and filling holes.

Both are fast, and neither is optimal for a given ranking; the search over rankings is in ``heuristic``.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

import numpy as np

from dse.cost.arena.problem import aligned
from dse.cost.arena.reduction import Item


def fill_valleys(items: Sequence[Item], moments: int, ranking: Sequence[int]) -> list[int]:
    """Return offsets [units] of ``items`` by best fit on a skyline.

    The skyline is the height reached so far at each moment. Of its local valleys one is taken: the first
    item of ``ranking`` (places in ``items``) that lives within the valley alone is put on its floor; where
    there is none, the floor is lifted to the lower of its neighbours. The order in which valleys are taken
    does not matter, because no item of one reaches into another.

    After T. Sekiyama et al., "Profile-guided memory optimization for deep neural networks", 2018, which takes
    the longest-lived item first.
    """
    first = np.array([items[place].first for place in ranking])
    last = np.array([items[place].last for place in ranking])
    offsets = [0] * len(items)
    skyline = [[0, moments - 1, 0]]  # [first moment, last moment, height], adjacent heights differ
    at = left = 0
    left = len(items)
    while left:
        at = _downhill(skyline, at)
        begin, end, height = skyline[at]
        fits = (first >= begin) & (last <= end)
        chosen = int(fits.argmax())
        if not fits[chosen]:
            skyline[at][2] = min(skyline[near][2] for near in (at - 1, at + 1) if 0 <= near < len(skyline))
            at = _merge(skyline, at)
            continue
        place = ranking[chosen]
        item = items[place]
        offsets[place] = aligned(height, item.alignment)
        at = _raise(skyline, at, item, offsets[place] + item.size)
        first[chosen] = -1  # placed: begins before every valley
        left -= 1
    return offsets


def _downhill(skyline: Sequence[Sequence[int]], at: int) -> int:
    """Return the local valley that lies downhill from ``at``."""
    while at > 0 and skyline[at - 1][2] < skyline[at][2]:
        at -= 1
    while at + 1 < len(skyline) and skyline[at + 1][2] < skyline[at][2]:
        at += 1
    return at


def _raise(skyline: list[list[int]], at: int, item: Item, height: int) -> int:
    """Put ``item`` on the valley at ``at`` and return where the skyline now reaches ``height``."""
    begin, end, floor = skyline[at]
    parts = [[item.first, item.last, height]]
    if begin < item.first:
        parts.insert(0, [begin, item.first - 1, floor])
    if item.last < end:
        parts.append([item.last + 1, end, floor])
    skyline[at : at + 1] = parts
    return _merge(skyline, at + (begin < item.first))


def _merge(skyline: list[list[int]], at: int) -> int:
    """Join the part at ``at`` with neighbours of its height and return its new place."""
    if at + 1 < len(skyline) and skyline[at + 1][2] == skyline[at][2]:
        skyline[at][1] = skyline.pop(at + 1)[1]
    if at > 0 and skyline[at - 1][2] == skyline[at][2]:
        skyline[at - 1][1] = skyline.pop(at)[1]
        at -= 1
    return at


def fill_holes(items: Sequence[Item], ranking: Sequence[int], *, best: bool = False) -> list[int]:
    """Return offsets [units]: each item of ``ranking`` in turn where it fits between those placed before.

    It goes into the lowest hole (first fit), or, with ``best``, into the smallest one that is large enough.
    """
    offsets = [0] * len(items)
    placed: list[tuple[int, int, int, int]] = []  # (offset, top, first moment, last moment), by offset
    for place in ranking:
        item = items[place]
        offset = _hole(item, placed, best=best)
        offsets[place] = offset
        insort(placed, (offset, offset + item.size, item.first, item.last))
    return offsets


def _hole(item: Item, placed: Sequence[tuple[int, int, int, int]], *, best: bool) -> int:
    _, begin, end, size, alignment, _ = item
    offset, smallest, found = 0, -1, -1
    for low, top, first, last in placed:
        if first > end or last < begin:
            continue
        room = low - offset
        if room >= size and (smallest < 0 or room < smallest):
            smallest, found = room, offset
            if not best:
                return found
        if top > offset:
            offset = aligned(top, alignment)
    return found if found >= 0 else offset
