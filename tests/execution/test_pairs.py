"""Checker and executor agree: on maps that are sound, and on single mistakes in them.

Random pairs of a network and a plan are placed by the allocator; the independent checker finds nothing, and a
step inside the arena is that outside of it bit by bit. Then one mistake, drawn at random among those that are
not equivalent (see ``mutations``): the checker, or the lifespans, show it, and the execution fails. Where
equivalent ones are drawn before it, neither of the two objects.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dse.execution.trial import trial
from tests.execution.mutations import moved, nudged, shortened
from tests.execution.pairs import faults, random_pair, reads_after_end

FEW, MANY = 60, 500
EQUIVALENT = 50
"""Equivalent mistakes that may be drawn in a row."""


def agree(seed):
    """Try one pair, and mistakes until one is not equivalent; return the pair, and how many were before."""
    pair = random_pair(seed)
    assert faults(pair.memory_map) == []
    found = trial(pair.memory_map, seed=seed)
    assert found.equal, found.text
    mutants = list(mistakes(pair.memory_map, seed))
    for mutant in mutants:
        shown = faults(mutant.memory_map) + reads_after_end(pair.schedule, mutant.memory_map.schedule)
        assert bool(shown) != mutant.equivalent, mutant.name
        tried = trial(mutant.memory_map, seed=seed)
        assert tried.failed != mutant.equivalent, (mutant.name, tried.text)
    return pair, len(mutants) - 1


def mistakes(memory_map, seed):
    """Yield mistakes at random, equivalent ones until one is not."""
    draw = np.random.default_rng([seed, 31])
    kinds = (shortened, lambda one: moved(one, 1, seed), nudged)
    every = list(kinds[draw.integers(len(kinds))](memory_map))
    for index in draw.permutation(len(every))[:EQUIVALENT]:
        yield every[index]
        if not every[index].equivalent:
            return
    raise AssertionError(f"{EQUIVALENT} equivalent mistakes")


@pytest.mark.parametrize("seed", range(FEW))
def test_checker_and_executor_agree(seed):
    agree(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FEW, MANY))
def test_checker_and_executor_agree_on_many(seed):
    agree(seed)


def test_the_pairs_are_of_every_kind():
    """A third from the zoo at least, and every kind of plan among them, in the short run as in the long."""
    for count in (FEW, 200):
        kinds = Counter(kind for seed in range(count) for kind in random_pair(seed).kinds)
        assert kinds["zoo"] >= count / 3
        assert kinds["residual"] >= count / 5
        assert kinds["int8"] >= count / 4
        assert kinds["micro-batch"] >= count / 4
        assert kinds["recompute"] >= count / 8
        assert min(kinds[kind] for kind in ("head", "saved bits", "patches", "some channels")) >= count / 25
