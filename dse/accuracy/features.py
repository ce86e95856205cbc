"""What a model of accuracy sees of a learning plan: a few numbers on comparable scales, and words.

Nothing here says in which direction accuracy goes: a deeper cut, more replays or more bits are distances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dse.plan.decisions import AS_COMPUTED, CODES, INT8_NEUTRAL, TrainingPlan
from dse.plan.learning_key import EXACT_BITS, LEARNING_CHOICES, learning_key, learning_plan, quantises_new
from dse.plan.policy import UpdatePolicy
from dse.workload import Workload

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ONE_BY_ONE: Final = ("ncm", "slda", "tinyol")
KNEE_BITS: Final = 5
"""Above this width one bit more or less hardly changes what a replay holds; below, every bit counts."""

FLOOR_BITS: Final = 2
"""Rounding down is biased and errs by up to a whole step: about what two bits of width cost."""

OCTAVES: Final = 4.0
"""Factors of two that make one unit of distance, where a count is meant."""


class LearningPoint(NamedTuple):
    """What one training run answers for: a network and a learning plan, named by their key."""

    key: str
    workload: Workload
    plan: TrainingPlan

    @classmethod
    def of(cls, workload: Workload, plan: TrainingPlan) -> LearningPoint:
        """Return the point that ``plan`` shares with every plan that is learned alike."""
        plan = learning_plan(workload, plan)
        return cls(learning_key(workload, plan), workload, plan)


def numbers(point: LearningPoint) -> dict[str, float]:
    """Return the numeric features of ``point``; what means nothing for its head or replay is left out.

    ``depth``: 0 at the network's input, 1 at the last unit. Counts are log2 over ``OCTAVES``.
    ``coarseness`` of replays, and of saved activations: 0 for exact ones, rising by a third per bit below
    about ``KNEE_BITS``.
    """
    plan, units = point.plan, len(point.workload.units)
    found = {"images_per_event": _log(plan.images_per_event)}
    if plan.head not in ONE_BY_ONE:
        found |= {"epochs": _log(plan.epochs), "new_per_batch": _log(plan.new_per_batch)}
    if plan.head == "sgd":
        found["depth"] = (plan.cut + 1) / units
        found["coarseness"] = coarseness(plan)
        found["saved_coarseness"] = _coarseness(plan.saved_bits)
    narrow = plan.saved_bits < AS_COMPUTED
    if narrow or "int8" in (plan.backward_dtype, plan.accumulator_dtype):
        found["micro_batch"] = _log(plan.micro_batch)
    if plan.replay != "none":
        found["n_replays"] = _log(plan.n_replays)
        found["replays_per_batch"] = _log(1 + plan.replays_per_batch)
    return found


def coarseness(plan: TrainingPlan) -> float:
    """Return how coarse the replays of ``plan`` are: log2(1 + 2^(KNEE_BITS - bits)) / 3, 0 for exact ones.

    Rounding down counts as ``FLOOR_BITS`` bits less.
    """
    down = plan.rounding == "floor" and plan.replay_bits < EXACT_BITS
    return _coarseness(plan.replay_bits - (FLOOR_BITS if down else 0))


def _coarseness(bits: int) -> float:
    return 0.0 if bits >= EXACT_BITS else math.log2(1 + 2.0 ** (KNEE_BITS - bits)) / 3


def words(point: LearningPoint) -> dict[str, str]:
    """Return the categorical features of ``point``; those that count in some plans alone, in those."""
    plan = point.plan
    of_some = [*INT8_NEUTRAL] if plan.learning_dtype == "int8" else []
    of_some += ["first_input"] if plan.saved_bits < AS_COMPUTED else []
    return {
        "network": point.workload.training_hash,
        "head": plan.head,
        "replay": plan.replay,
        "policy": _policy(point),
        "frozen_bits": str(plan.frozen_bits),
        "learning_dtype": plan.learning_dtype,
        "bn_mode": plan.bn_mode,
        "optimiser": plan.optimiser,
        "rounding": plan.rounding,
        "new_latents": "quantised" if quantises_new(plan) else "exact",
        **{name: str(getattr(plan, name)) for name in of_some},
    }


def _policy(point: LearningPoint) -> str:
    """Return the policy by name; whatever trains everything above the cut is "all"."""
    policy = UpdatePolicy.parse(point.plan.policy)
    mine, everything = (one.resolve(point.workload, point.plan.cut) for one in (policy, UpdatePolicy("all")))
    same = all(np.array_equal(one, other) for one, other in zip(mine, everything, strict=True))
    return "all" if same else policy.name


def _log(count: float) -> float:
    return math.log2(max(count, 1.0)) / OCTAVES


@dataclass(frozen=True)
class Encoder:
    """Turns points into coordinates: a column per number that varies, and per word that some points have.

    Two points that differ in one word are one unit apart; one that lacks the word is nearer. A number that
    means nothing for a point lies in the middle of its range.
    """

    ranges: Mapping[str, tuple[float, float]]
    vocabulary: Mapping[str, tuple[str, ...]]

    @classmethod
    def over(cls, points: Sequence[LearningPoint]) -> Encoder:
        """Return the encoder of what varies among ``points``."""
        seen: dict[str, list[float]] = {}
        said: dict[str, dict[str, None]] = {}
        for point in points:
            for name, value in numbers(point).items():
                seen.setdefault(name, []).append(value)
            for name, word in words(point).items():
                said.setdefault(name, {})[word] = None
        ranges = {name: (min(values), max(values)) for name, values in sorted(seen.items())}
        vocabulary = {name: tuple(sorted(found)) for name, found in sorted(said.items())}
        return cls(
            {name: ends for name, ends in ranges.items() if ends[0] < ends[1]},
            {name: found for name, found in vocabulary.items() if len(found) > 1},
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns: a number by its name, a word as ``feature=word``."""
        said = (f"{name}={word}" for name, found in self.vocabulary.items() for word in found)
        return (*self.ranges, *said)

    def __call__(self, points: Sequence[LearningPoint]) -> FloatArray:
        """Return coordinates (n, d) of ``points``."""
        return np.array([self._row(point) for point in points]).reshape(len(points), len(self.names))

    def _row(self, point: LearningPoint) -> list[float]:
        number, word = numbers(point), words(point)
        row = [number.get(name, (low + high) / 2) for name, (low, high) in self.ranges.items()]
        half = math.sqrt(0.5)
        row += [half * (word.get(name) == one) for name, found in self.vocabulary.items() for one in found]
        return row


