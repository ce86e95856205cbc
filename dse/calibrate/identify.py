"""What the measurements cannot tell apart: terms only seen together, and what would separate them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.fit import JOINT, MEMBER, PRIOR, Design, Fit, informed
from dse.calibrate.prior import Prior, Term
from dse.calibrate.resolve import Row

FloatArray = NDArray[np.float64]

WORTHWHILE: Final = 0.05
"""A layer is advised where it takes away this share of a prior's variance at least."""
BOUND: Final = 0.7
"""A fitted term is named with those of which it is correlated by at least this much."""


@dataclass(frozen=True)
class Inseparable:
    """Terms whose combination is measured while each alone is not; ``correlation`` is the strongest in it.

    ``advice`` names the measurement that would tell them apart best.
    """

    terms: tuple[Term, ...]
    correlation: float
    advice: str

    def __str__(self) -> str:
        names = " and ".join(term.label for term in self.terms)
        if len(self.terms) == 1:
            return f"{names}: seen, but too faintly to be told; measure {self.advice}"
        end = f"keeps its prior; to separate them, measure {self.advice}"
        if len(self.terms) == 2:
            said = f"{names} are only seen together (correlation {self.correlation:+.2f}): "
            return f"{said}their sum is fitted, how it divides {end}"
        names = "; ".join(term.label for term in self.terms)
        said = f"{names}: only seen together, some of them in each row (correlation up to "
        return f"{said}{self.correlation:+.2f}): their sums are fitted, how these divide {end}"


def inseparable(
    found: Fit, prior: Prior, prior_sds: FloatArray, rows: Sequence[Row]
) -> tuple[Inseparable, ...]:
    """Return the combinations of terms that the measurements see only as a whole."""
    words = [
        PRIOR if term.path in prior.released else word
        for term, word in zip(prior.terms, found.statuses, strict=True)
    ]
    correlation = found.covariance / np.outer(found.sd, found.sd)
    result = []
    for weak in _combinations(found, prior_sds, words):
        members = sorted({*weak, *np.flatnonzero((np.abs(correlation[weak]) >= BOUND).any(axis=0)).tolist()})
        pairs = [correlation[a, b] for a in members for b in members if a < b]
        strongest = max(pairs, key=abs) if pairs else 0.0
        terms = tuple(prior.terms[member] for member in members)
        advice = _advice(found, prior, prior_sds, members, rows)
        result.append(Inseparable(terms, float(strongest), advice))
    return tuple(result)


def _combinations(found: Fit, prior_sds: FloatArray, words: Sequence[str]) -> list[list[int]]:
    """Join the terms that are not settled and share a direction which the data inform."""
    owner = list(range(len(words)))

    def root(member: int) -> int:
        while owner[member] != member:
            member = owner[member]
        return member

    joint = [member for member, word in enumerate(words) if word == JOINT]
    weights = np.ones(len(found.jacobian))
    for direction in informed(found.jacobian, prior_sds, weights, found.noise_sd):
        strong = np.flatnonzero(np.abs(direction) >= MEMBER).tolist()
        members = [member for member in strong if words[member] == JOINT]
        for member in members[1:]:
            owner[root(member)] = root(members[0])
    groups: dict[int, list[int]] = {}
    for member in joint:
        groups.setdefault(root(member), []).append(member)
    return list(groups.values())


def _advice(
    found: Fit, prior: Prior, prior_sds: FloatArray, members: Sequence[int], rows: Sequence[Row]
) -> str:
    """Name the single layer, among the networks measured, that would shrink the intervals most."""
    best, gain = "", WORTHWHILE
    for name, slope in _candidates(found, prior, rows):
        reached = found.covariance @ slope
        shrunk = reached**2 / (found.noise_sd**2 + float(slope @ reached))
        total = float(np.sum((shrunk / prior_sds**2)[list(members)]))
        if total > gain * (1.0 + 1e-9):
            best, gain = name, total
    if best:
        return best
    word = prior.terms[members[0]].label
    return f"a kernel of {word} alone, in two sizes"


def _candidates(found: Fit, prior: Prior, rows: Sequence[Row]) -> Iterator[tuple[str, FloatArray]]:
    """Yield every layer of the networks that were measured, and how its time depends on the terms."""
    done = set()
    for row in rows:
        one, place = row.measurement, row.setting
        key = (one.network, one.passes, one.dtype, place.library, place.cores)
        if not one.network or one.layer or key in done:
            continue
        done.add(key)
        for unit, name in enumerate(row.response.units):
            response = row.response.of_unit(unit)
            if (response.per_cost > 0).any():
                slope = Design.of([response], prior).log_seconds(found.theta)[1][0]
                passes = "+".join(one.passes)
                yield f"layer {name} of {one.network} alone ({passes} {one.dtype})", slope
