"""What a protobuf file will take in memory, judged from its bytes before it is parsed.

Every message of a few bytes becomes an object many times as large, so that a file within the limit of size
could still fill the memory. Large blobs (the weights) take what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dse.errors import Problem, UserError

SMALL_FILE_BYTES: Final = 2**22
"""Files up to this size are parsed as they are; whatever they hold fits."""

MOST_PARSED_BYTES: Final = 2**29
MOST_FIELDS: Final = 2**20
OBJECT_FACTOR: Final = 50
"""Bytes in memory per byte of small messages, at worst."""

BLOB_BYTES: Final = 1024

_TREE: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
}
"""Message -> its fields that may hold weights, by number (onnx.proto)."""

_BLOBS: Final[Mapping[str, Mapping[int, int]]] = {
    "tensor": {4: 1, 5: 4, 7: 8, 9: 1, 10: 1, 11: 8},
    "attribute": {4: 1, 7: 1, 8: 8},
}
"""Message -> its packed fields: bytes in memory per byte in the file."""


@dataclass
class _Scan:
    data: memoryview
    parsed_bytes: int = 0
    fields: int = 0

    @property
    def full(self) -> bool:
        """Whether a limit is passed."""
        return self.parsed_bytes > MOST_PARSED_BYTES or self.fields > MOST_FIELDS

    def message(self, kind: str, start: int, end: int) -> None:
        """Add what the message between two offsets takes; stops at the limit or where it is malformed."""
        place = start
        while place < end and not self.full:
            before, self.fields = place, self.fields + 1
            tag, place = self._varint(place, end)
            wire, number = tag & 7, tag >> 3
            if wire == 2:
                length, place = self._varint(place, end)
                if place + length > end:
                    raise ValueError
                self._field(kind, number, place, place + length)
                place += length
                continue
            place = self._varint(place, end)[1] if wire == 0 else place + {1: 8, 5: 4}[wire]
            self.parsed_bytes += (place - before) * OBJECT_FACTOR

    def _field(self, kind: str, number: int, start: int, end: int) -> None:
        inner = _TREE[kind].get(number)
        blob = _BLOBS.get(kind, {}).get(number)
        if inner is not None:
            self.parsed_bytes += 4 * OBJECT_FACTOR
            self.message(inner, start, end)
        elif blob is not None and end - start >= BLOB_BYTES:
            self.parsed_bytes += (end - start) * blob
        else:
            self.parsed_bytes += (end - start + 2) * OBJECT_FACTOR

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                raise ValueError
            byte = self.data[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, place
        raise ValueError


def require_parsable(file: str, data: bytes) -> None:
    """Raise UserError where parsing ``data`` could take more memory than a model has any need for."""
    if len(data) <= SMALL_FILE_BYTES:
        return
    scan = _Scan(memoryview(data))
    try:
        scan.message("model", 0, len(data))
    except (ValueError, KeyError):
        raise UserError(Problem(file, "", "not an ONNX model: its protobuf is malformed", "")) from None
    if scan.full:
        limit = f"more than {MOST_FIELDS} entries, or {MOST_PARSED_BYTES // 2**20} MiB once it is parsed"
        raise UserError(Problem(file, "", limit, "a model keeps its numbers in blocks, not one by one"))
