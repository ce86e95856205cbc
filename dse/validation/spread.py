"""Which of many plans to train first: those that add most to the hypervolume of those before them."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dse.search.pareto import Ranges, scaled, volume

FloatArray = NDArray[np.float64]


def by_contribution(groups: Sequence[Mapping[str, FloatArray]], names: Sequence[str]) -> list[int]:
    """Return the positions of ``groups``, the one first that adds most hypervolume, and so on greedily.

    Parameters
    ----------
    groups: what one plan reaches: board -> objectives (k, m), minimised. Boards count alike: the gain is the
        sum over them, each scaled over all groups (``dse.search.pareto.scaled``).
    names: the columns behind the m objectives.

    Equal gains go in the order given. Gains only shrink as more is chosen (hypervolume is submodular), so a
    group is looked at again only when its last known gain is the largest: the accelerated greedy of Minoux,
    Optimization Techniques, Lecture Notes in Control and Information Sciences 7, 1978.

    """
    points = _scaled(groups, names)
    chosen: dict[str, FloatArray] = {}
    reached: dict[str, float] = {}
    order: list[int] = []
    waiting = [(-np.inf, number, -1) for number in range(len(groups))]
    while waiting:
        _, number, known = heapq.heappop(waiting)
        if known == len(order):
            order.append(number)
            for board, mine in points[number].items():
                chosen[board] = _joined(chosen, board, mine)
                reached[board] = volume(chosen[board])
            continue
        gain = sum(
            volume(_joined(chosen, board, mine)) - reached.get(board, 0.0)
            for board, mine in points[number].items()
        )
        heapq.heappush(waiting, (-gain, number, len(order)))
    return order


def _joined(chosen: Mapping[str, FloatArray], board: str, mine: FloatArray) -> FloatArray:
    return np.concatenate([chosen[board], mine]) if board in chosen else mine


def _scaled(groups: Sequence[Mapping[str, FloatArray]], names: Sequence[str]) -> list[dict[str, FloatArray]]:
    found: list[dict[str, FloatArray]] = [{} for _ in groups]
    for board in sorted({board for group in groups for board in group}):
        together = np.concatenate([group[board] for group in groups if board in group])
        ranges = Ranges.empty(len(names)).widened(list(together.T))
        for mine, group in zip(found, groups, strict=True):
            if board in group:
                finite = np.nan_to_num(scaled(group[board], ranges, names), nan=1.0, posinf=1.0, neginf=0.0)
                mine[board] = np.ascontiguousarray(finite)
    return found
