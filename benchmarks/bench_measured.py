"""Search by measured accuracy, replayed from tables of real runs (``measured_table``): no training here.

For each data set: how well a model that saw half of the runs predicts the other half, beside the plain rule
"depth + log N", and how many runs each way of proposing needs until what was run makes a given share of the
hypervolume that all keys make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure
from benchmarks.measured_table import read_table, space_of
from dse.accuracy.features import Hull
from dse.accuracy.fitted import DepthAndReplays, GaussianProcess, Model
from dse.accuracy.runs import MeasuredRuns, Run
from dse.search import Candidates, Space, candidates_of
from dse.search.acquisition import Board, Staircase, floor_of
from dse.search.measured import Reached, Request, measure
from dse.search.proposals import PROPOSERS, State, front_of
from dse.search.settings import MeasureSettings
from dse.search.trials import open_storage

SEEDS: Final = range(5)
HALVES: Final = 20
"""Random halves that predictions are averaged over."""

SHARE: Final = 0.98
"""Part of the hypervolume that has to be found."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Every key of a space with the accuracies of its runs: (keys, seeds)."""

    space: Space
    candidates: Candidates
    accuracy: FloatArray

    @classmethod
    def read(cls, name: str) -> Table:
        """Read the table of a data set; keys that were not run are left out."""
        space, known = space_of(name), read_table(name)
        candidates = candidates_of(space)
        kept = tuple(entry for entry in candidates.entries if entry.key in known)
        seeds = sorted({seed for runs in known.values() for seed in runs})
        rows = [[known[entry.key][seed] for seed in seeds] for entry in kept]
        return cls(space, replace(candidates, entries=kept), np.array(rows))

    @property
    def boards(self) -> tuple[Board, ...]:
        """The boards, for hypervolumes."""
        return tuple(Board(self.candidates, board) for board in range(len(self.space.boards)))

    @property
    def true(self) -> FloatArray:
        """Mean accuracy of every key."""
        return np.asarray(self.accuracy.mean(axis=1))

    def runs(self, places: Sequence[int]) -> list[Run]:
        """Return all runs of some keys."""
        return [
            Run(self.candidates.entries[place].point, seed, float(self.accuracy[place, seed]))
            for place in places
            for seed in range(self.accuracy.shape[1])
        ]

    def front(self) -> list[int]:
        """Return the keys on the front of some board at their mean accuracy."""
        state = State(self.candidates, self.boards, MeasureSettings(), (), {})
        return front_of(state, self.true)


# --- prediction ---


@dataclass
class Score:
    """How a model did on halves that it had not seen."""

    covered: list[float]
    ranks: list[float]
    front_ranks: list[float]
    regrets: list[float]


