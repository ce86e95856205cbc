"""What a search by runs is given: it trains what is asked for, judged on samples kept out of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Final, Self

import numpy as np

from dse.accuracy.features import LearningPoint
from dse.errors import Problem, UserError
from dse.search.measured import Reached, Request
from dse.search.space import Space
from dse.training.data import Dataset
from dse.training.record import RunRecord
from dse.training.task import Job, Task
from dse.validation.networks import misfit
from dse.validation.pool import Failure, Pool, Run, execute, run_jobs
from dse.validation.rates import RateSearch, Scheme, scheme_of
from dse.validation.store import RunStore
from dse.validation.study import RATE_SEED

SPLIT: Final = "validation"
"""Samples that runs are judged by: what is chosen by them is validated on the test samples."""

Rates = dict[tuple[str, Scheme], float]
Progress = Callable[[int, int], None]


class Trainer:
    """Trains learning points: the ``evaluate`` of ``dse.search.measured.measure``.

    A context: its processes stay alive from round to round, with the data and networks that they have loaded.
    """

    def __init__(
        self, points: Sequence[LearningPoint], task: Task, dataset: Dataset, store: RunStore, *,
        workers: int = 0, run: Run = execute, rate_progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """Prepare to train.

        Parameters
        ----------
        points: all that may be asked for; their schemes get their learning rates by the same small search.
        task, dataset: what is learned, and its data.
        store: keeps the record of every run; what it has is not run again.
        workers: processes; 0: one per core.
        run: trains; for tests.
        rate_progress: called with (runs done, in all) of the search for rates.

        """
        self.points, self.task, self.data_hash = points, task, dataset.content_hash
        self.store, self.rate_progress = store, rate_progress
        self.pool = Pool(workers, run=run)
        self.refused: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    @cached_property
    def rates(self) -> Rates:
        """The learning rate of every scheme of every network; a scheme that cannot be run has none."""
        networks = {point.workload.training_hash: point.workload for point in self.points}
        searches = {
            name: RateSearch(
                workload,
                self.task,
                [point.plan for point in self.points if point.workload.training_hash == name],
                RATE_SEED,
                self.data_hash,
            )
            for name, workload in networks.items()
        }
        jobs = [job for search in searches.values() for job in search.jobs()]
        records = {record.key: record for record in self._run(jobs, self.rate_progress)}
        return {
            (name, scheme): rate
            for name, search in searches.items()
            for scheme, rate in search.chosen(records).items()
        }

    def job(self, request: Request) -> Job | None:
        """Return the run of a request; None where its scheme has no learning rate."""
        workload, plan = request.point.workload, request.point.plan
        rate = self.rates.get((workload.training_hash, scheme_of(workload, plan)))
        if rate is None:
            return None
        return Job(workload, plan, self.task, request.seed, rate, split=SPLIT, data_hash=self.data_hash)

    def __call__(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reached | str]]:
        """Train ``requests``; yields each position with what was reached, or with why it could not be."""
        jobs = [self.job(request) for request in requests]
        wanted = {job.key: position for position, job in enumerate(jobs) if job is not None}
        for record in self._run([job for job in jobs if job is not None]):
            yield wanted[record.key], _reached(record)
        for position, job in enumerate(jobs):
            if job is None:
                yield position, f"no learning rate can be chosen for it: {self._first_refusal()}"
            elif job.key in self.refused:
                yield position, self.refused[job.key]

    def _run(self, jobs: Sequence[Job], progress: Progress | None = None) -> Iterator[RunRecord]:
        return run_jobs(jobs, self.store, pool=self.pool, failed=self._note, progress=progress)

    def _note(self, failure: Failure) -> None:
        said = "; ".join(str(problem) for problem in failure.problems)
        self.refused[failure.job.key] = said or (failure.text.strip().splitlines() or ["it failed"])[-1]

    def _first_refusal(self) -> str:
        return next(iter(self.refused.values()), "its runs failed")


def _reached(record: RunRecord) -> Reached | str:
    if not np.isfinite(record.accuracy):
        return "its accuracy is not a number"
    return Reached(record.accuracy, record.to_dict())


def require_measurable(space: Space, task: Task, dataset: Dataset) -> None:
    """Raise UserError unless every network of ``space`` takes the data, and some samples are kept out."""
    names = zip(space.network_names, space.networks, strict=True)
    problems = [
        Problem(space.name, f"networks: {name}", reason, "a variant that fits, or other data")
        for name, network in names
        if (reason := misfit(network, dataset))
    ]
    if task.validation_share == 0:
        allowed = "a share above 0: runs that choose are judged on samples kept out"
        problems.append(Problem(space.name, "task.validation_share", "0", allowed))
    if problems:
        raise UserError(problems)
