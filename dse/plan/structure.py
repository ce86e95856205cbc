"""What fixes the order of operations and who shares a buffer, beyond the network itself.

Most decisions change sizes in one and the same schedule. Three change the schedule: whether layers work in
place, where the learning stage is split into checkpoint segments, and which first layers run patch by patch.
Plans that agree in them share a schedule; ``structures`` sorts a batch by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from dse.errors import IllegalPlan, Problem
from dse.workload import Workload
from dse.workload.units import single_tensor_cuts

if TYPE_CHECKING:
    from dse.plan.decisions import IntArray, PlanBatch

NONE: Final = "none"
MOST_TILES: Final = 64
"""Patches per axis are fewer than this, so that unit and patches fit into one code."""


@dataclass(frozen=True)
class Patches:
    """The layers up to ``unit`` run for ``tiles`` x ``tiles`` patches of its output, one after the other."""

    tiles: int
    unit: int

    def __str__(self) -> str:
        return f"{self.tiles}x{self.tiles} to {self.unit}"

    @property
    def code(self) -> int:
        """Both numbers in one; 0 stands for no patches."""
        return self.unit * MOST_TILES + self.tiles

    @classmethod
    def of_code(cls, code: int) -> Patches | None:
        """Return what ``code`` stands for."""
        return cls(code % MOST_TILES, code // MOST_TILES) if code else None

    @classmethod
    def parse(cls, word: str, *, file: str = "plan", key: str = "patches") -> Patches | None:
        """Read ``none`` or ``TxT to U``; raises IllegalPlan."""
        if word == NONE:
            return None
        parts = str(word).split()
        sides = parts[0].split("x") if len(parts) == 3 and parts[1] == "to" else []
        numbers = [*sides, parts[2]] if len(sides) == 2 else []
        if len(numbers) == 3 and all(part.isascii() and part.isdigit() for part in numbers):
            across, down, unit = (int(part[:6]) for part in numbers)
            if across == down and 2 <= across < MOST_TILES and len(max(numbers, key=len)) <= 5:
                return cls(across, unit)
        allowed = f"'none', or 'TxT to U': T x T patches (2 to {MOST_TILES - 1}) of the output of unit U"
        raise IllegalPlan(Problem(file, key, repr(word)[:60], allowed))


def patches_word(code: int) -> str:
    """Return the word of a code of ``patches``."""
    return str(Patches.of_code(int(code)) or NONE)


@dataclass(frozen=True)
class Checkpoints:
    """Where the learning stage is split: behind each of ``units``, or behind every ``every``-th place."""

    every: int = 0
    units: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.units:
            return f"units {' '.join(map(str, self.units))}"
        return f"every {self.every}" if self.every else NONE

    @classmethod
    def parse(cls, word: str, *, file: str = "plan", key: str = "checkpoints") -> Checkpoints:
        """Read ``none``, ``every K`` or ``units A B ...``; raises IllegalPlan."""
        parts = str(word).split() or [""]
        numbers = parts[1:]
        if word == NONE:
            return cls()
        if numbers and all(part.isascii() and part.isdigit() and len(part) <= 5 for part in numbers):
            values = tuple(int(part) for part in numbers)
            if parts[0] == "every" and len(values) == 1 and values[0] > 0:
                return cls(every=values[0])
            if parts[0] == "units" and list(values) == sorted(set(values)):
                return cls(units=values)
        allowed = "'none', 'every K' (K from 1) or 'units A B ...' (unit indices, ascending)"
        raise IllegalPlan(Problem(file, key, repr(word)[:60], allowed))

    def places(self, workload: Workload, cut_layer: int) -> tuple[int, ...]:
        """Return the units above the cut behind which the learning stage is split."""
        above = _places(workload, cut_layer)
        if self.units:
            return tuple(unit for unit in self.units if unit in above)
        return above[self.every - 1 :: self.every] if self.every else ()

    def misfits(self, workload: Workload, cut_layer: int) -> tuple[int, ...]:
        """Return the units of the list at which the learning stage cannot be split."""
        above = _places(workload, cut_layer)
        return tuple(unit for unit in self.units if unit not in above)


@lru_cache(maxsize=256)
def _places(workload: Workload, cut_layer: int) -> tuple[int, ...]:
    """Units above the cut behind which one tensor crosses, each at a layer of its own."""
    found: dict[int, int] = {}
    for unit in single_tensor_cuts(workload):
        if workload.units[unit].cut_layer > cut_layer:
            found.setdefault(workload.units[unit].cut_layer, unit)
    return tuple(found.values())


def segments_of(workload: Workload, cut_layer: int, checkpoints: Checkpoints) -> tuple[tuple[int, int], ...]:
    """Return the layers (first, last) of each segment whose forward pass runs again; not the last segment."""
    ends = [workload.units[unit].cut_layer for unit in checkpoints.places(workload, cut_layer)]
    return tuple((start + 1, end) for start, end in pairwise([cut_layer, *ends]))


@dataclass(frozen=True)
class Structure:
    """The decisions that all plans of one schedule share; ``segments`` are (first, last) layers."""

    in_place: str = "elementwise"
    patches: Patches | None = None
    segments: tuple[tuple[int, int], ...] = ()

    @property
    def learning_in_place(self) -> str:
        """How layers of the learning stage work: depthwise ones keep the inputs that gradients may read."""
        return "none" if self.in_place == "none" else "elementwise"

    def segment_of(self, layer: int) -> tuple[int, int] | None:
        """Return the segment that ``layer`` is run again in; None where it runs once."""
        return next((span for span in self.segments if span[0] <= layer <= span[1]), None)


def structures(workload: Workload, plans: PlanBatch) -> Iterator[tuple[Structure, IntArray]]:
    """Yield each structure among ``plans`` with the rows that have it."""
    from dse.plan.decisions import IN_PLACE

    keys = plans.in_place * (MOST_TILES * 100_000) + plans.patches
    found: dict[tuple[int, tuple[tuple[int, int], ...]], list[int]] = {}
    for rows, segments in _by_segments(workload, plans):
        for key in np.unique(keys[rows]):
            found.setdefault((int(key), segments), []).extend(rows[keys[rows] == key].tolist())
    for (key, segments), members in found.items():
        mode, code = divmod(key, MOST_TILES * 100_000)
        structure = Structure(IN_PLACE[mode], Patches.of_code(code), segments)
        yield structure, np.array(sorted(members), dtype=np.int64)


def _by_segments(
    workload: Workload, plans: PlanBatch
) -> Iterator[tuple[IntArray, tuple[tuple[int, int], ...]]]:
    """Yield the rows that share segments, and the segments."""
    if not plans.checkpoints:
        yield np.arange(len(plans)), ()
        return
    pairs: dict[tuple[Checkpoints, int], list[int]] = {}
    for row, (checkpoints, cut) in enumerate(zip(plans.checkpoints, plans.cut.tolist(), strict=True)):
        pairs.setdefault((checkpoints, cut), []).append(row)
    for (checkpoints, cut), rows in pairs.items():
        layer = workload.units[cut].cut_layer if cut >= 0 else -1
        yield np.array(rows), segments_of(workload, layer, checkpoints)
