"""Sampled search with Optuna: same space, same prices, same kind of result as the exact one.

Budgets are constraints of the trial (``Trial.set_constraint``). A study starts from the exact front of a
coarser grid; a whole generation is asked for, priced together and told. A design that comes up again is
looked up, never priced again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dse.errors import UnknownName
from dse.search.budgets import capacity_budgets
from dse.search.coarse import Axes
from dse.search.exact import Progress, Tally
from dse.search.pricing import Designs, price_designs
from dse.search.result import BoardResult, SearchResult
from dse.search.settings import MOST_TRIALS
from dse.search.space import Space

if TYPE_CHECKING:
    import optuna

POPULATION: Final = 50
"""Trials that are asked for and priced together."""

GRID: Final = 4
"""Designs of the coarser grid per trial: priced in bulk, they cost far less than a trial does."""

LARGEST_GRID: Final = 1_000_000
"""Most designs of the coarser grid, however many trials there are."""

WORST: Final = 1e30
"""Stands for a price that does not exist, in trials that are infeasible anyway."""


class Outcome(NamedTuple):
    """What a trial is told: objectives, minimised, and constraints, violated above 0."""

    values: tuple[float, ...]
    constraints: dict[str, float]


def _nsga2(seed: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=POPULATION, seed=seed)


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, multivariate=True)


def _random(seed: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


SAMPLERS: Final[dict[str, Callable[[int], Any]]] = {"nsga2": _nsga2, "tpe": _tpe, "random": _random}


def explore_study(
    space: Space, sampler: str = "nsga2", *, trials: int = 0, seed: int | None = None, coarse: int = -1,
    progress: Progress | None = None,
) -> SearchResult:  # fmt: skip
    """Search ``space`` by sampling, one study per board.

    Parameters
    ----------
    space
        What to search.
    sampler
        ``nsga2``, ``tpe`` or ``random``; raises UnknownName for another.
    trials, seed
        Trials per board and seed; as the space says where 0 and None. A board gets no more trials than it has
        designs.
    coarse
        Largest number of designs on the coarser grid whose front the study starts from; ``GRID`` times the
        trials where negative, none where 0.
    progress
        Called with (trials done, trials in all).

    """
    if sampler not in SAMPLERS:
        raise UnknownName("sampler", sampler, SAMPLERS, key="search.method")
    trials = min(trials or space.search.trials, MOST_TRIALS)
    seed = space.search.seed if seed is None else seed
    boards: list[BoardResult] = []
    for number in range(len(space.boards)):
        study = BoardStudy(space, number)
        asked = min(trials, study.size)
        study.start(min(GRID * asked, LARGEST_GRID) if coarse < 0 else coarse, asked)
        for done in study.run(SAMPLERS[sampler](seed), asked):
            if progress is not None:
                progress(number * trials + done, len(space.boards) * trials)
            if len(study.outcomes) >= study.size:
                break  # every design has been priced
        boards.append(study.tally.result())
    return SearchResult(space, tuple(boards), method=sampler, complete=False, seed=seed, trials=trials)


class BoardStudy:
    """One board's designs under study, every outcome kept by design index."""

    def __init__(self, space: Space, board: int) -> None:
        self.space, self.board = space, board
        self.axes = Axes(space, board)
        self.tally = Tally(space, board)
        self.outcomes: dict[int, Outcome] = {}
        self.first: list[dict[str, int]] = []
        self.size = sum(block.size for block in space.board_blocks(board))

    def start(self, limit: int, trials: int) -> None:
        """Price a coarser grid of up to ``limit`` designs and take its front as the first trials.

        No more than half of the trials are spent on it, spread over the front.
        """
        if limit < 1 or not self.axes.counts:
            return
        grid = self.axes.coarse(limit)
        self.price(grid)
        front = self.tally.archive.points.index
        chosen = front[
            np.linspace(0, len(front) - 1, min(len(front), max(trials // 2, 1))).round().astype(int)
        ]
        self.first = [dict(grid[int(design)]) for design in chosen]

    def run(self, sampler: optuna.samplers.BaseSampler, trials: int) -> Iterable[int]:
        """Run ``trials`` trials, a generation at a time; yields how many are done."""
        import optuna
        from optuna.distributions import IntDistribution

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(directions=["minimize"] * len(self.space.objectives), sampler=sampler)
        for positions in self.first:
            study.enqueue_trial(positions)
        distributions: dict[str, Any] = {
            name: IntDistribution(0, count - 1) for name, count in self.axes.counts.items()
        }
        for start in range(0, trials, POPULATION):
            count = min(POPULATION, trials - start)
            generation = [study.ask(fixed_distributions=distributions) for _ in range(count)]
            designs = [self.axes.design(trial.params) for trial in generation]
            self.price(design for design in designs if design is not None)
            for trial, design in zip(generation, designs, strict=True):
                outcome = self._outcome(design)
                for name, value in outcome.constraints.items():
                    trial.set_constraint(name, value)
                study.tell(trial, outcome.values)
            yield start + count

    def _outcome(self, design: int | None) -> Outcome:
        return self._impossible if design is None else self.outcomes.get(design, self._impossible)

    @property
    def _impossible(self) -> Outcome:
        return Outcome((WORST,) * len(self.space.objectives), {"possible": 1.0})

    def price(self, designs: Iterable[int]) -> None:
        """Price the designs that have no outcome yet, block by block."""
        new = np.array(sorted(set(designs) - self.outcomes.keys()), dtype=np.int64)
        budgets = self.tally.budgets
        for block in self.space.board_blocks(self.board):
            inside = new[(new >= block.first) & (new < block.first + block.size)]
            if len(inside) == 0:
                continue
            priced, bad = price_designs(block, inside, self.space.accuracy, self.space.objectives, budgets)
            for reason, index in bad.items():
                self.tally.counts.add_illegal(reason, len(index))
                self.outcomes |= dict.fromkeys(index.tolist(), self._impossible)
            if priced is not None:
                self.tally.add(block, priced.judged, priced.index)
                self._keep(priced)

    def _keep(self, designs: Designs) -> None:
        """Note objectives and constraints of ``designs``."""
        judged, count = designs.judged, len(designs.index)
        values = np.stack(
            [np.nan_to_num(column, nan=0.0, posinf=WORST, neginf=-WORST) for column in judged.objectives], 1
        )
        limits = (*capacity_budgets(designs.block.context), *self.tally.budgets)
        excess = {limit.name: _column(limit.excess(judged.costs), count) for limit in limits}
        lost = ~np.broadcast_to(judged.costs.fits, (count,)) & (_column(judged.costs.short_bytes, count) == 0)
        excess["survives sleep"] = lost.astype(float)
        if judged.known is not None:
            excess["accuracy known"] = (~judged.known).astype(float)
        for row, design in enumerate(designs.index.tolist()):
            constraints = {name: min(float(column[row]), WORST) for name, column in excess.items()}
            self.outcomes[design] = Outcome(tuple(values[row].tolist()), constraints)


def _column(values: Any, count: int) -> NDArray[np.float64]:
    return np.broadcast_to(np.asarray(values, dtype=float), (count,))
