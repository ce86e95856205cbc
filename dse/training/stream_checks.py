"""What is wrong with a data set for a stream: problems, each with what to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem
from dse.training.data.base import Dataset
from dse.training.task import Task

IntArray = NDArray[np.int64]

LARGEST_RATIO: Final = 9
"""Largest class over smallest. Above it the KEEL repository of data sets files data under high imbalance
(Alcala-Fdez et al., J. Multiple-Valued Logic and Soft Computing 17, 2011)."""


def order_problems(dataset: Dataset, task: Task) -> list[Problem]:
    """Return what keeps the task from dividing the classes or domains of ``dataset``."""
    if task.stream == "both" and dataset.batches is not None:
        return _batch_problems(dataset)
    domains = np.unique(dataset.train.domain)
    if task.stream != "new_instances":
        return _division_problems(dataset, task, np.unique(dataset.train.y), "classes")
    if len(domains) < 2:
        found = f"new_instances, but {dataset.name} has one domain"
        fix = "new_classes, or data with domains (subjects, sessions)"
        return [Problem("task", "task.stream", found, fix)]
    return _division_problems(dataset, task, domains, "domains")


def _division_problems(dataset: Dataset, task: Task, present: IntArray, what: str) -> list[Problem]:
    problems = []
    order = present if isinstance(task.order, str) else np.array(task.order, dtype=np.int64)
    unknown = np.setdiff1d(order, present)
    if unknown.size:
        found = f"{what} {_listed(unknown)}, of which there are no training samples"
        problems.append(Problem("task", "task.order", found, f"{what} {_listed(present)}"))
    fewest, most = 1 if what == "domains" else 2, len(order) - 1
    if task.stream == "both" and len(np.unique(dataset.train.domain)) > 1:
        most += 1  # further domains of the pretrained classes are left to learn
    if not fewest <= task.first <= most:
        found = f"{task.first} of {len(order)} {what} to pretrain on"
        allowed = f"{fewest} to {most}" if most >= fewest else f"{fewest + 1} {what} or more in task.order"
        why = "; one class alone teaches nothing" if task.first < fewest else "; nothing is left to learn"
        problems.append(Problem("task", "task.first", found + why, allowed))
    return problems


def _batch_problems(dataset: Dataset) -> list[Problem]:
    assert dataset.batches is not None
    first = np.unique(dataset.train.y[dataset.batches == 0])
    if len(first) >= 2 and dataset.batches.max() > 0:
        return []
    last = dataset.batches.max()
    found = f"the batches of {dataset.name}: {len(first)} classes in batch 0, last batch {last}"
    return [Problem("task", "task.data", found, "two classes or more in batch 0, and a batch after it")]


def part_problems(dataset: Dataset, task: Task, used: IntArray, chosen: Sequence[IntArray]) -> list[Problem]:
    """Return what is wrong with the samples of each part: ``chosen[0]`` pretraining, then the experiences."""
    problems = _sample_problems(dataset, used)
    for number, indices in enumerate(chosen):
        labels, counts = np.unique(dataset.train.y[indices], return_counts=True)
        what = f"experience {number}" if number else "pretraining"
        if not len(labels):
            fix = "leave its classes or domains out of task.order, or a smaller task.validation_share"
            problems.append(Problem("task", "task.data", f"{what} has no samples", fix))
            continue
        if number == 0 and task.stream == "new_instances" and len(labels) < len(used):
            missing = np.setdiff1d(used, labels)
            found = f"pretraining has no samples of classes {_listed(missing)}"
            fix = "more domains (task.first), another task.order, or the stream both"
            problems.append(Problem("task", "task.first", found, fix))
        problems += _imbalance(dataset, task, what, labels, counts)
    return _few(problems)


def group_problems(dataset: Dataset, task: Task, part: IntArray, kept_out: IntArray) -> list[Problem]:
    """Return the classes of each part (n,) that whole groups leave out of training or of validation."""
    group = dataset.train.group
    if group is None or not task.validation_share:
        return []
    out = np.zeros(len(part), dtype=bool)
    out[kept_out] = True
    problems = []
    for number in range(int(part.max()) + 1):
        for label in np.unique(dataset.train.y[part == number]):
            here = (part == number) & (dataset.train.y == label)
            if out[here].any() and not out[here].all():
                continue
            what = f"experience {number}" if number else "pretraining"
            lacking = "learn from" if out[here].any() else "choose by"
            found = f"class {label} ({dataset.class_names[label]}) of {what} has nothing left to {lacking}: "
            found += f"its {int(here.sum())} samples are of {len(np.unique(group[here]))} groups"
            fix = "more groups (windows: executions) of it, other parts, or 0 for no validation samples"
            problems.append(Problem("task", "task.validation_share", found, fix))
    return _few(problems)


def _sample_problems(dataset: Dataset, used: IntArray) -> list[Problem]:
    counts = np.bincount(dataset.train.y, minlength=dataset.classes)
    fix = "2 or more: one to learn from, one to choose by; or leave it out of task.order"
    return [
        Problem(
            "task",
            "task.data",
            f"class {label} ({dataset.class_names[label]}) of {dataset.name} has 1 training sample",
            fix,
        )
        for label in used
        if counts[label] < 2
    ]


def _imbalance(dataset: Dataset, task: Task, what: str, labels: IntArray, counts: IntArray) -> list[Problem]:
    """Refuse parts whose largest class outweighs the smallest; ``per_class`` 0 asks for them as they are."""
    least, most = int(counts.min()), int(counts.max())
    pretraining = what == "pretraining"
    if most <= LARGEST_RATIO * least or (not pretraining and not task.per_class):
        return []
    small, large = (dataset.class_names[labels[np.argmin(sign * counts)]] for sign in (1, -1))
    key = "pretrain_per_class" if pretraining else "per_class"
    found = f"{what} of {dataset.name}: {most} samples of class {large}, {least} of class {small}"
    fix = f"{key} up to {LARGEST_RATIO * least}" + ("" if pretraining else ", or 0 to take what there is")
    return [Problem("task", f"task.{key}", found, fix)]


SHOWN: Final = 8


def _few(problems: list[Problem]) -> list[Problem]:
    """Return the first problems; the rest by their number."""
    if len(problems) <= SHOWN:
        return problems
    return [*problems[:SHOWN], Problem("task", "", f"{len(problems) - SHOWN} more of this kind", "")]


def _listed(values: IntArray) -> str:
    shown = ", ".join(str(value) for value in values[:12])
    return shown if len(values) <= 12 else f"{shown} ... ({len(values)})"
