"""Files and folders that appear complete or not at all, and are refused before any work where they cannot."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dse.errors import Problem, UserError

_PARTIAL: Final = ".partial"
_OLD: Final = ".old"
_ATTEMPTS: Final = 100


def require_writable_file(path: Path) -> Path:
    """Return ``path``; raise UserError where a file could not be written there."""
    if _is_folder(path):
        raise UserError(Problem(str(path), "", "is a folder", "the path of a file"))
    _require_writable_folder(path.parent, path)
    return path


def require_new_folder(path: Path) -> Path:
    """Return ``path``, its parents made; raise UserError where no folder could be written there."""
    if not _is_folder(path) and path.exists():
        raise UserError(Problem(str(path), "", "is a file", "the path of a folder"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            Problem(str(path), "", f"cannot be made: {error.strerror}", "a folder that can be written")
        ) from None
    _require_writable_folder(path.parent, path)
    return path


def _is_folder(path: Path) -> bool:
    """Ask the system; raise UserError where it refuses the very name, such as one that is too long."""
    try:
        return path.is_dir()
    except OSError as error:
        raise UserError(
            Problem(str(path), "", f"cannot be written: {error.strerror}", "a place that can be written")
        ) from None


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
    _remove_leftovers(path)
    partial = _hidden(path, _PARTIAL + path.suffix)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder to write into; it takes the place of ``path`` at the end.

    On any error it vanishes. A folder that is there already stays as it is until the new one is complete;
    what the new one does not write (a user's notes) is kept. Of several writers the last to finish wins.
    """
    _remove_leftovers(path)
    partial = _hidden(path, _PARTIAL)
    partial.mkdir()
    try:
        yield partial
        _replace_folder(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def merged_folder(path: Path, last: str) -> Iterator[Path]:
    """Give an empty folder to fill; its files then take their places in ``path`` one by one.

    For a folder that other processes write to meanwhile: what they keep there stays where it is. The file
    ``last`` marks a complete folder: it goes first and comes back when all others are in place.
    """
    _remove_leftovers(path)
    path.mkdir(exist_ok=True)
    partial = _hidden(path, _PARTIAL)
    partial.mkdir()
    try:
        yield partial
        (path / last).unlink(missing_ok=True)
        files = sorted(file for file in partial.rglob("*") if file.is_file())
        for file in sorted(files, key=lambda file: file == partial / last):
            place = path / file.relative_to(partial)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _hidden(path: Path, ending: str) -> Path:
    """Return a new name beside ``path`` that tells which process owns it."""
    return path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}{ending}")


def _remove_leftovers(path: Path) -> None:
    """Clear what killed runs left of the same target; what a living process writes stays.

    A folder that was moved aside when its run was killed returns to its place, and is never deleted here.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name[:100])}.*-*.*"):
        owner = leftover.name.removeprefix(f".{path.name[:100]}.").partition("-")[0]
        if not owner.isdecimal() or _alive(int(owner)):
            continue
        if leftover.name.endswith(_OLD):
            if not path.exists():
                leftover.rename(path)
        elif leftover.name.endswith((_PARTIAL, _PARTIAL + path.suffix)):
            shutil.rmtree(leftover, ignore_errors=True)
            leftover.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Return whether ``process`` may still run; where that cannot be told, it may."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # it exists, but is somebody else's
    return True


def _replace_folder(new: Path, path: Path) -> None:
    """Put ``new`` at ``path``; an older folder there is moved aside first and deleted last."""
    for _ in range(_ATTEMPTS):
        if not path.exists() and _moved(new, path):
            return
        old = _hidden(path, _OLD)
        try:
            path.rename(old)
        except FileNotFoundError:  # another run took it away
            continue
        try:
            _keep(old, new)
            moved = _moved(new, path)
        except BaseException:
            if not path.exists():
                old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
        if moved:
            return
    raise FileExistsError(errno.EEXIST, "other runs keep writing it", str(path))


def _moved(new: Path, path: Path) -> bool:
    """Rename ``new`` to ``path``; return False where another run was faster."""
    try:
        new.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _keep(old: Path, new: Path) -> None:
    """Copy into ``new`` what only ``old`` has."""

    def there(folder: str, names: list[str]) -> list[str]:
        place = new / Path(folder).relative_to(old)
        both = [name for name in names if os.path.lexists(place / name)]
        return [name for name in both if not ((place / name).is_dir() and Path(folder, name).is_dir())]

    shutil.copytree(old, new, symlinks=True, ignore=there, dirs_exist_ok=True)
