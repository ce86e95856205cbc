"""Search by measured accuracy, replayed from tables of real runs (``measured_table``): no training here.

For each data set: how well a model that saw half of the runs predicts the other half, beside the plain rule
"depth + log N", and how many runs each way of proposing needs until what was run makes a given share of the
hypervolume that all keys make.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure
from benchmarks.measured_table import decided, read_table, space_of
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

SHARES: Final = (0.95, 0.98, 0.99)
SHARE: Final = 0.99
"""Part of the hypervolume with which the front counts as found; the others are stated beside it."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Every key of a space with the accuracies of its runs: (keys, seeds)."""

    space: Space
    candidates: Candidates
    accuracy: FloatArray

    @classmethod
    def read(cls, name: str) -> Table:
        """Read the table of a data set; a key that was not run is an error."""
        space, known = space_of(name), read_table(name)
        candidates = candidates_of(space)
        seeds = range(min(len(runs) for runs in known.values()))
        rows = [[known[decided(entry.point)][seed] for seed in seeds] for entry in candidates.entries]
        return cls(space, candidates, np.array(rows))

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
    """How a model did on halves that it had not seen, one entry per half."""

    covered: list[float]
    ranks: list[float]
    front_ranks: list[float]
    front_order: list[float]
    regrets: list[float]


def scores(table: Table, kind: type[Model]) -> Score:
    """Fit to the runs of half of the keys and compare with the runs of the others that lie between them.

    Others, such as a head that no run has, are unknown to ``MeasuredAccuracy`` and nobody's prediction.
    """
    score = Score([], [], [], [], [])
    front = table.front()
    for draw in range(HALVES):
        mean, half, rest = predicted(table, kind, draw)
        reached, true = table.accuracy[rest], table.true[rest]
        score.covered.append(float((np.abs(reached - mean[:, None]) <= half[:, None]).mean()))
        score.ranks.append(rank_correlation(mean, true))
        score.regrets.append(float(true.max() - true[int(np.argmax(mean))]))
        inside = [number for number, place in enumerate(rest) if place in front]
        if len(inside) > 2:
            score.front_ranks.append(rank_correlation(mean[inside], true[inside]))
            score.front_order.append(in_order(table, mean[inside], reached[inside]))
    return score


