"""Windows over time series: against a slow recount, split by subject, refused where arrays disagree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.training.data import Dataset, load_data
from dse.training.data.windows import window_labels, window_starts
from dse.training.streams import make_stream
from dse.training.task import Task

FILES = ["s01_01_sp.csv", "s01_01_sw.csv", "s02_01_sp.csv", "s03_07_sw.csv", "s10_01_sp.csv", "s10_02_sw.csv"]
LENGTHS = [90, 75, 130, 64, 100, 120]


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = sum(LENGTHS)
    made = {
        "x": rng.normal([0, 5], [1, 3], (rows, 2)).astype(np.float32),
        "y": (np.arange(rows) // 17 % 3).astype(np.uint8),
        "offsets": np.concatenate([[0], np.cumsum(LENGTHS)]),
        "files": np.array(FILES),
        "class_names": np.array(["sit", "stand", "walk"]),
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def load(folder: Path, changes: dict[str, Any] | None = None, **options: Any) -> Dataset:
    np.savez(folder / "made.npz", **arrays(**changes or {}))
    table = {"kind": "windows", "path": "made.npz", "window": 20, "stride": 7, "label_share": 0.6, **options}
    return load_data(table, file="space.toml", folder=folder)


def slow(
    subjects: set[int], device: str = "", window: int = 20, stride: int = 7, share: float = 0.6
) -> list[Any]:
    """Windows of ``subjects``, one after the other: samples (window, C), label, subject."""
    held, found = arrays(), []
    for k, name in enumerate(FILES):
        if int(name[1:3]) not in subjects or not name.endswith(f"{device}.csv"):
            continue
        begin, end = held["offsets"][k], held["offsets"][k + 1]
        for start in range(begin, end, stride):
            if start + window > end:
                break
            label, count = Counter(sorted(held["y"][start : start + window].tolist())).most_common(1)[0]
            if count / window >= share:
                found.append((held["x"][start : start + window], label, int(name[1:3])))
    return found


@pytest.mark.parametrize("device", ["both", "sp", "sw"])
def test_windows_are_those_of_a_slow_recount(device: str, tmp_path: Path) -> None:
    data = load(tmp_path, device=device)
    subjects = {1, 2, 3, 10} if device == "both" else {1, 2, 10} if device == "sp" else {1, 3, 10}
    end = "" if device == "both" else device
    train, test = slow(subjects - {10}, end), slow({10}, end)
    assert data.train.y.tolist() == [label for _, label, _ in train]
    assert data.test.y.tolist() == [label for _, label, _ in test]
    assert data.train.x.shape == (len(train), 2, 20)
    stacked = np.stack([x for x, _, _ in train]).transpose(0, 2, 1).astype(np.float64)
    mean, spread = stacked.mean(axis=(0, 2), keepdims=True), stacked.std(axis=(0, 2), keepdims=True)
    assert data.train.x == pytest.approx((stacked - mean) / spread, abs=1e-5)
    tested = np.stack([x for x, _, _ in test]).transpose(0, 2, 1)
    assert data.test.x == pytest.approx((tested - mean) / spread, abs=1e-5)


def test_subjects_are_domains_and_lie_in_one_part(tmp_path: Path) -> None:
    data = load(tmp_path)
    assert data.train.domain.tolist() == [{1: 0, 2: 1, 3: 2}[one] for _, _, one in slow({1, 2, 3})]
    assert set(data.test.domain.tolist()) == {3}
    chosen = load(tmp_path, test_subjects=[1, 3])
    assert len(chosen.test) == len(slow({1, 3}))
    assert len(chosen.train) == len(slow({2, 10}))
    both = load(tmp_path, test_subjects=[1], train_subjects=[10])
    assert (len(both.train), len(both.test)) == (len(slow({10})), len(slow({1})))
    rest = load(tmp_path, train_subjects=[2])
    assert (len(rest.train), len(rest.test)) == (len(slow({2})), len(slow({1, 3, 10})))


def test_an_execution_of_a_subject_is_a_group(tmp_path: Path) -> None:
    names = [
        "s01_01_sp.csv",
        "s01_01_sw.csv",
        "s01_02_sp.csv",
        "s02_01_sw.csv",
        "s10_01_sp.csv",
        "s10_02_sw.csv",
    ]
    data = load(tmp_path, {"files": np.array(names)}, label_share=0.0)
    counts = [len(window_starts(0, rows, 20, 7)) for rows in LENGTHS]
    assert data.train.group is not None
    assert data.train.group.tolist() == np.repeat([0, 0, 1, 2], counts[:4]).tolist()
    assert data.test.group is not None
    assert data.test.group.tolist() == np.repeat([3, 4], counts[4:]).tolist()


@pytest.mark.parametrize("stream", ["new_classes", "new_instances", "both"])
def test_no_validation_window_shares_a_moment_with_a_learned_one(stream: str, tmp_path: Path) -> None:
    keys = [(subject, execution) for subject in range(1, 5) for execution in range(8)]
    files = np.array([f"s{s:02}_{e:02}_{device}.csv" for s, e in keys for device in ("sp", "sw")])
    rows = 120 * len(files)
    # The one channel is the moment: phone and watch of an execution count the same 120 rows.
    moment = 1000 * np.repeat(np.arange(len(files)) // 2, 120) + np.tile(np.arange(120), len(files))
    changes = {
        "x": moment[:, None].astype(np.float64), "y": (np.arange(rows) // 40 % 3).astype(np.uint8),
        "offsets": np.arange(len(files) + 1) * 120, "files": files,
    }  # fmt: skip
    data = load(tmp_path, changes)
    train = moment[moment < 1000 * 8 * 3]  # the fourth subject is tested on
    seen = np.rint(data.train.x[:, 0] * train.std() + train.mean())
    stream_of = make_stream(data, Task(stream=stream, first=2, step=1, per_class=0, validation_share=0.2), 0)
    learned = np.concatenate([stream_of.pretrain, *(one.train for one in stream_of.experiences)])
    moments = [{int(one) // 7 for one in seen[part].ravel()} for part in (stream_of.validation, learned)]
    assert not moments[0] & moments[1]
    assert len(stream_of.validation) + len(learned) == len(data.train)
    assert 0.1 < len(stream_of.validation) / len(data.train) < 0.3


def test_names_are_numbers_where_the_file_has_none(tmp_path: Path) -> None:
    assert load(tmp_path, {"class_names": None}).class_names == ("0", "1", "2")
    assert load(tmp_path).class_names == ("sit", "stand", "walk")


def test_windows_by_hand() -> None:
    assert window_starts(10, 30, 8, 5).tolist() == [10, 15, 20]
    assert window_starts(0, 8, 8, 5).tolist() == [0]
    assert window_starts(0, 7, 8, 5).tolist() == []
    y = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    label, share = window_labels(y, np.array([0, 1, 4]), 4, 3)
    assert label.tolist() == [0, 0, 1]
    assert share.tolist() == [0.75, 0.5, 0.75]


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one axis": ({"x": np.zeros(579, np.float32)}, {}, "made.npz: x: float32 (579,)"),
    "labels of another length": ({"y": np.zeros(3, np.uint8)}, {}, "made.npz: y: shape (3,)"),
    "too few offsets": ({"offsets": np.array([0, 579])}, {}, "one more than files"),
    "offsets that go back": ({"offsets": np.array([0, 90, 60, 295, 359, 459, 579])}, {}, "ascending from 0"),
    "offsets beyond the rows": ({"offsets": np.array([0, 90, 165, 295, 359, 459, 600])}, {}, "the 579 rows"),
    "float offsets": ({"offsets": np.linspace(0, 579, 7)}, {}, "made.npz: offsets: float64"),
    "another name": ({"files": np.array([*FILES[:5], "rec6.csv"])}, {}, "'rec6.csv'; sSS_EE_DEVICE.csv"),
    "no names": ({"files": np.arange(6)}, {}, "made.npz: files: int64"),
    "no such array": ({"offsets": None}, {}, "has no array 'offsets'"),
    "not a number": ({"x": np.full((579, 2), np.nan)}, {}, "NaN and 0 infinite"),
    "too long a window": ({}, {"window": 200}, "no window of 200 rows"),
    "a window of one row": ({}, {"window": 1}, "a whole number from 2 to 65536"),
    "no stride": ({}, {"stride": 0}, "task.data.stride: 0"),
    "a share above one": ({}, {"label_share": 1.5}, "a number from 0 to 1"),
    "unknown device": ({}, {"device": "phone"}, "'phone'; allowed: both, sp, sw"),
    "unknown subject": ({}, {"test_subjects": [1, 4]}, "no recording of [4]; of 1, 2, 3, 10"),
    "a subject in both parts": ({}, {"test_subjects": [1], "train_subjects": [1, 2]}, "[1] in both parts"),
    "the same subject twice": ({}, {"test_subjects": [1, 1]}, "a list of distinct whole numbers"),
    "nobody to train on": ({}, {"test_subjects": [1, 2, 3, 10]}, "train_subjects: nobody is left"),
    "a class that nobody shows": ({"y": np.zeros(579, np.uint8)}, {}, "no sample of 2 classes (stand, walk)"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_fix(
    changes: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, changes, **options)
    assert message in str(error.value)


def test_one_subject_cannot_be_split(tmp_path: Path) -> None:
    names = np.array([f"s01_{k:02}_sp.csv" for k in range(6)])
    with pytest.raises(UserError, match="1 subjects; at least two"):
        load(tmp_path, {"files": names})
