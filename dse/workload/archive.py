"""Arrays in .npz files: written with the same bytes for the same arrays, read with suspicion.

What is read is untrusted: nothing is unpickled or evaluated, and no array is larger than expected.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem
from dse.workload.base import Shape

QUANTISATION: Final = "quantisation/"
"""What names of quantisation begin with: ``quantisation/<tensor>/<part>``."""

PARTS: Final = {"scale": "<f8", "zero_point": "<i8", "bits": "<i8", "signed": "<i8", "axis": "<i8"}
"""Part of a tensor's quantisation -> how it is stored."""

MOST_SCALES: Final = 2**20
"""Scales of one tensor."""

MOST_VALUES: Final = 2**26
"""Numbers of all parameters together."""

_SLACK_BYTES: Final = 2**24
_PER_ARRAY_BYTES: Final = 2048  # name, twice, and header
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_SHAPE: Final = rb"\(((?:[0-9]{1,10}, ?)*[0-9]{0,10})\)"
_HEADER: Final = re.compile(
    rb"\{'descr': '([<|][a-z][0-9])', 'fortran_order': False, 'shape': " + _SHAPE + rb", \}\s*"
)
_UNREADABLE: Final = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, struct.error, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
_LONGEST_HEADER: Final = 1024


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ``arrays`` by name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), version=(1, 0), allow_pickle=False)


@dataclass
class Archive:
    """What an .npz file holds, as far as it is in order."""

    parameters: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    quantisation: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_arrays(path: Path, shapes: Mapping[str, Shape]) -> Archive:
    """Read parameters of known ``shapes``, and quantisation; every fault becomes a problem."""
    found = Archive()
    most = 4 * sum(map(prod, shapes.values())) + _PER_ARRAY_BYTES * len(shapes) + _SLACK_BYTES
    reason = _refusal(path, most, shapes)
    if reason:
        found.problems.append(Problem(str(path), "", *reason))
        return found
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _read_entry(archive, entry, shapes, path, found)
    except _UNREADABLE as error:
        found.problems.append(_damaged(path, "", error))
    return found


def _refusal(path: Path, most: int, shapes: Mapping[str, Shape]) -> tuple[str, str] | None:
    """Say why the file is not opened at all, and what is allowed."""
    if sum(map(prod, shapes.values())) > MOST_VALUES:
        return "the network has too many parameters to hold them", f"at most {MOST_VALUES}"
    try:
        if not path.is_file():
            return ("no such file" if not path.exists() else "no file"), "the .npz beside the network's TOML"
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}", ""
    return (f"{size} bytes", f"at most {most}: what the network's numbers take") if size > most else None


def _read_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, shapes: Mapping[str, Shape], path: Path, found: Archive
) -> None:
    name = entry.filename.removesuffix(".npy")
    shown = repr(name[:80])[1:-1]
    tensor, _, part = name.removeprefix(QUANTISATION).rpartition("/")
    scales = name.startswith(QUANTISATION) and part in PARTS
    if name in found.parameters or (scales and part in found.quantisation.get(tensor, {})):
        found.problems.append(Problem(str(path), shown, "stands twice", "each array once"))
        return
    if not scales and name not in shapes:
        allowed = "a layer of the network and one of its parameters"
        found.problems.append(Problem(str(path), shown, "unknown", allowed))
        return
    try:
        with archive.open(entry) as stream:
            kind, shape = _header(stream)
            wrong = _misfit(kind, shape, PARTS[part] if scales else "<f4", None if scales else shapes[name])
            if wrong:
                found.problems.append(Problem(str(path), shown, *wrong))
                return
            array = _numbers(stream, kind, shape)
    except _UNREADABLE as error:
        found.problems.append(_damaged(path, shown, error))
        return
    if scales:
        found.quantisation.setdefault(tensor, {})[part] = array
    else:
        found.parameters[name] = array


def _header(stream: IO[bytes]) -> tuple[str, Shape]:
    """Read type and shape as NumPy writes them; anything else is refused, and nothing is evaluated."""
    start = stream.read(len(_MAGIC) + 2)
    length = int.from_bytes(start[-2:], "little")
    if not start.startswith(_MAGIC) or length > _LONGEST_HEADER:
        raise ValueError("not an array of NumPy, version 1.0")
    match = _HEADER.fullmatch(stream.read(length))
    if match is None:
        raise ValueError("an array whose type or order is not plain")
    return match[1].decode(), tuple(int(size) for size in match[2].split(b",") if size.strip())


def _misfit(kind: str, shape: Shape, wanted: str, size: Shape | None) -> tuple[str, str] | None:
    if kind != wanted:
        return f"numbers of type {kind}", f"must be {wanted}"
    if size is not None and shape != size:
        return f"shape {shape}", f"must be {size}"
    if size is None and (len(shape) > 1 or prod(shape) > MOST_SCALES):
        return f"shape {shape}", f"must be one number, or a list of at most {MOST_SCALES}"
    return None


def _numbers(stream: IO[bytes], kind: str, shape: Shape) -> NDArray[Any]:
    size = prod(shape) * np.dtype(kind).itemsize
    data = stream.read(size + 1)
    if len(data) != size:
        raise ValueError(f"{'more' if len(data) > size else 'fewer'} bytes than its shape says")
    return np.frombuffer(data, dtype=kind).reshape(shape)


def _damaged(path: Path, key: str, error: Exception) -> Problem:
    return Problem(str(path), key, f"cannot be read: {str(error)[:200]}", "an .npz file as it was written")
