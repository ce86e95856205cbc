"""Search by runs from beginning to end, with a stand-in for training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.search import SearchResult, Space, candidates_of, explore_exact, explore_measured
from dse.search.learning import choices
from dse.search.measured import Measuring, Request
from dse.search.trials import MOST_LOSSES, Trials, open_storage
from tests.search.measuring import SPACE, Training, accuracy, space

ROOT = Path(__file__).resolve().parents[2]


def search(wanted: Space, train: Training, storage: Any = None, **options: Any) -> SearchResult:
    opened = storage or open_storage("memory", None)
    return explore_measured(wanted, candidates_of(wanted), train, opened, **options)


def test_no_more_runs_than_asked_for_and_none_twice() -> None:
    for runs in (1, 7, 30):
        train = Training()
        found = search(space(measure={"runs": runs}), train)
        assert found.measurement is not None
        assert len(train.runs) == len(set(train.runs)) == len(found.measurement.finished) <= runs


def test_every_point_of_the_front_gets_its_seeds() -> None:
    found = search(space(measure={"runs": 70}), Training())
    for board in found.boards:
        assert set(board.front.columns["accuracy_status"]) == {"measured"}
        assert set(board.front.columns["accuracy_runs"]) == {3}


def test_the_front_is_that_of_the_exact_search_with_what_was_measured() -> None:
    found = search(space(), Training())
    again = explore_exact(found.space)
    for one, other in zip(found.boards, again.boards, strict=True):
        assert one.front.index.tolist() == other.front.index.tolist()
        assert one.counts == other.counts
    assert found.complete
    assert found.method == "exact"


def test_columns_say_how_each_accuracy_came_about() -> None:
    found = search(space(measure={"runs": 20}), Training())
    assert found.measurement is not None
    runs = Counter(run.key for run in found.measurement.finished)
    from dse.plan.learning_key import learning_key

    for board in found.boards:
        columns = board.front.columns
        names = list(columns)
        assert names[names.index("accuracy_status") + 1] == "accuracy_runs"
        for row, design in enumerate(board.front.index.tolist()):
            block = found.space.block_of(design)
            key = learning_key(block.context.workload, found.plan(design).plan)
            assert columns["accuracy_runs"][row] == runs[key]
            assert (columns["accuracy_status"][row] == "measured") == (runs[key] > 0)
            assert columns["accuracy_low"][row] <= columns["accuracy"][row] <= columns["accuracy_high"][row]


def test_the_same_seed_asks_for_the_same_runs_in_whatever_order_they_end() -> None:
    one, other = Training(), Training(backwards=True)
    first, second = search(space(), one), search(space(), other)
    assert one.rounds == other.rounds
    assert max(map(len, one.rounds)) == 4
    for left, right in zip(first.boards, second.boards, strict=True):
        assert left.front.columns["accuracy"].tolist() == right.front.columns["accuracy"].tolist()


@pytest.mark.parametrize("stop", [0, 9, 26])
def test_a_search_that_was_stopped_goes_on_as_it_would_have(stop: int, tmp_path: Path) -> None:
    whole = Training()
    search(space(), whole)
    first = Training(stop_after=stop)
    with pytest.raises(KeyboardInterrupt):
        search(space(), first, open_storage("journal", tmp_path))
    second = Training()
    found = search(space(), second, open_storage("journal", tmp_path))
    assert len(first.runs) == stop
    assert sorted(first.runs + second.runs) == sorted(whole.runs)
    third = Training()
    again = search(space(), third, open_storage("journal", tmp_path))
    assert third.runs == []
    assert again.to_frame().equals(found.to_frame())


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    """Both at once: together they do the runs of one, each once, and both know all of them at the end."""
    command = [sys.executable, "-m", "tests.search.measuring_process", str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    answers = [each.communicate(timeout=120) for each in both]
    assert [each.returncode for each in both] == [0, 0], answers
    said = [json.loads(out) for out, _ in answers]
    done = [tuple(run) for each in said for run in each["asked"]]
    assert len(done) == len(set(done)) == 20
    assert min(len(each["asked"]) for each in said) > 0
    assert said[0]["finished"] == said[1]["finished"] == 20


def test_a_run_that_is_never_answered_is_given_up() -> None:
    class Silent(Training):
        def __call__(self, requests: Any) -> Any:
            answers = super().__call__(requests)
            return ((place, one) for place, one in answers if requests[place].point.plan.cut != 0)

    train = Silent()
    found = search(space(measure={"runs": 12}), train)
    assert found.measurement is not None
    asked = Counter(train.runs)
    silent = {request.point.key for request in train.asked if request.point.plan.cut == 0}
    assert silent <= set(found.measurement.failures)
    assert max(asked.values()) == MOST_LOSSES


def searches(count: int, runs: int) -> list[tuple[Measuring, Training]]:
    """Return searches of one space that share a study."""
    opened, wanted = open_storage("memory", None), space(measure={"runs": runs})
    candidates = candidates_of(wanted)
    made = []
    for _ in range(count):
        train, trials = Training(), Trials(opened, "shared", choices(candidates), runs)
        made.append((Measuring(wanted, candidates, trials, train), train))
    return made


def test_of_two_searches_that_propose_the_same_one_runs_it() -> None:
    """Both look, then both claim: the loser gets nothing, and all runs are those of one search alone."""
    alone = Training()
    search(space(measure={"runs": 30}), alone)
    (one, first), (other, second) = searches(2, 30)
    for turn in range(100):
        looked = [(work, *work.propose(work.state())) for work in ((one, other), (other, one))[turn % 2]]
        if not looked[0][2]:
            break
        claimed = [(work, work.claim(phase, wanted)) for work, phase, wanted in looked]
        assert [len(claims) for _, claims in claimed] == [len(looked[0][2]), 0]
        claimed[0][0].run(claimed[0][1])
    assert first.runs
    assert second.runs
    assert sorted(first.runs + second.runs) == sorted(alone.runs)


def test_searches_that_disagree_keep_to_the_runs_together() -> None:
    """One has decided on the last runs while the other one begins them with other points."""
    (one, first), (other, second) = searches(2, 6)
    one.step()
    phase, wanted = one.propose(one.state())
    others = [Request(entry.point, 9) for entry in other.candidates.entries[:4]]
    assert len(wanted) == 1
    other.run(other.claim("explore", others[:1]))
    one.run(one.claim(phase, wanted))
    assert other.claim("explore", others[1:]) == []
    assert (len(first.runs), len(second.runs)) == (5, 1)
    assert not one.step()
    assert len(one.trials.finished()) == 6


def test_runs_on_other_data_or_of_another_space_do_not_count(tmp_path: Path) -> None:
    opened = open_storage("journal", tmp_path)
    search(space(measure={"runs": 6}), Training(), opened, data="one")
    other = Training()
    search(space(measure={"runs": 6}), other, opened, data="other")
    assert len(other.runs) == 6


def test_keys_that_cannot_be_run_are_named_and_unknown() -> None:
    def refuse(request: Request) -> bool:
        return request.point.plan.cut == 0

    train = Training(refuse)
    found = search(space(), train)
    assert found.measurement is not None
    assert found.measurement.failures
    assert set(found.measurement.failures.values()) == {"it cannot be"}
    failed = [key for key, _ in train.runs if key in found.measurement.failures]
    assert len(failed) == len(set(failed))
    for board in found.boards:
        assert 0 not in board.front.columns["cut"][board.front.columns["accuracy_status"] == "measured"]


def test_where_nothing_can_be_run_the_reason_is_given() -> None:
    train = Training(lambda request: True)
    with pytest.raises(UserError, match=r"training runs could not be done: it cannot be; see 'task'"):
        search(space(), train)
    assert len(train.runs) < 20


def test_where_nothing_fits_nothing_is_trained() -> None:
    train = Training()
    found = search(space(budgets={"ram_peak_kib": 1}), train)
    assert found.nothing_fits
    assert train.runs == []


def test_runs_follow_where_the_front_can_change() -> None:
    """Many replays at the early cut are the most accurate: they are run, however the order began."""
    train = Training()
    found = search(space(), train)
    points = {request.point.key: request.point for request in train.asked}
    best = max(points.values(), key=accuracy)
    everything = [entry.point for entry in candidates_of(space()).entries]
    assert accuracy(best) == max(accuracy(point) for point in everything)
    assert found.boards[1].front.columns["accuracy"].max() == pytest.approx(accuracy(best), abs=0.03)


def needed(proposals: str, seed: int, share: float) -> int:
    """Runs until the accuracy of what was run gives ``share`` of the hypervolume that all keys give."""
    from dse.search.acquisition import Board, Staircase, floor_of

    wanted = space(measure={"runs": 60, "seeds": 1, "seed": seed, "proposals": proposals})
    candidates = candidates_of(wanted)
    true = np.array([accuracy(entry.point) for entry in candidates.entries])
    boards = [Board(candidates, board) for board in range(2)]

    def volume(places: set[int]) -> float:
        return sum(Staircase(board, places, true, floor_of(true)).hypervolume for board in boards)

    train = Training()
    search(wanted, train)
    place = {entry.key: number for number, entry in enumerate(candidates.entries)}
    done: set[int] = set()
    for count, (key, _) in enumerate(train.runs, 1):
        done.add(place[key])
        if volume(done) >= share * volume(set(place.values())):
            return count
    return len(train.runs) + 1


@pytest.mark.slow
def test_the_front_is_found_with_fewer_runs_than_by_chance() -> None:
    counts = {
        name: sorted(needed(name, seed, 0.98) for seed in range(3)) for name in ("hypervolume", "random")
    }
    assert counts["hypervolume"][1] < counts["random"][1]


def test_progress_counts_runs() -> None:
    seen: list[tuple[int, int]] = []
    search(space(measure={"runs": 10}), Training(), progress=lambda *done: seen.append(done))
    assert seen == [(done, 10) for done in range(1, 11)]


def test_measured_accuracy_needs_the_exact_search() -> None:
    with pytest.raises(UserError, match="nsga2 with measured accuracy"):
        search(space(), Training(), method="nsga2")
    with pytest.raises(UserError, match="exact_limit"):
        search(Space.from_dict({**SPACE, "search": {"method": "exact", "exact_limit": 5}}), Training())
