"""The training runs behind measured accuracy: runs.csv, what the report says of them, and the way back."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dse.accuracy import MeasuredAccuracy
from dse.accuracy.features import LearningPoint
from dse.accuracy.runs import Run
from dse.errors import Problem, UserError
from dse.plan.decisions import AS_COMPUTED, TrainingPlan
from dse.plan.learning_key import LEARNING_CHOICES
from dse.report import text
from dse.search.learning import decisions, named_policies
from dse.search.measured import EXPLORE, SEEDS, START, Measurement
from dse.search.result import SearchResult
from dse.search.space import Space

RUNS: Final = "runs.csv"
RECORDED: Final = (
    "rate", "average_accuracy", "forgetting", "backward_transfer", "test_samples", "replay_bytes",
    "state_bytes",
)  # fmt: skip
"""What of a record stands in runs.csv besides the accuracy; all of it is kept with the trials."""

COLUMNS: Final = ("run", "key", "phase", "network", *LEARNING_CHOICES, "seed", "accuracy", *RECORDED)
FIRST: Final = "first"
"""The purpose of a run for the front that was the first of its plan."""

LISTED: Final = 5
"""Most plans that could not be run that the report itself lists."""

AGAIN: Final = "explore the space again"


def write_runs(space: Space, measurement: Measurement, path: Path) -> None:
    """Write one row per training run, by trial number; accuracies are fractions, bytes as held."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_rows(space, measurement))


def _rows(space: Space, measurement: Measurement) -> Iterator[list[Any]]:
    pairs = zip(space.networks, space.network_names, strict=True)
    names = {network.training_hash: name for network, name in pairs}
    for run in measurement.finished:
        point = measurement.points[run.key]
        decided = decisions(point)
        yield [
            run.number, run.key, run.phase, names[point.workload.training_hash],
            *(decided[name] for name in LEARNING_CHOICES), run.seed, repr(run.accuracy),
            *(run.record.get(name) for name in RECORDED),
        ]  # fmt: skip


def with_runs(space: Space, folder: Path) -> Space:
    """Return ``space`` with the accuracy that the runs in ``folder`` measured; as it is where none is.

    Raises UserError where runs.csv is missing or does not belong to the space.
    """
    if space.measure is None:
        return space
    path = folder / RUNS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise UserError(Problem(str(path), "", "cannot be read", AGAIN)) from None
    try:
        runs = [_run(space, row) for row in rows]
    except (KeyError, ValueError, TypeError, UserError) as error:
        raise UserError(Problem(str(path), "", f"no runs of this space: {error}", AGAIN)) from None
    return replace(space, accuracy=MeasuredAccuracy(runs, named_policies(space)))


def _run(space: Space, row: Mapping[str, str]) -> Run:
    known = {"saved_bits": AS_COMPUTED, **row}  # tables that were written earlier lack it
    values: dict[str, Any] = {name: known[name] for name in LEARNING_CHOICES}
    default = TrainingPlan(cut=-1)
    values |= {name: int(values[name]) for name in values if isinstance(getattr(default, name), int)}
    values["policy"] = named_policies(space).get(values["policy"], values["policy"])
    for workload in space.networks:  # by key: the name of a network that was copied is another one
        point = LearningPoint.of(workload, TrainingPlan(**values))
        if point.key == row["key"]:
            return Run(point, int(row["seed"]), float(row["accuracy"]))
    raise ValueError(f"run {row['run']} is not of the plan that it states")


# --- what the report says ---


