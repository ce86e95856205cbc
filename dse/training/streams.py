"""Streams of experiences over any labelled samples: pretraining, what arrives when, and what it is tested on.

``new_classes``    an experience brings classes that were not seen before (class-incremental learning).
``new_instances``  every class is known from pretraining; an experience brings further domains (subjects,
                   sessions, backgrounds) with those classes that they have.
``both``           after NICv2 (Lomonaco et al., arXiv 1907.03799): all samples of one class in one domain are
                   a group; pretraining has one group of each of the first classes, an experience ``step`` of
                   the other groups, in random order, so that classes appear at any time and come back. Of
                   NICv2 this division is kept; where a data set brings the published lists of batches
                   (``Dataset.batches``), these are followed, and ``first`` and ``order`` mean nothing.

Evaluation samples are the same for every seed, so that runs can be compared pair by pair; which of the other
samples are learned from, and in which order they arrive, is drawn by the seed. No samples of one
``Split.group`` are both in the validation samples and in what is learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UnknownName, UserError
from dse.training.data.base import Dataset
from dse.training.data.groups import whole_groups
from dse.training.stream_checks import group_problems, order_problems, part_problems
from dse.training.task import SPLITS, Task

IntArray = NDArray[np.int64]

NO_PART: Final = -1


@dataclass(frozen=True, eq=False)
class Experience:
    """Samples of one experience: indices into the training samples in order of arrival, and what they are."""

    train: IntArray
    classes: tuple[int, ...]
    domains: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Stream:
    """Pretraining, experiences in order, and evaluation samples.

    ``pretrain``, ``validation`` and ``Experience.train`` are disjoint sets of indices into the training
    samples, and no group has samples both in ``validation`` and in the others; ``test`` are indices into the
    test samples. ``validation_part`` and ``test_part`` say to which part each of them belongs: see
    ``evaluation``. ``Task.test_per_class`` limits both evaluation splits.
    """

    pretrain: IntArray
    pretrain_classes: tuple[int, ...]
    experiences: tuple[Experience, ...]
    validation: IntArray
    test: IntArray
    validation_part: IntArray
    test_part: IntArray

    def evaluation(self, split: str) -> tuple[IntArray, IntArray]:
        """Return the samples of ``split`` ("test" or "validation") and the part (n,) that each belongs to.

        Part 0 is pretraining, 1.. the experiences. A sample belongs to the part that brought its class
        (``new_classes``), its domain (``new_instances``), or its class in its domain and, where that is not
        learned, its class for the first time (``both``). -1: to none, because its domain is not learned;
        forgetting and backward transfer are then not defined.
        """
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS, file="task", key="split")
        if split == "validation" and not len(self.validation):
            raise UserError(Problem("task", "task.validation_share", "0: nothing to choose by", "above 0"))
        return (self.test, self.test_part) if split == "test" else (self.validation, self.validation_part)


def make_stream(dataset: Dataset, task: Task, seed: int) -> Stream:
    """Divide the samples of ``dataset`` as ``task`` says.

    Raises UserError, with every problem and its fix, where the data do not give what the task asks for: one
    class or one domain only, nothing left to learn after pretraining, classes without samples, classes of
    very unequal size, classes whose groups cannot be divided between learning and validation.
    """
    labels, domains = dataset.train.y, dataset.train.domain
    problems = order_problems(dataset, task)
    if problems:
        raise UserError(problems)
    part = _PROTOCOLS[task.stream](dataset, task, seed)
    used = np.unique(labels[part != NO_PART])
    validation, kept_out = _validation(dataset, task, part)
    left = part.copy()
    left[kept_out] = NO_PART
    test = _evaluated(dataset.test.y, dataset.test.domain, used, task.test_per_class, f"{dataset.name} test")
    count = int(part.max()) + 1
    chosen = [
        _arrivals(labels, np.flatnonzero(left == number), _limit(task, number), [seed, 53, number])
        for number in range(count)
    ]
    problems = part_problems(dataset, task, used, chosen) + group_problems(dataset, task, part, kept_out)
    if problems:
        raise UserError(problems)
    return Stream(
        pretrain=chosen[0],
        pretrain_classes=_present(labels, chosen[0]),
        experiences=tuple(
            Experience(train, _present(labels, train), _present(domains, train)) for train in chosen[1:]
        ),
        validation=validation,
        test=test,
        validation_part=_parts(dataset, task, part, labels[validation], domains[validation]),
        test_part=_parts(dataset, task, part, dataset.test.y[test], dataset.test.domain[test]),
    )


def _limit(task: Task, number: int) -> int:
    """Return how many samples per class part ``number`` takes at most; 0: all."""
    return task.per_class if number else task.pretrain_per_class


def _ordered(values: IntArray, task: Task, seed: int) -> IntArray:
    """Return the classes or domains ``values`` in the order of the task."""
    if task.order == "fixed":
        return values
    if task.order == "shuffled":
        return np.random.default_rng([seed, 59]).permutation(values)
    return np.array(task.order, dtype=np.int64)


def _numbered(order: IntArray, task: Task, size: int) -> IntArray:
    """Return for each number below ``size`` the part that brings it."""
    table = np.full(size, NO_PART)
    place = np.arange(len(order))
    table[order] = np.where(place < task.first, 0, 1 + (place - task.first) // task.step)
    return table


def _new_classes(dataset: Dataset, task: Task, seed: int) -> IntArray:
    order = _ordered(np.unique(dataset.train.y), task, seed)
    return _numbered(order, task, dataset.classes)[dataset.train.y]


def _new_instances(dataset: Dataset, task: Task, seed: int) -> IntArray:
    domains = dataset.train.domain
    return _numbered(_ordered(np.unique(domains), task, seed), task, int(domains.max()) + 1)[domains]


def _both(dataset: Dataset, task: Task, seed: int) -> IntArray:
    if dataset.batches is not None:
        rank = np.searchsorted(np.unique(dataset.batches)[1:], dataset.batches, side="right")
        return np.asarray(-(-rank // task.step))
    order = _ordered(np.unique(dataset.train.y), task, seed)
    draw = np.random.default_rng([seed, 61]) if task.order == "shuffled" else _fixed(f"{dataset.name} groups")
    group = _groups(dataset.train.y, dataset.train.domain)
    shuffled = draw.permutation(np.unique(group[np.isin(dataset.train.y, order)]))
    of_class = shuffled >> GROUP_BITS
    # The first group of each pretrained class; the others follow in their random order.
    begin = np.array([np.flatnonzero(of_class == label)[0] for label in order[: task.first]])
    rest = np.delete(shuffled, begin)
    table = dict.fromkeys(shuffled[begin].tolist(), 0)
    table |= {int(one): 1 + place // task.step for place, one in enumerate(rest)}
    return _looked_up(table, group)


GROUP_BITS: Final = 32


def _groups(labels: IntArray, domains: IntArray) -> IntArray:
    """Return one number per class and domain."""
    return (labels << GROUP_BITS) + domains


def _looked_up(table: dict[int, int], keys: IntArray) -> IntArray:
    values, place = np.unique(keys, return_inverse=True)
    return np.array([table.get(int(one), NO_PART) for one in values], dtype=np.int64)[place]


def _fixed(name: str) -> np.random.Generator:
    """Return a generator that is the same for every seed of a run."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def _validation(dataset: Dataset, task: Task, part: IntArray) -> tuple[IntArray, IntArray]:
    """Return the samples to choose by, and all samples that are kept out of training for them.

    They are the share of each class, spread over its domains, or whole groups that come near it. Groups may
    hold more than ``test_per_class``; what is too much is neither learned nor evaluated.
    """
    if dataset.train.group is not None:
        return _validation_groups(dataset, task, part, dataset.train.group)
    chosen = [np.zeros(0, dtype=np.int64)]
    draw = _fixed(f"{dataset.name} validation")
    for label in range(dataset.classes):
        of_class = np.flatnonzero(dataset.train.y == label)
        order = of_class[np.lexsort([draw.permutation(len(of_class)), dataset.train.domain[of_class]])]
        order = order[part[order] != NO_PART]
        if len(order) > 1 and task.validation_share:
            count = max(1, round(task.validation_share * len(order)))
            chosen.append(_spread(order, min(count, task.test_per_class or count)))
    validation = np.sort(np.concatenate(chosen))
    return validation, validation


