"""Heads over a frozen network, in the buffer of their state: nearest class mean, streaming LDA, CWR*.

TinyOL has no state of its own: it is gradient descent on the last unit. What each head computes, and the
papers that it comes from, is the same as in ``dse.training.heads``. State lies in 32-bit words, tensor behind
tensor in the order of ``state_of``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.execution.arithmetic import Array, FloatArray, IntArray
from dse.execution.buffers import Buffers
from dse.execution.layout import Layout, Piece
from dse.plan.operations import Holds

SHRINKAGE: Final = 1e-4
"""Weight of the identity in the covariance of streaming LDA: arXiv 1909.01520, Sec. 3."""

_INTEGERS: Final = frozenset({"counts"})


@dataclass
class HeadState:
    """The state of the plan's head; ``given`` are tensors to start from, zeros where there are none."""

    layout: Layout
    buffers: Buffers
    given: Mapping[str, Array]

    @property
    def kind(self) -> str:
        """Name of the head."""
        return self.layout.schedule.plan.head

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Tensors of the state, in their order."""
        last = self.layout.workload.units[-1]
        classes, features = last.out_channels, last.input_elements
        means = (Piece("means", (classes, features)), Piece("counts", (classes,)))
        more = (
            Piece("covariance", (features, features)), Piece("weight", (classes, features)),
            Piece("bias", (classes,)),
        )  # fmt: skip
        bank = (Piece("bank", (classes, features + 1)), Piece("counts", (classes,)))
        return {"ncm": means, "slda": (*means, *more), "cwr": bank}.get(self.kind, ())

    def put(self) -> None:
        """Write the state to start from, and its copy that survives a loss of power."""
        for piece in self.pieces:
            values = self.given.get(piece.key, np.zeros(piece.shape))
            self._write(piece.key, np.asarray(values))
            if self.layout.persists:
                self._write(piece.key, np.asarray(values), Holds.PERSISTENT_HEAD)

    def taken(self) -> dict[str, Array]:
        """Return the state by name."""
        return {piece.key: self.read(piece.key) for piece in self.pieces}

    def read(self, key: str) -> Array:
        """Return one tensor of the state."""
        return self.buffers.piece(Holds.HEAD, -1, self.pieces, key, _dtype(key))

    def _write(self, key: str, values: Array, holds: Holds = Holds.HEAD) -> None:
        self.buffers.put_piece(holds, -1, self.pieces, key, values.astype(_dtype(key)), _dtype(key))

    # --- learning ---

    def learn(self, features: FloatArray, labels: IntArray) -> None:
        """Take in features (n, d) with labels (n,): running means, and for streaming LDA the covariance."""
        if self.kind == "slda":
            self._scatter(features, labels)
        self._means(features, labels)
        if self.kind == "slda":
            self._classifier()

    def _means(self, features: FloatArray, labels: IntArray) -> None:
        means, counts = self.read("means"), self.read("counts")
        new = np.bincount(labels, minlength=len(counts))
        sums = np.zeros(means.shape)
        np.add.at(sums, labels, features)
        total = np.maximum(counts + new, 1)[:, None]
        change = (sums - new[:, None] * means.astype(float)) / total
        self._write("means", means + change.astype(np.float32))
        self._write("counts", counts + new)

    def _scatter(self, features: FloatArray, labels: IntArray) -> None:
        """Bring the covariance within classes up to date; means and counts are those of before."""
        means, counts = self.read("means"), self.read("counts")
        scatter = self.read("covariance").astype(float) * float(counts.sum())
        for label in np.unique(labels):
            mine = features[labels == label].astype(float)
            centred = mine - mine.mean(axis=0)
            before, new = int(counts[label]), len(mine)
            apart = mine.mean(axis=0) - means[label]
            scatter += centred.T @ centred + before * new / (before + new) * np.outer(apart, apart)
        self._write("covariance", scatter / (float(counts.sum()) + len(labels)))

    def _classifier(self) -> None:
        """Weights and biases of streaming LDA, by the inverse of the shrunk covariance in the workspace."""
        covariance, means = self.read("covariance").astype(float), self.read("means").astype(float)
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.eye(len(covariance))
        own, shape = np.dtype(np.float32), covariance.shape
        self.buffers.write(Holds.WORKSPACE, -1, np.linalg.inv(shrunk).astype(np.float32), own)
        inverse = self.buffers.read(Holds.WORKSPACE, -1, own, shape).astype(float)
        weight = means @ inverse
        self._write("weight", weight)
        self._write("bias", -0.5 * (weight * means).sum(axis=1))

    def consolidate(self, weight: Array, bias: Array, labels: IntArray) -> None:
        """End an event of CWR*: what it learned of the classes of ``labels`` enters the bank.

        ``weight`` (C, d) and ``bias`` (C,) are those of the last unit.
        """
        bank, past = self.read("bank"), self.read("counts")
        current = np.bincount(labels, minlength=len(past))
        here = np.flatnonzero(current)
        shifted = np.concatenate(
            [weight[here] - weight[here].mean(), (bias[here] - bias[here].mean())[:, None]], axis=1
        )
        share = np.sqrt(past[here] / current[here]).astype(np.float32)[:, None]
        bank[here] = (bank[here] * share + shifted) / (share + 1)
        self._write("bank", bank)
        self._write("counts", past + current)

    # --- predicting ---

    def scores(self, features: FloatArray) -> FloatArray:
        """Return a score per class (n, C); the largest negative number for a class without samples."""
        if self.kind == "cwr":
            bank = self.read("bank")
            return np.asarray(features @ bank[:, :-1].T + bank[:, -1])
        if self.kind == "slda":
            found = features @ self.read("weight").T + self.read("bias")
        else:
            means = self.read("means")
            found = 2 * features @ means.T - (means**2).sum(axis=1)
        found[:, self.read("counts") == 0] = np.finfo(np.float32).min
        return np.asarray(found)


def _dtype(key: str) -> np.dtype[np.generic]:
    return np.dtype(np.int32 if key in _INTEGERS else np.float32)
