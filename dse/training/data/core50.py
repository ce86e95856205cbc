"""CORe50 with the file lists of its benchmarks: 50 objects of 10 categories in 11 sessions.

Sources: V. Lomonaco, D. Maltoni, "CORe50: a New Dataset and Benchmark for Continuous Object Recognition",
CoRL 2017 (pictures ``core50_128x128/sN/oM/C_NN_MM_FFF.png``: session, object, frame); V. Lomonaco,
D. Maltoni, L. Pellegrini, "Rehearsal-Free Continual Learning over Small Non-I.I.D. Batches", arXiv
1907.03799 (NICv2: lists of 79, 196 or 391 learning events). A line of a list is a picture and its label.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.assemble import assemble
from dse.training.data.base import Dataset
from dse.training.data.options import Options
from dse.training.data.pictures import COLOURS, MOST_REPORTED, read_pictures, require_pillow

CATEGORIES: Final = (
    "plug adapter", "mobile phone", "scissors", "light bulb", "can", "glasses", "ball", "marker", "cup",
    "remote control",
)  # fmt: skip
OBJECTS_PER_CATEGORY: Final = 5
SESSIONS: Final = 11
IMAGES: Final = ("core50_128x128",)
LISTS: Final = (
    "batches_filelists/NICv2_391", "batches_filelists/NIC_v2_391", "NICv2_391", "NIC_v2_391"
)  # fmt: skip
LEVELS: Final = ("object", "category")
MOST_LIST_BYTES: Final = 64 * 2**20

_LINE: Final = re.compile(r"(s(\d{1,2})/o(\d{1,2})/C_(\d{2})_(\d{2})_\d{3}\.png)[ \t]+(\d{1,3})")
_BATCH: Final = re.compile(r"train_batch_(\d{1,4})_filelist\.txt")
_NAME: Final = re.compile(r"[\w-]+(?:/[\w-]+)*")
_TEST_LIST: Final = "test_filelist.txt"


@dataclass(frozen=True)
class Listed:
    """The pictures of a list: path, session, object (1 to 50), label of the list, and learning event."""

    paths: tuple[str, ...]
    sessions: NDArray[np.int64]
    objects: NDArray[np.int64]
    labels: NDArray[np.int64]
    events: NDArray[np.int64]


def load_core50(options: Options) -> Dataset:
    """Load the pictures that the file lists of one run name; the session is the domain.

    Options: ``path``, the folder that has the pictures' folder and the lists; ``images``
    ("core50_128x128"); ``lists``, a folder of runs under ``path`` (default: the first of ``LISTS`` that is
    there), ``run`` (0); ``level`` ("object", 50 classes, or "category"); ``size`` (128) [pixels], ``colour``
    ("rgb"); ``every`` (1): of each list, every so many lines. Learning events of the lists become
    ``Dataset.batches``, classes keep the numbers of the lists.
    """
    folder = options.path("path", "the folder of CORe50", is_folder=True)
    images, lists = _folder(options, folder, "images", IMAGES), _folder(options, folder, "lists", LISTS)
    run, every = options.integer("run", 0, 0, 99), options.integer("every", 1, 1, 1000)
    level, colour = options.word("level", "object", LEVELS), options.word("colour", "rgb", tuple(COLOURS))
    size = options.integer("size", 128, 4, 128)
    require_pillow(options)
    options.finish()
    assert images is not None
    assert lists is not None
    train, test = read_lists(lists / f"run{run}", every)
    _require_files(images, [*train.paths, *test.paths])
    y, names = classes_of([train, test], level)
    paths = [[images / path for path in part.paths] for part in (train, test)]
    x = [read_pictures(part, colour, size, options) for part in paths]
    domains, source = [train.sessions, test.sessions], f"CORe50, {lists.name} run {run}"
    return assemble("core50", x, y, domains, names, source=source, batches=train.events)


def _folder(options: Options, base: Path | None, name: str, usual: Sequence[str]) -> Path | None:
    """Return the folder that option ``name`` says, or the first usual one; never one beside ``base``."""
    given = options.text(name)
    if given and not _NAME.fullmatch(given):
        options.wrong(name, repr(given), "the name of a folder under path")
    elif base is not None:
        found = next((base / one for one in ([given] if given else usual) if (base / one).is_dir()), None)
        if found is not None:
            return found
        options.wrong(
            name, f"no folder {given or ' or '.join(usual)} in {base}", "unpack it there, or name it"
        )
    return None


def read_lists(folder: Path, every: int = 1) -> tuple[Listed, Listed]:
    """Return what the lists in ``folder`` name: training pictures by learning event, and test pictures.

    ``every``: of each list only the lines 0, every, 2 * every, ... Raises UserError with the lines that are
    not what CORe50 has; no path of a list leaves the folder of pictures.
    """
    named = ((_BATCH.fullmatch(path.name), path) for path in folder.glob("train_batch_*"))
    found = {int(match[1]): path for match, path in named if match}
    problems = []
    if sorted(found) != list(range(len(found))) or not found:
        shown = f"{len(found)} lists train_batch_XX_filelist.txt"
        problems.append(Problem(str(folder), "", shown, "one for each learning event from 0, without gaps"))
    if not (folder / _TEST_LIST).is_file():
        problems.append(Problem(str(folder), "", f"no {_TEST_LIST}", "the list of test pictures"))
    if problems:
        raise UserError(problems)
    batches = [_read_list(found[number], every, number) for number in sorted(found)]
    return _joined(batches), _read_list(folder / _TEST_LIST, every, 0)


def _read_list(path: Path, every: int, event: int) -> Listed:
    if path.stat().st_size > MOST_LIST_BYTES:
        raise UserError(Problem(str(path), "", f"{path.stat().st_size} bytes", f"at most {MOST_LIST_BYTES}"))
    lines = enumerate(path.read_text(encoding="ascii", errors="replace").split("\n"), 1)
    matches = [(number, line, _LINE.fullmatch(line.strip())) for number, line in lines if line.strip()]
    wrong = [(number, line) for number, line, match in matches if match is None or not _consistent(match)]
    if wrong or not matches:
        allowed = "sN/oM/C_NN_MM_FFF.png LABEL, with the same session and object in folder and file"
        problems = [Problem(str(path), f"line {number}", repr(line[:60]), allowed) for number, line in wrong]
        raise UserError(problems[:MOST_REPORTED] or Problem(str(path), "", "no pictures", allowed))
    kept = [match for _, _, match in matches if match][::every]
    session, item, label = (
        np.array([int(match[one]) for match in kept], dtype=np.int64) for one in (2, 3, 6)
    )
    names = tuple(match[1] for match in kept)
    return Listed(names, session, item, label, np.full(len(kept), event, dtype=np.int64))


def _consistent(match: re.Match[str]) -> bool:
    session, item = int(match[2]), int(match[3])
    most = len(CATEGORIES) * OBJECTS_PER_CATEGORY
    same = session == int(match[4]) and item == int(match[5])
    return same and 1 <= item <= most and 1 <= session <= SESSIONS


def _joined(parts: Sequence[Listed]) -> Listed:
    return Listed(
        tuple(path for part in parts for path in part.paths),
        np.concatenate([part.sessions for part in parts]),
        np.concatenate([part.objects for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.events for part in parts]),
    )


def _require_files(folder: Path, paths: Sequence[str]) -> None:
    """Raise UserError with the pictures that the lists name and the folder does not have, or lists twice."""
    missing = [path for path in dict.fromkeys(paths) if not (folder / path).is_file()]
    problems = [Problem(str(folder), "", f"no {path}", "unpack the pictures here") for path in missing]
    twice = len(paths) - len(set(paths))
    if twice:
        problems.append(Problem(str(folder), "", f"{twice} pictures are listed twice", "each once"))
    if problems:
        raise UserError(problems[:MOST_REPORTED])


def classes_of(parts: Sequence[Listed], level: str) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Return the class of each picture, per part, and the names: objects or categories, as the lists number.

    Raises UserError unless each object has one label in all lists, each label one object, and none is left
    out.
    """
    pairs = np.unique(
        np.concatenate([np.stack([part.labels, part.objects], axis=1) for part in parts]), axis=0
    )
    if any(len(np.unique(column)) != len(pairs) for column in pairs.T):
        found, allowed = "an object with two labels, or two with one", "lists of one run, by object"
        raise UserError(Problem("core50", "label", found, allowed))
    if not np.array_equal(pairs[:, 0], np.arange(len(pairs))):
        found = f"{len(pairs)} labels up to {pairs[-1, 0]}"
        raise UserError(Problem("core50", "label", found, "0, 1, 2 ... without gaps: a smaller every"))
    of_label = pairs[:, 1] - 1
    category = of_label // OBJECTS_PER_CATEGORY
    if level == "object":
        names = [
            f"{CATEGORIES[one]} {k % OBJECTS_PER_CATEGORY + 1}"
            for one, k in zip(category, of_label, strict=True)
        ]
        return [part.labels for part in parts], tuple(names)
    order = list(dict.fromkeys(category.tolist()))  # by first appearance, as the objects are
    number = np.array([order.index(one) for one in category], dtype=np.int64)
    return [number[part.labels] for part in parts], tuple(CATEGORIES[one] for one in order)