@dataclass(frozen=True)
class Hull:
    """Where runs have been: every word that was run, every number between the least and the largest run."""

    ranges: Mapping[str, tuple[float, float]]
    vocabulary: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, points: Sequence[LearningPoint]) -> Hull:
        """Return the hull of ``points``."""
        ranges: dict[str, tuple[float, float]] = {}
        said: dict[str, set[str]] = {}
        for point in points:
            for name, value in numbers(point).items():
                low, high = ranges.get(name, (value, value))
                ranges[name] = min(low, value), max(high, value)
            for name, word in words(point).items():
                said.setdefault(name, set()).add(word)
        return cls(ranges, {name: frozenset(found) for name, found in said.items()})

    def __contains__(self, point: LearningPoint) -> bool:
        inside = all(
            name in self.ranges and self.ranges[name][0] <= value <= self.ranges[name][1]
            for name, value in numbers(point).items()
        )
        return inside and all(word in self.vocabulary.get(name, ()) for name, word in words(point).items())


# --- from columns of choices to points ---

Policies = Mapping[str, UpdatePolicy]


def points_of(
    workload: Workload, choices: Mapping[str, NDArray[Any]], policies: Policies,
    known: dict[tuple[Any, ...], LearningPoint] | None = None,
) -> tuple[list[LearningPoint], IntArray]:  # fmt: skip
    """Return the distinct combinations of ``choices`` as points, and which one each entry is.

    Parameters
    ----------
    workload: the network.
    choices: one array for each of ``LEARNING_CHOICES``; they broadcast. Words are codes, ``policy`` names.
    policies: policies that are more than a name, by that name.
    known: points that were made before, by combination; new ones are added.

    """
    known = {} if known is None else known
    columns = np.broadcast_arrays(*(np.asarray(choices[name]) for name in LEARNING_CHOICES))
    flat = np.zeros(columns[0].size, dtype=np.int64)
    for column in columns:  # one integer per combination so far, kept small
        _, code = np.unique(column, return_inverse=True)
        _, flat = np.unique(flat * (int(code.max(initial=0)) + 1) + code.ravel(), return_inverse=True)
    _, first = np.unique(flat, return_index=True)
    found = []
    for place in first:
        combination = (workload.training_hash, *(column.flat[place].item() for column in columns))
        if combination not in known:
            known[combination] = LearningPoint.of(workload, _plan(combination[1:], policies))
        found.append(known[combination])
    return found, flat.reshape(columns[0].shape)


def _plan(combination: Sequence[Any], policies: Policies) -> TrainingPlan:
    values = dict(zip(LEARNING_CHOICES, combination, strict=True))
    values |= {name: CODES[name][values[name]] for name in LEARNING_CHOICES if name in CODES}
    values["policy"] = policies.get(values["policy"], values["policy"])
    return TrainingPlan(**values)
