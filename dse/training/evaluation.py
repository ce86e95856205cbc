"""From predictions after each experience to accuracy, forgetting and backward transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dse.training import metrics
from dse.training.setting import Setting

IntArray = NDArray[np.int64]
Predicted = tuple[IntArray, frozenset[int]]
"""Predicted classes of the evaluation samples (n,), and the classes seen when they were predicted."""


@dataclass(frozen=True)
class Scores:
    """Metrics of one run; see ``RunRecord``."""

    accuracy: float
    average: float
    forgetting: float
    backward_transfer: float
    rows: tuple[tuple[float, ...], ...]
    per_experience: tuple[float, ...]
    samples: int
    collapsed: bool = False


def score(setting: Setting, split: str, predicted: Sequence[Predicted | None]) -> Scores:
    """Return the metrics of ``predicted``: after pretraining, then each experience (None: not evaluated).

    Accuracy counts the samples of classes seen so far alone, and predictions are among those classes.
    """
    indices, part = setting.stream.evaluation(split)
    labels = (setting.dataset.test if split == "test" else setting.dataset.train).y[indices]
    hits = np.zeros((len(predicted), len(labels)), dtype=bool)
    seen = np.zeros_like(hits)  # stays empty where nothing was evaluated
    for row, each in enumerate(predicted):
        if each is not None:
            hits[row], seen[row] = each[0] == labels, np.isin(labels, sorted(each[1]))
    matrix = metrics.accuracy_matrix(hits, part, seen)
    overall = [metrics.accuracy(hit, known) for hit, known in zip(hits, seen, strict=True)]
    return Scores(
        accuracy=overall[-1],
        average=metrics.average_accuracy(overall),
        forgetting=metrics.forgetting(matrix),
        backward_transfer=metrics.backward_transfer(matrix),
        rows=tuple(tuple(float(value) for value in row) for row in matrix),
        per_experience=tuple(overall),
        samples=int(seen[-1].sum()),
    )
