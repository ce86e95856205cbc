"""IDX files: what is read, what is refused, and Fashion-MNIST by its published checksums."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.training.data import fashion, load_data
from dse.training.data.idx import read_idx

NAMES = ("train_images", "train_labels", "test_images", "test_labels")


def idx(array: np.ndarray[Any, Any], kind: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def family(folder: Path, n: int = 30, names: tuple[str, ...] = NAMES, zipped: bool = True) -> dict[str, str]:
    """Write four small files of the family and return their checksums."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (count, 4, 5), dtype=np.uint8) for count in (n, 10)]
    labels = [(np.arange(count) % 10).astype(np.uint8) for count in (n, 10)]
    sums = {}
    for name, array in zip(names, [images[0], labels[0], images[1], labels[1]], strict=True):
        content = idx(array)
        sums[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return sums


@pytest.mark.parametrize("zipped", [True, False])
def test_four_files_are_a_data_set(zipped: bool, tmp_path: Path) -> None:
    family(tmp_path, zipped=zipped)
    end = ".gz" if zipped else ""
    data = load_data({"kind": "idx", **{name: f"{name}{end}" for name in NAMES}}, folder=tmp_path)
    assert (data.input_shape, data.classes, len(data.train), len(data.test)) == ((1, 4, 5), 10, 30, 10)
    expected = np.random.default_rng(0).integers(0, 256, (30, 4, 5), dtype=np.uint8)
    assert np.array_equal(data.train.x[:, 0], expected)
    assert data.train.y.tolist() == [one % 10 for one in range(30)]
    assert data.values(data.train.x).mean() == pytest.approx(0, abs=1e-5)


def header(*sizes: int, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, kind, len(sizes), *sizes)


BAD = {
    "empty": (b"", "starts with nothing"),
    "too short": (b"\0\0\x08\x03\0\0", "starts with 00000803"),
    "labels where images belong": (header(10) + bytes(20), "starts with 00000801; 00000803"),
    "floats": (header(1, 2, 2, kind=0x0D) + bytes(16), "starts with 00000d03"),
    "cut off": (header(3, 2, 2) + bytes(11), "holds 11 bytes; 12"),
    "too long": (header(3, 2, 2) + bytes(13), "holds more than 12 bytes; 12"),
    "a promise of exabytes": (header(2**31, 2**31, 2**10), "at most 4294967296 bytes"),
    "gzip cut off": (gzip.compress(header(3, 2, 2) + bytes(12))[:-12], "cannot be read"),
    "gzip damaged": (gzip.compress(header(3, 2, 2) + bytes(range(12)))[:18] + b"\xff" * 30, "cannot be read"),
    "gzip of nothing": (b"\x1f\x8b", "cannot be read"),
    "gzip longer than it says": (gzip.compress(header(3, 2, 2) + bytes(10**6)), "holds more than 12 bytes"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_file_that_does_not_fit_its_header_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_idx(path, axes=3)
    assert message in str(error.value)
    assert str(error.value).startswith("file: ")


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    family(tmp_path)
    (tmp_path / "train_labels.gz").write_bytes(gzip.compress(idx(np.arange(10, dtype=np.uint8))))
    with pytest.raises(UserError, match=r"train.y: 10 for 30 samples"):
        load_data({"kind": "idx", **{name: f"{name}.gz" for name in NAMES}}, folder=tmp_path)


def test_another_content_than_published_is_refused(tmp_path: Path) -> None:
    family(tmp_path, names=tuple(fashion.MD5))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: content differs; .*fetch it again"):
        load_data({"kind": "fashion-mnist", "path": str(tmp_path)})


def test_a_missing_file_of_fashion_mnist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: not there; the four files of http"):
        load_data({"kind": "fashion-mnist", "path": str(tmp_path)})


def test_published_sizes_are_those_of_the_headers() -> None:
    images, labels = 60_000, 10_000
    assert list(fashion.N_BYTES.values()) == [
        16 + math.prod((images, 28, 28)), 8 + images, 16 + math.prod((labels, 28, 28)), 8 + labels,
    ]  # fmt: skip
