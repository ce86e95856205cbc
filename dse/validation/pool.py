"""Training runs side by side: one process per core, one thread each, every record kept as it comes.

A worker ends with its parent, however that ends, and leaves Ctrl-C to it. A run that fails is reported when
all others are done; a worker that dies takes only its own run with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Self

from dse.errors import Problem, UserError
from dse.training.record import RunRecord
from dse.training.task import Job
from dse.validation.order import JobQueue
from dse.validation.store import RunStore

Run = Callable[[Job], RunRecord]
Progress = Callable[[int, int], None]
"""Called with (runs done, runs to do), those that were stored already left out."""

ONE_THREAD: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
READY, DONE, REFUSED, FAILED = range(4)
GRACE_S: Final = 5.0


@dataclass(frozen=True)
class Failure:
    """A run that ended without a record: what is wrong with its input, or else where the program failed."""

    job: Job
    problems: tuple[Problem, ...]
    text: str


class RunsFailed(Exception):
    """Runs that failed by no fault of the input; every other run was completed and kept."""


def execute(job: Job) -> RunRecord:
    """Train, with the engine."""
    from dse.training.engine import run

    return run(job)


def run_jobs(
    jobs: Sequence[Job],
    store: RunStore,
    *,
    workers: int = 0,
    progress: Progress | None = None,
    deadline: float | None = None,
    failed: Callable[[Failure], None] | None = None,
    pool: Pool | None = None,
    run: Run = execute,
) -> Iterator[RunRecord]:
    """Run ``jobs`` and yield their records: first those that ``store`` has, then the others as they finish.

    Parameters
    ----------
    jobs: in the order in which they should run; see ``dse.validation.order``. Equal jobs run once.
    store: receives every record before it is yielded.
    workers: number of processes; 0: as many as cores. Without meaning where a ``pool`` is given.
    progress: called after every run.
    deadline: a time of ``time.monotonic()`` [s]; no run starts that would probably end later.
    failed: receives every run that failed. Without it, an error is raised once all others are done.
    pool: processes that stay alive between calls, with what they have loaded.
    run: a function of some module that trains; for tests.

    Raises UserError with the problems of all runs that were refused, RunsFailed where one failed otherwise.

    """
    todo: dict[str, Job] = {}
    for key, job in {job.key: job for job in jobs}.items():
        record = store.get(key)
        if record is None:
            todo[key] = job
        else:
            yield record
    if not todo:
        return
    failures: list[Failure] = []
    with nullcontext(pool) if pool is not None else Pool(workers, run=run) as active:
        queue = JobQueue(todo.values(), active.ready)
        for done, (job, answer) in enumerate(active.answers(queue, deadline), start=1):
            if isinstance(answer, Failure):
                (failed or failures.append)(answer)
            else:
                _require_key(answer, job)
                store.put(answer)
            if progress is not None:
                progress(done, len(todo))
            if isinstance(answer, RunRecord):
                yield answer
    _raise(failures)


def _require_key(record: RunRecord, job: Job) -> None:
    if record.key != job.key:
        raise RunsFailed(f"the record of run {job.key} says that it is {record.key}")


def _raise(failures: Sequence[Failure]) -> None:
    broken = [failure for failure in failures if not failure.problems]
    if broken:
        raise RunsFailed(
            f"{len(broken)} training runs failed; the first, {broken[0].job.key}: {broken[0].text}"
        )
    if failures:
        raise UserError(dict.fromkeys(problem for failure in failures for problem in failure.problems))


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection[Any, Any]
    ready: bool = False
    job: Job | None = None
    last: Job | None = None
    began: float = 0.0


class Pool:
    """Processes that train; started when there is something to do, ended with the ``with`` block."""

    def __init__(self, workers: int = 0, *, run: Run = execute) -> None:
        self.size = workers or cores()
        self.ready: set[str] = set()  # networks that were pretrained since the pool began
        self._run = run
        self._workers: list[_Worker] = []
        self._durations: list[float] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes at once."""
        for worker in list(self._workers):
            self._end(worker)

    def answers(
        self, queue: JobQueue, deadline: float | None = None
    ) -> Iterator[tuple[Job, RunRecord | Failure]]:
        """Yield every job of ``queue`` with its record or failure as they finish, until ``deadline``.

        Raises RunsFailed where processes cannot be started at all.
        """
        try:
            while True:
                self._hand_out(queue, deadline)
                busy = [worker for worker in self._workers if worker.job is not None]
                if not busy:
                    return
                by_connection = {worker.connection: worker for worker in busy}
                for connection in wait(list(by_connection)):
                    worker = by_connection[connection]  # type: ignore[index]
                    job = worker.job
                    answer = self._receive(worker)
                    if job is not None and answer is not None:
                        queue.finished(job)
                        yield job, answer
        finally:  # also where the caller stops listening: no answer may reach the next one
            for worker in [worker for worker in self._workers if worker.job is not None]:
                self._end(worker)

    def _hand_out(self, queue: JobQueue, deadline: float | None) -> None:
        """Give every idle worker a job, starting workers while there are jobs for them."""
        idle = [worker for worker in self._workers if worker.job is None]
        while len(queue) and self._may_start(deadline):
            worker = idle.pop() if idle else None
            if worker is None and len(self._workers) >= self.size:
                return
            job = queue.take(worker.last if worker else None)
            if job is None:
                return
            worker = worker or self._start()
            worker.job, worker.began = job, time.monotonic()
            try:
                worker.connection.send(job)
            except OSError:  # it has died: the end of its connection is read next
                continue

    def _may_start(self, deadline: float | None) -> bool:
        usual = sum(self._durations) / len(self._durations) if self._durations else 0.0
        return deadline is None or time.monotonic() + usual < deadline

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._run), daemon=True)
        with _one_thread(), _without_interrupts():
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _receive(self, worker: _Worker) -> RunRecord | Failure | None:
        """Return what a worker says of its job; None where it has only got ready."""
        job = worker.job
        assert job is not None
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            return self._died(worker, job)
        if kind == READY:
            worker.ready = True
            return None
        worker.job, worker.last = None, job
        self._durations.append(time.monotonic() - worker.began)
        if kind == DONE:
            assert isinstance(content, RunRecord)
            return content
        return Failure(job, content, "") if kind == REFUSED else Failure(job, (), content)

    def _died(self, worker: _Worker, job: Job) -> Failure:
        worker.process.join(GRACE_S)
        code, ready = worker.process.exitcode, worker.ready
        self._end(worker)
        if not ready:
            raise RunsFailed(
                f"a training process ended with code {code} before it could begin; a script that starts runs "
                'must do so under `if __name__ == "__main__":`'
            )
        how = f"signal {-code}" if code is not None and code < 0 else f"code {code}"
        return Failure(job, (), f"its process ended with {how} (9: killed, often for want of memory)")

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.terminate()
        worker.process.join(GRACE_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start meanwhile compute with one thread: the same bits whatever the machine."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let processes that start meanwhile ignore Ctrl-C from their first moment: it is for their parent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# --- inside a worker ---


def serve(connection: Connection[Any, Any], run: Run) -> None:
    """Answer every job that comes through ``connection`` until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        connection.send((READY, None))
        while True:
            connection.send(_answer(run, connection.recv()))
    except (EOFError, OSError):  # nobody listens any more
        return


def _answer(run: Run, job: Job) -> tuple[int, Any]:
    try:
        return DONE, run(job)
    except UserError as error:
        return REFUSED, error.problems
    except Exception:
        return FAILED, traceback.format_exc()


def _end_with_parent() -> None:
    """Wait for the parent's end, then end this process in the middle of whatever it computes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
