"""kill -9 at random moments of a validation: every completed run is kept, none is counted twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import dse
from dse.validation.store import RunStore
from tests.validation import fake_runs
from tests.validation.spaces import CORE

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes")

RUN_S = 0.2
"""What a fake run takes: some of them are under way at any moment."""


def start(folder: Path, log: Path, seeds: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.validation.fake_command", "validate", str(folder)]
    environment = {**os.environ, fake_runs.LOG: str(log), fake_runs.SLEEP: str(RUN_S)}
    return subprocess.Popen(
        [*command, "--seeds", str(seeds), "--jobs", "2"], cwd=ROOT, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def begun(log: Path) -> Counter[str]:
    return Counter(line.split()[1] for line in log.read_text().splitlines()) if log.exists() else Counter()


def kill_at_random(folder: Path, log: Path, draw: random.Random, seeds: int) -> bool:
    """Kill a validation at a random moment, its workers with it or not; return whether it was still alive."""
    process = start(folder, log, seeds)
    end = time.monotonic() + 60
    while not log.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(draw.uniform(0.0, 1.2))
    alive = process.poll() is None
    if alive and draw.random() < 0.5:
        os.killpg(process.pid, signal.SIGKILL)
    elif alive:
        process.kill()
    process.wait()
    return alive


def check(folder: Path, tmp_path: Path, kills: int, seeds: int) -> None:
    draw, store = random.Random(kills), RunStore(folder / "validation")
    kept: set[str] = set()
    times_begun: Counter[str] = Counter()
    for number in range(kills):
        log = tmp_path / f"log-{number}"
        assert kill_at_random(folder, log, draw, seeds), "it had finished before the moment came"
        time.sleep(0.3)  # a worker that lost its parent ends by itself
        stored = {record.key for record in store.records()}  # each of them whole
        assert kept <= stored, "a completed run was lost"
        assert not kept & set(begun(log)), "a completed run was run again"
        kept = stored
        times_begun += begun(log)
    assert kept, "no run was completed between the kills"
    last = tmp_path / "log-last"
    assert start(folder, last, seeds).wait(timeout=300) == 0
    assert not kept & set(begun(last))
    table = pd.read_csv(folder / "validation.csv")
    assert (table["seeds"] == seeds).all()
    assert len(store) == seeds * len(table), "every run is counted once"
    assert {record.key for record in store.records()} == set(times_begun + begun(last))
    assert not list(folder.glob(".*partial*"))


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    choices = {**CORE["choices"], "n_replays": [750, 1500], "cut": [25, 27]}
    return dse.write_run(dse.explore({**CORE, "choices": choices}), tmp_path_factory.mktemp("runs"))


def test_four_kills(explored: Path, tmp_path: Path) -> None:
    check(Path(shutil.copytree(explored, tmp_path / "run")), tmp_path, kills=4, seeds=3)


@pytest.mark.slow
def test_twenty_kills(explored: Path, tmp_path: Path) -> None:
    check(Path(shutil.copytree(explored, tmp_path / "run")), tmp_path, kills=20, seeds=8)
