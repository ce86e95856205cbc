"""Files and folders that appear complete or not at all, and are refused before any work where they cannot."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dse.errors import Problem, UserError

_PARTIAL: Final = ".partial"


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
    partial = path.with_name(f".{path.stem}{_PARTIAL}{path.suffix}")
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
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _replace_folder(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _replace_folder(new: Path, path: Path) -> None:
    """Put ``new`` at ``path``; an older run there is moved aside first and deleted last."""
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    new.rename(path)
    shutil.rmtree(old)
