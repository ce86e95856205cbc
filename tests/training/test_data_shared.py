"""Data sets that may lie beside the checkout; where one is absent, its tests skip and say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dse.training.data import load_data
from dse.training.streams import make_stream
from dse.training.task import Task

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def beside(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the data set shared/data/{name} is not beside this checkout")
    return path


def test_fashion_mnist_has_its_published_statistics() -> None:
    data = load_data({"kind": "fashion-mnist", "path": str(beside("fashion_mnist"))})
    assert (len(data.train), len(data.test), data.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert np.bincount(data.train.y).tolist() == [6000] * 10
    mean, deviation = -data.offset / data.scale / 255, 1 / data.scale / 255
    assert (mean, deviation) == (pytest.approx(0.28604, abs=5e-6), pytest.approx(0.35302, abs=5e-6))


def test_activity_windows_are_as_many_as_documented() -> None:
    data = load_data({"kind": "windows", "path": str(beside("har_spsw/har_spsw.npz"))})
    assert (len(data.train), len(data.test)) == (3827, 1349)
    assert data.class_names == ("SEATED", "SITTING_DOWN", "STANDING_UP", "TURNING", "WALKING")
    assert sorted(set(data.train.domain.tolist())) == list(range(17))
    assert sorted(set(data.test.domain.tolist())) == list(range(17, 23))


def halves(x):
    """The first and the last 64 rows of windows (n, C, 128): what neighbours at stride 64 share."""
    return {bytes(one) for part in (x[:, :, :64], x[:, :, 64:]) for one in np.ascontiguousarray(part)}


@pytest.mark.parametrize(("stream", "first", "step"), [("new_classes", 3, 1), ("new_instances", 5, 4)])
def test_no_activity_validation_window_shares_rows_with_a_learned_one(stream, first, step):
    data = load_data({"kind": "windows", "path": str(beside("har_spsw/har_spsw.npz"))})
    task = Task(stream=stream, first=first, step=step, pretrain_per_class=400, per_class=0)
    whole = make_stream(data, task, 0)
    learned = np.concatenate([whole.pretrain, *(one.train for one in whole.experiences)])
    assert not halves(data.train.x[whole.validation]) & halves(data.train.x[learned])
    assert not set(data.train.group[whole.validation].tolist()) & set(data.train.group[learned].tolist())
    shares = np.bincount(data.train.y[whole.validation]) / np.bincount(data.train.y)
    assert shares == pytest.approx(0.15, abs=0.03)
    other = make_stream(data, task, 1)
    np.testing.assert_array_equal(whole.validation, other.validation)
    single = make_stream(replace(data, train=replace(data.train, group=None)), task, 0)
    rest = np.concatenate([single.pretrain, *(one.train for one in single.experiences)])
    assert halves(data.train.x[single.validation]) & halves(data.train.x[rest]), "what groups are for"


def test_phone_and_watch_together_are_both() -> None:
    path = str(beside("har_spsw/har_spsw.npz"))
    counts = [len(load_data({"kind": "windows", "path": path, "device": one}).train) for one in ("sp", "sw")]
    assert sum(counts) == 3827
    assert min(counts) > 1500


def test_spoken_digits_keep_their_official_split() -> None:
    path = str(beside("fsdd_logmel/fsdd_logmel.npz"))
    table = {"kind": "npz", "path": path, "domain": "speaker", "test": {"key": "index", "below": 5}}
    data = load_data(table | {"range": ["lo", "hi"]})
    assert (len(data.train), len(data.test), data.input_shape) == (2700, 300, (1, 32, 48))
    assert np.bincount(data.test.y).tolist() == [30] * 10
    assert set(data.test.domain.tolist()) == set(range(6))
    both = np.concatenate([data.values(data.train.x), data.values(data.test.x)])
    assert both.mean() == pytest.approx(0, abs=2e-3), "standardised over the whole set"
    assert both.std() == pytest.approx(1, abs=5e-3)
