"""Completed runs in a folder: one file per run, named by the key of its job, there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dse.errors import Problem, UserError
from dse.training.record import RunRecord

_ENDING: Final = ".json"
_PARTIAL: Final = ".partial"
_KEY: Final = re.compile(r"[0-9a-z]{1,64}")

ABANDONED_S: Final = 600.0
"""A file that has been half-written for longer than this belongs to a run that was killed."""

ALLOWED: Final = "a record as a run writes it; delete the file to run that job again"


class RunStore:
    """The completed runs in ``folder``, which is made with the first of them.

    Several processes may use one folder: a record is moved into place when it is whole, and whoever comes
    second with the same key changes nothing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._remove_abandoned()

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> tuple[str, ...]:
        """Return the keys of all completed runs, sorted."""
        found = (path.stem for path in self.folder.glob(f"*{_ENDING}"))
        return tuple(sorted(stem for stem in found if _KEY.fullmatch(stem)))

    def get(self, key: str) -> RunRecord | None:
        """Return the record of a run, None where it has not been completed.

        Raises UserError where the file holds something else.
        """
        path = self._path(key)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            found = f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}"
            raise UserError(Problem(str(path), "", found, ALLOWED)) from None
        record = _record(text, path)
        if record.key != key:
            raise UserError(Problem(str(path), "key", f"the record of run {record.key}", ALLOWED))
        return record

    def put(self, record: RunRecord) -> None:
        """Keep ``record``; one that is there already stays. After this returns, the run survives a crash."""
        path = self._path(record.key)
        if path.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{record.key}.{secrets.token_hex(6)}{_PARTIAL}")
        try:
            with partial.open("x", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(record.to_dict(), indent=1, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def records(self) -> Iterator[RunRecord]:
        """Yield the record of every completed run, by key. Raises UserError where a file is no record."""
        for key in self.keys():
            record = self.get(key)
            if record is not None:  # else: deleted since
                yield record

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of a run")
        return self.folder / f"{key}{_ENDING}"

    def _remove_abandoned(self) -> None:
        for partial in self.folder.glob(f".*{_PARTIAL}"):
            try:
                if time.time() - partial.stat().st_mtime > ABANDONED_S:
                    partial.unlink(missing_ok=True)
            except FileNotFoundError:  # its owner has just finished
                continue


def _record(text: str, path: Path) -> RunRecord:
    try:
        data = json.loads(text)
    except ValueError:
        raise UserError(Problem(str(path), "", "not JSON", ALLOWED)) from None
    if not isinstance(data, dict):
        raise UserError(Problem(str(path), "", "not a table", ALLOWED))
    return RunRecord.from_dict(data, file=str(path))
