"""Every design of a space, priced; the front is complete.

Blocks stream by in chunks that stay in the processor's cache. A row whose step alone exceeds the board or
a budget on bytes is rejected with all of its columns at once. Nothing depends on the size of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.search.blocks import TOO_FEW_IMAGES, Block, Tile
from dse.search.budgets import rejections, step_rejection, total_excess
from dse.search.cuts import CutTally
from dse.search.pareto import FrontArchive, Ranges
from dse.search.pricing import FEASIBLE, UNKNOWN, Judged, Rows, judged_grid, row_batches
from dse.search.relaxation import Nearest
from dse.search.result import BoardResult, Counts, SearchResult, board_result
from dse.search.space import Space

IntArray = NDArray[np.int64]
Progress = Callable[[int, int], None]

CHUNK: Final = 1 << 16
"""Designs priced at once unless the space says otherwise."""


def explore_exact(space: Space, *, chunk: int = 0, progress: Progress | None = None) -> SearchResult:
    """Price every design of ``space`` and return one complete front per board.

    Parameters
    ----------
    space
        What to search.
    chunk
        Designs priced at once (0: as the space says, else 65,536); the result does not depend on it.
    progress
        Called with (designs done, designs in all).

    """
    chunk = chunk or space.search.chunk or CHUNK
    boards: list[BoardResult] = []
    done = 0
    for number in range(len(space.boards)):
        tally = Tally(space, number)
        for block in space.board_blocks(number):
            tally.counts.add_illegal(TOO_FEW_IMAGES, block.dropped)
            for rows in row_batches(block, space.accuracy):
                tally.add_rows(rows, chunk)
                if progress is not None:
                    progress(done + tally.counts.evaluated, space.size)
        done += tally.counts.evaluated
        boards.append(tally.result())
    return SearchResult(space, tuple(boards), method="exact", complete=True)


class Tally:
    """What is known of one board so far: counts, front, ranges of the feasible set, nearest miss."""

    def __init__(self, space: Space, board: int) -> None:
        self.space, self.board = space, board
        self.budgets = space.board_budgets(board)
        self.reasons = rejections(space.boards[board], self.budgets)
        self.counts = Counts(rejected=dict.fromkeys(self.reasons, 0))
        self.archive = FrontArchive(len(space.objectives))
        self.ranges = Ranges.empty(len(space.objectives))
        self.nearest = Nearest()
        self.cuts = CutTally()

    def result(self) -> BoardResult:
        """Return what was found."""
        best = self.nearest.best
        points, fates = self.archive.points, self.cuts.fates()
        return board_result(self.space, self.board, self.counts, points, self.ranges, best, fates)

    def add_rows(self, rows: Rows, chunk: int) -> None:
        """Count rows that are illegal or beyond reach, and price the others in chunks of designs."""
        columns = rows.block.columns
        for reason, count in rows.illegal.items():
            self.counts.add_illegal(reason, count * columns)
        if rows.step is None:
            return
        rejected, least = step_rejection(rows.block.context, self.budgets, rows.step)
        for position, count in zip(*np.unique(rejected[rejected >= 0], return_counts=True), strict=True):
            self.counts.rejected[self.reasons[position]] += int(count) * columns
        self._count_cuts(rows, np.flatnonzero(rejected >= 0))
        self._price(rows, np.flatnonzero(rejected < 0), chunk, self.add)
        self._look_for_nearest(rows, np.flatnonzero(rejected >= 0), least, chunk)

    def _count_cuts(self, rows: Rows, rejected: IntArray) -> None:
        """Count rows whose step alone is rejected, with all of their columns."""
        assert rows.step is not None
        if "accuracy" in self.space.objectives and rows.accuracy is not None:
            rejected = rejected[rows.accuracy.known_rows()[rejected]]
        designs = np.full(len(rejected), rows.block.columns)
        none = np.zeros(len(rejected), dtype=np.int64)
        self.cuts.add(rows.block, rows.rows[rejected], designs, none, rows.step.ram_peak_bytes[rejected])

    def _look_for_nearest(
        self, rows: Rows, rejected: IntArray, least: NDArray[np.float64], chunk: int
    ) -> None:
        """Price rejected rows only while nothing fits, and only those that could come closest, best first."""
        table = rows.accuracy if "accuracy" in self.space.objectives else None
        known = table.known_rows() if table is not None else None
        for row in rejected[np.argsort(least[rejected], kind="stable")]:
            if self.counts.feasible:
                return
            one = np.array([row])
            if self.nearest.may_improve(least[one], known[one] if known is not None else None)[0]:
                self._price(rows, one, chunk, self._offer)

    def _price(
        self, rows: Rows, which: IntArray, chunk: int, take: Callable[[Block, Judged, IntArray], None]
    ) -> None:
        """Price rows ``which`` (positions) against all columns and hand every chunk to ``take``."""
        for start in range(0, len(which), chunk):
            part = which[start : start + chunk]
            for tile in rows.block.tiles(len(part), chunk):
                judged = judged_grid(rows, part, tile, self.space.objectives, self.budgets)
                take(rows.block, judged, _indices(rows, part, tile))

    def add(self, block: Block, judged: Judged, index: IntArray) -> None:
        """Count designs by what became of them and merge the feasible ones into the front."""
        feasible = judged.reason == FEASIBLE
        if index.ndim > 1:  # whole rows; a sampler hands over single designs
            known = np.ones(feasible.shape, dtype=bool) if judged.known is None else judged.known
            ram = np.where(known, judged.costs.ram_peak_bytes, np.inf).min(axis=1)
            row = (index[:, 0] - block.first) // block.columns
            self.cuts.add(block, row, known.sum(axis=1), feasible.sum(axis=1), ram)
        count = int(np.count_nonzero(feasible))
        if count < feasible.size:
            self._count_rejected(judged)
        self.counts.feasible += count
        if self.counts.feasible == 0:
            self._offer(block, judged, index)
        if count == 0:
            return
        every = count == feasible.size
        columns = [np.ravel(column) if every else column[feasible] for column in judged.objectives]
        self.ranges = self.ranges.widened(columns)
        self.archive.add(columns, np.ravel(index) if every else index[feasible])

    def _count_rejected(self, judged: Judged) -> None:
        codes, counts = np.unique(judged.reason, return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            if code == UNKNOWN:
                self.counts.unknown += count
            elif code >= 0:
                self.counts.rejected[self.reasons[code]] += count

    def _offer(self, block: Block, judged: Judged, index: IntArray) -> None:
        excess = total_excess(block.context, self.budgets, judged.costs)
        self.nearest.offer(np.broadcast_to(excess, index.shape), index, judged.known)


def _indices(rows: Rows, part: IntArray, tile: Tile) -> IntArray:
    """Design indices of rows ``part`` times the columns of ``tile``: (S, W)."""
    columns = np.arange(tile.columns.start, tile.columns.stop)
    starts = rows.block.first + rows.rows[part] * rows.block.columns
    return np.asarray(starts[:, None] + columns)
