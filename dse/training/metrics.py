"""What continual learning is measured by, from R[i, j]: accuracy after experience i on samples of part j.

Row 0 is the state after pretraining, part 0 what was pretrained on. R is (T, T) for T - 1 experiences; NaN
where nothing was measured or nothing is defined (a class not seen yet, a part without samples).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def accuracy_matrix(hits: BoolArray, part: NDArray[np.int64], seen: BoolArray) -> FloatArray:
    """Return R (T, T): share of right predictions after each experience on the samples of each part.

    Parameters
    ----------
    hits
        (T, n): whether evaluation sample k was classified correctly after experience i.
    part
        (n,): part that sample k belongs to, 0 to T - 1, or -1 for none (it then enters no entry).
    seen
        (T, n): whether the class of sample k had been seen by then.

    """
    count = len(hits)
    matrix = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(count):
            where = seen[i] & (part == j)
            if where.any():
                matrix[i, j] = hits[i][where].mean()
    return matrix


def accuracy(hits: BoolArray, seen: BoolArray) -> float:
    """Return the share of right predictions among the samples of classes seen; NaN where none was.

    Each sample counts once: with parts of unequal size this is not the mean of a row of R, which is the ACC
    of Lopez-Paz and Ranzato (``mean_accuracy``).
    """
    return float(hits[seen].mean()) if seen.any() else float("nan")


def mean_accuracy(matrix: ArrayLike) -> float:
    """ACC, the mean over parts of R[T - 1, j]: Lopez-Paz and Ranzato, arXiv 1706.08840, Sec. 2."""
    return _mean(np.asarray(matrix, dtype=float)[-1])


def average_accuracy(per_experience: ArrayLike) -> float:
    """Return the mean over all evaluations (T,) of the accuracy over the classes seen by then.

    Rebuffi et al., iCaRL, CVPR 2017 (arXiv 1611.07725), Sec. 4: average incremental accuracy. The state after
    pretraining counts as the first; evaluations that did not take place (NaN) do not count.
    """
    return _mean(np.asarray(per_experience, dtype=float))


def forgetting(matrix: ArrayLike) -> float:
    """F = mean over j < T - 1 of max over i < T - 1 of R[i, j], minus R[T - 1, j].

    Forgetting measure of Chaudhry et al., ECCV 2018 (arXiv 1801.10112), Sec. 3. Positive: accuracy was lost
    since its best; NaN with fewer than two evaluations, or without parts.
    """
    values = np.asarray(matrix, dtype=float)
    before = values[:-1, :-1]
    known = ~np.isnan(before).all(axis=0)
    best = np.where(np.isnan(before[:, known]), -np.inf, before[:, known]).max(axis=0, initial=-np.inf)
    return _mean(best - values[-1, :-1][known])


def backward_transfer(matrix: ArrayLike) -> float:
    """BWT = mean over j < T - 1 of R[T - 1, j] - R[j, j].

    Lopez-Paz and Ranzato, NeurIPS 2017 (arXiv 1706.08840), Sec. 2. Negative: later experiences cost accuracy
    on earlier ones. NaN with fewer than two evaluations, or without parts.
    """
    values = np.asarray(matrix, dtype=float)
    return _mean((values[-1] - np.diag(values))[:-1])


def _mean(values: FloatArray) -> float:
    """Return the mean of what is defined; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
