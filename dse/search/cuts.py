"""What became of each cut: how many of its designs fit, and how little RAM the least of them takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.search.blocks import SGD, Block

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CutFate:
    """Designs of one network cut at one LR layer, of known accuracy where accuracy is an objective.

    ``least_ram_bytes`` is the smallest RAM peak among them; for designs that the board's memory rejects
    before their replays are placed it counts the step alone, which is a lower bound.
    """

    network: str
    cut: int
    designs: int
    feasible: int
    least_ram_bytes: float


@dataclass
class CutTally:
    """Counts designs by network and cut as an exact search goes; other heads have no cut to choose."""

    found: dict[tuple[str, int], list[Any]] = field(default_factory=dict)

    def add(
        self, block: Block, rows: IntArray, designs: IntArray, feasible: IntArray, ram_bytes: FloatArray
    ) -> None:
        """Count rows (S,) of ``block``: their designs, how many are feasible, and their least RAM peak."""
        if block.kind.head != SGD or len(rows) == 0:
            return
        cuts = block.step_values(rows)["cut"]
        for cut in np.unique(cuts):
            mine = cuts == cut
            entry = self.found.setdefault((block.context.workload.name, int(cut)), [0, 0, np.inf])
            entry[0] += int(designs[mine].sum())
            entry[1] += int(feasible[mine].sum())
            entry[2] = min(entry[2], float(ram_bytes[mine].min()))

    def fates(self) -> tuple[CutFate, ...]:
        """Return what was counted, by network and cut; cuts without any design that counts are left out."""
        return tuple(
            CutFate(network, cut, *entry) for (network, cut), entry in sorted(self.found.items()) if entry[0]
        )
