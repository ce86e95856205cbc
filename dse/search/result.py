"""What a search found: a front per board, where all other designs went, the nearest miss if nothing fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.cost.model import OBJECTIVES
from dse.errors import NothingFits
from dse.search.budgets import NO_MAP
from dse.search.cuts import CutFate
from dse.search.named import NamedPlan, named_plans
from dse.search.pareto import Points, Ranges, front_mask, hypervolume, scaled
from dse.search.relaxation import Relaxation
from dse.search.space import Space
from dse.search.table import Choice, design_table, plan_at, relaxation_at

if TYPE_CHECKING:
    from dse.search.measured import Measurement

FloatArray = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]


@dataclass
class Counts:
    """Where the designs of one board went; every design that was looked at is in exactly one place.

    ``evaluated`` = illegal + rejected + unknown + feasible, and feasible = front + variants + dominated.
    ``unknown`` designs are within every budget but of unknown accuracy. ``variants`` equal a front point in
    every objective. ``total`` is the board's share of the space; an exact search evaluates all of it.
    """

    total: int = 0
    illegal: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    unknown: int = 0
    feasible: int = 0
    front: int = 0
    variants: int = 0

    @property
    def evaluated(self) -> int:
        """Designs that were looked at."""
        return sum(self.illegal.values()) + sum(self.rejected.values()) + self.unknown + self.feasible

    @property
    def dominated(self) -> int:
        """Feasible designs that another one beats."""
        return self.feasible - self.front - self.variants

    def add_illegal(self, reason: str, count: int) -> None:
        """Count designs that no device can execute, or that the board cannot price."""
        if count:
            self.illegal[reason] = self.illegal.get(reason, 0) + count


@dataclass(frozen=True)
class Front:
    """The designs that no other beats, in columns (k,), sorted by index.

    ``columns`` holds the design's index and its number of variants, every decision in words, every cost, and
    the accuracy with its interval where a source was asked. ``values`` (k, m) are the objectives, minimised;
    ``ranges`` those of the feasible set.
    """

    label: str
    objectives: tuple[str, ...]
    columns: Columns
    values: FloatArray
    ranges: Ranges

    def __len__(self) -> int:
        return len(self.values)

    @property
    def index(self) -> NDArray[np.int64]:
        """Design indices (k,)."""
        return self.columns["design"]

    @property
    def hypervolume(self) -> float:
        """Volume dominated up to 1.1 in scaled objectives (``dse.search.pareto.scaled``)."""
        return self.hypervolume_within(self.ranges)

    def hypervolume_within(self, ranges: Ranges) -> float:
        """Return the hypervolume with objectives scaled over other ``ranges``, to compare two fronts."""
        return hypervolume(self.values, ranges, objective_columns(self.objectives))

    @property
    def scaled(self) -> FloatArray:
        """Objectives (k, m) scaled to 0 (best) .. 1 over the feasible set."""
        return scaled(self.values, self.ranges, objective_columns(self.objectives))

    def row(self, position: int) -> dict[str, Any]:
        """Return one design of the front as a dict of plain values."""
        return {name: column[position].item() for name, column in self.columns.items()}

    @cached_property
    def named(self) -> tuple[NamedPlan, ...]:
        """Three designs with a name and a reason; empty where the front is."""
        return named_plans(self.label, self.objectives, self.columns, self.scaled)

    def to_frame(self) -> Any:
        """Return the columns as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.columns)


@dataclass(frozen=True)
class BoardResult:
    """What was found on one board; ``relaxation`` is set where nothing fits."""

    board: str
    counts: Counts
    front: Front
    relaxation: Relaxation | None
    cuts: tuple[CutFate, ...] = ()  # what became of each cut; empty in a sampled search
    unplaced: str = ""  # what the nearest design misses that fits by live bytes and could not be placed


