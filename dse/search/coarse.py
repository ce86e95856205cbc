"""A board's designs as positions on axes, and a coarser grid of them to start a sampler from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np

from dse.search.choices import DECISIONS
from dse.search.space import Space

Positions = Mapping[str, int]


class Axes:
    """Every decision that varies on one board, as positions 0 .. n - 1 in its list of values.

    A decision whose list depends on the network (the cut) has as many positions as its longest list; shorter
    lists are spread over them.
    """

    def __init__(self, space: Space, board: int) -> None:
        self.space, self.board = space, board
        networks = range(len(space.networks))
        self._values = [self._of_network(network) for network in networks]
        longest = {name: max(len(values[name]) for values in self._values) for name in DECISIONS}
        counts = {"network": len(networks), **longest}
        self.counts = {name: count for name, count in counts.items() if count > 1}

    def _of_network(self, network: int) -> dict[str, tuple[Any, ...]]:
        return {**self.space.codes[self.board, network], "batch": self.space.choices.values["batch"]}

    def design(self, positions: Positions) -> int | None:
        """Return the index of the design at ``positions``, or None as ``Space.locate`` does."""
        network = positions.get("network", 0)
        decisions = {}
        for name, values in self._values[network].items():
            place = positions.get(name, 0) * len(values) // self.counts.get(name, 1)
            decisions[name] = values[place]
        return self.space.locate(self.board, network, decisions)

    @cached_property
    def size(self) -> int:
        """Number of combinations of positions."""
        return prod(self.counts.values())

    def coarse(self, limit: int) -> dict[int, Positions]:
        """Return up to ``limit`` designs on a coarser grid, with the positions of one way to describe each.

        The longest axis is halved until the grid is small enough; its ends stay.
        """
        lengths = dict(self.counts)
        while prod(lengths.values()) > limit:
            longest = max(lengths, key=lambda name: lengths[name])
            lengths[longest] = (lengths[longest] + 1) // 2
        ticks = {name: _spread(self.counts[name], length) for name, length in lengths.items()}
        found: dict[int, Positions] = {}
        for combination in product(*ticks.values()):
            positions = dict(zip(ticks, combination, strict=True))
            design = self.design(positions)
            if design is not None:
                found.setdefault(design, positions)
        return found


def _spread(count: int, length: int) -> list[int]:
    """Return ``length`` of the positions 0 .. count - 1, evenly spread, ends included; of one the middle."""
    if length == 1:
        return [count // 2]
    return [round(position) for position in np.linspace(0, count - 1, length).tolist()]
