"""Samples that belong together (windows of one execution) are kept out of training together or not at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def whole_groups(
    group: IntArray, stratum: IntArray, share: FloatArray, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which of n samples (n,) are kept out: all of a group or none of it.

    Parameters
    ----------
    group: (n,) samples with the same number stay together.
    stratum: (n,) what is to be represented, such as the class.
    share: (n,) the part of the samples to keep out, 0 to 1; alike within a stratum.
    draw: decides between groups that serve equally well.

    Of every stratum some samples are left for training. The rarest strata choose first, each the group that
    brings all of them nearest to their shares; then every group joins, in random order, that brings them
    nearer still. A stratum that no group can represent without emptying another one stays without samples.

    """
    choice = _Choice(group, stratum, share)
    order = draw.permutation(len(choice.counts))
    for one in np.argsort((choice.counts > 0).sum(axis=0), kind="stable"):
        candidates = [place for place in order if choice.counts[place, one] and choice.allows(place)]
        if not choice.held[one] and candidates:
            choice.take(min(candidates, key=choice.distance))
    for place in order:
        if choice.allows(place) and choice.distance(place) < choice.distance():
            choice.take(place)
    return choice.taken[choice.place]


class _Choice:
    """Which groups are taken so far: ``counts`` (groups, strata), ``held`` (strata,) of those taken."""

    def __init__(self, group: IntArray, stratum: IntArray, share: FloatArray) -> None:
        groups, self.place = np.unique(group, return_inverse=True)
        strata, of_stratum = np.unique(stratum, return_inverse=True)
        self.counts = np.zeros((len(groups), len(strata)), dtype=np.int64)
        np.add.at(self.counts, (self.place, of_stratum), 1)
        self.wanted = np.maximum(1.0, np.bincount(of_stratum, weights=share, minlength=len(strata)))
        self.held = np.zeros(len(strata), dtype=np.int64)
        self.taken = np.zeros(len(groups), dtype=bool)

    def allows(self, place: int) -> bool:
        """Return whether a group is still free, and every stratum keeps samples without it."""
        here = self.counts[place]
        left = self.counts.sum(axis=0) - self.held - here
        return bool(not self.taken[place] and (left[here > 0] > 0).all())

    def distance(self, place: int | None = None) -> float:
        """Return how far the strata are from what is wanted of them, with group ``place`` if given."""
        held = self.held if place is None else self.held + self.counts[place]
        return float(np.square(held / self.wanted - 1).sum())

    def take(self, place: int) -> None:
        """Keep a group out of training."""
        self.taken[place] = True
        self.held += self.counts[place]
