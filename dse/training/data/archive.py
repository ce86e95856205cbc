"""Arrays of an .npz file, read without trust: types and sizes are checked before memory is taken."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dse.errors import Problem, UserError, allowed_names
from dse.training.data.checks import LARGEST_BYTES

_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_KINDS: Final = "biufUS"
_LONGEST_HEADER: Final = 10_000
_UNREADABLE: Final = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile
)  # fmt: skip


class Archive:
    """The arrays of one .npz file by name; use it with ``with``.

    ``key`` is where messages say that the file was named. Reading raises UserError where an array is absent,
    holds objects, or does not fit its header.
    """

    def __init__(self, path: Path, *, file: str, key: str) -> None:
        self.path, self.file, self.key = path, file, key
        try:
            self._zip = zipfile.ZipFile(path)
        except _UNREADABLE as error:
            raise UserError(self._problem(f"{path.name} cannot be read: {error}", "an .npz file")) from None
        self.names = tuple(name[:-4] for name in self._zip.namelist() if name.endswith(".npy"))

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _problem(self, found: str, allowed: str, name: str = "") -> Problem:
        return Problem(self.file, f"{self.key}.{name}" if name else self.key, found, allowed)

    def require(self, names: dict[str, str]) -> None:
        """Raise UserError with every option -> array of ``names`` that the file does not have."""
        problems = [
            self._problem(f"{self.path.name} has no array {name!r}", allowed_names(name, self.names), option)
            for option, name in names.items()
            if name not in self.names
        ]
        if problems:
            raise UserError(problems)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> NDArray[Any]:
        self.require({"": name})
        try:
            with self._zip.open(f"{name}.npy") as member:
                return self._array(name, member, self._zip.getinfo(f"{name}.npy").file_size)
        except _UNREADABLE as error:
            found = f"array {name!r} of {self.path.name} cannot be read: {error}"
            raise UserError(self._problem(found, "a plain array of numbers or texts")) from None

    def _array(self, name: str, member: Any, file_size: int) -> NDArray[Any]:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"format {version}")
        shape, fortran, dtype = _HEADERS[version](member, max_header_size=_LONGEST_HEADER)
        if dtype.kind not in _KINDS or dtype.hasobject:
            raise ValueError(f"it holds {dtype}; numbers and texts are read, objects never")
        size = math.prod(shape) * dtype.itemsize
        if size > LARGEST_BYTES or size > file_size:
            raise ValueError(
                f"its header says {size} bytes, the file has {file_size} of at most {LARGEST_BYTES}"
            )
        data = member.read(size + 1)
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes where its header says {size}")
        flat = np.frombuffer(data, dtype=dtype)
        return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
