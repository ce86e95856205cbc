"""What is learned: data set, stream of experiences, and the options of pretraining and learning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from dse.errors import Problem, UserError, allowed_names
from dse.plan.decisions import TrainingPlan
from dse.plan.learning_key import learning_content
from dse.workload import Workload

STREAMS: Final = ("new_classes", "new_instances", "both")
BUFFERS: Final = ("qlr-cl", "class-balanced", "reservoir")
SCHEDULES: Final = ("linear", "constant")
SPLITS: Final = ("test", "validation")
REFERENCES: Final = ("", "naive", "joint")
"""A plan as it is; the same without replays; the same on all data at once."""

LARGEST_SEED: Final = 2**31 - 1
LARGEST_RATE: Final = 1e6
"""Integers of small scales learn at rates that are large in numbers (no gradient scaling)."""

ENGINE: Final = 1
"""Version of what a run computes from the same inputs; part of the name of every run."""

_INTEGERS: Final = {
    "first": (1, 100_000), "step": (1, 100_000), "pretrain_per_class": (1, 10**7), "per_class": (0, 10**7),
    "test_per_class": (0, 10**7), "pretrain_epochs": (0, 10_000), "pretrain_batch": (1, 65_536),
}  # fmt: skip
_REALS: Final = {"pretrain_rate": (0.0, 100.0), "momentum": (0.0, 0.9999), "weight_decay": (0.0, 1.0),
    "validation_share": (0.0, 0.5)}  # fmt: skip
_WORDS: Final = {"stream": STREAMS, "buffer": BUFFERS, "schedule": SCHEDULES}


@dataclass(frozen=True)
class Task:
    """One continual-learning task; the defaults suit the embedded data on a small machine.

    ``data`` is the name of a data set or its table (``dse.training.data``); ``folder`` is where relative
    paths in it start. ``first`` classes (or domains) are pretrained on, then ``step`` more arrive per
    experience, in ``order`` ("fixed": ascending, "shuffled": by the seed, or a list). ``per_class`` and
    ``test_per_class`` 0 take what there is. Of the samples that training may use, ``validation_share`` is
    kept out for choosing (rates, plans), so that the test samples stay unseen. ``rates`` are the learning
    rates that the small search of every scheme tries.
    """

    data: str | Mapping[str, Any] = "shapes"
    folder: str = ""
    stream: str = "new_classes"
    first: int = 4
    step: int = 2
    order: str | tuple[int, ...] = "fixed"
    pretrain_per_class: int = 400
    per_class: int = 200
    test_per_class: int = 0
    validation_share: float = 0.15
    pretrain_epochs: int = 12
    pretrain_rate: float = 0.05
    pretrain_batch: int = 64
    rates: tuple[float, ...] = (0.05,)
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "linear"
    buffer: str = "qlr-cl"

    def __post_init__(self) -> None:
        problems = [
            Problem("task", f"task.{item.name}", _shown(getattr(self, item.name)), allowed)
            for item in fields(self)
            if item.name != "folder" and (allowed := _allowed(item.name, getattr(self, item.name)))
        ]
        if problems:
            raise UserError(problems)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], *, file: str = "task", folder: Path | None = None) -> Task:
        """Read a task from the tables of a file. Raises UserError with every problem."""
        problems: list[Problem] = []
        known = [item.name for item in fields(cls) if item.name != "folder"]
        values: dict[str, Any] = {"folder": "" if folder is None else str(folder)}
        for name, value in table.items():
            if name not in known:
                problems.append(Problem(file, f"task.{name}", "unknown key", allowed_names(name, known)))
                continue
            allowed = _allowed(name, value)
            if allowed:
                problems.append(Problem(file, f"task.{name}", _shown(value), allowed))
            values[name] = tuple(value) if isinstance(value, list) else value
        if problems:
            raise UserError(problems)
        if isinstance(values.get("rates"), int | float):
            values["rates"] = (float(values["rates"]),)
        return cls(**values)

    def content(self) -> dict[str, Any]:
        """Return everything that a run depends on as plain values; ``rates`` and ``folder`` do not enter.

        A path in ``data`` does not say what lies there: a run adds the hash of the data themselves.
        """
        content = asdict(self)
        del content["rates"], content["folder"]
        return content


def _allowed(name: str, value: Any) -> str:
    """Return what is allowed for ``name``, or an empty text where ``value`` is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _INTEGERS:
        low, high = _INTEGERS[name]
        ok = number and isinstance(value, int) and low <= value <= high
        return "" if ok else f"an integer from {low} to {high}"
    if name in _REALS:
        lowest, highest = _REALS[name]
        return "" if number and lowest <= value <= highest else f"a number from {lowest:g} to {highest:g}"
    if name in _WORDS:
        return "" if value in tuple(_WORDS[name]) else f"one of {', '.join(_WORDS[name])}"
    return _allowed_other(name, value)


def _allowed_other(name: str, value: Any) -> str:
    listed = list(value) if isinstance(value, list | tuple) else [value]
    if name == "rates":
        ok = bool(listed) and len(listed) <= 12 and all(_is_rate(one) for one in listed)
        return "" if ok else f"1 to 12 learning rates above 0 and up to {LARGEST_RATE:g}"
    if name == "order":
        whole = all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in listed)
        ok = value in ("fixed", "shuffled") if isinstance(value, str) else whole and bool(listed)
        ok = ok and len(set(listed)) == len(listed)
        return "" if ok else "'fixed', 'shuffled', or a list of distinct class (or domain) numbers from 0"
    ok = isinstance(value, str | Mapping)
    return "" if ok else "the name of a data set, or a table with its kind and path"


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LARGEST_RATE


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class Job:
    """One training run: a plan for a network on a task, with a seed, a learning rate and a test split.

    ``reference`` "naive" leaves the replays out; "joint" learns from all data at once.
    """

    workload: Workload
    plan: TrainingPlan
    task: Task = field(default_factory=Task)
    seed: int = 0
    rate: float = 0.05
    split: str = "test"
    reference: str = ""
    as_written: bool = False
    """Run micro-batches one by one even where merging them gives the same sums (slow; for tests)."""
    data_hash: str = ""
    """Hash of the data that the task must find; "" takes what is there."""

    def __post_init__(self) -> None:
        heads = self.plan.head != "sgd"
        checks = {
            "seed": (self.seed, _is_seed(self.seed), f"an integer from 0 to {LARGEST_SEED}"),
            "rate": (self.rate, _is_rate(self.rate) or self.rate == 0, f"a rate from 0 to {LARGEST_RATE:g}"),
            "split": (self.split, self.split in SPLITS, " or ".join(SPLITS)),
            "reference": (self.reference, self.reference in REFERENCES, "naive, joint, or none"),
        }
        if heads and self.reference:
            checks["reference"] = (
                self.reference,
                False,
                f"none: {self.plan.head} is a head, and trains as it is",
            )
        problems = [
            Problem("run", name, _shown(found), allowed)
            for name, (found, ok, allowed) in checks.items()
            if not ok
        ]
        if problems:
            raise UserError(problems)

    @property
    def content(self) -> dict[str, Any]:
        """Everything that decides the result, as plain values; the data by their hash."""
        return {
            "engine": ENGINE,
            "network": self.workload.training_hash,
            "plan": learning_content(self.workload, self.plan),
            "task": self.task.content(),
            "seed": self.seed,
            "rate": self.rate,
            "split": self.split,
            "reference": self.reference,
            "data": self.data_hash,
        }

    @property
    def key(self) -> str:
        """24 hexadecimal digits that name the run."""
        text = json.dumps(self.content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:24]
