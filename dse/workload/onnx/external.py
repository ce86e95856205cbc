"""Bytes of constants that an ONNX file keeps in files beside it: read from its own folder, or refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

from dse.errors import Problem, UserError
from dse.workload.model.limits import MOST_FILE_BYTES, clean_name

INSIDE = "external data lies in the folder of the model"


class Missing(Exception):
    """The file of the constants is not beside the model; the text names it."""


@dataclass
class ExternalData:
    """Reads stretches of files beside the model; ``taken_bytes`` counts all of them."""

    model: Path
    taken_bytes: int = 0
    _folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self._folder = self.model.parent.resolve()

    def read(self, entries: Iterable[Any], name: str, needed_bytes: int) -> bytes:
        """Return the bytes of constant ``name``; raises UserError where they may not or cannot be read.

        ``entries`` are the pairs (location, offset, length) of the file. Raises Missing where the location
        is inside the folder and nothing is there.
        """
        words = {str(entry.key): entry.value for entry in list(entries)[:16]}
        path = self._path(words.get("location", ""), name)
        offset = self._count(words, "offset", 0, name)
        length = self._count(words, "length", needed_bytes, name)
        if length != needed_bytes:
            self._refuse(name, f"length {length} where its shape and type need {needed_bytes} bytes")
        self.taken_bytes += length
        if self.taken_bytes > MOST_FILE_BYTES:
            self._refuse(name, f"more than {MOST_FILE_BYTES // 2**20} MiB of external data")
        return self._stretch(path, offset, length, name)

    def _path(self, location: str | bytes, name: str) -> Path:
        if isinstance(location, bytes) or not location or "\0" in location:
            self._refuse(name, "no file name that can be read")
        plain = location.replace("\\", "/")
        if PurePosixPath(plain).is_absolute() or PureWindowsPath(location).drive or ".." in plain.split("/"):
            self._refuse(name, f"the path {clean_name(location)!r} leaves the folder")
        try:
            path = (self._folder / plain).resolve()
        except (OSError, RuntimeError, ValueError):
            self._refuse(name, f"the path {clean_name(location)!r} leads nowhere")
        if not path.is_relative_to(self._folder):
            self._refuse(name, f"the path {clean_name(location)!r} leaves the folder")
        return path

    def _count(self, words: dict[str, Any], key: str, default: int, name: str) -> int:
        value = words.get(key, default)
        if isinstance(value, int):
            return value
        if not (isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20):
            self._refuse(name, f"{key} {clean_name(str(value))!r} is not a count of bytes")
        return int(value)

    def _stretch(self, path: Path, offset: int, length: int, name: str) -> bytes:
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            raise Missing(clean_name(path.name)) from None
        except (OSError, ValueError) as error:
            self._refuse(name, f"cannot be read: {getattr(error, 'strerror', None) or error}")
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            os.close(handle)
            self._refuse(name, f"{clean_name(path.name)!r} is not a plain file")
        with os.fdopen(handle, "rb") as stream:
            if offset + length > state.st_size:
                found = f"bytes {offset} to {offset + length} of {clean_name(path.name)!r}"
                self._refuse(name, f"{found}, which has {state.st_size}")
            stream.seek(offset)
            return stream.read(length)

    def _refuse(self, name: str, found: str) -> NoReturn:
        raise UserError(Problem(str(self.model), f"initializer {name}", found, INSIDE))
