"""What every data set promises: checked arrays, one hash for one content, inputs that a network likes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UnknownName, UserError
from dse.training.data import DATA_KINDS, Dataset, Split, load_data
from dse.training.data.scaling import byte_scale, standardised


def split(n: int = 6, classes: int = 2, dtype: Any = np.uint8, **changes: Any) -> Split:
    arrays = {
        "x": np.arange(n * 4, dtype=dtype).reshape(n, 1, 2, 2),
        "y": np.arange(n, dtype=np.int64) % classes,
        "domain": np.zeros(n, dtype=np.int64),
    }
    return Split(**arrays | changes)


def dataset(**changes: Any) -> Dataset:
    arguments: dict[str, Any] = {
        "name": "made", "train": split(), "test": split(4), "class_names": ("a", "b"), "source": "a test",
    }  # fmt: skip
    return Dataset(**arguments | changes)


def found(error: pytest.ExceptionInfo[UserError]) -> list[tuple[str, str]]:
    return [(problem.key, problem.found) for problem in error.value.problems]


def test_a_data_set_says_what_it_holds() -> None:
    data = dataset(scale=0.5, offset=-1.0)
    assert (data.input_shape, data.classes, len(data.train)) == ((1, 2, 2), 2, 6)
    assert data.values(data.train.x[1]).tolist() == [[[1.0, 1.5], [2.0, 2.5]]]


def test_arrays_are_read_only_and_values_are_copies() -> None:
    data = dataset(train=split(dtype=np.float32), test=split(4, dtype=np.float32))
    with pytest.raises(ValueError, match="read-only"):
        data.train.x[0] = 1
    values = data.values(data.train.x)
    values += 1
    assert data.train.x[0, 0, 0, 0] == 0


def test_the_hash_follows_every_part_of_the_content() -> None:
    base = dataset()
    others = [
        dataset(train=split(x=split().x + np.uint8(1))),
        dataset(test=split(4, y=np.array([0, 0, 1, 1]))),
        dataset(train=split(domain=np.array([0, 0, 0, 1, 1, 1]))),
        dataset(train=split(dtype=np.float32), test=split(4, dtype=np.float32)),
        dataset(scale=2.0),
        dataset(offset=1.0),
        dataset(batches=np.array([0, 0, 0, 1, 1, 1])),
        dataset(train=split(group=np.array([0, 0, 0, 1, 1, 1]))),
        dataset(train=split(group=np.array([0, 0, 0, 1, 1, 2]))),
        dataset(test=split(4, group=np.array([0, 0, 0, 1]))),
    ]
    hashes = {one.content_hash for one in [base, *others]}
    assert len(hashes) == len(others) + 1
    assert dataset(name="other", source="elsewhere").content_hash == base.content_hash
    assert len(base.content_hash) == 64


def test_the_hash_is_that_of_the_bytes_whatever_their_order_in_memory() -> None:
    x = np.arange(24, dtype=np.float32).reshape(6, 1, 2, 2)
    other = dataset(
        train=split(x=np.asfortranarray(x).astype(">f4").astype(np.float32)),
        test=split(4, dtype=np.float32),
    )
    assert other.content_hash == dataset(train=split(x=x), test=split(4, dtype=np.float32)).content_hash


BAD = {
    "type of x": ({"train": split(x=np.zeros((6, 4), dtype=np.float64))}, "train.x"),
    "axes of x": ({"train": split(x=np.zeros(6, dtype=np.uint8))}, "train.x"),
    "five axes": ({"train": split(x=np.zeros((6, 1, 1, 1, 1), dtype=np.uint8))}, "train.x"),
    "no samples": ({"test": split(0)}, "test.x"),
    "labels of another type": ({"train": split(y=np.zeros(6, dtype=np.int32))}, "train.y"),
    "labels with two axes": ({"train": split(y=np.zeros((6, 1), dtype=np.int64))}, "train.y"),
    "too few labels": ({"train": split(y=np.zeros(5, dtype=np.int64))}, "train.y"),
    "too few domains": ({"train": split(domain=np.zeros(5, dtype=np.int64))}, "train.domain"),
    "negative domain": ({"test": split(4, domain=np.full(4, -1))}, "test.domain"),
    "groups of another type": ({"train": split(group=np.zeros(6, dtype=np.int32))}, "train.group"),
    "too few groups": ({"train": split(group=np.zeros(5, dtype=np.int64))}, "train.group"),
    "negative group": ({"test": split(4, group=np.full(4, -1))}, "test.group"),
    "a group in both parts": (
        {"train": split(group=np.arange(6)), "test": split(4, group=np.arange(5, 9))}, "test.group"
    ),
    "one name for two classes": ({"class_names": ("a", "a")}, "class_names"),
    "another shape in the test": ({"test": split(x=np.zeros((6, 1, 3, 2), dtype=np.uint8))}, "test.x"),
    "another type in the test": ({"test": split(4, dtype=np.float32)}, "test.x"),
    "a negative label": ({"train": split(y=np.array([-1, 0, 1, 0, 1, 0]))}, "train.y"),
    "a label beyond the names": ({"test": split(4, y=np.array([0, 1, 2, 0]))}, "test.y"),
    "a class without test samples": ({"test": split(4, y=np.zeros(4, dtype=np.int64))}, "test.y"),
    "one class": ({"class_names": ("a",)}, "class_names"),
    "scale of nothing": ({"scale": 0.0}, "scale"),
    "scale that is no number": ({"offset": float("nan")}, "scale"),
    "learning events with a gap": ({"batches": np.array([0, 0, 0, 2, 2, 2])}, "batches"),
    "learning events of the wrong length": ({"batches": np.array([0, 1])}, "batches"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "key"), BAD.values(), ids=BAD)
def test_what_cannot_be_learned_from_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError) as error:
        dataset(**changes)
    assert [problem.key for problem in error.value.problems] == [key]
    assert all(problem.allowed for problem in error.value.problems), "each refusal names the fix"


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        dataset(train=split(y=np.zeros(5, dtype=np.int64), domain=np.zeros(7, dtype=np.int64)), test=split(0))
    assert {key for key, _ in found(error)} == {"train.y", "train.domain", "test.x"}


def test_values_that_are_not_finite_are_counted_and_located() -> None:
    x = np.zeros((6, 1, 2, 2), dtype=np.float32)
    x[3, 0, 1, 1], x[5, 0, 0, 0], x[5, 0, 0, 1] = np.inf, np.nan, np.nan
    with pytest.raises(UserError) as error:
        dataset(train=split(x=x), test=split(4, dtype=np.float32))
    assert found(error) == [("train.x", "2 NaN and 1 infinite values, the first in sample 3")]


def test_float_samples_are_stored_as_they_are_used() -> None:
    parts = {"train": split(dtype=np.float32), "test": split(4, dtype=np.float32)}
    with pytest.raises(UserError) as error:
        dataset(**parts, scale=2.0)
    assert [problem.key for problem in error.value.problems] == ["scale"]
    assert replace(dataset(**parts), name="b").scale == 1.0


# --- scaling ---


def test_byte_scale_gives_mean_zero_and_deviation_one() -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 1, 4, 4), dtype=np.uint8)
    scale, offset = byte_scale(x)
    values = x.astype(np.float64) * scale + offset
    assert values.mean() == pytest.approx(0, abs=1e-12)
    assert values.std() == pytest.approx(1, abs=1e-12)


def test_samples_that_are_all_alike_keep_their_scale() -> None:
    assert byte_scale(np.full((3, 1), 7, dtype=np.uint8)) == (1.0, -7.0)


def test_standardised_works_per_channel_and_on_training_samples_alone() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal([[[5.0]], [[-3.0]]], [[[2.0]], [[0.1]]], (2, 40, 9)).transpose(1, 0, 2)
    train, constant = np.concatenate([train, np.full((40, 1, 9), 4.0)], axis=1), 4.0
    test = np.ones((3, 3, 9))
    a, b = standardised(train, test)
    assert a.dtype == b.dtype == np.float32
    assert a.mean(axis=(0, 2)) == pytest.approx(0, abs=1e-6)
    assert a.std(axis=(0, 2)) == pytest.approx([1, 1, 0], abs=1e-6)
    assert b[0, :2, 0] == pytest.approx((1 - train[:, :2].mean(axis=(0, 2))) / train[:, :2].std(axis=(0, 2)))
    assert b[0, 2, 0] == 1 - constant


@pytest.mark.parametrize("values", [[1e200, -1e200], [1.7e308, 1.7e308, 1.6e308], [1e-200, 3e-200]])
def test_channels_whose_scale_leaves_float64_are_refused(values: list[float]) -> None:
    train = np.stack([np.arange(len(values)), values], axis=1)
    with pytest.raises(UserError, match=r"made: train.x: 1 channels .* the first 1: mean .*; values whose"):
        standardised(train, train, name="made")


def test_a_channel_that_never_changes_is_centred_whatever_its_mean_rounds_to() -> None:
    train = np.full((1000, 1), 0.1)
    assert standardised(train, train + 1)[1] == pytest.approx(1.0)


# --- by name or table ---


def test_a_name_is_a_table_with_a_kind() -> None:
    assert load_data("shapes").content_hash == load_data({"kind": "shapes"}).content_hash


@pytest.mark.parametrize("kind", ["shape", "", 7, ["shapes"]])
def test_an_unknown_kind_is_refused_with_the_known_ones(kind: Any) -> None:
    with pytest.raises(UnknownName, match=r"task\.data\.kind") as error:
        load_data({"kind": kind}, file="space.toml")
    assert error.value.known == tuple(DATA_KINDS)


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'fashion-mnist'"):
        load_data("fashion_mnist")


def test_a_table_without_a_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"space.toml: task.data.kind: missing; one of shapes"):
        load_data({"path": "x"}, file="space.toml")


@pytest.mark.parametrize("kind", sorted(DATA_KINDS))
def test_every_kind_refuses_unknown_options_and_values_of_another_type(kind: str) -> None:
    table = {"kind": kind, "sizes": 3, "path": 5, "seed": "x", "device": 1, "train_images": 1}
    with pytest.raises(UserError) as error:
        load_data(table, file="space.toml")
    keys = [problem.key for problem in error.value.problems]
    assert "task.data.sizes" in keys
    assert all(problem.file == "space.toml" and problem.allowed for problem in error.value.problems)
    assert len(keys) >= 3, "all problems at once"


@pytest.mark.parametrize("kind", ["npz", "windows", "images", "core50"])
def test_a_path_is_needed_and_must_exist(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task.data.path: missing"):
        load_data({"kind": kind})
    with pytest.raises(UserError, match=r"task.data.path: no (file|folder) at .*nothing"):
        load_data({"kind": kind, "path": "nothing"}, folder=tmp_path)


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 2), np.uint8), y=np.arange(8) % 2)
    data = load_data({"kind": "npz", "path": "a.npz"}, folder=str(tmp_path))
    assert (data.name, data.source, data.input_shape) == ("a", "a.npz", (2,))


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = load_data("digits")
    x, y = datasets.load_digits(return_X_y=True)
    both = np.concatenate([data.train.x, data.test.x]).reshape(-1, 64)
    assert (len(data.train), len(data.test), data.classes, data.train.x.max()) == (1347, 450, 10, 16)
    assert sorted(map(bytes, both)) == sorted(map(bytes, x.astype(np.uint8)))
    assert np.bincount(np.concatenate([data.train.y, data.test.y])).tolist() == np.bincount(y).tolist()


def test_digits_say_what_to_install_where_scikit_learn_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dse.training.data.digits.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"scikit-learn; pip install 'tinyml-dse\[train\]'"):
        load_data("digits")


def test_readers_are_imported_where_they_are_used() -> None:
    heavy = "{'torch', 'sklearn', 'pooch', 'PIL'}"
    code = f"import sys, dse.training.data; print(*sorted({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == ""
