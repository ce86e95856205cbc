"""Runs that would answer another question than the one that was asked are refused, before they train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dse.errors import IllegalPlan, UserError
from dse.training import Job, Task
from dse.training.engine import run
from dse.training.pretrain import pretrain_key
from dse.training.setting import setting_of
from dse.workload import load_network
from tests.training.small import PLAN, TASK, network

NETWORK = network()

ILLEGAL = {
    "latent replay at the input": {"cut": -1},
    "learning below the cut": {"policy": "last-4"},
    "no new samples": {"new_per_batch": 0},
    "no epoch": {"epochs": 0},
    "an inner cut": {"cut": 1},
}


@pytest.mark.parametrize("changes", ILLEGAL.values(), ids=ILLEGAL)
def test_what_no_device_can_execute(changes: dict[str, object]) -> None:
    with pytest.raises(IllegalPlan):
        run(Job(NETWORK, replace(PLAN, **changes), TASK))  # type: ignore[arg-type]


def test_a_buffer_that_cannot_be_filled() -> None:
    with pytest.raises(UserError, match=r"180 samples to fill the buffer .*pretrain_per_class"):
        run(Job(NETWORK, replace(PLAN, n_replays=181), TASK))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seed": -1}, "run: seed"),
        ({"rate": -0.05}, "run: rate"),
        ({"rate": float("nan")}, "run: rate"),
        ({"split": "train"}, "run: split"),
        ({"reference": "jont"}, "run: reference"),
        ({"reference": "joint", "plan": replace(PLAN, head="ncm")}, "ncm is a head"),
    ],
)
def test_a_job_that_means_nothing(options: dict[str, object], text: str) -> None:
    with pytest.raises(UserError, match=text):
        Job(**{"workload": NETWORK, "plan": PLAN, "task": TASK, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"schedule": "cosine"}, {"momentum": 5.0}, {"stream": "foo"}, {"order": "fixd"}]
)
def test_a_task_that_means_nothing(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        Task(**options)  # type: ignore[arg-type]


def test_heads_start_from_a_folded_classifier(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "data" / "tiny.toml").read_text(encoding="utf-8")
    text = text.replace('"classes", then = ["softmax"]', '"classes", bias = false, then = ["batch_norm"]')
    path = tmp_path / "normed.toml"
    path.write_text(text, encoding="utf-8")
    normed = load_network(path)
    after_pretraining = {
        head: run(Job(normed, replace(PLAN, cut=4, head=head), TASK)).per_experience[0]
        for head in ("sgd", "cwr", "tinyol", "ncm")
    }
    assert after_pretraining["tinyol"] == after_pretraining["sgd"]
    assert min(after_pretraining.values()) > 1 / 3


def test_pretraining_with_another_number_of_threads_is_another_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    setting = setting_of(Job(NETWORK, PLAN, TASK))
    parts = (NETWORK, setting.dataset, setting.stream, TASK, 0)
    one = pretrain_key(*parts)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert pretrain_key(*parts) != one
