"""Which runs are proposed: everything is seen once, and then what each way of proposing stands for."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from dse.accuracy import MeasuredAccuracy
from dse.accuracy.features import Hull
from dse.accuracy.runs import Run
from dse.search.acquisition import Board
from dse.search.learning import Candidates, candidates_of
from dse.search.measured import Request
from dse.search.proposals import PROPOSERS, State, at_random, by_evolution, for_the_front, front_of, start
from dse.search.settings import MeasureSettings
from tests.oracles import dominated_mask
from tests.search.measuring import reached, space


@cache
def candidates() -> Candidates:
    return candidates_of(space())


@cache
def boards() -> tuple[Board, ...]:
    return tuple(Board(candidates(), board) for board in range(2))


def state(places: list[int], seed: int = 0, failed: tuple[int, ...] = ()) -> State:
    """The state after one run of each of ``places``; one that comes up again has further seeds."""
    points = [entry.point for entry in candidates().entries]
    begun: Counter[str] = Counter()
    runs = []
    for place in places:
        request = Request(points[place], begun[points[place].key])
        runs.append(Run(request.point, request.seed, reached(request)))
        begun[request.point.key] += 1
    broken = {points[place].key for place in failed}
    return State(candidates(), boards(), MeasureSettings(seed=seed), tuple(runs), begun, broken)


FIRST = 12


def test_after_the_start_nothing_is_beyond_what_was_run() -> None:
    points = [entry.point for entry in candidates().entries]
    for seed in range(3):
        chosen = start(candidates(), seed)
        assert len(chosen) == len(set(chosen)) < len(points) / 2
        hull = Hull.of([points[place] for place in chosen])
        assert all(point in hull for point in points)
    assert start(candidates(), 0) == start(candidates(), 0)


def test_a_space_of_few_keys_is_started_with_all_of_them() -> None:
    few = candidates_of(space(choices={"head": "sgd", "cut": 0, "replay_bits": 8, "n_replays": [25, 50]}))
    assert sorted(start(few, 0)) == [0, 1]
    assert start(candidates_of(space(budgets={"ram_peak_kib": 1})), 0) == []


@pytest.mark.parametrize("name", PROPOSERS)
def test_proposals_can_be_run_and_are_repeatable(name: str) -> None:
    now = state(list(range(FIRST)), failed=(20,))
    found = PROPOSERS[name](now, 4)
    assert len(found) == 4
    assert 20 not in found
    assert all(count <= now.left[place] for place, count in Counter(found).items())
    assert PROPOSERS[name](state(list(range(FIRST)), failed=(20,)), 4) == found


@pytest.mark.parametrize("name", ["random", "nsga2"])
def test_plain_proposals_end_with_every_key_run_once(name: str) -> None:
    done = list(range(FIRST))
    while True:
        found = PROPOSERS[name](state(done), 5)
        if not found:
            break
        assert not set(found) & set(done)
        done += found
    assert sorted(done) == list(range(len(candidates())))


def test_random_proposals_follow_one_order_per_seed() -> None:
    everything = at_random(state([]), 100)
    assert sorted(everything) == list(range(len(candidates())))
    assert at_random(state(everything[:5]), 3) == everything[5:8]
    assert at_random(state([], seed=1), 100) != everything


def test_evolution_proposes_candidates_that_are_new() -> None:
    found = by_evolution(state(list(range(FIRST))), 6)
    assert len(set(found)) == 6
    assert not set(found) & set(range(FIRST))


def naive_front(accuracy: np.ndarray) -> set[int]:
    found: set[int] = set()
    for board in boards():
        rows, owner = [], []
        for place, costs in enumerate(board.costs):
            for row in costs if not np.isnan(accuracy[place]) else ():
                rows.append([-accuracy[place], *row])
                owner.append(place)
        found |= set(np.array(owner)[~dominated_mask(np.array(rows))].tolist())
    return found


def test_the_front_of_candidates_is_that_of_their_designs() -> None:
    now = state(list(range(FIRST)))
    value = MeasuredAccuracy(now.runs).estimate(now.points).value
    assert set(front_of(now, value)) == naive_front(value)
    value[::3] = np.nan
    assert set(front_of(now, value)) == naive_front(value)
    assert front_of(now, np.full(len(value), np.nan)) == []


def test_the_front_gets_its_seeds_those_first_that_have_none() -> None:
    now = state([*range(FIRST), 0, 1])
    value = MeasuredAccuracy(now.runs).estimate(now.points).value
    front = set(front_of(now, value))
    found = for_the_front(now, {}, 100)
    assert set(found) == {place for place in front if now.left[place]}
    counts = now.counts.copy()
    order = []
    for place in found:
        order.append(int(counts[place]))
        counts[place] += 1
    assert order == sorted(order)
    assert all(counts[place] == now.settings.seeds for place in front)


def test_keys_that_cannot_be_run_are_left_out() -> None:
    now = state(list(range(FIRST)), failed=tuple(range(FIRST, len(candidates()))))
    assert at_random(now, 10) == []
    assert set(for_the_front(now, {}, 50)) <= set(range(FIRST))
    assert set(PROPOSERS["hypervolume"](now, 10)) <= set(range(FIRST))
