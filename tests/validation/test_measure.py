"""What a search by runs is given: rates first, then what is asked for, refusals with their reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dse.accuracy.features import LearningPoint
from dse.errors import UserError
from dse.plan.decisions import TrainingPlan
from dse.search.measured import Reached, Request
from dse.training import Task
from dse.validation import measure
from dse.validation.measure import Trainer, require_measurable
from dse.validation.store import RunStore
from tests.search.measuring import space
from tests.validation import fake_runs

NETWORK = fake_runs.NETWORK
DATA = fake_runs.dataset("har-cnn-1d")


def point(cut: int = 2, **decisions: Any) -> LearningPoint:
    return LearningPoint.of(NETWORK, TrainingPlan(cut=cut, **decisions))


def trainer(folder: Path, *points: LearningPoint, rates: tuple[float, ...] = (0.05,)) -> Trainer:
    store = RunStore(folder)
    return Trainer(points, Task(rates=rates), DATA, store, workers=2, run=fake_runs.run)


def test_every_request_is_answered_with_the_record_of_its_run(tmp_path: Path) -> None:
    points = [point(cut) for cut in (0, 1, 2)]
    requests = [Request(each, seed) for each in points for seed in (0, 1)]
    with trainer(tmp_path, *points) as train:
        answers = dict(train(requests))
        assert sorted(answers) == list(range(6))
        for position, request in enumerate(requests):
            job = train.job(request)
            assert job is not None
            answer = answers[position]
            assert isinstance(answer, Reached)
            assert answer.accuracy == fake_runs.accuracy_of(job)
            assert answer.record["key"] == job.key
            assert answer.record["plan_key"] == request.point.key
            assert (job.split, job.rate, job.data_hash) == ("validation", 0.05, DATA.content_hash)


def test_what_was_run_before_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv(fake_runs.LOG, str(log))
    requests = [Request(point(), seed) for seed in range(3)]
    for _ in range(2):
        with trainer(tmp_path / "runs", point()) as train:
            assert len(list(train(requests))) == 3
    assert len(log.read_text(encoding="utf-8").splitlines()) == 3


def test_rates_are_chosen_by_the_same_search_whatever_is_asked_first(tmp_path: Path) -> None:
    points = [point(cut) for cut in (0, 1, 2)] + [point(head="ncm"), point(optimiser="adam")]
    rates = (0.01, 0.1, 1.0)
    chosen = []
    for number, order in enumerate((points, points[::-1])):
        with trainer(tmp_path / str(number), *order, rates=rates) as train:
            assert all(isinstance(answer, Reached) for _, answer in train([Request(order[0], 0)]))
            chosen.append(train.rates)
    assert chosen[0] == chosen[1]
    by_head = {(scheme.head, scheme.optimiser): rate for (_, scheme), rate in chosen[0].items()}
    assert by_head == {("sgd", "sgd"): 0.1, ("sgd", "adam"): 0.1, ("ncm", "sgd"): 0.0}


def test_runs_that_cannot_be_done_say_why(tmp_path: Path) -> None:
    seeds = (0, fake_runs.WRONG_DATA, fake_runs.BROKEN)
    with trainer(tmp_path, point()) as train:
        answers = dict(train([Request(point(), seed) for seed in seeds]))
    assert isinstance(answers[0], Reached)
    assert answers[1] == "task: data: wrong data; other data"
    assert "a mistake of the program" in str(answers[2])


def test_without_a_rate_nothing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "RATE_SEED", fake_runs.WRONG_DATA)
    with trainer(tmp_path, point(), rates=(0.01, 0.1)) as train:
        ((position, answer),) = train([Request(point(), 0)])
    assert position == 0
    assert answer == "no learning rate can be chosen for it: task: data: wrong data; other data"


def test_spaces_that_do_not_fit_the_data_are_refused_before_anything_is_trained() -> None:
    require_measurable(space(), Task(), DATA)
    with pytest.raises(UserError) as caught:
        require_measurable(space(networks=["resnet8"]), Task(validation_share=0.0), DATA)
    assert [problem.key for problem in caught.value.problems] == [
        "networks: resnet8", "task.validation_share",
    ]  # fmt: skip
