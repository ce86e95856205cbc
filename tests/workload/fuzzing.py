"""Damages model files and checks that a reader answers each with a model or one clear error, in bounds."""

from __future__ import annotations

import resource
import signal
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from dse.errors import UserError

MOST_SECONDS = 5.0
MOST_GROWTH_BYTES = 2**30

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0)


class TooSlow(Exception):
    """Raised inside a reader that has run for ``MOST_SECONDS``."""


def mutations(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield ``count`` damaged copies of ``data``: the same seed gives the same copies."""
    random = Random(f"{seed}:{len(data)}")
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
            random.choice(DAMAGES)(damaged, random)
        yield bytes(damaged)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _byte(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _word(data: bytearray, random: Random) -> None:
    """Put an extreme 32-bit number on a place where offsets and lengths may stand."""
    if len(data) >= 4:
        place = random.randrange(len(data) - 3) & ~3
        data[place : place + 4] = struct.pack("<I", random.choice(EXTREMES))


def _early(data: bytearray, random: Random) -> None:
    """Damage the first or last kilobyte, where headers and directories are."""
    if data:
        near = random.randrange(min(len(data), 1024))
        data[near if random.random() < 0.5 else -1 - near] ^= random.randrange(1, 256)


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data) + 1) :]


def _remove(data: bytearray, random: Random) -> None:
    place = random.randrange(len(data) + 1)
    del data[place : place + random.randrange(1, 64)]


def _repeat(data: bytearray, random: Random) -> None:
    place = random.randrange(len(data) + 1)
    data[place:place] = data[place : place + random.randrange(1, 256)]


def _move(data: bytearray, random: Random) -> None:
    """Copy one stretch over another: offsets then point at what was valid elsewhere."""
    if len(data) > 16:
        size = random.randrange(4, 16)
        source, target = (random.randrange(len(data) - size) for _ in range(2))
        data[target : target + size] = data[source : source + size]


DAMAGES = (_flip, _flip, _byte, _word, _word, _early, _cut, _remove, _repeat, _move)


def survives(read: Callable[[Path], Any], data: bytes, suffix: str) -> bool:
    """Read ``data`` as a file; return whether it was read, False where it was refused by a ``UserError``.

    Fails on every other exception, past ``MOST_SECONDS``, and where the process grows past its bound.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder, _limited():
        path = Path(folder) / f"damaged{suffix}"
        path.write_bytes(data)
        refusal = _refusal(read, path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MOST_GROWTH_BYTES, f"grew by {grown:,} bytes"
    if refusal is not None:
        assert refusal.strip(), "an error without a text"
        assert "\x1b" not in refusal, "escape sequences reach the terminal"
    return refusal is None


def _refusal(read: Callable[[Path], Any], path: Path) -> str | None:
    try:
        read(path)
    except UserError as error:
        return str(error)
    return None


@contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {MOST_SECONDS} s")

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
