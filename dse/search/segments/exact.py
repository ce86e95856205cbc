"""The splits that no other one beats in peak and work, by dynamic programming from the cut upwards.

A way of splitting what lies below a node is known by what is kept of it and by the MACs that run again; one
that another way to the same node matches or beats in both can be dropped, because whatever follows costs
both the same. A segment may follow where what is kept and what it needs stay within the budget. Bytes and
MACs are whole numbers, so that no comparison is a matter of rounding. The front follows from asking again
with a budget of one byte less than the last answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dse.search.segments.parts import Parts


class _Label(NamedTuple):
    """A way to a node: what is kept below it, what runs again, its peak so far, and where it comes from."""

    kept: int
    macs: int
    peak: int
    below: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """One way to split: units, peak of the step [B], and the MACs of a mini-batch that run again."""

    units: tuple[int, ...]
    peak_bytes: int
    macs: int


def least_work(parts: Parts, budget_bytes: float) -> Found | None:
    """Return the split of least MACs whose peak stays within the budget; None where there is none.

    Of several it is one with the fewest segments.
    """
    last = len(parts.units) + 1
    labels: list[list[_Label]] = [[_Label(0, 0, 0, ())]]
    for node in range(1, last + 1):
        ways = [
            _Label(
                label.kept + int(parts.kept[lower, node]), label.macs + int(parts.macs[lower, node]),
                max(label.peak, label.kept + int(parts.need[lower, node])),
                (*label.below, node) if node < last else label.below,
            )
            for lower in range(node)
            for label in labels[lower]
            if label.kept + parts.need[lower, node] <= budget_bytes
        ]  # fmt: skip
        labels.append(_unbeaten(ways))
    if not labels[last]:
        return None
    best = min(labels[last], key=lambda way: (way.macs, len(way.below), way.peak))
    return Found(tuple(parts.units[node - 1] for node in best.below), best.peak, best.macs)


def _unbeaten(ways: Sequence[_Label]) -> list[_Label]:
    """Return the ways that no other one matches or beats in what is kept and what runs again."""
    found: list[_Label] = []
    for way in sorted(ways, key=lambda way: (way.macs, way.kept, len(way.below), way.peak)):
        if not found or way.kept < found[-1].kept:
            found.append(way)
    return found


def front(parts: Parts) -> tuple[Found, ...]:
    """Return every split that no other one beats in peak and MACs, MACs rising and peaks falling."""
    points: list[Found] = []
    found = least_work(parts, float("inf"))
    while found is not None:
        if points and points[-1].macs == found.macs:
            points.pop()  # the same work at a lower peak
        points.append(found)
        found = least_work(parts, found.peak_bytes - 1)
    return tuple(points)