def runs_text(found: SearchResult) -> str:
    """Write which runs were done, what they cost, what could not be run, and what stands on the fronts."""
    measurement = found.measurement
    assert measurement is not None
    runs, settings = measurement.finished, measurement.settings
    phases = Counter(_purpose(measurement))
    said = {
        START: "to see every choice",
        EXPLORE: f"proposed by {settings.proposals}",
        FIRST: "first runs of points that stood on a front as fitted",
        SEEDS: "further seeds of points of a front",
    }
    listed = ", ".join(f"{phases[name]} {words}" for name, words in said.items() if phases[name])
    taken_out = ", seed effects taken out," if measurement.source.runs.seeds_compared else ""
    lines = [
        f"{text.plural(len(runs), 'training run')} of {len({run.key for run in runs})} of the "
        f"{text.plural(len(measurement.points), 'plan')} that can be learned on these boards"
        + (f": {listed}." if listed else "."),
        "Accuracy is that on samples kept out of training and test; `dse validate` measures on test samples. "
        f"Measured: mean over the seeds{taken_out} with the 90 % interval of that mean. "
        "Fitted: a Gaussian process between the runs, with the 90 % interval of one run.",
    ]
    if runs:
        lines.append(_spreads(measurement))
    lines += [
        _stand(result.board, result.front.columns, settings.seeds)
        for result in found.boards
        if len(result.front)
    ]
    return "\n\n".join([*lines, *_failures(measurement)])


def _failures(measurement: Measurement) -> Iterator[str]:
    failed = list(measurement.failures.items())
    for key, why in failed[:LISTED]:
        yield f"Could not be run: {_plan(measurement, key)}: {why}."
    if len(failed) > LISTED:
        yield f"So could {text.plural(len(failed) - LISTED, 'other plan')}; all are in [run.json](run.json)."


def _purpose(measurement: Measurement) -> Iterator[str]:
    """Say what every run was for; those for the front are told apart: first of a plan, and further."""
    first: dict[str, int] = {}
    for run in measurement.finished:
        first[run.key] = min(run.seed, first.get(run.key, run.seed))
    for run in measurement.finished:
        yield FIRST if run.phase == SEEDS and run.seed == first[run.key] else run.phase


def _spreads(measurement: Measurement) -> str:
    """Say how much of the intervals all plans share."""
    runs = measurement.source.runs
    if runs.seeds_compared < 2:
        repeated = int((runs.counts > 1).sum())
        said = f"Only {text.plural(repeated, 'plan was', 'plans were')}" if repeated else "No plan was"
        return (
            f"{said} run with several seeds: seed effects are not taken out, and how far a seed moves "
            "accuracy is assumed."
        )
    seed, noise = (100 * math.sqrt(variance) for variance in (runs.seed_variance, runs.noise))
    return (
        f"Seed effects taken out, from {runs.points_compared} plans that were run with several seeds. "
        f"A seed moves all plans together, by {seed:.1f} points (standard deviation), which intervals hold. "
        f"Plans of the same seeds are told apart better: beside that, runs differ by {noise:.1f} points."
    )


def _stand(board: str, columns: Mapping[str, Any], seeds: int) -> str:
    status, runs = columns["accuracy_status"], columns["accuracy_runs"]
    counts = Counter(
        f"measured with {text.plural(int(n), 'run')}" if n else str(s)
        for s, n in zip(status, runs, strict=True)
    )
    listed = ", ".join(f"{count} {words}" for words, count in sorted(counts.items()))
    reached = sum(int(n) >= seeds for n in runs)
    wanted = text.plural(seeds, "seed")
    return f"Front of {board}: {listed}; {reached} of {len(runs)} reached the {wanted} asked for."


def _plan(measurement: Measurement, key: str) -> str:
    if key not in measurement.points:
        return key
    decided = decisions(measurement.points[key])
    return ", ".join(
        f"{name} {decided[name]}" for name in ("head", "cut", "policy", "n_replays", "replay_bits")
    )


def runs_summary(measurement: Measurement) -> dict[str, Any]:
    """Return what run.json says of the runs."""
    return {
        **vars(measurement.settings),
        "runs_done": len(measurement.finished),
        "plans_run": len({run.key for run in measurement.finished}),
        "plans_possible": len(measurement.points),
        "failures": dict(sorted(measurement.failures.items())),
        "data_sha256": next((run.record.get("data_hash") for run in measurement.finished), None),
    }
