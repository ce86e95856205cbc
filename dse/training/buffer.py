"""The replay buffer: N slots of packed bytes with their labels, and three rules for what stays in them.

``qlr-cl``          after event i, h = min(N / i, new) random new samples take free, then random slots;
                    pretraining is event 1. Pellegrini et al., arXiv 1912.01100, Algorithm 1; arXiv
                    2110.10486, Algorithm 1.
``class-balanced``  every class seen gets the same number of slots, what a class cannot fill goes to the
                    others; within a class every sample seen so far is kept with the same chance.
``reservoir``       every sample seen so far is kept with the same chance: Vitter, ACM TOMS 11 (1), 1985,
                    algorithm R.

A device also counts the samples seen (one integer, or one per class); ``nbytes`` leaves that out, as plans
do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UnknownName, UserError
from dse.training.packing import FloatArray, Quantiser

IntArray = NDArray[np.int64]

SCALE_BYTES: Final = 4  # one float32 per buffer
LARGEST_CLASSES: Final = 1 << 16


class ReplayBuffer:
    """``capacity`` slots for samples of ``elements`` values, stored by ``quantiser``, with their labels.

    Parameters
    ----------
    capacity
        Slots N; 0 is a buffer that holds nothing and has no bytes.
    elements, quantiser
        Values per sample, and what turns them into bytes.
    classes
        Number of classes of the task; a label takes 1 byte up to 256, else 2.
    policy
        One of ``POLICIES``.
    seed
        Of the choice of samples, of slots, and of the order of replays.

    Raises UserError for sizes that do not fit each other and for an unknown policy.

    """

    def __init__(
        self, capacity: int, elements: int, quantiser: Quantiser, *, classes: int, policy: str, seed: int
    ) -> None:
        _require_sizes(capacity, elements, quantiser, classes)
        if policy not in POLICIES:
            raise UnknownName("buffer policy", policy, POLICIES, file="replay", key="buffer")
        self.capacity, self.quantiser = capacity, quantiser
        self.filled = 0
        self._choose = POLICIES[policy]
        self._rows = np.zeros((capacity, quantiser.row_bytes), dtype=np.uint8)
        self._labels = np.zeros(capacity, dtype=np.uint8 if classes <= 256 else np.uint16)
        self._seen = np.zeros(classes, dtype=np.int64)
        self._draw = np.random.default_rng([seed, 41])
        self._waiting = np.zeros(0, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes held: N ceil(elements bits / 8) samples, N labels of 1 or 2 bytes, and 4 for the scale."""
        return self._rows.nbytes + self._labels.nbytes + (SCALE_BYTES if self.capacity else 0)

    @property
    def labels(self) -> IntArray:
        """Labels of the filled slots, int64 (filled,)."""
        return self._labels[: self.filled].astype(np.int64)

    @property
    def latents(self) -> FloatArray:
        """Values of the filled slots, float32 (filled, E)."""
        return self.quantiser.decode(self._rows[: self.filled])

    def fill(self, latents: FloatArray, labels: IntArray) -> int:
        """Take samples of the pretraining, event 1: (n, E) with labels (n,). Returns slots written."""
        if self._seen.any():
            raise UserError(Problem("replay", "fill", "the buffer has seen samples", "fill it once, first"))
        return self._take(latents, labels, 1)

    def update(self, latents: FloatArray, labels: IntArray, experience: int) -> int:
        """Take some of the samples of ``experience`` (counted from 1), by the policy. Returns slots written.

        ``latents`` (n, E) float32, ``labels`` (n,). The experience is learning event ``experience + 1``.
        """
        if experience < 1:
            raise UserError(Problem("replay", "experience", str(experience), "counted from 1"))
        return self._take(latents, labels, experience + 1)

    def sample(self, count: int) -> tuple[FloatArray, IntArray]:
        """Return ``count`` replays (count, E) and their labels (count,), without replacement.

        Replays come in a random order in which each slot has its turn; the order is drawn anew when it is
        exhausted and after every update. Raises UserError for more replays than slots are filled.
        """
        if not 0 <= count <= self.filled:
            found = f"{count} replays per mini-batch, {self.filled} stored"
            fix = "fewer replays per mini-batch, or more samples per class (task.pretrain_per_class)"
            raise UserError(Problem("replay", "replays_per_batch", found, fix))
        taken = self._next(count)
        return self.quantiser.decode(self._rows[taken]), self._labels[taken].astype(np.int64)

    def _next(self, count: int) -> IntArray:
        """Return the slots whose turn it is; those that end a round come last in the next one."""
        ending = self._waiting[:count]
        self._waiting = self._waiting[count:]
        missing = count - len(ending)
        if not missing:
            return ending
        order = self._draw.permutation(self.filled)
        again = np.isin(order, ending)
        order = np.concatenate([order[~again], order[again]])
        self._waiting = order[missing:]
        return np.concatenate([ending, order[:missing]])

    def _take(self, latents: FloatArray, labels: IntArray, event: int) -> int:
        labels = self._checked(latents, labels)
        if not self.capacity or not len(labels):
            return 0
        picked, slots = self._choose(self, labels, event)
        self._rows[slots] = self.quantiser.encode(latents[picked])
        self._labels[slots] = labels[picked]
        self.filled = max(self.filled, int(slots.max(initial=-1)) + 1)
        self._seen += np.bincount(labels, minlength=len(self._seen))
        self._waiting = self._waiting[:0]
        return len(slots)

    def _checked(self, latents: FloatArray, labels: IntArray) -> IntArray:
        labels = np.asarray(labels)
        if labels.shape != (len(latents),) or labels.dtype.kind not in "iu":
            found = f"{labels.dtype} labels of shape {labels.shape} for {len(latents)} samples"
            raise UserError(Problem("replay", "labels", found, "one integer per sample"))
        classes = len(self._seen)
        if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            found = f"labels {labels.min()} to {labels.max()}"
            raise UserError(Problem("replay", "labels", found, f"0 to {classes - 1}"))
        return labels.astype(np.int64)


