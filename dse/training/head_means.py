"""Heads that keep statistics of the features: nearest class mean and streaming LDA."""

from __future__ import annotations

from typing import Final

import numpy as np

from dse.training.head_base import FloatArray, Head, HeadOptions, IntArray

SHRINKAGE: Final = 1e-4
"""Weight of the identity in the covariance of streaming LDA: arXiv 1909.01520, Sec. 3."""


class NCM(Head):
    """Nearest class mean (Mensink et al., IEEE TPAMI 35 (11), 2013): the class whose mean is nearest.

    Means are running means, so that their values do not depend on how samples are divided into events.
    """

    def __init__(self, elements: int, classes: int, options: HeadOptions | None = None) -> None:
        super().__init__(elements, classes, options)
        self.means = np.zeros((classes, elements), dtype=np.float32)
        self.counts = np.zeros(classes, dtype=np.int32)

    @property
    def state_bytes(self) -> int:
        """Means (C, d) and counts (C,)."""
        return self.means.nbytes + self.counts.nbytes

    def scores(self, features: FloatArray) -> FloatArray:
        """Return 2 x m - m m, which is largest where the distance |x - m| is smallest."""
        scores = 2 * features @ self.means.T - (self.means**2).sum(axis=1)
        scores[:, self.counts == 0] = -np.inf
        return np.asarray(scores)

    def _learn(self, features: FloatArray, labels: IntArray, experience: int) -> None:
        new = np.bincount(labels, minlength=self.classes)
        sums = np.zeros(self.means.shape)
        np.add.at(sums, labels, features)
        total = np.maximum(self.counts + new, 1)[:, None]
        self.means += ((sums - new[:, None] * self.means.astype(float)) / total).astype(np.float32)
        self.counts += new.astype(np.int32)


class SLDA(NCM):
    """Streaming linear discriminant analysis: Hayes and Kanan, CVPR-W 2020 (arXiv 1909.01520), Sec. 3.

    Scores are w x + b with w = L m, b = -m L m / 2 and L = ((1 - e) S + e I)^-1, e = 1e-4; S is the
    covariance within classes, running from the first pretraining sample on. A sample changes S by the outer
    product of its deviation from its class's mean, weighted c / (c + 1) with the class's own count c. (The
    paper weighs by the count of all samples, so that the first sample of a class counts in full as a
    deviation from zero.) S is then exactly the pooled covariance of all samples, in whatever order they came.
    """

    def __init__(self, elements: int, classes: int, options: HeadOptions | None = None) -> None:
        super().__init__(elements, classes, options)
        self.covariance = np.zeros((elements, elements), dtype=np.float32)
        self.weight = np.zeros((classes, elements), dtype=np.float32)
        self.bias = np.zeros(classes, dtype=np.float32)

    @property
    def state_bytes(self) -> int:
        """Those of the means, the covariance (d, d), and weights (C, d) with biases (C,) to predict by."""
        return super().state_bytes + self.covariance.nbytes + self.weight.nbytes + self.bias.nbytes

    def scores(self, features: FloatArray) -> FloatArray:
        """Return w x + b."""
        scores = features @ self.weight.T + self.bias
        scores[:, self.counts == 0] = -np.inf
        return np.asarray(scores)

    def _learn(self, features: FloatArray, labels: IntArray, experience: int) -> None:
        scatter = self.covariance * float(self.counts.sum())
        for label in np.unique(labels):
            mine = features[labels == label].astype(float)
            centred = mine - mine.mean(axis=0)
            before, new = int(self.counts[label]), len(mine)
            apart = mine.mean(axis=0) - self.means[label]
            scatter = scatter + centred.T @ centred + before * new / (before + new) * np.outer(apart, apart)
        super()._learn(features, labels, experience)
        self.covariance = (scatter / self.counts.sum()).astype(np.float32)
        shrunk = (1 - SHRINKAGE) * self.covariance.astype(float) + SHRINKAGE * np.eye(self.elements)
        weight = np.linalg.solve(shrunk, self.means.T.astype(float)).T
        self.weight = weight.astype(np.float32)
        self.bias = (-0.5 * (weight * self.means).sum(axis=1)).astype(np.float32)