def _validation_groups(
    dataset: Dataset, task: Task, part: IntArray, group: IntArray
) -> tuple[IntArray, IntArray]:
    learned = np.flatnonzero(part != NO_PART)
    if not task.validation_share:
        return learned[:0], learned[:0]
    labels, domains = dataset.train.y[learned], dataset.train.domain[learned]
    sizes = np.maximum(1, np.bincount(labels, minlength=dataset.classes))
    wanted = task.validation_share * sizes
    wanted = np.minimum(wanted, task.test_per_class) if task.test_per_class else wanted
    # Where domains decide what is learned when, each has to be represented.
    stratum = labels if task.stream == "new_classes" else _groups(labels, domains)
    name = f"{dataset.name} validation"
    kept_out = learned[whole_groups(group[learned], stratum, (wanted / sizes)[labels], _fixed(name))]
    labels, domains = dataset.train.y[kept_out], dataset.train.domain[kept_out]
    return kept_out[_evaluated(labels, domains, np.unique(labels), task.test_per_class, name)], kept_out


def _evaluated(labels: IntArray, domains: IntArray, used: IntArray, limit: int, name: str) -> IntArray:
    """Return the samples of the classes ``used``, at most ``limit`` per class, spread over the domains."""
    draw = _fixed(name)
    chosen = [np.zeros(0, dtype=np.int64)]
    for label in used:
        of_class = np.flatnonzero(labels == label)
        order = of_class[np.lexsort([draw.permutation(len(of_class)), domains[of_class]])]
        chosen.append(_spread(order, min(limit or len(order), len(order))))
    return np.sort(np.concatenate(chosen))


