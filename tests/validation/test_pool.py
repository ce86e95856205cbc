from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.validation.pool import ONE_THREAD, Failure, Pool, RunsFailed, cores, run_jobs
from dse.validation.store import RunStore
from tests.validation import fake_runs
from tests.validation.fake_runs import BROKEN, DYING, LOG, SLEEP, WRONG_DATA, job

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv(LOG, str(path))
    return path


def ran(log: Path) -> Counter[str]:
    return Counter(line.split()[1] for line in log.read_text().splitlines())


def test_every_job_runs_once_and_is_kept(tmp_path: Path, log: Path) -> None:
    jobs = [job(seed=seed, n_replays=n) for seed in (0, 1) for n in (10, 20)]
    store, seen = RunStore(tmp_path / "runs"), []
    found = list(
        run_jobs([*jobs, jobs[0]], store, workers=2, run=fake_runs.run, progress=lambda *at: seen.append(at))
    )
    assert sorted(one.key for one in found) == sorted(one.key for one in jobs)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert ran(log) == dict.fromkeys((one.key for one in jobs), 1)
    assert {one.key: one.accuracy for one in found} == {one.key: fake_runs.accuracy_of(one) for one in jobs}
    again = list(run_jobs(jobs, RunStore(tmp_path / "runs"), workers=2, run=fake_runs.run))
    assert [one.key for one in again] == [one.key for one in jobs]
    assert ran(log).total() == 4, "what is stored is not run again"
    assert len(store) == 4


def test_what_fails_takes_nothing_else_with_it(tmp_path: Path, log: Path) -> None:
    jobs = [job(seed=seed) for seed in (0, WRONG_DATA, BROKEN, DYING, 1, 2)]
    failures: list[Failure] = []
    store = RunStore(tmp_path / "runs")
    found = list(run_jobs(jobs, store, workers=2, run=fake_runs.run, failed=failures.append))
    assert sorted(one.seed for one in found) == [0, 1, 2]
    by_seed = {failure.job.seed: failure for failure in failures}
    assert sorted(by_seed) == [WRONG_DATA, BROKEN, DYING]
    assert by_seed[WRONG_DATA].problems[0].found == "wrong data"
    assert "ZeroDivisionError: a mistake of the program" in by_seed[BROKEN].text
    assert "signal 9" in by_seed[DYING].text
    assert ran(log).total() == 6, "a run that kills its process is not tried again"
    assert len(store) == 3


