"""Downloads that are pinned by a published checksum, resume, and say clearly when offline.

pooch keeps the files, checks them and moves them into place only when whole; its own downloaders start from
zero after a break, hence the one here, which continues a partial file by an HTTP range request (RFC 9110,
section 14).
"""

from __future__ import annotations

import gzip
import http.client
import logging
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from dse.errors import Problem, UserError
from dse.training.cache import cache_folder

CHUNK_BYTES: Final = 1 << 18
TIMEOUT_S: Final = 30.0
PAUSE_S: Final = 0.5
"""Wait before the second attempt; it doubles with each further one."""

ATTEMPTS: Final = 3
"""Attempts in a row that bring nothing new before a download is given up."""

_NO_SUCH_RANGE: Final = 416
_TRY_AGAIN: Final = (408, _NO_SUCH_RANGE, 429)
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
_BROKEN: Final = (OSError, EOFError, http.client.HTTPException, zlib.error, ValueError)


@dataclass(frozen=True)
class Remote:
    """A gzip file at ``url``, kept uncompressed as ``name`` with this checksum ("md5:...") and size [B]."""

    url: str
    name: str
    checksum: str
    n_bytes: int


def fetch(part: str, remotes: Sequence[Remote], *, hint: str) -> list[Path]:
    """Return the files of data set ``part`` in the cache folder, downloaded where they are not there yet.

    ``hint`` is the setting that names a folder with files got by hand. Raises UserError that says what is
    missing, from where it comes and where to put it.
    """
    if find_spec("pooch") is None:
        raise UserError(
            Problem("task", "task.data", "downloads need pooch", "pip install 'tinyml-dse[train]'")
        )
    folder = cache_folder(part)
    with _alone(folder):
        return [_fetched(remote, folder, hint) for remote in remotes]


def _fetched(remote: Remote, folder: Path, hint: str) -> Path:
    import pooch

    downloader = Resuming(remote.n_bytes)
    try:
        with suppress(_Stale):
            return _retrieve(pooch, remote, folder, downloader)
        return _retrieve(pooch, remote, folder, downloader)
    except _BROKEN as error:
        by_hand = (
            f"get it by hand, uncompress it to {folder / remote.name}, or keep all files in a folder: {hint}"
        )
        found = f"cannot be downloaded from {remote.url}: {_reason(error)}"
        raise UserError(Problem(remote.name, "", found, by_hand)) from None


class _Stale(Exception):
    """A continued download is whole but wrong: what was there before may be to blame."""


def _retrieve(pooch: Any, remote: Remote, folder: Path, downloader: Resuming) -> Path:
    try:
        with _quiet(pooch.get_logger()):
            path = pooch.retrieve(remote.url, remote.checksum, remote.name, folder, downloader=downloader)
        return Path(path)
    except _BROKEN:
        if downloader.resumed and downloader.whole:
            raise _Stale from None
        raise


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep ``logger`` from writing news to the terminal: that is up to the program that calls."""
    logger.addFilter(_is_warning)  # not the level: pooch's logger stands alone and would remember the answer
    try:
        yield
    finally:
        logger.removeFilter(_is_warning)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time download into ``folder``; the lock goes with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # no such locks there: two downloads at once would meet in pooch's checksum
        yield
        return
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Resuming:
    """Downloader for pooch: fetches ``url`` beside its target, goes on after a break, uncompresses it.

    ``n_bytes`` is the size of the uncompressed file; neither the download nor what it unpacks to is larger.
    ``resumed`` says whether part of the file was there before, ``whole`` whether all of it has arrived.
    """

    def __init__(self, n_bytes: int, *, pause_s: float | None = None) -> None:
        self.n_bytes, self.pause_s = n_bytes, PAUSE_S if pause_s is None else pause_s
        self.resumed = self.whole = False

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Write the uncompressed content of ``url`` to ``output_file``; OSError where it stays cut off."""
        partial = Path(output_file).with_name(url.rpartition("/")[2] + ".part")
        self.resumed, self.whole = partial.exists() and partial.stat().st_size > 0, False
        self._download(url, partial)
        self.whole = True
        try:
            self._unpack(partial, Path(output_file))
        finally:
            partial.unlink(missing_ok=True)  # whole now: good, or wrong and of no use to the next attempt

    def _download(self, url: str, partial: Path) -> None:
        idle = 0
        while True:
            before = partial.stat().st_size if partial.exists() else 0
            try:
                if self._continue(url, partial, before):
                    return
                error: Exception = OSError("the connection broke off")
            except _Final:
                raise
            except (OSError, http.client.HTTPException) as broken:
                error = broken
            after = partial.stat().st_size if partial.exists() else 0
            idle = 0 if after > before else idle + 1
            if idle >= ATTEMPTS:
                raise error
            time.sleep(self.pause_s * 2**idle)

    def _continue(self, url: str, partial: Path, start: int) -> bool:
        """Fetch from byte ``start`` on; return whether the file is whole."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "tinyml-dse"}
        if start:
            headers["Range"] = f"bytes={start}-"
        if not url.startswith(("http://", "https://")):
            raise _Final(f"{url} is no http address")
        request = urllib.request.Request(url, headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            if refusal.code == _NO_SUCH_RANGE:
                partial.unlink(missing_ok=True)  # as long as the file, or longer: not a part of it
            failure = OSError if refusal.code >= 500 or refusal.code in _TRY_AGAIN else _Final
            raise failure(f"the server answers {refusal.code}") from None
        with answer:
            begin = _begin(answer, start)
            length = answer.headers.get("Content-Length", "")
            expected = begin + int(length) if length.isdigit() else None
            with partial.open("r+b" if begin else "wb") as file:
                file.seek(begin)
                file.truncate()
                return self._copy(answer, file, expected)

    def _copy(self, answer: Any, file: Any, expected: int | None) -> bool:
        while chunk := answer.read(CHUNK_BYTES):
            file.write(chunk)
            if file.tell() > self.n_bytes + CHUNK_BYTES:
                raise _Final(f"it is larger than the {self.n_bytes} bytes that are published")
        return expected is None or file.tell() >= expected

    def _unpack(self, partial: Path, target: Path) -> None:
        left = self.n_bytes + 1
        with gzip.open(partial, "rb") as packed, target.open("wb") as file:
            while left > 0 and (chunk := packed.read(min(CHUNK_BYTES, left))):
                file.write(chunk)
                left -= len(chunk)


class _Final(OSError):
    """Not worth another attempt."""


def _begin(answer: Any, start: int) -> int:
    """Return the byte that the answer begins with: 0 from a server that knows no ranges."""
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(match[1]) if match and int(match[1]) <= start else 0
