"""The numbers that a network comes with: arrays by name that nobody may change, and what identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray


class Numbers(Mapping[str, NDArray[np.float32]]):
    """Parameters by name, ``<layer>.weight`` and so on, as float32 arrays that are read-only.

    Equal numbers are equal whatever file they come from. A copy that arrives from another process becomes
    the object that this one already holds, so that a thousand runs of a network hold its numbers once.

    Parameters
    ----------
    arrays: parameters by name; copied unless they are read-only already.
    source: where they come from, for people: the path of a file, or what gave them.

    """

    def __init__(self, arrays: Mapping[str, NDArray[np.float32]], source: str = "") -> None:
        self.source = source
        self._arrays = {name: _frozen(array) for name, array in arrays.items()}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Numbers({len(self)} arrays, {self.sha256[:12]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __reduce__(self) -> tuple[Any, ...]:
        return _held, (self._arrays, self.source)

    @cached_property
    def sha256(self) -> str:
        """Sha256 of names, shapes and bytes, in the order of the names; empty where there are none."""
        if not self._arrays:
            return ""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays.items()):
            digest.update(f"{name!r} {array.shape}\n".encode())
            digest.update(array.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays as float32."""
        return sum(array.nbytes for array in self._arrays.values())


NO_NUMBERS: Final = Numbers({})
_living: WeakValueDictionary[str, Numbers] = WeakValueDictionary()


def _held(arrays: Mapping[str, NDArray[np.float32]], source: str) -> Numbers:
    """Return the numbers that this process holds already, or these."""
    found = Numbers(arrays, source)
    return _living.setdefault(found.sha256, found)


def _frozen(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a contiguous float32 array that cannot be written to."""
    if array.dtype == np.float32 and array.flags.c_contiguous and not array.flags.writeable:
        return array
    copy = np.array(array, dtype=np.float32, order="C")
    copy.flags.writeable = False
    return copy
