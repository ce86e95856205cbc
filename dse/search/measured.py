"""Accuracy by training: which runs are done, in what order, and the exact search that follows.

A run answers for a learning key, hence for every board, clock and placement that shares it; costs are exact
everywhere and need no run. First come keys that together show every choice, then rounds of runs that are
expected to change the front most, and the last third of the budget gives every point of the front its seeds.
Rounds have a fixed size, so that the result depends on the seed alone and not on how many processes train.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dse.accuracy import MeasuredAccuracy
from dse.accuracy.features import LearningPoint
from dse.accuracy.measured import LEAST_POINTS
from dse.accuracy.runs import Run
from dse.errors import Problem, UserError
from dse.search.acquisition import Board
from dse.search.learning import Candidates, choices, decisions, named_policies
from dse.search.proposals import PROPOSERS, State, at_random, for_the_front, start
from dse.search.settings import MeasureSettings
from dse.search.space import Space
from dse.search.trials import Claim, Finished, Trials

RESERVED: Final = 1 / 3
"""Part of the runs that is kept for the seeds of what stands on the front."""

START: Final = "start"
EXPLORE: Final = "explore"
SEEDS: Final = "seeds"


MOST_FAILURES: Final = 8
"""Keys that fail before anything succeeds until the search gives up."""

WAIT_S: Final = 0.2
"""Time between two looks at what other processes do."""


class Request(NamedTuple):
    """A run that is wanted."""

    point: LearningPoint
    seed: int


class Reached(NamedTuple):
    """What a run reached: accuracy [fraction], and its record as plain values."""

    accuracy: float
    record: Mapping[str, Any]


Evaluate = Callable[[Sequence[Request]], Iterable[tuple[int, Reached | str]]]
"""Given runs, yields the position of each with what it reached, or with why it could not be done."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measurement:
    """The runs of a search, by trial number, and the source of accuracy that they make.

    ``failures`` are learning keys that could not be run, with the reason; ``points`` all keys that could be
    asked for.
    """

    settings: MeasureSettings
    source: MeasuredAccuracy
    finished: tuple[Finished, ...]
    failures: Mapping[str, str]
    points: Mapping[str, LearningPoint]


class Measuring:
    """One search by runs, under way."""

    def __init__(
        self, space: Space, candidates: Candidates, trials: Trials, evaluate: Evaluate,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        assert space.measure is not None
        self.name, self.settings = space.name, space.measure
        self.progress = progress
        self.policies = named_policies(space)
        self.candidates, self.trials, self.evaluate = candidates, trials, evaluate
        self.points = {entry.key: entry.point for entry in candidates.entries}
        self.boards = tuple(Board(candidates, board) for board in range(len(space.boards)))
        self.first = start(candidates, self.settings.seed)

    def state(self) -> State:
        """Return what is known now, the runs of other processes included."""
        finished = self.trials.finished()
        taken = {(run.key, run.seed) for run in finished} | set(self.trials.running())
        begun = Counter(key for key, _ in taken)
        runs = tuple(
            Run(self.points[run.key], run.seed, run.accuracy) for run in finished if run.key in self.points
        )
        return State(self.candidates, self.boards, self.settings, runs, begun, self.trials.failures(), taken)

    def propose(self, state: State) -> tuple[str, list[Request]]:
        """Return the next round of runs, and which phase it belongs to; empty when all is done.

        Seeds are settled here: of processes that propose the same, one gets it and the others think again.
        """
        phase, places = self._places(state)
        return phase, [Request(point, seed) for point, seed in state.with_seeds(places)]

    def _places(self, state: State) -> tuple[str, list[int]]:
        begun = sum(state.begun.values())
        room = min(self.settings.batch, self.settings.runs - begun)
        if room <= 0:
            return SEEDS, []
        places = [place for place in self.first if state.fresh[place]]
        if not places and len({run.point.key for run in state.runs}) < LEAST_POINTS:
            places = at_random(state, room)  # some of the first could not be run
        if places:
            return START, places[:room]
        explore = PROPOSERS[self.settings.proposals]
        before = self.settings.runs - round(self.settings.runs * RESERVED) - begun
        if before > 0:
            places = explore(state, min(room, before))
            if places:
                return EXPLORE, places
        places = for_the_front(state, self.policies, room)
        return (SEEDS, places) if places else (EXPLORE, explore(state, room) if state.runs else [])

    def claim(self, phase: str, wanted: Sequence[Request]) -> list[Claim]:
        """Begin the runs ``wanted``, less those that another process has begun or that are too many."""
        claims = [self.trials.claim(point.key, seed, decisions(point), phase) for point, seed in wanted]
        return [claim for claim in claims if claim is not None]

    def run(self, claims: Sequence[Claim]) -> None:
        """Do runs that are begun, and keep each as it ends."""
        known = [claim for claim in claims if claim.key in self.points]
        requests = [Request(self.points[claim.key], claim.seed) for claim in known]
        for position, outcome in self.evaluate(requests) if requests else ():
            if isinstance(outcome, str):
                self.trials.fail(known[position], outcome)
            else:
                self.trials.finish(known[position], outcome.accuracy, outcome.record)
            if self.progress is not None:
                self.progress(min(len(self.trials.finished()), self.settings.runs), self.settings.runs)
        for claim in claims:
            if claim.number in self.trials.open:  # it was not answered
                self.trials.give_back(claim)

    def step(self) -> bool:
        """Do one round; return False when there is nothing left to do.

        Runs that were lost with their process come first. At the end, those that other processes of this
        machine still have are waited for.
        """
        lost = self.trials.recover()
        phase, wanted = ("", []) if lost else self.propose(self.state())
        claims = lost or self.claim(phase, wanted)
        if claims:
            self.run(claims)
        elif not wanted:
            if not self.trials.running_beside() and not self.propose(self.state())[1]:
                self._require_some_success(1)
                return False
            time.sleep(WAIT_S)
        self._require_some_success(MOST_FAILURES)
        return True

    def _require_some_success(self, most: int) -> None:
        """Raise UserError where ``most`` keys have failed and nothing has succeeded."""
        failures = self.trials.failures()
        if len(failures) < most or self.trials.finished():
            return
        found = f"the first {len(failures)} training runs could not be done: {next(iter(failures.values()))}"
        raise UserError(Problem(self.name, "measure", found, "see 'task' and 'choices'"))


def measure(
    space: Space, candidates: Candidates, evaluate: Evaluate, storage: Any, *, data: str = "",
    progress: Progress | None = None,
) -> Measurement:  # fmt: skip
    """Do the runs that ``space`` asks for and return what they say.

    Parameters
    ----------
    space: one whose accuracy is measured.
    candidates: what can be learned on its boards (``candidates_of``).
    evaluate: trains.
    storage: keeps the runs (``dse.search.trials.open_storage``); those that it has are not done again.
    data: hash of the data that is trained on; runs on other data do not count.
    progress: called with (runs done, runs in all).

    Raises UserError where no run can be done.

    """
    assert space.measure is not None
    if len(candidates) == 0:  # nothing fits, so that there is nothing to train
        return Measurement(space.measure, MeasuredAccuracy(()), (), {}, {})
    name = f"{space.name} {space.content_hash[:16]} {data[:16]}".strip()
    with Trials(storage, name, choices(candidates), space.measure.runs) as trials:
        work = Measuring(space, candidates, trials, evaluate, progress)
        while work.step():
            continue
        source = MeasuredAccuracy(work.state().runs, work.policies)
        finished = tuple(run for run in trials.finished() if run.key in work.points)
        return Measurement(work.settings, source, finished, trials.failures(), work.points)
