"""IDX files, the format of the MNIST family: a magic number, sizes in big-endian, then the numbers.

Source: the format description of Y. LeCun, C. Cortes and C. Burges, "The MNIST database". Only unsigned bytes
(type 0x08) are read: that is what images and labels of the family are.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.assemble import assemble
from dse.training.data.base import Dataset
from dse.training.data.checks import LARGEST_BYTES
from dse.training.data.labels import class_numbers
from dse.training.data.options import Options

UNSIGNED_BYTES: Final = 0x08
_GZIP: Final = b"\x1f\x8b"
_FILES: Final = ("train_images", "train_labels", "test_images", "test_labels")


def read_idx(path: Path, *, axes: int, md5: str = "") -> NDArray[np.uint8]:
    """Read the unsigned bytes of an IDX file, compressed by gzip or not.

    Parameters
    ----------
    path: the file.
    axes: how many axes the array must have.
    md5: checksum that the uncompressed file must have; "" takes any.

    Raises UserError where the header does not fit the content; the header is checked before memory is taken.

    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP
        if compressed:
            with gzip.open(path, "rb") as packed:
                return _read(packed, path, axes, md5)
        with path.open("rb") as plain:
            return _read(plain, path, axes, md5)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            Problem(path.name, "", f"cannot be read: {error}", "an IDX file, gzip or not")
        ) from None


def _read(stream: BinaryIO | gzip.GzipFile, path: Path, axes: int, md5: str) -> NDArray[np.uint8]:
    header = stream.read(4 + 4 * axes)
    expected = struct.pack(">HBB", 0, UNSIGNED_BYTES, axes)
    if len(header) < 4 + 4 * axes or header[:4] != expected:
        found = f"starts with {header[:4].hex() or 'nothing'}"
        raise UserError(Problem(path.name, "", found, f"{expected.hex()}: unsigned bytes with {axes} axes"))
    shape = struct.unpack(f">{axes}I", header[4:])
    size = math.prod(shape)
    if size > LARGEST_BYTES:
        raise UserError(Problem(path.name, "", f"says it holds {shape}", f"at most {LARGEST_BYTES} bytes"))
    data = stream.read(size + 1)
    if len(data) != size:
        found = f"holds {'more than ' if len(data) > size else ''}{min(len(data), size)} bytes"
        raise UserError(Problem(path.name, "", found, f"{size}, as its header says: fetch the file again"))
    if md5 and hashlib.md5(header + data, usedforsecurity=False).hexdigest() != md5:
        raise UserError(Problem(path.name, "", "content differs", f"uncompressed MD5 {md5}: fetch it again"))
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def load_idx(options: Options) -> Dataset:
    """Load four IDX files (``train_images``, ``train_labels``, ``test_images``, ``test_labels``).

    Options: the four paths; ``class_names`` (default: the numbers). Images (n, H, W) become (n, 1, H, W).
    """
    paths = [options.path(name, "an IDX file, gzip or not") for name in _FILES]
    names = options.texts("class_names")
    options.finish()
    images = [read_idx(path, axes=3)[:, None] for path in paths[::2] if path]
    labels = [read_idx(path, axes=1) for path in paths[1::2] if path]
    numbers, found = class_numbers(labels, names, file=options.file, key=f"{options.key}.train_labels")
    source = ", ".join(path.name for path in paths if path)
    return assemble("idx", images, numbers, None, found, source=source)