def _spread(order: IntArray, count: int) -> IntArray:
    """Return ``count`` entries of ``order`` at equal distances."""
    return order[((2 * np.arange(count) + 1) * len(order)) // (2 * max(count, 1))]


def _arrivals(labels: IntArray, pool: IntArray, limit: int, seed: list[int]) -> IntArray:
    """Return the samples of ``pool`` in random order, at most ``limit`` per class (0: all)."""
    order = np.random.default_rng(seed).permutation(pool)
    if not limit:
        return order
    by_class = np.argsort(labels[order], kind="stable")
    of_class = labels[order][by_class]
    rank = np.arange(len(order)) - np.searchsorted(of_class, of_class)
    return np.asarray(order[np.sort(by_class[rank < limit])])


def _parts(dataset: Dataset, task: Task, part: IntArray, labels: IntArray, domains: IntArray) -> IntArray:
    """Return the part that each evaluation sample, with its class and domain, belongs to."""
    train = dataset.train
    by_class = _looked_up(_first_parts(train.y, part), labels)
    if task.stream == "new_classes":
        return by_class
    if task.stream == "new_instances":
        return _looked_up(_first_parts(train.domain, part), domains)
    by_group = _looked_up(_first_parts(_groups(train.y, train.domain), part), _groups(labels, domains))
    return np.where(by_group == NO_PART, by_class, by_group)


def _first_parts(keys: IntArray, part: IntArray) -> dict[int, int]:
    """Return for each key the first part that brings it."""
    learned = np.flatnonzero(part != NO_PART)
    order = learned[np.argsort(part[learned], kind="stable")]
    values, first = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), part[order][first].tolist(), strict=True))


def _present(values: IntArray, indices: IntArray) -> tuple[int, ...]:
    return tuple(np.unique(values[indices]).tolist())


_PROTOCOLS: Final[dict[str, Callable[[Dataset, Task, int], IntArray]]] = {
    "new_classes": _new_classes,
    "new_instances": _new_instances,
    "both": _both,
}
