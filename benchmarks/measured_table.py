"""Every key of a small space, trained with several seeds: the table that ``bench_measured`` replays.

``python -m benchmarks.measured_table fashion --data PATH [--seeds 3] [--workers 0]`` writes
``benchmarks/measured/fashion.csv``; what it holds is kept, so that it may be stopped and called again.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import dse
from dse.accuracy.features import LearningPoint
from dse.api.measured import task_of
from dse.search import Space, candidates_of
from dse.search.learning import decisions
from dse.search.measured import Reached, Request
from dse.search.space import read_tables
from dse.training.data import load_data
from dse.validation.measure import Trainer
from dse.validation.store import RunStore

FOLDER = Path(__file__).parent / "measured"
DECIDED = ("head", "cut", "n_replays", "replay_bits")
"""What tells the keys of these spaces apart."""

COLUMNS = (*DECIDED, "seed", "accuracy", "rate")
Runs = dict[tuple[str, ...], dict[int, float]]


def space_of(name: str, data: str | None = None) -> Space:
    """Return a space of the benchmark, with ``data`` as the path of its data set."""
    tables: dict[str, Any] = read_tables(FOLDER / f"{name}.toml")
    if data is not None:
        tables["task"]["data"]["path"] = str(Path(data).absolute())
    return dse.load_space(tables)


def decided(point: LearningPoint) -> tuple[str, ...]:
    """Return what tells ``point`` from others of its table."""
    return tuple(str(decisions(point)[name]) for name in DECIDED)


def read_table(name: str) -> Runs:
    """Return the accuracies that were measured: decisions -> seed -> accuracy."""
    path = FOLDER / f"{name}.csv"
    found: Runs = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                key = tuple(row[column] for column in DECIDED)
                found.setdefault(key, {})[int(row["seed"])] = float(row["accuracy"])
    return found


def main(arguments: list[str]) -> int:
    """Train what the table lacks, seeds outermost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measured_table")
    parser.add_argument("name")
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args(arguments)
    space = space_of(options.name, options.data)
    task = task_of(space)
    points = [entry.point for entry in candidates_of(space).entries]
    points.sort(key=lambda point: (point.plan.head, point.plan.cut, point.plan.n_replays, point.key))
    known = read_table(options.name)
    wanted = [
        Request(point, seed)
        for seed in range(options.seeds)
        for point in points
        if seed not in known.get(decided(point), {})
    ]
    path = FOLDER / f"{options.name}.csv"
    fresh = not path.exists()
    dataset = load_data(task.data, file=options.name)
    with (
        tempfile.TemporaryDirectory() as records,
        Trainer(points, task, dataset, RunStore(records), workers=options.workers) as trainer,
        path.open("a", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        for position, outcome in trainer(wanted):
            if not isinstance(outcome, Reached):
                sys.stderr.write(f"{wanted[position].point.key}: {outcome}\n")
                continue
            request = wanted[position]
            row = [*decided(request.point), request.seed, outcome.accuracy, outcome.record["rate"]]
            writer.writerow(row)
            file.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
