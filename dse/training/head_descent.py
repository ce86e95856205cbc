"""Heads that descend a gradient in the last unit alone: TinyOL and CWR*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dse.errors import Problem, UserError
from dse.training.head_base import FloatArray, Head, HeadOptions, IntArray

_DIVERGING: Final = np.errstate(over="ignore", invalid="ignore")


class _Linear(Head):
    """The last unit, trained by gradient descent on softmax cross-entropy over the classes seen.

    A rate at which weights overflow ends in predictions of no value, not in an error.
    """

    def __init__(self, elements: int, classes: int, options: HeadOptions | None = None) -> None:
        super().__init__(elements, classes, options)
        self.weight = np.zeros((classes, elements), dtype=np.float32)
        self.bias = np.zeros(classes, dtype=np.float32)
        self.seen = np.zeros(classes, dtype=bool)

    def _set(self, weight: FloatArray | None, bias: FloatArray | None) -> None:
        """Take over weights (C, d, ...) and biases (C,)."""
        if weight is not None:
            if weight.shape[0] != self.classes or weight.size != self.weight.size:
                allowed = f"({self.classes}, {self.elements})"
                raise UserError(Problem("head", "weight", f"shape {weight.shape}", allowed))
            self.weight = weight.reshape(self.classes, self.elements).astype(np.float32)
        if bias is not None:
            self.bias = bias.astype(np.float32)

    @_DIVERGING
    def scores(self, features: FloatArray) -> FloatArray:
        """Return the logits w x + b."""
        return np.asarray(features @ self.weight.T + self.bias)

    @_DIVERGING
    def _descend(self, features: FloatArray, labels: IntArray, batches: Sequence[IntArray]) -> None:
        """Take one step per entry of ``batches`` (rows of the features); momentum starts from zero."""
        active = np.flatnonzero(self.seen)
        target = np.searchsorted(active, labels)
        weight = np.concatenate([self.weight, self.bias[:, None]], axis=1)[active]
        inputs = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
        speed = np.zeros_like(weight)
        for step, rows in enumerate(batches):
            x = inputs[rows]
            error = _softmax(x @ weight.T)
            error[np.arange(len(rows)), target[rows]] -= 1
            speed = np.float32(self.options.momentum) * speed + (error.T @ x) / np.float32(len(rows))
            weight -= np.float32(_rate(self.options, step, len(batches))) * speed
        self.weight[active], self.bias[active] = weight[:, :-1], weight[:, -1]


class TinyOL(_Linear):
    """The last unit learns one sample at a time, each once: Ren et al., IJCNN 2021 (arXiv 2103.08295)."""

    @property
    def state_bytes(self) -> int:
        """None: the weights that learn are the last unit's own."""
        return 0

    def start(
        self,
        features: FloatArray,
        labels: IntArray,
        *,
        weight: FloatArray | None = None,
        bias: FloatArray | None = None,
    ) -> None:
        """Take over the pretrained last unit; without one, learn the pretraining samples as they come."""
        self._set(weight, bias)
        features, labels = self._checked(features, labels)
        if weight is None:
            self._learn(features, labels, 0)
        self.seen[labels] = True

    def _learn(self, features: FloatArray, labels: IntArray, experience: int) -> None:
        self.seen[labels] = True
        order = np.random.default_rng([self.options.seed, 71, experience]).permutation(len(labels))
        self._descend(features, labels, list(order[:, None]))


class CWRStar(_Linear):
    """CWR*: what each event learned in a bank of its own is consolidated by the counts of samples.

    Lomonaco et al., CVPR-W 2020 (arXiv 1907.03799), Sec. 4. Temporary weights start from the consolidated
    ones for the classes of the event and from zero for others, learn, are shifted by their mean over the
    event's classes, and enter the consolidated ones with the weight 1 against sqrt(past / current) samples.
    Biases are treated like weights, with a mean of their own. All classes seen compete in the softmax, so
    that an event of a single class teaches something.
    """

    def __init__(self, elements: int, classes: int, options: HeadOptions | None = None) -> None:
        super().__init__(elements, classes, options)
        self.consolidated = np.zeros((classes, elements + 1), dtype=np.float32)
        self.past = np.zeros(classes, dtype=np.int32)

    @property
    def state_bytes(self) -> int:
        """The consolidated bank (C, d + 1), the counts (C,); the temporary bank is the last unit itself."""
        return self.consolidated.nbytes + self.past.nbytes

    def start(
        self,
        features: FloatArray,
        labels: IntArray,
        *,
        weight: FloatArray | None = None,
        bias: FloatArray | None = None,
    ) -> None:
        """Consolidate the pretrained last unit; without one, learn it from the pretraining samples."""
        features, labels = self._checked(features, labels)
        if weight is None:
            self._learn(features, labels, 0)
            return
        self._set(weight, bias)
        self.seen[labels] = True
        self._consolidate(labels)

    @_DIVERGING
    def scores(self, features: FloatArray) -> FloatArray:
        """Return the logits of the consolidated bank."""
        return np.asarray(features @ self.consolidated[:, :-1].T + self.consolidated[:, -1])

    def _learn(self, features: FloatArray, labels: IntArray, experience: int) -> None:
        self.seen[labels] = True
        present = np.bincount(labels, minlength=self.classes) > 0
        bank = np.where(present[:, None], self.consolidated, np.float32(0.0))
        self.weight, self.bias = bank[:, :-1].copy(), bank[:, -1].copy()
        self._descend(features, labels, self._batches(len(labels), experience))
        self._consolidate(labels)

    def _batches(self, count: int, experience: int) -> list[IntArray]:
        """Return rows of each mini-batch of the event; what does not fill one is dropped."""
        size = self.options.new_per_batch
        if count < size:
            found = f"{count} samples in an event, {size} per mini-batch"
            raise UserError(
                Problem("plan", "new_per_batch", found, f"up to {count}, or more samples per event")
            )
        draw = np.random.default_rng([self.options.seed, 73, experience])
        whole = count // size * size
        orders = [draw.permutation(count)[:whole] for _ in range(self.options.epochs)]
        return [rows for order in orders for rows in order.reshape(-1, size)]

    @_DIVERGING
    def _consolidate(self, labels: IntArray) -> None:
        current = np.bincount(labels, minlength=self.classes)
        here = np.flatnonzero(current)
        shifted = np.concatenate(
            [
                self.weight[here] - self.weight[here].mean(),
                (self.bias[here] - self.bias[here].mean())[:, None],
            ],
            axis=1,
        )
        past = np.sqrt(self.past[here] / current[here]).astype(np.float32)[:, None]
        self.consolidated[here] = (self.consolidated[here] * past + shifted) / (past + 1)
        self.past += current.astype(np.int32)


def _softmax(logits: FloatArray) -> FloatArray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _rate(options: HeadOptions, step: int, steps: int) -> float:
    return options.rate * (1 - step / steps) if options.schedule == "linear" else options.rate
