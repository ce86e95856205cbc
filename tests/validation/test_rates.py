from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dse.plan.decisions import TrainingPlan
from dse.training.record import RunRecord
from dse.training.task import Task
from dse.validation.pool import run_jobs
from dse.validation.rates import NO_RATE, RateSearch, representatives, scheme_of, stable
from dse.validation.store import RunStore
from tests.validation import fake_runs
from tests.validation.fake_runs import NETWORK

CUTS = NETWORK.legal_cuts
TASK = Task(rates=(0.3, 0.1, 0.01))
PLANS = [TrainingPlan(cut, n_replays=n) for cut in CUTS for n in (50, 200)]


def test_plans_of_a_scheme_differ_in_cut_and_storage_alone() -> None:
    schemes = {scheme_of(NETWORK, plan) for plan in [*PLANS, replace(PLANS[0], micro_batch=4, replay_bits=3)]}
    assert len(schemes) == 1
    others = [
        TrainingPlan(CUTS[0], optimiser="adam"), TrainingPlan(CUTS[0], replay="none"),
        TrainingPlan(CUTS[0], bn_mode="frozen_stats"), TrainingPlan(CUTS[0], policy="bias"),
        TrainingPlan(CUTS[0], head="ncm"), TrainingPlan(CUTS[0], head="tinyol"),
    ]  # fmt: skip
    assert len(schemes | {scheme_of(NETWORK, plan) for plan in others}) == 7


def test_representatives_are_the_ends_whatever_the_order() -> None:
    chosen = representatives(NETWORK, PLANS)
    assert [(plan.cut, plan.n_replays) for plan in chosen] == [(CUTS[0], 200), (CUTS[-1], 50)]
    assert representatives(NETWORK, PLANS[::-1]) == chosen
    assert len(representatives(NETWORK, PLANS[:2])) == 1


def test_the_best_rate_of_the_validation_samples_is_chosen(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    plans = [*PLANS, TrainingPlan(CUTS[-1], head="ncm"), TrainingPlan(CUTS[-1], head="tinyol")]
    search = RateSearch(NETWORK, TASK, plans, seed=3)
    tried = run_jobs(search.jobs(), store, workers=1, run=fake_runs.run)
    rates = search.chosen({record.key: record for record in tried})
    assert {scheme.head: rate for scheme, rate in rates.items() if scheme.head != "tinyol"} == {
        "sgd": 0.1,
        "ncm": NO_RATE,
    }
    records = list(store.records())
    assert {record.split for record in records} == {"validation"}
    assert {record.seed for record in records} == {3}
    assert len(records) == 2 * 3 + 3, "two cuts of sgd and one of tinyol at three rates, none of ncm"


def test_one_rate_needs_no_search(tmp_path: Path) -> None:
    search = RateSearch(NETWORK, Task(rates=(0.02,)), PLANS)
    assert search.jobs() == []
    assert set(search.chosen({}).values()) == {0.02}


def record(job: object, accuracy: float) -> RunRecord:
    assert isinstance(job, fake_runs.Job)
    return replace(fake_runs.run(job), accuracy=accuracy)


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ({0.01: (0.5, 0.5), 0.1: (0.9, 0.0), 0.3: (0.4, 0.5)}, 0.01),  # means 0.5, 0.45, 0.45
        ({0.01: (0.1, 0.1), 0.1: (0.6, 0.6), 0.3: (0.6, 0.6)}, 0.1),  # of equal ones the lowest
        ({0.01: (0.1, 0.1), 0.1: (float("nan"), 1.0), 0.3: (0.2, 0.2)}, 0.3),  # one diverged
    ],
)
def test_choice_by_hand(accuracies: dict[float, tuple[float, float]], best: float) -> None:
    search = RateSearch(NETWORK, TASK, PLANS)
    plans = next(iter(search.schemes().values()))
    records = [
        record(search.job(plan, rate), value)
        for rate, values in accuracies.items()
        for plan, value in zip(plans, values, strict=True)
    ]
    by_key = {one.key: one for one in records}
    assert list(search.chosen(by_key).values()) == [best]
    by_key.popitem()
    assert search.chosen(by_key) == {}, "an incomplete search chooses nothing"


@pytest.mark.parametrize(
    ("collapsed", "expected"),
    [
        ({}, [0.01, 0.1, 0.3]),
        ({0.3}, [0.01]),  # 0.1 is next to the edge
        ({0.1, 0.3}, [0.01]),  # nothing has a margin
        ({0.01, 0.1, 0.3}, [0.01]),
        ({0.1}, [0.3]),
    ],
)
def test_a_rate_keeps_away_from_the_edge_of_stability(collapsed: set[float], expected: list[float]) -> None:
    search = RateSearch(NETWORK, TASK, PLANS)
    plan = next(iter(search.schemes().values()))[0]
    tried = {
        rate: [replace(record(search.job(plan, rate), 0.5), collapsed=rate in collapsed)]
        for rate in TASK.rates
    }
    assert stable(tried) == expected
