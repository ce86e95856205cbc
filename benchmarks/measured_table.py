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
from dse.api.measured import task_of
from dse.search import Space, candidates_of
from dse.search.measured import Reached, Request
from dse.search.space import read_tables
from dse.training.data import load_data
from dse.validation.measure import Trainer
from dse.validation.store import RunStore

FOLDER = Path(__file__).parent / "measured"
COLUMNS = ("key", "seed", "accuracy", "rate")


def space_of(name: str, data: str | None = None) -> Space:
    """Return a space of the benchmark, with ``data`` as the path of its data set."""
    tables: dict[str, Any] = read_tables(FOLDER / f"{name}.toml")
    if data is not None:
        tables["task"]["data"]["path"] = str(Path(data).absolute())
    return dse.load_space(tables)


def read_table(name: str) -> dict[str, dict[int, float]]:
    """Return the accuracies that were measured: key -> seed -> accuracy."""
    path = FOLDER / f"{name}.csv"
    found: dict[str, dict[int, float]] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["key"], {})[int(row["seed"])] = float(row["accuracy"])
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
        if seed not in known.get(point.key, {})
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
            writer.writerow([request.point.key, request.seed, outcome.accuracy, outcome.record["rate"]])
            file.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