@dataclass(frozen=True)
class SearchResult:
    """What a search found in a space.

    ``complete`` says that every design was priced. A sampled result has a ``seed``; ``priced``
    counts the distinct designs that it looked at, those of the coarse grid that it started from included.
    """

    space: Space
    boards: tuple[BoardResult, ...]
    method: str
    complete: bool
    seed: int | None = None
    trials: int | None = None
    measurement: Measurement | None = None
    """The training runs behind the accuracy, where it was measured."""

    @property
    def fronts(self) -> dict[str, Front]:
        """The front of every board by its label."""
        return {result.board: result.front for result in self.boards}

    @property
    def counts(self) -> dict[str, Counts]:
        """The counts of every board by its label."""
        return {result.board: result.counts for result in self.boards}

    @property
    def priced(self) -> int:
        """Designs that were looked at, over all boards."""
        return sum(result.counts.evaluated for result in self.boards)

    @property
    def nothing_fits(self) -> bool:
        """Whether no board has a feasible design."""
        return all(result.counts.feasible == 0 for result in self.boards)

    def require_front(self) -> None:
        """Raise NothingFits where no board has a feasible design, with the smallest relaxation of each."""
        if self.nothing_fits:
            raise NothingFits("\n".join(why_nothing(result) for result in self.boards))

    def plan(self, design: int) -> Choice:
        """Return design ``design`` as a plan, with the network, board, clock and sleep state of it."""
        block = self.space.block_of(design)
        return plan_at(block, design, self.space.network_names[block.network])

    def overall(self) -> Front:
        """Return one front over all boards."""
        return overall_front(self.space.objectives, [result.front for result in self.boards])

    def named_plans(self) -> tuple[NamedPlan, ...]:
        """Return the named plans of every board."""
        return tuple(plan for result in self.boards for plan in result.front.named)

    def to_frame(self) -> Any:
        """Return the fronts of all boards below each other as a pandas DataFrame."""
        import pandas as pd

        frames = [result.front.to_frame() for result in self.boards if len(result.front)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def why_nothing(result: BoardResult) -> str:
    """Say why a board has no feasible design, and what would admit one."""
    counts, nearest = result.counts, result.relaxation
    if result.unplaced:
        count = counts.rejected.get(NO_MAP, 0)
        return (
            f"{result.board}: nothing fits: live bytes of {count:,} designs would, but their buffers could "
            f"not be placed; the nearest misses {result.unplaced} (`dse certify` shows its map)"
        )
    if counts.unknown and (nearest is None or nearest.excess == 0):
        return (
            f"{result.board}: {counts.unknown} designs are within every budget, but of unknown accuracy: "
            "leave 'accuracy' out of the objectives, or choose inside the domain of the source"
        )
    if nearest is None:
        reasons = [*counts.illegal, *(name for name, count in counts.rejected.items() if count)]
        return f"{result.board}: no design is possible: {'; '.join(reasons) or 'the space is empty'}"
    note = "" if nearest.accuracy_known else " (its accuracy is unknown)"
    return f"{result.board}: nothing fits; closest{note}: {nearest}"


def objective_columns(objectives: Sequence[str]) -> tuple[str, ...]:
    """Return the column behind each objective."""
    return tuple(OBJECTIVES[name][0] for name in objectives)


EMPTY_LABEL: Final = "all boards"


def overall_front(objectives: tuple[str, ...], fronts: Sequence[Front]) -> Front:
    """Merge fronts of several boards into one; columns that a board lacks are NaN or empty."""
    values = np.concatenate([front.values for front in fronts])
    mask = front_mask(values)
    names = dict.fromkeys(name for front in fronts for name in front.columns)
    columns = {
        name: np.concatenate([_column(front, name, fronts) for front in fronts])[mask] for name in names
    }
    low = np.min([front.ranges.low for front in fronts], axis=0)
    high = np.max([front.ranges.high for front in fronts], axis=0)
    return Front(EMPTY_LABEL, objectives, columns, values[mask], Ranges(low, high))


def _column(front: Front, name: str, fronts: Sequence[Front]) -> NDArray[Any]:
    if name in front.columns:
        return front.columns[name]
    like = next(other.columns[name] for other in fronts if name in other.columns)
    return np.full(len(front), np.nan if like.dtype.kind in "fib" else "", dtype=None)


def board_result(
    space: Space,
    board: int,
    counts: Counts,
    points: Points,
    ranges: Ranges,
    nearest: tuple[float, int],
    cuts: tuple[CutFate, ...] = (),
) -> BoardResult:
    """Put together what is known of one board: prices its front in full and names the nearest miss."""
    counts.total = sum(block.size + block.dropped for block in space.board_blocks(board))
    counts.front, counts.variants = len(points), int(points.variants.sum()) - len(points)
    label = space.boards[board].label
    columns = design_table(space, board, points.index)
    columns = {"design": points.index, "variants": points.variants, **columns}
    front = Front(label, space.objectives, columns, points.values, ranges)
    relaxation: Relaxation | None = None
    if counts.feasible == 0 and nearest[1] >= 0:
        relaxation = relaxation_at(space, board, nearest[1])
    return BoardResult(label, counts, front, relaxation, cuts)
