"""Files and folders that appear complete or not at all, and are refused before any work where they cannot."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dse.errors import Problem, UserError

_PARTIAL: Final = ".partial"
RUN_FILES: Final = ("front.csv", "designs.parquet", "figures", "report.md", "run.json", "timing.json")
"""What a run writes into its folder; anything else there is the user's."""


def require_writable_file(path: Path) -> Path:
    """Return ``path``; raise UserError where a file could not be written there."""
    if path.is_dir():
        raise UserError(Problem(str(path), "", "is a folder", "the path of a file"))
    _require_writable_folder(path.parent, path)
    return path


def require_new_folder(path: Path) -> Path:
    """Return ``path``, its parents made; raise UserError where no folder could be written there."""
    if path.exists() and not path.is_dir():
        raise UserError(Problem(str(path), "", "is a file", "the path of a folder"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            Problem(str(path), "", f"cannot be made: {error.strerror}", "a folder that can be written")
        ) from None
    _require_writable_folder(path.parent, path)
    return path


def _require_writable_folder(folder: Path, target: Path) -> None:
    """Try it: permission bits alone do not tell (read-only mounts, other systems)."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            Problem(str(target), "", f"cannot be written: {error.strerror}", "a place that can be written")
        ) from None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path to write to; it takes the place of ``path`` at the end, and vanishes on any error."""
    partial = path.with_name(f".{path.stem[:100]}.{os.getpid()}{_PARTIAL}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder to write into; it takes the place of ``path`` at the end.

    On any error it vanishes. A folder that is there already stays as it is until the new one is complete.
    """
    _remove_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    partial.mkdir()
    try:
        yield partial
        _replace_folder(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove what killed runs left of the same folder; what a living process writes stays."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}"):
        owner = leftover.name.removesuffix(_PARTIAL).rsplit(".", 1)[-1]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it exists, but is somebody else's
    return True


def _replace_folder(new: Path, path: Path) -> None:
    """Put ``new`` at ``path``; an older run there is moved aside first and deleted last.

    Files that a user put into the old folder move into the new one. Of two runs that end at once one stays.
    """
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    with suppress(FileNotFoundError):
        path.rename(old)
        for kept in old.iterdir():
            if kept.name not in RUN_FILES:
                kept.rename(new / kept.name)
    try:
        new.rename(path)
    except OSError:  # another run of the same inputs came first; its files are the same to the byte
        if not path.is_dir():
            raise
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
