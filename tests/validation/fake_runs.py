"""Runs that train nothing: what a run would write, at once, for tests of everything around it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from dse.cost.memory import label_bytes
from dse.errors import Problem, UserError
from dse.plan.decisions import TrainingPlan
from dse.plan.learning_key import learning_key, learning_plan
from dse.training.data import Dataset, Split
from dse.training.record import RunRecord
from dse.training.task import Job
from dse.workload import load_network

WRONG_DATA, BROKEN, DYING = 901, 902, 903
"""Seeds of runs that do not end well."""

LOG = "DSE_FAKE_RUNS_LOG"
SLEEP = "DSE_FAKE_RUNS_SLEEP"
NETWORK = load_network("har-cnn-1d")


def job(cut: int = -1, seed: int = 0, **options: object) -> Job:
    """Return a small job; options of ``Job``, or else of its plan."""
    names = ("rate", "split", "reference", "task", "data_hash")
    own = {name: options.pop(name) for name in names if name in options}
    cut = cut if cut >= 0 else NETWORK.legal_cuts[-1]
    return Job(NETWORK, TrainingPlan(cut, **options), seed=seed, **own)  # type: ignore[arg-type]


def accuracy_of(job: Job) -> float:
    """Return 0.5 + 0.01 per cut + noise of 0.01 by seed, best at a rate of 0.1; heads 0.55."""
    noise = np.random.default_rng([job.seed, 5]).normal(0, 0.01)
    own = np.random.default_rng([int(job.key[:8], 16)]).normal(0, 0.002)
    plan = learning_plan(job.workload, job.plan)
    if job.reference:
        base = {"naive": 0.3, "joint": 0.9}[job.reference]
    elif plan.head != "sgd":
        base = 0.55
    else:
        base = 0.5 + 0.01 * plan.cut + 0.02 * np.log10(max(plan.n_replays, 1))
        base -= 0.05 * abs(np.log10(max(job.rate, 1e-6) / 0.1))
    return float(np.clip(base + noise + own, 0, 1))


def held_bytes(job: Job) -> int:
    """Return what a buffer of the plan allocates."""
    plan = learning_plan(job.workload, job.plan)
    if plan.replay == "none" or job.reference:
        return 0
    elements = job.workload.cut_elements(plan.cut if plan.replay == "latent" else -1)
    sample = -(-elements * plan.replay_bits // 8)
    return plan.n_replays * (sample + label_bytes(job.workload.classes)) + 4


def run(job: Job) -> RunRecord:
    """Return a record that depends on the job alone."""
    log(job)
    time.sleep(float(os.environ.get(SLEEP, "0")))
    if job.seed == WRONG_DATA:
        raise UserError(Problem("task", "data", "wrong data", "other data"))
    if job.seed == BROKEN:
        raise ZeroDivisionError("a mistake of the program")
    if job.seed == DYING:
        os.kill(os.getpid(), 9)
    accuracy = accuracy_of(job)
    return RunRecord(
        key=job.key, plan_key=learning_key(job.workload, job.plan), data_hash=job.data_hash, seed=job.seed,
        rate=job.rate, split=job.split, reference=job.reference, accuracy=accuracy,
        average_accuracy=accuracy, forgetting=0.1, backward_transfer=-0.1,
        matrix=((0.9, float("nan")), (0.8, 0.7)), per_experience=(0.9, accuracy), test_samples=100,
        replay_bytes=held_bytes(job), state_bytes=0, cpu_s=0.5, pretrain_s=0.0, wall_s=0.5,
    )  # fmt: skip


def run_of_another(job: Job) -> RunRecord:
    """Return a record that belongs to no job."""
    return replace(run(job), key="0" * 24)


def run_with_a_byte_too_many(job: Job) -> RunRecord:
    """Hold more than was planned."""
    return replace(run(job), replay_bytes=held_bytes(job) + 1)


def log(job: Job) -> None:
    """Note the process and the run, one line each."""
    if LOG in os.environ:
        with Path(os.environ[LOG]).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {job.key}\n")


def dataset(network: str = "mobilenet-v1", per_class: int = 2) -> Dataset:
    """Return black samples of the shape and with the classes of ``network``."""
    workload = load_network(network)
    labels = np.repeat(np.arange(workload.classes), per_class).astype(np.int64)
    split = Split(
        np.zeros((len(labels), *workload.input_shape), dtype=np.uint8), labels, np.zeros_like(labels)
    )
    names = tuple(f"class {number}" for number in range(workload.classes))
    return Dataset("black", split, split, names, "made here")


def run_of_few_replays(job: Job) -> RunRecord:
    """Refuse more than 750 replays."""
    if job.plan.n_replays > 750:
        raise UserError(Problem("plan", "n_replays", "too many replays", "at most 750"))
    return run(job)


def run_that_breaks(job: Job) -> RunRecord:
    """Fail by a mistake of the program."""
    raise ZeroDivisionError(job.key)
