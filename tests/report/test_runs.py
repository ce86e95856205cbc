"""What the report says of training runs: what they were for, seeds, and how far the fronts are measured."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from dse.report.runs import runs_text
from dse.search import SearchResult, candidates_of, explore_measured
from dse.search.trials import open_storage
from tests.search.measuring import Training, space


def search(**measure: Any) -> SearchResult:
    wanted = space(measure=measure)
    return explore_measured(wanted, candidates_of(wanted), Training(), open_storage("memory", None))


def counted(words: str, said: str) -> int:
    found = re.search(rf"(\d+) {words}", said)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("runs", [20, 30, 45])
def test_first_runs_for_the_front_are_told_apart_from_further_seeds(runs: int) -> None:
    found = search(runs=runs)
    assert found.measurement is not None
    said = runs_text(found)
    for_the_front = [run for run in found.measurement.finished if run.phase == "seeds"]
    first = sum(run.seed == 0 for run in for_the_front)
    assert len(for_the_front) > 0
    assert counted("first runs? of points that stood on a front as fitted", said) == first
    assert counted("further seeds of points of a front", said) == len(for_the_front) - first
    phases = Counter(run.phase for run in found.measurement.finished)
    assert counted("to see every choice", said) == phases["start"]
    assert counted("proposed by hypervolume", said) == phases["explore"]


def test_every_front_says_how_many_of_its_points_reached_their_seeds() -> None:
    found = search(runs=24)
    said = runs_text(found)
    shares = []
    for result in found.boards:
        counts = result.front.columns["accuracy_runs"].tolist()
        reached = sum(count >= 3 for count in counts)
        shares.append(reached / len(counts))
        line = next(line for line in said.splitlines() if line.startswith(f"Front of {result.board}: "))
        assert line.endswith(f"; {reached} of {len(counts)} reached the 3 seeds asked for.")
    assert min(shares) < 1


def test_seed_effects_are_claimed_only_where_they_are_taken_out() -> None:
    once = runs_text(search(runs=20, seeds=1))
    assert "No plan was run with several seeds: seed effects are not taken out" in once
    assert "A seed moves all plans together" not in once
    assert "taken out, with" not in once
    several = runs_text(search(runs=60))
    assert "mean over the seeds, seed effects taken out, with" in several
    assert re.search(r"Seed effects taken out, from \d+ plans", several)
    few = next(said for runs in range(20, 60) if "Only " in (said := runs_text(search(runs=runs))))
    assert re.search(r"Only (1 plan was|2 plans were) run with several seeds: seed effects are not", few)
    assert "A seed moves all plans together" not in few