def predicted(table: Table, kind: type[Model], draw: int) -> tuple[FloatArray, FloatArray, list[int]]:
    """Return mean and half-width for the keys of a random half, and which keys these are."""
    order = np.random.default_rng(draw).permutation(len(table.candidates))
    runs = MeasuredRuns.of(table.runs(order[: len(order) // 2].tolist()))
    hull, points = Hull.of(runs.points), [entry.point for entry in table.candidates.entries]
    rest = [place for place in sorted(order[len(order) // 2 :].tolist()) if points[place] in hull]
    return *kind(runs).one_run([points[place] for place in rest]), rest


def rank_correlation(one: FloatArray, other: FloatArray) -> float:
    """Return Spearman's coefficient; NaN where one side is all the same."""
    from scipy.stats import spearmanr

    if len(set(one)) < 2 or len(set(other)) < 2:
        return float("nan")
    return float(spearmanr(one, other).statistic)


def in_order(table: Table, mean: FloatArray, reached: FloatArray) -> float:
    """Return the share of pairs in the right order, among those that the runs tell apart."""
    apart = 1.645 * math.sqrt(
        2 * MeasuredRuns.of(table.runs(range(len(table.candidates)))).noise / reached.shape[1]
    )
    pairs = [(a, b) for a in range(len(mean)) for b in range(a)]
    gaps = [(mean[a] - mean[b], float((reached[a] - reached[b]).mean())) for a, b in pairs]
    right = [found * true > 0 for found, true in gaps if abs(true) > apart]
    return float(np.mean(right)) if right else float("nan")


def prediction(name: str, margin: float) -> list[Figure]:
    """State coverage, ranks and regret of the model, beside those of the plain rule.

    Within the front the plain rule may be better by ``margin`` of the pairs.
    """
    table = Table.read(name)
    mine, plain = scores(table, GaussianProcess), scores(table, DepthAndReplays)

    def mean(values: list[float]) -> float:
        return 100 * float(np.nanmean(values))

    def beside(values: list[float]) -> str:
        return f"depth + log N: {mean(values):.2f}"

    note = f"{len(table.candidates)} keys, {table.accuracy.size} runs, {HALVES} halves"
    order = "  front: pairs that runs tell apart, in order"
    # Where the plain rule may be better, near-ties decide the coefficient: then it is stated only.
    target = {} if margin else {"relation": ">=", "target": mean(plain.front_ranks)}
    front = beside(plain.front_ranks)
    return [
        Figure(f"{name}: runs inside their 90 % interval", mean(mine.covered), "%", ">=", 80.0, note),
        Figure("  the same, from above", mean(mine.covered), "%", "<=", 97.0),
        Figure(
            "  rank correlation x 100", mean(mine.ranks), "", ">=", mean(plain.ranks), beside(plain.ranks)
        ),
        Figure("  front: rank correlation x 100", mean(mine.front_ranks), "", note=front, **target),
        Figure(
            order,
            mean(mine.front_order),
            "%",
            ">=",
            mean(plain.front_order) - margin,
            beside(plain.front_order),
        ),
        Figure(
            "  top-1 regret", mean(mine.regrets), "points", "<=", mean(plain.regrets), beside(plain.regrets)
        ),
    ]


def reversal(name: str, few: int, many: int) -> Figure:
    """State in how many halves the model orders first and last cut as the runs do, or leaves it open.

    At ``few`` replays the runs have them the other way round than at ``many``.
    """
    table = Table.read(name)
    points = [entry.point for entry in table.candidates.entries]
    cuts = sorted({point.plan.cut for point in points if point.plan.head == "sgd"})
    good = []
    for draw in range(HALVES):
        order = np.random.default_rng(draw).permutation(len(points))
        model = GaussianProcess(MeasuredRuns.of(table.runs(order[: len(order) // 2].tolist())))
        for size in (few, many):
            ends = [
                next(
                    n
                    for n, p in enumerate(points)
                    if (p.plan.cut, p.plan.n_replays, p.plan.replay_bits) == (cut, size, 8)
                )
                for cut in (cuts[0], cuts[-1])
            ]
            mean, half = model.one_run([points[end] for end in ends])
            true = table.true[ends[0]] - table.true[ends[1]]
            good.append((mean[0] - mean[1]) * true > 0 or abs(mean[0] - mean[1]) <= half.max())
    note = f"cut {cuts[0]} against the last, {few} and {many} replays of 8 bits"
    return Figure(
        f"{name}: order of cuts followed, or left open", 100 * float(np.mean(good)), "%", ">=", 95.0, note
    )


# --- search ---


class FoundAll(Exception):
    """Enough of the front has been run."""


def runs_needed(table: Table, proposals: str, seed: int) -> dict[float, int]:
    """Return after how many runs what was run makes each of ``SHARES`` of the hypervolume of all keys."""
    place = {entry.key: number for number, entry in enumerate(table.candidates.entries)}
    floor, boards = floor_of(table.true), table.boards
    order: list[int] = []
    needed: dict[float, int] = {}

    def volume(places: Sequence[int]) -> float:
        return sum(Staircase(board, set(places), table.true, floor).hypervolume for board in boards)

    everything = volume(range(len(table.candidates)))

    def train(requests: Sequence[Request]) -> Iterator[tuple[int, Reached]]:
        for position, request in enumerate(requests):
            row = place[request.point.key]
            order.append(row)
            reached = volume(order) / everything
            needed.update({share: len(order) for share in SHARES if reached >= share and share not in needed})
            if len(needed) == len(SHARES):
                raise FoundAll
            # Another seed of the search meets other luck of the runs.
            yield (
                position,
                Reached(float(table.accuracy[row, (request.seed + seed) % table.accuracy.shape[1]]), {}),
            )

    assert table.space.measure is not None
    limit = 2 * len(table.candidates)
    settings = replace(table.space.measure, runs=limit, seeds=1, proposals=proposals, seed=seed)
    with suppress(FoundAll):
        measure(replace(table.space, measure=settings), table.candidates, train, open_storage("memory", None))
    return {share: needed.get(share, limit) for share in SHARES}


def search(name: str) -> list[Figure]:
    """State the runs that each way of proposing needs, median over seeds."""
    table = Table.read(name)
    needed = {proposals: [runs_needed(table, proposals, seed) for seed in SEEDS] for proposals in PROPOSERS}

    def at(proposals: str, share: float) -> float:
        return median(found[share] for found in needed[proposals])

    def note(proposals: str) -> str:
        listed = ", ".join(
            str(found[SHARE]) for found in sorted(needed[proposals], key=lambda one: one[SHARE])
        )
        return f"{listed}; " + ", ".join(
            f"{share:.0%}: {at(proposals, share):g}" for share in SHARES if share != SHARE
        )

    return [
        Figure(
            f"{name}: runs to {SHARE:.0%} of the hypervolume", at("hypervolume", SHARE), "runs", "<=",
            at("random", SHARE) / 2, f"{note('hypervolume')}; {len(table.candidates)} keys; half of random",
        ),
        Figure("  random proposals", at("random", SHARE), "runs", note=note("random")),
        Figure("  NSGA-II", at("nsga2", SHARE), "runs", note=note("nsga2")),
    ]  # fmt: skip


def fashion() -> list[Figure]:
    """Fashion-MNIST."""
    return prediction("fashion", 0.0) + search("fashion")


def activity() -> list[Figure]:
    """Activity windows."""
    return [*prediction("activity", 0.5), reversal("activity", 25, 750), *search("activity")]


def digits() -> list[Figure]:
    """Spoken digits."""
    return prediction("digits", 0.5) + search("digits")
