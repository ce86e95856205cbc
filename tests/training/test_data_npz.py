"""Arrays of .npz files: axes, splits, ranges, and files that are not what they say."""

from __future__ import annotations

import io
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dse.errors import UserError
from dse.training.data import Dataset, load_data
from dse.training.data.archive import Archive
from dse.training.data.splits import drawn

Y = np.arange(20) % 4
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 5, 6), dtype=np.uint8)


def load(folder: Path, arrays: dict[str, Any], **options: Any) -> Dataset:
    np.savez_compressed(folder / "made.npz", **arrays)
    return load_data({"kind": "npz", "path": "made.npz", **options}, file="space.toml", folder=folder)


def refusal(folder: Path, arrays: dict[str, Any], **options: Any) -> str:
    with pytest.raises(UserError) as error:
        load(folder, arrays, **options)
    assert all(problem.allowed for problem in error.value.problems)
    return str(error.value)


def test_spoken_digits_are_one_table(tmp_path: Path) -> None:
    index = np.repeat(np.arange(5), 4)
    arrays = {"x": IMAGES, "y": Y, "lo": np.float32(-2), "hi": np.float32(3), "index": index,
              "speaker": np.array(["ann", "bob"] * 10)}  # fmt: skip
    data = load(tmp_path, arrays, domain="speaker", test={"key": "index", "below": 2}, range=["lo", "hi"])
    assert data.input_shape == (1, 5, 6)
    assert np.array_equal(data.test.x[:, 0], IMAGES[index < 2])
    assert np.array_equal(data.train.y, Y[index >= 2])
    assert data.train.domain.tolist() == [0, 1] * 6
    assert data.train.x.dtype == np.uint8
    assert data.values(np.array([0, 255], np.uint8)) == pytest.approx([-2, 3])
    assert data.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"key": "k", "at_least": 15}, list(range(15, 20))),
        ({"key": "k", "values": [0, 3, 6, 1]}, [0, 1, 3, 6]),
        ({"key": "k", "below": 4.5}, [0, 1, 2, 3, 4]),
    ],
)
def test_a_rule_on_a_column_chooses_the_test_samples(
    rule: dict[str, Any], expected: list[int], tmp_path: Path
) -> None:
    data = load(tmp_path, {"x": IMAGES, "y": Y, "k": np.arange(20)}, test=rule)
    assert np.array_equal(data.test.x[:, 0], IMAGES[expected])
    assert len(data.train) + len(data.test) == 20


def test_a_drawn_share_is_even_over_classes_and_follows_the_seed(tmp_path: Path) -> None:
    first, again, other = (
        load(tmp_path, {"x": IMAGES, "y": Y}, test={"share": 0.4, "seed": seed}) for seed in (1, 1, 2)
    )
    assert np.bincount(first.test.y).tolist() == [2, 2, 2, 2]
    assert first.content_hash == again.content_hash != other.content_hash
    assert drawn(np.array([0, 0, 0, 1]), 0.1, 0).sum() == 2, "at least one of each class"


