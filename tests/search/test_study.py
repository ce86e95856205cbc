"""Sampled search: seeded, constrained by Optuna's own mechanism, and never pricing a design twice."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest

from dse.errors import UnknownName
from dse.search import explore_exact, explore_study
from dse.search import study as module
from dse.search.pricing import price_designs
from dse.search.study import SAMPLERS, BoardStudy
from tests.search.spaces import CORE50, space


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_result(sampler: str) -> None:
    mine = space(CORE50)
    one, other = (explore_study(mine, sampler, trials=60, seed=4) for _ in range(2))
    assert one.counts == other.counts
    assert (one.boards[0].front.index == other.boards[0].front.index).all()
    assert (one.seed, one.trials, one.complete, one.method) == (4, 60, False, sampler)


def test_another_seed_samples_other_designs() -> None:
    mine = space()
    fronts = [explore_study(mine, "random", trials=30, seed=seed, coarse=0).priced for seed in range(4)]
    indices = [BoardStudy(mine, 0) for _ in range(2)]
    for seed, study in enumerate(indices):
        list(study.run(SAMPLERS["random"](seed), 30))
    assert indices[0].outcomes.keys() != indices[1].outcomes.keys()
    assert max(fronts) <= 30


def test_no_design_is_priced_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def recorded(block: Any, index: Any, *rest: Any) -> Any:
        seen.extend(np.asarray(index).tolist())
        return price_designs(block, index, *rest)

    monkeypatch.setattr(module, "price_designs", recorded)
    result = explore_study(space(CORE50), trials=200, seed=1, coarse=50)
    assert len(seen) == len(set(seen)) == result.priced


def test_the_sample_is_a_part_of_the_space_and_its_front_is_not_beaten_within_it() -> None:
    mine = space(budgets={"ram_peak_kib": 30})
    exact, sampled = explore_exact(mine), explore_study(mine, trials=150, seed=2)
    best, found = exact.boards[0].front, sampled.boards[0].front
    for row in found.values:
        assert (best.values <= row).all(axis=1).any()
    assert found.hypervolume_within(best.ranges) <= best.hypervolume + 1e-12
    counts = sampled.boards[0].counts
    assert counts.evaluated <= counts.total == mine.size
    assert counts.front + counts.variants + counts.dominated == counts.feasible


def test_budgets_are_constraints_of_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    studies: list[optuna.Study] = []
    create = optuna.create_study

    def kept(**options: Any) -> optuna.Study:
        studies.append(create(**options))
        return studies[-1]

    monkeypatch.setattr(optuna, "create_study", kept)
    mine = space(budgets={"ram_peak_kib": 30, "event_s": 0.2})
    explore_study(mine, trials=80, seed=0)
    trials = studies[0].trials
    assert len(trials) == 80
    assert {"ram_peak_kib", "event_s"} <= {name for trial in trials for name in trial.constraints}
    feasible = [all(value <= 0 for value in trial.constraints.values()) for trial in trials]
    assert 0 < sum(feasible) < 80
    best = studies[0].best_trials
    assert best
    assert all(all(value <= 0 for value in trial.constraints.values()) for trial in best)


def test_illegal_and_unknown_designs_are_infeasible_trials() -> None:
    study = BoardStudy(
        space(CORE50, choices={"micro_batch": [1, "batch"], "cut": [20, 27], "n_replays": 750}), 0
    )
    study.price(range(study.space.blocks[0].size))
    reasons = [
        {name for name, value in one.constraints.items() if value > 0} for one in study.outcomes.values()
    ]
    assert {"possible"} in reasons
    assert any("accuracy known" in reason for reason in reasons)
    assert set() in reasons
    assert all(np.isfinite(one.values).all() for one in study.outcomes.values())


def test_the_start_is_the_front_of_a_coarser_grid() -> None:
    study = BoardStudy(space(CORE50), 0)
    study.start(100, trials=1000)
    front = study.tally.archive.points.index.tolist()
    assert [study.axes.design(positions) for positions in study.first] == front
    study = BoardStudy(space(CORE50), 0)
    study.start(100, trials=4)
    assert len(study.first) == min(2, len(front))


def test_nsga2_finds_nearly_all_of_a_small_front() -> None:
    mine = space(CORE50, choices={"replay_level": ["auto", "HyperRAM"], "update": ["accumulate", "in_place"]})
    best = explore_exact(mine).boards[0].front
    found = explore_study(mine, trials=400, seed=0).boards[0].front
    assert found.hypervolume_within(best.ranges) >= 0.95 * best.hypervolume


def test_nothing_feasible_names_the_nearest_design_that_was_seen() -> None:
    result = explore_study(space(CORE50, boards=["stm32l476rg"]), trials=40, seed=0)
    assert result.nothing_fits
    assert result.boards[0].relaxation is not None


def test_progress_counts_trials_over_all_boards() -> None:
    seen: list[tuple[int, int]] = []
    explore_study(
        space(boards=["stm32l476rg", "vega"]), "random", trials=60, progress=lambda *done: seen.append(done)
    )
    assert seen[-1] == (120, 120)


def test_an_unknown_sampler_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'nsga2'"):
        explore_study(space(), "nsga-2")


def test_importing_the_search_does_not_import_optuna() -> None:
    code = "import sys, dse.search; print({'optuna', 'pandas', 'matplotlib'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_board_gets_no_more_trials_than_it_has_designs() -> None:
    tiny = space(choices={"cut": "last", "replay_bits": [7, 8]})
    done: list[int] = []
    found = explore_study(tiny, "random", trials=10**9, coarse=0, progress=lambda at, _: done.append(at))
    assert 0 < len(done) <= tiny.size // module.POPULATION + len(tiny.boards)  # one call per generation
    assert 0 < found.priced <= tiny.size
