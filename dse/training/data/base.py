"""Labelled samples as every loader returns them: checked, read-only, named by a hash of their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.errors import UserError
from dse.training.data.checks import dataset_problems

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Samples = NDArray[Any]
"""uint8 or float32: (n, C, H, W) images, (n, C, L) series, (n, F) vectors."""


@dataclass(frozen=True, eq=False)
class Split:
    """Samples of one part of a data set.

    ``x`` (n, ...) uint8 or float32, ``y`` int64 (n,) the class from 0, ``domain`` int64 (n,) the session,
    subject or background that a sample comes from (all 0 where there are none). ``group`` int64 (n,):
    samples with the same number show the same moments (overlapping windows, sensors that record at once),
    hence are never on both sides of a split; None: every sample stands for itself.
    """

    x: Samples
    y: IntArray
    domain: IntArray
    group: IntArray | None = None

    def __post_init__(self) -> None:
        for array in (self.x, self.y, self.domain, self.group):
            if array is not None:
                array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test part, the names of the classes, and how stored numbers become network inputs.

    A network sees ``offset + scale * x``: uint8 samples stay 8 bits wide wherever they are held, float
    samples are stored as the network sees them (scale 1, offset 0). Domains and groups are numbered alike in
    both parts; a split by subject has test domains that no training sample has. ``batches`` int64 (n,) is the
    position of each training sample in an order of learning events that the data set itself prescribes
    (0: pretraining), or None.

    Raises UserError, with every problem and its fix, for arrays that cannot be learned from.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    scale: float = 1.0
    offset: float = 0.0
    batches: IntArray | None = None

    def __post_init__(self) -> None:
        problems = dataset_problems(self)
        if problems:
            raise UserError(problems)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the axis of samples."""
        return tuple(int(size) for size in self.train.x.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (64 hexadecimal digits) over all arrays, with shape and type, and over scale and offset."""
        digest = hashlib.sha256(f"{self.scale!r} {self.offset!r} {self.classes}".encode())
        arrays = [getattr(part, name) for part in (self.train, self.test) for name in ("x", "y", "domain")]
        for array in [*arrays, *([] if self.batches is None else [self.batches])]:
            _digest(digest, array)
        for name, part in (("train", self.train), ("test", self.test)):
            if part.group is not None:
                digest.update(f"{name}.group".encode())
                _digest(digest, part.group)
        return digest.hexdigest()

    def values(self, x: Samples) -> FloatArray:
        """Return stored samples ``x`` (any shape) as the float32 numbers that a network takes; a copy."""
        values = np.array(x, dtype=np.float32)
        if self.scale != 1.0:
            values *= np.float32(self.scale)
        if self.offset != 0.0:
            values += np.float32(self.offset)
        return values


def _digest(digest: hashlib._Hash, array: NDArray[Any]) -> None:
    """Add an array to ``digest``: its type, its shape, and its bytes, lowest first on every machine."""
    digest.update(f"{array.dtype.newbyteorder('<').str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).data)