def test_failures_are_raised_when_all_others_are_done(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    jobs = [job(seed=WRONG_DATA), job(seed=WRONG_DATA, n_replays=7), job(seed=1)]
    with pytest.raises(UserError, match="wrong data") as caught:
        list(run_jobs(jobs, store, workers=1, run=fake_runs.run))
    assert len(caught.value.problems) == 1, "the same problem of many runs is one problem"
    assert len(store) == 1
    with pytest.raises(RunsFailed, match="ZeroDivisionError"):
        list(run_jobs([job(seed=BROKEN), job(seed=2)], store, workers=1, run=fake_runs.run))
    assert len(store) == 2


def test_a_record_of_another_job_is_an_internal_error(tmp_path: Path) -> None:
    with pytest.raises(RunsFailed, match="says that it is 0000"):
        list(run_jobs([job()], RunStore(tmp_path), workers=1, run=fake_runs.run_of_another))
    assert len(RunStore(tmp_path)) == 0


def test_the_deadline_starts_nothing_more(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job(seed=seed) for seed in range(4)]
    assert list(run_jobs(jobs, RunStore(tmp_path), run=fake_runs.run, deadline=time.monotonic() - 1)) == []
    assert ran(log).total() == 0
    monkeypatch.setenv(SLEEP, "0.4")
    found = list(
        run_jobs(jobs, RunStore(tmp_path / "r"), workers=1, run=fake_runs.run, deadline=time.monotonic() + 3)
    )
    assert 1 <= len(found) <= 4
    assert ran(log).total() == len(found)
    stored = list(run_jobs(jobs, RunStore(tmp_path / "r"), run=fake_runs.run, deadline=time.monotonic() - 1))
    assert len(stored) == len(found), "what is stored costs no time"


def test_a_pool_outlives_its_calls_and_an_abandoned_one(tmp_path: Path, log: Path) -> None:
    store = RunStore(tmp_path / "runs")
    with Pool(1, run=fake_runs.run) as pool:
        list(run_jobs([job(seed=0)], store, pool=pool))
        list(run_jobs([job(seed=1)], store, pool=pool))
        processes = {line.split()[0] for line in log.read_text().splitlines()}
        assert len(processes) == 1
        given_up = run_jobs([job(seed=seed) for seed in (2, 3, 4)], store, pool=pool)
        next(given_up)
        given_up.close()
        found = list(run_jobs([job(seed=5)], store, pool=pool))
        assert [one.seed for one in found] == [5], "an answer to the abandoned call reaches nobody"
    assert not pool._workers


def test_workers_compute_with_one_thread_and_the_parent_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONE_THREAD[0], "7")
    monkeypatch.delenv(ONE_THREAD[1], raising=False)
    with Pool(1, run=fake_runs.run) as pool:
        worker = pool._start()
        worker.connection.recv()  # it is ready
        environment = Path(f"/proc/{worker.process.pid}/environ")
        if not environment.exists():
            pytest.skip("this system does not show the environment of a process")
        started = environment.read_bytes().split(b"\0")
        assert {f"{name}=1".encode() for name in ONE_THREAD} <= set(started)
    assert os.environ[ONE_THREAD[0]] == "7"
    assert ONE_THREAD[1] not in os.environ


def test_cores_is_positive() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


SCRIPT = """
import sys
from dse.validation.pool import run_jobs
from dse.validation.store import RunStore
from tests.validation import fake_runs
{guard}
    jobs = [fake_runs.job(seed=seed) for seed in range(int(sys.argv[2]))]
    for record in run_jobs(jobs, RunStore(sys.argv[1]), workers=2, run=fake_runs.run):
        print(record.key, flush=True)
"""


def script(tmp_path: Path, guard: str = 'if __name__ == "__main__":') -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(guard=guard))
    return path


def start(path: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a script that Ctrl-C reaches, also where the tests run in the background and ignore it."""
    return subprocess.Popen(
        [sys.executable, str(path), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(process: int, within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not alive(process):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = start(script(tmp_path), str(tmp_path / "runs"), "500", **{LOG: str(log), SLEEP: "0.3"})
    assert parent.stdout is not None
    completed = [line.strip() for line in islice(parent.stdout, 2)]
    workers = {int(line.split()[0]) for line in log.read_text().splitlines()}
    parent.kill()
    parent.communicate()
    assert len(workers) == 2
    assert all(gone(worker) for worker in workers)
    assert set(completed) <= set(RunStore(tmp_path / "runs").keys())


def test_ctrl_c_stops_at_once_and_quietly(tmp_path: Path) -> None:
    parent = start(
        script(tmp_path), str(tmp_path / "runs"), "500", **{SLEEP: "5", LOG: str(tmp_path / "log")}
    )
    end = time.monotonic() + 30
    while not (tmp_path / "log").exists() and time.monotonic() < end:
        time.sleep(0.02)
    began = time.monotonic()
    os.killpg(parent.pid, signal.SIGINT)
    _, said = parent.communicate(timeout=30)
    assert time.monotonic() - began < 4
    assert said.count("Traceback") == 1, "the parent's own; workers say nothing"
    assert said.rstrip().endswith("KeyboardInterrupt")


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    parent = start(script(tmp_path, "if True:"), str(tmp_path / "runs"), "2")
    _, said = parent.communicate(timeout=60)
    assert parent.returncode == 1
    assert "before it could begin" in said
    assert len(RunStore(tmp_path / "runs")) == 0
