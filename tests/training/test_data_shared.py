"""Data sets that may lie beside the checkout; where one is absent, its tests skip and say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dse.training.data import load_data

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