def _require_sizes(capacity: int, elements: int, quantiser: Quantiser, classes: int) -> None:
    problems = []
    if capacity < 0:
        problems.append(Problem("replay", "n_replays", str(capacity), "0 or more"))
    if elements != quantiser.elements:
        found = f"samples of {elements} elements, a quantiser for {quantiser.elements}"
        problems.append(Problem("replay", "elements", found, "the same number"))
    if not 1 <= classes <= LARGEST_CLASSES:
        problems.append(Problem("replay", "classes", str(classes), f"1 to {LARGEST_CLASSES}"))
    if problems:
        raise UserError(problems)


Choice = tuple[IntArray, IntArray]
"""Positions of new samples, and the distinct slots that they take."""


def _qlr_cl(buffer: ReplayBuffer, labels: IntArray, event: int) -> Choice:
    """Choose h = min(N / event, new) samples; free slots first, in order, then random ones."""
    count = min(buffer.capacity // event, len(labels))
    picked = buffer._draw.permutation(len(labels))[:count]
    free = np.arange(buffer.filled, min(buffer.filled + count, buffer.capacity))
    replaced = buffer._draw.permutation(buffer.filled)[: count - len(free)]
    return picked, np.concatenate([free, replaced])


def _reservoir(buffer: ReplayBuffer, labels: IntArray, event: int) -> Choice:
    """Choose by algorithm R: sample t takes slot t while slots are free, later a random one of 0..t."""
    before = int(buffer._seen.sum())
    number = before + np.arange(len(labels))
    slots = np.where(number < buffer.capacity, number, buffer._draw.integers(0, number + 1))
    inside = np.flatnonzero(slots < buffer.capacity)[::-1]
    kept, last = np.unique(slots[inside], return_index=True)  # a later sample overwrites an earlier one
    return inside[last], kept


def _class_balanced(buffer: ReplayBuffer, labels: IntArray, event: int) -> Choice:
    """Give each class its share of the slots, and of that share the new samples theirs."""
    classes = len(buffer._seen)
    new = np.bincount(labels, minlength=classes)
    held = np.bincount(buffer.labels, minlength=classes)
    target = fair_shares(held + new, buffer.capacity)
    shuffled = buffer._draw.permutation(len(labels))
    picked, freed = [], [np.arange(buffer.filled, buffer.capacity)]
    for label in np.flatnonzero(target + held):
        drawn = buffer._draw.hypergeometric(new[label], buffer._seen[label], target[label])
        taken = int(np.clip(drawn, target[label] - held[label], new[label]))
        picked.append(shuffled[labels[shuffled] == label][:taken])
        own = buffer._draw.permutation(np.flatnonzero(buffer.labels == label))
        freed.append(own[target[label] - taken :])
    chosen = np.concatenate(picked)
    # Replaced slots before free ones, so that the filled slots stay one stretch.
    slots = np.concatenate([*freed[1:], freed[0]])[: len(chosen)]
    return chosen, slots


def fair_shares(available: IntArray, capacity: int) -> IntArray:
    """Return slots per class (C,): equal shares of ``capacity``, none above what is ``available`` (C,).

    What a class cannot use goes to the others in equal parts; slots left over by the division go to the
    classes of the lowest numbers that can use them.
    """
    if int(available.sum()) <= capacity:
        return available.copy()
    order = np.sort(available)
    # Level: the largest whole share that every class can be given up to what it has.
    below = np.concatenate([[0], np.cumsum(order)])[: len(order)]
    levels = (capacity - below) // (len(order) - np.arange(len(order)))
    level = int(levels[np.argmax(levels < order)])
    shares = np.minimum(available, level)
    spare = np.flatnonzero(available > level)[: capacity - int(shares.sum())]
    shares[spare] += 1
    return shares


POLICIES: Final[dict[str, Callable[[ReplayBuffer, IntArray, int], Choice]]] = {
    "qlr-cl": _qlr_cl,
    "class-balanced": _class_balanced,
    "reservoir": _reservoir,
}
