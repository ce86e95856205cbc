"""Folders of pictures: the name of a folder is the class of what lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.assemble import assemble
from dse.training.data.base import Dataset
from dse.training.data.labels import class_numbers
from dse.training.data.options import Options
from dse.training.data.pictures import COLOURS, MOST_REPORTED, SUFFIXES, read_pictures, require_pillow
from dse.training.data.splits import read_rule, require_both

MOST_FILES: Final = 1_000_000
_PARTS: Final = ("train", "test")


@dataclass(frozen=True)
class Found:
    """Pictures in a fixed order, with the names of their classes and domains."""

    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    domains: tuple[str, ...]


def load_images(options: Options) -> Dataset:
    """Load ``folder/class/file``, or ``folder/train/class/file`` and ``folder/test/class/file``.

    Options: ``path``, the folder; ``domains`` (false): one more level, ``class/domain/file``; ``colour``
    ("rgb" or "grey"); ``size`` [pixels], to which the middle square of each picture is resized (default:
    they have one size already); where there are no folders train and test, ``test`` = {share, seed} or
    {key = "domain", values = [...]}. Names that begin with a dot are skipped; any other file that is no
    picture is refused.
    """
    folder = options.path("path", "a folder with one folder of pictures per class", is_folder=True)
    deep, colour = options.flag("domains", False), options.word("colour", "rgb", tuple(COLOURS))
    size, rule = options.integer("size", 0, 0, 4096), read_rule(options)
    if rule.key and not (rule.key == "domain" and rule.values and deep):
        options.wrong("test.key", repr(rule.key), '"domain" with values, together with domains = true')
    require_pillow(options)
    divided = folder is not None and all((folder / part).is_dir() for part in _PARTS)
    if divided and options.has("test"):
        options.wrong("test", "both a rule and folders train and test", "one of the two")
    options.finish()
    assert folder is not None
    parts = [
        find_pictures(one, deep) for one in ([folder / part for part in _PARTS] if divided else [folder])
    ]
    words = [np.array(part.classes) for part in parts]
    y, names = class_numbers(words, file=options.file, key=f"{options.key}.path")
    columns: list[list[NDArray[Any]]] = [
        [read_pictures(part.paths, colour, size, options) for part in parts],
        list(y),
        [np.array(part.domains) for part in parts],
    ]
    if not divided:
        mask = rule.mask(columns[2][0] if rule.key else None, y[0], options)
        require_both(mask, options)
        columns = [[column[0][~mask], column[0][mask]] for column in columns]
    x, labels, domain = columns
    return assemble(
        folder.name, x, labels, domain if deep else None, names, source=f"pictures in {folder.name}"
    )


def find_pictures(folder: Path, deep: bool) -> Found:
    """List ``class/file`` (or ``class/domain/file`` where ``deep``) under ``folder`` in the order of names.

    Raises UserError for an empty folder, and for files that are no pictures or lie on another level.
    """
    level = f"class/{'domain/' if deep else ''}file"
    found: list[tuple[Path, str, str]] = []
    problems: list[Problem] = []
    for one in _listed(folder):
        inner = _listed(one) if deep else [one]
        for group in inner if one.is_dir() else [one]:
            for path in _listed(group) if group.is_dir() else [group]:
                if group.is_dir() and path.is_file() and path.suffix.lower() in SUFFIXES:
                    found.append((path, one.name, group.name))
                else:
                    problems.append(
                        Problem(str(path), "", "not a picture in its place", f"{level}; move it away")
                    )
    if not found and not problems:
        problems.append(Problem(str(folder), "", "no pictures", f"{level} with {', '.join(SUFFIXES)}"))
    if len(found) > MOST_FILES:
        problems.append(Problem(str(folder), "", f"{len(found)} pictures", f"at most {MOST_FILES}"))
    if problems:
        raise UserError(problems[:MOST_REPORTED])
    paths, names, domains = zip(*found, strict=True)
    return Found(paths, names, domains)


def _listed(folder: Path) -> list[Path]:
    """Return what lies in ``folder`` by name, without what begins with a dot; nothing where it is a file."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name[0] != "."), key=lambda path: path.name)
