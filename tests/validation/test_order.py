from __future__ import annotations

from dse.validation.order import JobQueue
from tests.validation.fake_runs import NETWORK, job

FIRST, SECOND = NETWORK.legal_cuts[:2]


def test_the_first_job_of_a_seed_runs_alone() -> None:
    jobs = [job(FIRST, 0), job(SECOND, 0), job(FIRST, 1)]
    queue = JobQueue(jobs)
    assert queue.take(None) == jobs[0]
    assert queue.take(None) == jobs[2], "seed 0 is being pretrained, so the other worker pretrains seed 1"
    assert queue.take(None) is None
    queue.finished(jobs[0])
    assert queue.take(None) == jobs[1]
    assert len(queue) == 0


def test_a_worker_stays_at_its_cut() -> None:
    jobs = [job(cut, 0, n_replays=n) for n in (100, 200, 300) for cut in (FIRST, SECOND)]
    queue = JobQueue(jobs)
    first = queue.take(None)
    assert first == jobs[0]
    queue.finished(first)
    mine = queue.take(first)
    assert mine == jobs[2], "the same cut, before the other cut that comes earlier in the order"
    assert queue.take(None) == jobs[1], "another worker takes the cut that nobody holds"
    assert queue.take(mine) == jobs[4]
    assert queue.take(mine) == jobs[3], "when its own cut is done, it helps the other"
    assert queue.take(mine) == jobs[5]


def test_seeds_stay_outermost() -> None:
    jobs = [job(cut, seed) for seed in (0, 1) for cut in (FIRST, SECOND)]
    queue = JobQueue(jobs)
    first = queue.take(None)
    assert first is not None
    queue.finished(first)
    assert queue.take(first) == jobs[1], "the rest of seed 0 before the same cut of seed 1"


def test_a_failed_first_job_does_not_block_its_seed() -> None:
    jobs = [job(FIRST, 0), job(SECOND, 0)]
    queue = JobQueue(jobs)
    first = queue.take(None)
    assert first is not None
    assert queue.take(None) is None
    queue.finished(first)
    assert queue.take(None) == jobs[1]


def test_what_an_earlier_round_pretrained_holds_nobody_up() -> None:
    ready: set[str] = set()
    first = JobQueue([job(FIRST, 0)], ready)
    started = first.take(None)
    assert started is not None
    first.finished(started)
    second = JobQueue([job(FIRST, 0, n_replays=9), job(SECOND, 0), job(FIRST, 1), job(SECOND, 1)], ready)
    taken = [second.take(None) for _ in range(4)]
    assert taken[:3] == [job(FIRST, 0, n_replays=9), job(SECOND, 0), job(FIRST, 1)]
    assert taken[3] is None, "the network of seed 1 is still being made"