def test_arrays_of_their_own_for_testing(tmp_path: Path) -> None:
    arrays = {"a": IMAGES, "b": Y, "c": IMAGES[:4] // 2, "d": np.arange(4), "s": Y + 7, "t": np.arange(4) + 9}
    names = {"x": "a", "y": "b", "x_test": "c", "y_test": "d", "domain": "s", "domain_test": "t"}
    data = load(tmp_path, arrays, **names)
    assert np.array_equal(data.test.x[:, 0], IMAGES[:4] // 2)
    assert (data.train.domain.tolist()[:4], data.test.domain.tolist()) == ([0, 1, 2, 3], [2, 3, 4, 5])


AXES = {
    "nhw": ((20, 5, 6), (1, 5, 6)), "nchw": ((20, 3, 5, 6), (3, 5, 6)), "nhwc": ((20, 5, 6, 3), (3, 5, 6)),
    "ncl": ((20, 3, 9), (3, 9)), "nlc": ((20, 9, 3), (3, 9)), "nl": ((20, 9), (1, 9)), "nf": ((20, 9), (9,)),
}  # fmt: skip


@pytest.mark.parametrize("axes", AXES)
def test_channels_come_second(axes: str, tmp_path: Path) -> None:
    given, expected = AXES[axes]
    x = np.random.default_rng(1).integers(0, 256, given, dtype=np.uint8)
    data = load(tmp_path, {"x": x, "y": Y}, axes=axes, test={"share": 0.25})
    assert data.input_shape == expected
    channel_last = axes.endswith("c")
    stored = {
        bytes(np.moveaxis(one, 0, -1) if channel_last else one) for one in [*data.train.x, *data.test.x]
    }
    assert stored == {bytes(one) for one in x}


def test_floats_are_standardised_per_channel_and_made_float32(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(5, [[1], [20]], (20, 2, 30))
    data = load(tmp_path, {"x": x, "y": Y}, axes="ncl")
    assert data.train.x.dtype == np.float32
    assert data.train.x.std(axis=(0, 2)) == pytest.approx(1, abs=1e-5)
    plain = load(tmp_path, {"x": x, "y": Y}, axes="ncl", standardise=False)
    assert plain.train.x.std() > 10


def test_whole_numbers_beyond_a_byte_become_floats(tmp_path: Path) -> None:
    x = np.arange(80, dtype=np.int16).reshape(20, 4) * 300
    assert load(tmp_path, {"x": x, "y": Y}).train.x.dtype == np.float32


def test_labels_may_be_words_and_names_may_be_given(tmp_path: Path) -> None:
    words = np.array(["cat", "ant", "bee", "dog"])[Y]
    data = load(tmp_path, {"x": IMAGES, "y": words})
    assert data.class_names == ("ant", "bee", "cat", "dog")
    both = {bytes(x): y for part in (data.train, data.test) for x, y in zip(part.x, part.y, strict=True)}
    assert [data.class_names[both[bytes(x)]] for x in IMAGES] == words.tolist()
    named = load(tmp_path, {"x": IMAGES, "y": Y, "names": np.array(list("abcd"))}, class_names="names")
    assert named.class_names == tuple("abcd")
    assert load(tmp_path, {"x": IMAGES, "y": Y}, class_names=list("wxyz")).class_names == tuple("wxyz")


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no such array": ({"z": IMAGES, "y": Y}, {}, "has no array 'x'; allowed: z, y"),
    "axes are not plain": ({"x": IMAGES.astype(np.float32), "y": Y}, {}, "axes: missing for x of shape"),
    "channels last, unsaid": ({"x": np.zeros((20, 8, 8, 3), np.uint8), "y": Y}, {}, "axes: missing for x"),
    "unknown axes": ({"x": IMAGES, "y": Y}, {"axes": "hwn"}, "axes: 'hwn'"),
    "axes of another rank": ({"x": IMAGES, "y": Y}, {"axes": "nchw"}, "'nchw' for x of shape"),
    "too few labels": (
        {"x": IMAGES, "y": Y[:-1]}, {}, r"task.data.y: shape (19,); one entry for each of the 20"
    ),
    "labels beyond 64 bits": (
        {"x": IMAGES, "y": Y.astype(np.uint64) + np.uint64(2**63)}, {}, f"labels up to {2**63 + 3}; 0, 1, 2"
    ),
    "names given twice": ({"x": IMAGES, "y": Y}, {"class_names": list("abca")}, "'a' more than once"),
    "a domain that is no number": (
        {"x": IMAGES, "y": Y, "d": np.where(Y, 1.0, np.nan)}, {"domain": "d", "test": {"share": 0.5}},
        "train.domain: 3 NaN and 0 infinite values",
    ),
    "a channel that overflows": (
        {"x": np.stack([Y, Y * 1e200], axis=1), "y": Y}, {}, "train.x: 1 channels without a usable scale"
    ),
    "values beyond float32": (
        {"x": np.stack([Y, Y * 1e200], axis=1), "y": Y}, {"standardise": False}, "infinite values"
    ),
    "tested on what is trained on": (
        {"x": IMAGES, "y": Y}, {"x_test": "x", "y_test": "y"}, "task.data.x_test: 'x', as x; another array"
    ),
    "one-hot labels": ({"x": IMAGES, "y": np.eye(4)[Y]}, {}, "argmax"),
    "float labels": ({"x": IMAGES, "y": Y / 2}, {}, "labels of type float64"),
    "labels with gaps": ({"x": IMAGES, "y": Y * 2}, {}, "labels 0, 2, 4, 6; 0 to 3 without gaps"),
    "negative labels": ({"x": IMAGES, "y": Y - 1}, {}, "labels -1, 0, 1, 2; 0 to 3"),
    "more labels than names": ({"x": IMAGES, "y": Y}, {"class_names": ["a", "b"]}, "for 2 class names"),
    "a name without samples": (
        {"x": IMAGES, "y": Y}, {"class_names": list("abcde")}, "no sample of 1 classes (e)"
    ),
    "one class": ({"x": IMAGES, "y": Y * 0}, {}, "1 classes; 2 to"),
    "not a number": (
        {"x": np.full((20, 3), np.nan), "y": Y}, {}, "NaN and 0 infinite values, the first in sample 0"
    ),
    "no samples": ({"x": IMAGES[:0], "y": Y[:0]}, {}, "no labels"),
    "texts as samples": ({"x": np.full((20, 2), "a"), "y": Y}, {}, "train.x: type <U1; numbers"),
    "complex samples": ({"x": np.ones((20, 2), complex), "y": Y}, {}, "it holds complex128"),
    "all for testing": (
        {"x": IMAGES, "y": Y, "k": Y}, {"test": {"key": "k", "below": 9}}, "20 of 20 samples"
    ),
    "no rule at all": ({"x": IMAGES, "y": Y, "k": Y}, {"test": {"key": "k"}}, "0 conditions on 'k'"),
    "two rules": ({"x": IMAGES, "y": Y}, {"test": {"key": "y", "below": 1, "at_least": 2}}, "2 conditions"),
    "a rule on nothing": ({"x": IMAGES, "y": Y}, {"test": {"below": 1}}, "a condition without key"),
    "a rule on an absent array": (
        {"x": IMAGES, "y": Y}, {"test": {"key": "k", "below": 1}}, "has no array 'k'"
    ),
    "key and share": (
        {"x": IMAGES, "y": Y}, {"test": {"key": "y", "below": 1, "share": 0.1}}, "both a key and"
    ),
    "unknown in a rule": (
        {"x": IMAGES, "y": Y}, {"test": {"shares": 0.1}}, "task.data.test.shares: unknown option"
    ),
    "a rule of texts on numbers": (
        {"x": IMAGES, "y": Y}, {"test": {"key": "y", "values": ["a"]}}, "'y' holds numbers"
    ),
    "a rule of numbers on texts": (
        {"x": IMAGES, "y": Y.astype(str)}, {"test": {"key": "y", "below": 1}}, "'y' holds texts"
    ),
    "a value between": (
        {"x": IMAGES, "y": Y}, {"test": {"key": "y", "values": [1.5]}}, "no sample with y [1.5]; of 0, 1"
    ),
    "a longer text": (
        {"x": IMAGES, "y": Y.astype(str)}, {"test": {"key": "y", "values": ["11"]}}, "no sample with y ['11']"
    ),
    "a rule that is no table": ({"x": IMAGES, "y": Y}, {"test": 0.2}, "task.data.test: 0.2; a table"),
    "half a test set": ({"x": IMAGES, "y": Y}, {"x_test": "x"}, "x_test and y_test go together"),
    "range the wrong way": ({"x": IMAGES, "y": Y}, {"range": [1, 0]}, "low below high"),
    "range of three": ({"x": IMAGES, "y": Y}, {"range": [1, 2, 3]}, "task.data.range"),
    "range of an array": ({"x": IMAGES, "y": Y}, {"range": ["y", 2]}, "one finite number"),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_fix(
    arrays: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, arrays, **options)


# --- files that are not what they say ---


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def npy(header: str, content: bytes, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


def test_objects_are_never_loaded(tmp_path: Path) -> None:
    held = io.BytesIO()
    np.lib.format.write_array(held, np.array([print, {}], dtype=object), allow_pickle=True)
    path = archive(tmp_path / "a.npz", {"x.npy": held.getvalue()})
    with Archive(path, file="f", key="k") as opened, pytest.raises(UserError, match="objects never"):
        opened["x"]


HEADERS = {
    "a header that promises terabytes":
        npy("{'descr':'<f8','fortran_order':False,'shape':(1000000,1000000)}", b""),
    "a header that promises more than there is":
        npy("{'descr':'|u1','fortran_order':False,'shape':(9,)}", b"12345678"),
    "a negative size": npy("{'descr':'|u1','fortran_order':False,'shape':(-4,)}", b"1234"),
    "more than the header says": npy("{'descr':'|u1','fortran_order':False,'shape':(4,)}", b"12345678"),
    "a call in the header": npy("{'descr':print('x'),'fortran_order':False,'shape':(4,)}", b"1234"),
    "no array at all": b"hello",
    "another version": npy("{'descr':'|u1','fortran_order':False,'shape':(4,)}", b"1234", b"\x09\x00"),
    "a long header": npy("{'descr':'|u1','fortran_order':False,'shape':(4,)}" + " " * 40_000, b"1234"),
    "records": npy("{'descr':[('a','<f4')],'fortran_order':False,'shape':(1,)}", b"1234"),
}  # fmt: skip


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_a_hostile_array_is_refused(content: bytes, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"x.npy": content})
    with Archive(path, file="f", key="k") as opened, pytest.raises(UserError, match="cannot be read"):
        opened["x"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"\0" * 5000])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"a.npz cannot be read: .*; an .npz file"):
        load_data({"kind": "npz", "path": "a.npz"}, folder=tmp_path)


BYTES = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=st.lists(BYTES, min_size=1, max_size=8), kept=st.floats(0.2, 1))
def test_a_damaged_archive_is_read_or_refused(
    changed: list[tuple[float, int]], kept: float, tmp_path: Path
) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=IMAGES, y=Y)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for where, value in changed:
        content[int(where * len(content))] = value
    (tmp_path / "a.npz").write_bytes(content[: int(kept * len(content))])
    samples = 20
    with suppress(UserError):
        data = load_data({"kind": "npz", "path": "a.npz"}, folder=tmp_path)
        samples = len(data.train) + len(data.test)
    assert samples == 20, "read whole, or refused by a UserError"


def test_arrays_in_the_order_of_fortran_are_read_as_they_are(tmp_path: Path) -> None:
    x = np.arange(24).reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", c=x, f=np.asfortranarray(x), big=x.astype(">i4"), scalar=np.float64(3))
    with Archive(tmp_path / "a.npz", file="f", key="k") as opened:
        for name in ("c", "f", "big"):
            assert np.array_equal(opened[name], x)
        assert opened["scalar"] == 3
