"""Networks that come with numbers start from them: bit for bit, whatever trains them afterwards."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.training import Job, RunRecord
from dse.training.engine import run
from dse.training.network import build_module, infer
from dse.training.parameters import fold, initial_parameters, starting_parameters
from dse.training.pretrain import pretrain_key, train_from_scratch
from dse.training.setting import Setting, setting_of
from dse.validation.order import pretraining_of
from dse.validation.pool import run_jobs
from dse.validation.store import RunStore
from dse.workload import Workload, load_network
from dse.workload.numbers import Numbers
from dse.workload.parameters import with_numbers
from dse.workload.save import save_network
from tests.training.small import PLAN, TASK, network
from tests.workload.round_trip import FORMATS

NETWORK = network()
AS_FILED = replace(TASK, pretrain_epochs=0)
"""The task without pretraining: numbers are used as they are."""

TIMES = ("cpu_s", "wall_s", "pretrain_s", "key", "plan_key")


@pytest.fixture(scope="module")
def trained() -> Setting:
    """What a run stands on whose network was trained here."""
    return setting_of(Job(NETWORK, PLAN, TASK))


@pytest.fixture(scope="module")
def filed(trained: Setting, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """The same network out of a file, its numbers beside it."""
    found = with_numbers(NETWORK, trained.parameters, "here")
    return load_network(save_network(found, tmp_path_factory.mktemp("saved")))


def observed(record: RunRecord) -> Mapping[str, Any]:
    return {name: repr(value) for name, value in asdict(record).items() if name not in TIMES}


def bits(arrays: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in sorted(arrays.items())}


# --- the same network, from here and from a file ---


def test_without_pretraining_the_numbers_are_those_of_the_file(trained: Setting, filed: Workload) -> None:
    again = setting_of(Job(filed, PLAN, AS_FILED))
    assert bits(again.parameters) == bits(filed.numbers) == bits(trained.parameters)
    assert bits(again.parameters) != bits(initial_parameters(NETWORK, 0))


@pytest.mark.parametrize(("cut", "width"), [(0, 32), (2, 8), (4, 8)])
def test_frozen_features_are_equal_bit_for_bit(
    trained: Setting, filed: Workload, cut: int, width: int
) -> None:
    again = setting_of(Job(filed, PLAN, AS_FILED)).features(cut, width)
    features = trained.features(cut, width)
    assert again.train.tobytes() == features.train.tobytes()
    assert again.test.tobytes() == features.test.tobytes()


INT8 = {"learning_dtype": "int8", "bn_mode": "folded", "optimiser": "sgd"}


@pytest.mark.parametrize("changes", [{}, INT8, {"head": "cwr", "cut": 4}], ids=["fp32", "int8", "head"])
def test_a_run_of_the_file_is_the_run_of_the_network(filed: Workload, changes: dict[str, Any]) -> None:
    plan = replace(PLAN, epochs=1, **changes)
    mine, theirs = run(Job(NETWORK, plan, TASK)), run(Job(filed, plan, AS_FILED))
    assert observed(theirs) == observed(mine)
    assert theirs.key != mine.key


def test_a_model_of_another_program_learns_as_the_network_does(trained: Setting, tmp_path: Path) -> None:
    ending, write = FORMATS["torch"]
    path = tmp_path / f"model{ending}"
    path.write_bytes(write(NETWORK, trained.parameters))
    imported = load_network(path)
    features = setting_of(Job(imported, PLAN, AS_FILED)).features(2, 8)
    assert features.test.tobytes() == trained.features(2, 8).test.tobytes()
    plan = replace(PLAN, epochs=1)
    assert observed(run(Job(imported, plan, AS_FILED))) == observed(run(Job(NETWORK, plan, TASK)))


def test_pretraining_goes_on_from_the_numbers(filed: Workload) -> None:
    """At a rate of zero weights stay, and only the statistics of batch norms follow the data."""
    still = replace(TASK, pretrain_epochs=1, pretrain_rate=0.0)
    found = setting_of(Job(filed, PLAN, still)).parameters
    moved = {name for name in found if found[name].tobytes() != filed.numbers[name].tobytes()}
    assert moved
    assert {name.rpartition(".")[2] for name in moved} <= {"mean", "variance"}


def test_fine_tuning_ends_elsewhere_than_training_from_scratch(trained: Setting, filed: Workload) -> None:
    x = trained.dataset.values(trained.dataset.train.x[trained.stream.pretrain])
    y = trained.dataset.train.y[trained.stream.pretrain]
    once = replace(TASK, pretrain_epochs=1)
    classes = trained.stream.pretrain_classes
    scores = {
        name: np.mean(
            infer(build_module(NETWORK, train_from_scratch(each, x, y, classes, once, 0)), x).argmax(1) == y
        )
        for name, each in (("drawn", NETWORK), ("filed", filed))
    }
    assert scores["filed"] > scores["drawn"]


# --- a new head ---


def test_a_new_head_is_drawn_and_the_rest_is_the_file(filed: Workload) -> None:
    headless = with_numbers(
        NETWORK, {name: array for name, array in filed.numbers.items() if "classifier" not in name}, "m"
    )
    found, drawn = starting_parameters(headless, 3), initial_parameters(NETWORK, 3)
    new = {name for name in found if name.startswith("classifier.")}
    assert new == {"classifier.weight", "classifier.bias"}
    assert all(found[name].tobytes() == drawn[name].tobytes() for name in new)
    assert all(found[name].tobytes() == filed.numbers[name].tobytes() for name in set(found) - new)
    record = run(Job(headless, replace(PLAN, epochs=1), TASK))
    assert record.accuracy > 1 / 7


# --- folded batch norms ---

FOLDED = """
name = "tiny-folded"
title = "batch norms in the weights"
source = "made for tests"
input = { channels = 1, height = 12, width = 12 }
classes = 7
legal_cuts = [0, 2, 3, 4]
layers = [
  { kind = "conv2d", name = "stem", out_channels = 8, kernel = 3, stride = 2, then = ["relu"] },
  { kind = "depthwise", name = "dw", kernel = 3, then = ["relu"] },
  { kind = "pointwise", name = "pw", out_channels = 16, then = ["relu"] },
  { kind = "conv2d", name = "conv", out_channels = 24, kernel = 3, stride = 2, then = ["relu"] },
  { kind = "global_avg_pool", name = "pool" },
  { kind = "linear", name = "classifier", out_features = "classes", then = ["softmax"] },
]
"""


@pytest.fixture(scope="module")
def folded(trained: Setting, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tmp_path_factory.mktemp("folded")
    (folder / "source.toml").write_text(FOLDED, encoding="utf-8")
    bare = load_network(folder / "source.toml")
    found = with_numbers(bare, fold(NETWORK, trained.parameters), "here")
    assert len(found.numbers) == 10
    return load_network(save_network(found, folder))


def test_a_network_with_folded_norms_gives_what_the_whole_one_gives(
    trained: Setting, folded: Workload
) -> None:
    setting = setting_of(Job(folded, PLAN, AS_FILED))
    whole = trained.features(2, 32)
    assert setting.features(2, 32).test.tobytes() == whole.test.tobytes()  # a frozen stage is folded anyway
    x = trained.dataset.values(trained.dataset.test.x[:64])
    mine, theirs = (infer(build_module(each.workload, each.parameters), x) for each in (trained, setting))
    np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{"bn_mode": "folded"}, INT8], ids=["fp32", "int8"])
def test_a_network_with_folded_norms_learns_like_one_that_folds(
    folded: Workload, changes: dict[str, Any]
) -> None:
    plan = replace(PLAN, epochs=1, **changes)
    mine, theirs = run(Job(NETWORK, plan, TASK)), run(Job(folded, plan, AS_FILED))
    assert repr(theirs.matrix) == repr(mine.matrix)


# --- identity ---


def test_networks_without_numbers_keep_their_keys() -> None:
    job = Job(NETWORK, PLAN, TASK)
    assert job.content["network"] == NETWORK.content_hash
    assert NETWORK.content_hash in pretraining_of(job)


def test_numbers_are_part_of_every_key(trained: Setting, filed: Workload) -> None:
    other = replace(
        filed, numbers=Numbers({**filed.numbers, "classifier.bias": np.ones(7, np.float32)}, "there")
    )
    renamed = replace(filed, numbers=Numbers(filed.numbers, "elsewhere"))
    keys = {
        name: (
            Job(each, PLAN, TASK).key,
            pretraining_of(Job(each, PLAN, TASK)),
            pretrain_key(each, trained.dataset, trained.stream, TASK, 0),
        )
        for name, each in {"none": NETWORK, "filed": filed, "other": other, "renamed": renamed}.items()
    }
    assert keys["renamed"] == keys["filed"]
    for place in range(3):
        assert len({key[place] for key in keys.values()}) == 3


def test_a_job_takes_its_numbers_along(filed: Workload) -> None:
    job = Job(filed, replace(PLAN, epochs=1), AS_FILED)
    Path(filed.weights).rename(Path(filed.weights).with_suffix(".moved"))  # the file is not asked again
    sent = pickle.loads(pickle.dumps(job))
    Path(filed.weights).with_suffix(".moved").rename(filed.weights)
    assert sent == job
    assert sent.key == job.key
    assert observed(run(sent)) == observed(run(job))


@pytest.mark.slow
def test_processes_of_their_own_start_from_the_numbers(
    filed: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSE_CACHE", str(tmp_path / "cache"))
    jobs = [Job(filed, replace(PLAN, epochs=1), AS_FILED, seed=seed) for seed in (0, 1)]
    store = RunStore(tmp_path / "runs")
    found = {record.key: record for record in run_jobs(jobs, store, workers=2)}
    for job in jobs:
        assert observed(found[job.key]) == observed(run(job))


# --- numbers that do not fit ---


def test_numbers_of_another_network_are_refused() -> None:
    wrong = {"classifier.bias": np.zeros(5, np.float32), "stem.weight": np.zeros((8, 1, 3, 3), np.float32)}
    network = replace(NETWORK, numbers=Numbers(wrong, "m"))
    with pytest.raises(UserError) as refused:
        run(Job(network, PLAN, TASK))
    assert {problem.key for problem in refused.value.problems} == {"classifier.bias", "classifier.weight"}
