"""The zip archive that ``torch.export.save`` writes: bounded, read in memory, nothing extracted or unpickled.

Layout: ``<top>/models/<model>.json`` is the graph; ``<top>/data/weights`` and ``<top>/data/constants`` hold
one file of raw bytes per tensor and a table of them. ``<top>/data/sample_inputs`` is a pickle and is never
opened. Source: torch/export/pt2_archive/_package.py, torch/csrc/export/pt2_archive_constants.h (torch 2.13).
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from io import BytesIO
from typing import Any, Final

from dse.errors import Problem, UserError
from dse.workload.model import limits

MOST_ENTRIES: Final = 2 * limits.MOST_NODES
MOST_JSON_BYTES: Final = 2**24
"""16 MiB: a graph of ten thousand operations with the lines of source that torch notes for each."""

MOST_RATIO: Final = 200
"""Between the size of an entry and what it takes in the archive; JSON reaches about 30."""

RATIO_FROM_BYTES: Final = 2**20

SAVE_ANEW: Final = "save it with torch.export.save(torch.export.export(module.eval(), (example,)), 'x.pt2')"

_SIGNATURE: Final = b"PK\x01\x02"  # begins each entry of the directory
_BROKEN: Final = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, NotImplementedError,
    RuntimeError, struct.error, ValueError, OverflowError, KeyError, IndexError,
)  # fmt: skip
"""What ``zipfile`` raises on damaged archives."""


class Archive:
    """Entries of one archive by their path below its top folder; UserError on what is out of bounds."""

    def __init__(self, file: str, data: bytes) -> None:
        self.file = file
        if data.count(_SIGNATURE) > MOST_ENTRIES:  # before zipfile makes an object of each
            raise self.refusal("", f"more than {MOST_ENTRIES} entries", "")
        try:
            self._zip = zipfile.ZipFile(BytesIO(data))
            entries = self._zip.infolist()
        except _BROKEN as error:
            raise self.refusal("", f"no readable zip archive: {_line(error)}", SAVE_ANEW) from None
        self._check(entries)
        tops = {entry.filename.partition("/")[0] for entry in entries}
        top = f"{tops.pop()}/" if len(tops) == 1 else ""
        self.entries = {entry.filename.removeprefix(top): entry for entry in entries}

    def refusal(self, key: str, found: str, allowed: str) -> UserError:
        """Return the error that says what is wrong with the entry ``key``."""
        return UserError(Problem(self.file, limits.clean_name(key) if key else "", found, allowed))

    def _check(self, entries: list[zipfile.ZipInfo]) -> None:
        names = [entry.filename for entry in entries]
        if len(set(names)) != len(names):
            raise self.refusal("", "an archive with two entries of one name", "")
        if sum(entry.file_size for entry in entries) > limits.MOST_FILE_BYTES:
            raise self.refusal("", f"unpacks to more than {limits.MOST_FILE_BYTES // 2**20} MiB", "")
        for entry in entries:
            self._check_entry(entry)

    def _check_entry(self, entry: zipfile.ZipInfo) -> None:
        if entry.flag_bits & 1:
            raise self.refusal(entry.filename, "is encrypted", "")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self.refusal(entry.filename, "is compressed in a way other than deflate", "")
        packed = max(entry.compress_size, 1)
        if entry.file_size > RATIO_FROM_BYTES and entry.file_size > MOST_RATIO * packed:
            raise self.refusal(entry.filename, f"unpacks to {entry.file_size // packed} times its size", "")

    def read(self, path: str) -> bytes:
        """Return the bytes of one entry, which must be as many as the directory says."""
        entry = self.entries.get(path)
        if entry is None:
            raise self.refusal(path, "is missing in the archive", SAVE_ANEW)
        try:
            with self._zip.open(entry) as stream:
                data = stream.read(entry.file_size + 1)
        except _BROKEN as error:
            raise self.refusal(path, f"cannot be unpacked: {_line(error)}", "") from None
        if len(data) != entry.file_size:
            raise self.refusal(path, f"has {len(data)} bytes, the directory says {entry.file_size}", "")
        return data

    def json(self, path: str) -> Any:
        """Return one entry of JSON; refused where it is large, deeply nested, or none."""
        entry = self.entries.get(path)
        if entry is not None and entry.file_size > MOST_JSON_BYTES:
            raise self.refusal(path, f"larger than {MOST_JSON_BYTES // 2**20} MiB", "")
        try:
            return json.loads(self.read(path))
        except RecursionError:
            raise self.refusal(path, "nested too deeply", "") from None
        except ValueError as error:
            raise self.refusal(path, f"not JSON: {_line(error)}", "") from None

    def model(self) -> str:
        """Return the name of the one model inside; refuse other layouts, saying what they are."""
        folder, suffix = "models/", ".json"
        graphs = [path for path in self.entries if path.startswith(folder) and path.endswith(suffix)]
        if len(graphs) == 1:
            return graphs[0].removeprefix(folder).removesuffix(suffix)
        if graphs:
            names = limits.clean_name(", ".join(sorted(graphs)))
            raise self.refusal("", f"holds {len(graphs)} models: {names}", "save one model per archive")
        raise self.refusal("", self._layout(), SAVE_ANEW)

    def _layout(self) -> str:
        paths = self.entries
        if any(path.startswith("serialized_exported_program") for path in paths):
            return "an older layout of torch.export, whose weights are a pickle: code that is not run here"
        if self.code():
            return "compiled code without a graph: code from files is not run"
        if any(path.startswith("code/") or path.endswith(".pkl") for path in paths):
            return "a TorchScript archive or a pickled checkpoint: code that is not run here"
        return "no archive of torch.export: models/*.json is missing"

    def code(self) -> list[str]:
        """Paths of compiled or source code in the archive, which nothing here opens."""
        endings = (".so", ".py", ".cpp", ".o", ".dll", ".dylib", ".cubin", ".pyd")
        return [
            path for path in self.entries if path.startswith("data/aotinductor/") or path.endswith(endings)
        ]


def _line(error: Exception) -> str:
    return limits.clean_name(str(error) or type(error).__name__)
