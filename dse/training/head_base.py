"""What every head over a frozen network has in common, and the options of those that descend a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class HeadOptions:
    """How the heads that descend a gradient learn; ``ncm`` and ``slda`` have no options.

    ``rate`` falls linearly to 0 over an event with ``schedule`` "linear". ``epochs`` and ``new_per_batch``
    are those of ``cwr``; ``tinyol`` sees each sample once, alone. ``seed`` shuffles the samples of an event.
    """

    rate: float = 0.05
    momentum: float = 0.0
    epochs: int = 4
    new_per_batch: int = 21
    schedule: str = "linear"
    seed: int = 0


class Head(ABC):
    """A classifier of ``elements`` features into ``classes`` classes that learns event by event."""

    def __init__(self, elements: int, classes: int, options: HeadOptions | None = None) -> None:
        self.elements, self.classes = elements, classes
        self.options = options or HeadOptions()

    @property
    @abstractmethod
    def state_bytes(self) -> int:
        """Bytes that a device holds beside the last unit's weights, all in 32-bit words."""

    def start(
        self,
        features: FloatArray,
        labels: IntArray,
        *,
        weight: FloatArray | None = None,
        bias: FloatArray | None = None,
    ) -> None:
        """Take over from pretraining: its features (n, d) with labels (n,), the last unit's weights (C, d).

        A head without use for them ignores the weights; one that needs them and gets none starts from zero.
        """
        self._learn(*self._checked(features, labels), 0)

    def event(self, features: FloatArray, labels: IntArray, experience: int) -> None:
        """Learn the samples of ``experience`` (counted from 1): features (n, d) with labels (n,)."""
        self._learn(*self._checked(features, labels), experience)

    def predict(self, features: FloatArray, seen_classes: Sequence[int]) -> IntArray:
        """Return for features (n, d) the class (n,) with the highest score among ``seen_classes``."""
        seen = np.array(sorted(seen_classes), dtype=np.int64)
        if not seen.size or seen[0] < 0 or seen[-1] >= self.classes:
            found = f"classes seen: {seen_classes}"
            raise UserError(Problem("head", "seen_classes", found, f"one or more of 0 to {self.classes - 1}"))
        return np.asarray(seen[self.scores(features)[:, seen].argmax(axis=1)])

    @abstractmethod
    def scores(self, features: FloatArray) -> FloatArray:
        """Return a score per class (n, C) for features (n, d); -inf for a class without samples."""

    @abstractmethod
    def _learn(self, features: FloatArray, labels: IntArray, experience: int) -> None:
        """Learn one event; experience 0 is pretraining."""

    def _checked(self, features: FloatArray, labels: IntArray) -> tuple[FloatArray, IntArray]:
        labels = np.asarray(labels)
        problems = []
        if features.ndim != 2 or features.shape[1] != self.elements or not len(features):
            allowed = f"(n, {self.elements}), n >= 1"
            problems.append(Problem("head", "features", f"shape {features.shape}", allowed))
        if labels.shape != features.shape[:1] or labels.dtype.kind not in "iu":
            found = f"{labels.dtype} of shape {labels.shape}"
            problems.append(Problem("head", "labels", found, "one integer per sample"))
        elif len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            found = f"{labels.min()} to {labels.max()}"
            problems.append(Problem("head", "labels", found, f"0 to {self.classes - 1}"))
        if not np.isfinite(features).all():
            fix = "if the network diverged, lower the rate it was trained with"
            problems.append(Problem("head", "features", "NaN or infinite values", fix))
        if problems:
            raise UserError(problems)
        return np.asarray(features, dtype=np.float32), labels.astype(np.int64)
