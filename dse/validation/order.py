"""Which job a worker takes next: in the order given, but next to those that share its work.

Runs of the same seed start from one pretrained network, which the first of them makes while the others wait;
runs that are cut at the same place share their frozen features, which each process keeps for a while.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from dse.training.task import Job


def pretraining_of(job: Job) -> str:
    """Return a text that jobs share which start from the same pretrained network."""
    content = [job.workload.training_hash, job.task.content(), job.task.folder, job.data_hash, job.seed]
    return json.dumps(content, sort_keys=True, default=str)


@dataclass(frozen=True)
class _Waiting:
    job: Job
    pretraining: str
    features: tuple[str, int, int]


class JobQueue:
    """Jobs that wait, in their order; ``ready`` names pretrained networks that are there, and is kept up."""

    def __init__(self, jobs: Iterable[Job], ready: set[str] | None = None) -> None:
        self._waiting = [_entry(job) for job in jobs]
        self._starting: dict[str, str] = {}  # pretraining -> key of the job that makes it
        self._ready: set[str] = set() if ready is None else ready
        self._held: dict[str, tuple[str, int, int]] = {}  # key of a running job -> its features

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, last: Job | None) -> Job | None:
        """Return the next job for a worker that ran ``last``; None while none may start.

        Of the jobs that start from the same network as the first that may start: one with the features of
        ``last``, else one whose features no other worker is busy with, else the first.
        """
        free = [entry for entry in self._waiting if entry.pretraining not in self._starting]
        if not free:
            return None
        level = [entry for entry in free if entry.pretraining == free[0].pretraining]
        mine = None if last is None else _entry(last).features
        held = set(self._held.values())
        same = (entry for entry in level if entry.features == mine)
        fresh = (entry for entry in level if entry.features not in held)
        chosen = next(same, None) or next(fresh, None) or level[0]
        self._waiting.remove(chosen)
        self._held[chosen.job.key] = chosen.features
        if chosen.pretraining not in self._ready:
            self._starting[chosen.pretraining] = chosen.job.key
        return chosen.job

    def finished(self, job: Job) -> None:
        """Note that ``job`` has ended, well or badly: others may start from the same network."""
        self._held.pop(job.key, None)
        pretraining = pretraining_of(job)
        if self._starting.get(pretraining) == job.key:
            del self._starting[pretraining]
        self._ready.add(pretraining)


def _entry(job: Job) -> _Waiting:
    pretraining = pretraining_of(job)
    return _Waiting(job, pretraining, (pretraining, job.plan.frozen_bits, job.plan.cut))