def scores(table: Table, kind: type[Model]) -> Score:
    """Fit to the runs of half of the keys and compare with the runs of the others that lie between them.

    Others, such as a head that no run has, are unknown to ``MeasuredAccuracy`` and nobody's prediction.
    """
    from scipy.stats import spearmanr

    score = Score([], [], [], [])
    front = table.front()
    for draw in range(HALVES):
        order = np.random.default_rng(draw).permutation(len(table.candidates))
        seen, rest = order[: len(order) // 2].tolist(), sorted(order[len(order) // 2 :].tolist())
        runs = MeasuredRuns.of(table.runs(seen))
        hull = Hull.of(runs.points)
        rest = [place for place in rest if table.candidates.entries[place].point in hull]
        mean, half = kind(runs).one_run([table.candidates.entries[place].point for place in rest])
        reached = table.accuracy[rest]
        score.covered.append(float((np.abs(reached - mean[:, None]) <= half[:, None]).mean()))
        score.ranks.append(float(spearmanr(mean, table.true[rest]).statistic))
        score.regrets.append(float(table.true[rest].max() - table.true[rest[int(np.argmax(mean))]]))
        inside = [number for number, place in enumerate(rest) if place in front]
        if len(inside) > 2:
            score.front_ranks.append(float(spearmanr(mean[inside], table.true[rest][inside]).statistic))
    return score


def prediction(name: str) -> list[Figure]:
    """State coverage, ranks and regret of the model, beside those of the plain rule."""
    table = Table.read(name)
    mine, plain = scores(table, GaussianProcess), scores(table, DepthAndReplays)
    covered, beside = float(np.mean(mine.covered)), "depth + log N: {:.3f}"
    note = f"{len(table.candidates)} keys, {table.accuracy.size} runs, {HALVES} halves"
    return [
        Figure(f"{name}: runs inside their 90 % interval", 100 * covered, "%", ">=", 80.0, note),
        Figure("  the same, from above", 100 * covered, "%", "<=", 97.0),
        Figure(
            "  rank correlation, all keys", float(np.mean(mine.ranks)), "", ">=", float(np.mean(plain.ranks)),
            beside.format(np.mean(plain.ranks)),
        ),
        Figure(
            "  rank correlation, front", float(np.nanmean(mine.front_ranks)), "", ">=",
            float(np.nanmean(plain.front_ranks)),
            beside.format(np.nanmean(plain.front_ranks)),
        ),
        Figure(
            "  top-1 regret", 100 * float(np.mean(mine.regrets)), "points", "<=",
            100 * float(np.mean(plain.regrets)),
            beside.format(100 * np.mean(plain.regrets)),
        ),
    ]  # fmt: skip


# --- search ---


def order_of_runs(table: Table, proposals: str, seed: int) -> list[int]:
    """Return the keys in the order in which a search runs them, every key once."""
    place = {entry.key: number for number, entry in enumerate(table.candidates.entries)}
    order: list[int] = []

    def train(requests: Sequence[Request]) -> Iterator[tuple[int, Reached]]:
        for position, request in enumerate(requests):
            row = place[request.point.key]
            order.append(row)
            # Another seed of the search meets other luck of the runs.
            lucky = float(table.accuracy[row, (request.seed + seed) % table.accuracy.shape[1]])
            yield position, Reached(lucky, {})

    assert table.space.measure is not None
    settings = replace(
        table.space.measure, runs=2 * len(table.candidates), seeds=1, proposals=proposals, seed=seed
    )
    measure(replace(table.space, measure=settings), table.candidates, train, open_storage("memory", None))
    return order


def runs_needed(table: Table, order: Sequence[int]) -> int:
    """Return after how many runs what was run makes ``SHARE`` of the hypervolume that all keys make."""
    floor, boards = floor_of(table.true), table.boards

    def volume(places: Sequence[int]) -> float:
        return sum(Staircase(board, set(places), table.true, floor).hypervolume for board in boards)

    wanted = SHARE * volume(range(len(table.candidates)))
    return next(
        (count for count in range(1, len(order) + 1) if volume(order[:count]) >= wanted), len(order) + 1
    )


def search(name: str) -> list[Figure]:
    """State the runs that each way of proposing needs, median over seeds."""
    table = Table.read(name)
    needed = {
        proposals: sorted(runs_needed(table, order_of_runs(table, proposals, seed)) for seed in SEEDS)
        for proposals in PROPOSERS
    }
    limit = median(needed["random"]) / 2
    listed = {proposals: ", ".join(map(str, counts)) for proposals, counts in needed.items()}
    return [
        Figure(
            f"{name}: runs to {SHARE:.0%} of the hypervolume", median(needed["hypervolume"]), "runs", "<=",
            limit, f"{listed['hypervolume']}; of {len(table.candidates)} keys; target: half of random",
        ),
        Figure("  random proposals", median(needed["random"]), "runs", note=listed["random"]),
        Figure("  NSGA-II", median(needed["nsga2"]), "runs", note=listed["nsga2"]),
    ]  # fmt: skip


def fashion() -> list[Figure]:
    """Fashion-MNIST."""
    return prediction("fashion") + search("fashion")


def activity() -> list[Figure]:
    """Activity windows."""
    return prediction("activity") + search("activity")


def digits() -> list[Figure]:
    """Spoken digits."""
    return prediction("digits") + search("digits")
