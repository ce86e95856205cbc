"""Trains what was chosen with paired seeds, until runs or time are used up, and keeps every completed run.

Seeds are outermost: whenever it stops, plans have been trained with the same seeds. They are none of those
that chose anything: the test samples, and these seeds, are seen here for the first time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dse.errors import UserError
from dse.training.record import RunRecord
from dse.training.task import Job, Task
from dse.validation.comparison import Validation
from dse.validation.pool import Failure, Pool, Progress, Run, RunsFailed, execute, run_jobs
from dse.validation.rates import RateSearch, Scheme, scheme_of
from dse.validation.select import Chosen, Left
from dse.validation.store import RunStore
from dse.validation.study import RATE_SEED

FIRST_SEED = 1000
"""Seeds of validation start here; those of searching by measured accuracy start at 0."""

SEEDS = 3
"""Seeds where neither runs nor time are given."""

MOST_SEEDS = 10
"""Seeds at most where only the time is limited."""

Stages = Callable[[str], Progress]
"""Given what is being done, returns what is to be called with (runs done, in all)."""


@dataclass(frozen=True)
class Campaign:
    """What a validation trains, and how much of it.

    ``runs`` limits the number of runs, those that choose learning rates included (0: no limit); ``deadline``
    is a time of ``time.monotonic()`` [s]. ``known`` are learning rates that were chosen before, by content
    hash of the network and scheme: they are not searched again. ``title``, ``left``, ``stand_in`` and
    ``prediction`` pass into the result.
    """

    chosen: tuple[Chosen, ...]
    task: Task
    data_hash: str
    seeds: int = 0
    runs: int = 0
    deadline: float | None = None
    known: Mapping[tuple[str, Scheme], float] = field(default_factory=dict)
    title: str = ""
    left: tuple[Left, ...] = ()
    stand_in: str = ""
    prediction: str = ""

    def searches(self) -> list[RateSearch]:
        """Return the search for learning rates of every network."""
        by_network: dict[str, list[Chosen]] = {}
        for each in self.chosen:
            if rated_as(each) not in self.known:
                by_network.setdefault(each.workload.training_hash, []).append(each)
        return [
            RateSearch(mine[0].workload, self.task, [each.plan for each in mine], RATE_SEED, self.data_hash)
            for mine in by_network.values()
        ]

    def seed_count(self, left: int) -> int:
        """Return how many seeds to run where ``left`` runs may still be made (0: no limit)."""
        if self.seeds:
            return self.seeds
        if left:
            return max(left // max(len(self.chosen), 1), 1)
        return MOST_SEEDS if self.deadline is not None else SEEDS

    def jobs(self, rates: Mapping[str, float], tried: int) -> Iterator[tuple[Chosen, Job]]:
        """Yield the runs after ``tried`` runs that chose ``rates`` (by key), seeds outermost."""
        left = max(self.runs - tried, 0)
        if self.runs and left == 0:
            return
        done = 0
        for seed in range(FIRST_SEED, FIRST_SEED + self.seed_count(left)):
            for each in self.chosen:
                if each.key not in rates or (left and done >= left):
                    continue
                done += 1
                yield each, self.job(each, seed, rates[each.key])

    def job(self, each: Chosen, seed: int, rate: float) -> Job:
        """Return one run on the test samples."""
        return Job(
            each.workload, each.plan, self.task, seed, rate, split="test", reference=each.reference,
            data_hash=self.data_hash,
        )  # fmt: skip


def rated_as(each: Chosen) -> tuple[str, Scheme]:
    """Return what the learning rate of a plan is chosen for: its network (by content hash) and its scheme."""
    return each.workload.training_hash, scheme_of(each.workload, each.plan)


@dataclass
class _Runner:
    campaign: Campaign
    store: RunStore
    pool: Pool
    say: Stages
    failures: list[Failure] = field(default_factory=list)

    def run(self, jobs: Sequence[Job], stage: str) -> dict[str, RunRecord]:
        """Run ``jobs`` and return their records by key; what fails is noted."""
        step = _expected(self.say(stage), self.campaign.deadline)
        found = run_jobs(
            jobs, self.store, pool=self.pool, progress=step, deadline=self.campaign.deadline,
            failed=self.failures.append,
        )  # fmt: skip
        return {record.key: record for record in found}


def _expected(step: Progress, deadline: float | None) -> Progress:
    """Return a progress whose total is what the deadline will probably allow."""
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        if deadline is not None:
            now = time.monotonic()
            more = max(deadline - now, 0.0) / max((now - began) / max(done, 1), 1e-9)
            total = min(total, done + int(more))
        step(done, total)

    return report


def run_validation(
    campaign: Campaign,
    store: RunStore,
    *,
    workers: int = 0,
    progress: Stages | None = None,
    run: Run = execute,
) -> Validation:
    """Choose the learning rate of every scheme, then train every plan with one seed after the other.

    Parameters
    ----------
    campaign: what to train and how much of it.
    store: keeps the runs; those that it has are not run again, but count.
    workers: training processes; 0: one per core.
    progress: receives each stage by name.
    run: trains; for tests.

    Raises UserError where no plan at all could be trained, RunsFailed where the program failed.

    """
    say = progress or (lambda _: lambda done, total: None)
    with Pool(workers, run=run) as pool:
        runner = _Runner(campaign, store, pool, say)
        tried = [job for search in campaign.searches() for job in search.jobs()]
        tried = tried[: campaign.runs] if campaign.runs else tried
        rates = _rates(campaign, runner.run(tried, "choosing learning rates") if tried else {})
        jobs = list(campaign.jobs(rates, len(tried)))
        records = runner.run([job for _, job in jobs], "training")
    _require_sound(runner.failures, bool(records))
    return Validation(
        title=campaign.title, task=campaign.task, chosen=campaign.chosen, rates=rates,
        records={(each.key, job.seed): records[job.key] for each, job in jobs if job.key in records},
        failures=_reasons(campaign, jobs, runner.failures), left=campaign.left,
        stand_in=campaign.stand_in, prediction=campaign.prediction, wanted=len(tried) + len(jobs),
        tried=len(tried),
    )  # fmt: skip


def _rates(campaign: Campaign, records: Mapping[str, RunRecord]) -> dict[str, float]:
    """Return the learning rate of every plan whose scheme has one, by key."""
    found = dict(campaign.known)
    for search in campaign.searches():
        network = search.workload.training_hash
        found |= {(network, scheme): rate for scheme, rate in search.chosen(records).items()}
    return {each.key: found[rated_as(each)] for each in campaign.chosen if rated_as(each) in found}


def _reasons(
    campaign: Campaign, jobs: Sequence[tuple[Chosen, Job]], failures: Sequence[Failure]
) -> dict[str, str]:
    """Return why plans did not train, by key: their run failed, or one that was to choose their rate."""
    texts = {failure.job.key: "; ".join(str(problem) for problem in failure.problems) for failure in failures}
    found = {each.key: texts[job.key] for each, job in jobs if job.key in texts}
    rated = {each.key for each, _ in jobs}
    by_scheme = {scheme_of(failure.job.workload, failure.job.plan): failure.job.key for failure in failures}
    for each in campaign.chosen:
        scheme = scheme_of(each.workload, each.plan)
        if each.key not in rated and scheme in by_scheme:
            found[each.key] = texts[by_scheme[scheme]]
    return found


def _require_sound(failures: Sequence[Failure], any_record: bool) -> None:
    """Raise what stopped everything, and any failure of the program itself."""
    broken = [failure for failure in failures if not failure.problems]
    if broken:
        raise RunsFailed(f"{len(broken)} training runs failed; the first: {broken[0].text}")
    if failures and not any_record:
        raise UserError(dict.fromkeys(problem for failure in failures for problem in failure.problems))
