"""Windows over recorded time series: labelled row by row, split by subject.

The layout is that of the phone and watch recordings of M. Matey-Sanz et al., "Dataset of inertial
measurements of smartphones and smartwatches for human activity recognition", Data in Brief 2023, in one .npz:
``x`` (rows, C), ``y`` (rows,) the class of each row, ``offsets`` (recordings + 1,), ``files`` (recordings,)
named ``sSS_EE_DEVICE.csv`` with subject, execution and device, and ``class_names``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.archive import Archive
from dse.training.data.assemble import assemble
from dse.training.data.base import Dataset
from dse.training.data.checks import size_problem
from dse.training.data.labels import class_numbers
from dse.training.data.options import Options

IntArray = NDArray[np.int64]
DEVICES: Final = ("both", "sp", "sw")
TEST_SUBJECTS: Final = 0.25
"""Share of the subjects (those with the highest numbers) that is tested on where none are named."""

MOST_EXECUTIONS: Final = 10**6
"""Executions of one subject: six digits in the name of a recording."""

_ARRAYS: Final = ("x", "y", "offsets", "files")
_RECORDING: Final = re.compile(r"s(\d{1,6})_(\d{1,6})_(\w{1,16})\.csv")


@dataclass(frozen=True)
class Recordings:
    """Rows of all recordings: ``x`` (rows, C) float, ``y`` (rows,) classes, and where each recording lies.

    ``groups`` is one number per execution of one subject: phone and watch record it at the same time.
    """

    x: NDArray[Any]
    y: IntArray
    starts: IntArray
    ends: IntArray
    subjects: IntArray
    groups: IntArray
    class_names: tuple[str, ...]


def load_windows(options: Options) -> Dataset:
    """Load windows (n, C, window) float32 with the subject as domain, standardised per channel.

    The group of a window is the execution of its subject: its windows overlap, and phone and watch see it at
    the same time.

    Options: ``path``; ``window`` (128) and ``stride`` (64) [rows]; ``label_share`` (0.7), the part of a
    window that its most frequent class must have, other windows are left out; ``device`` ("both", "sp",
    "sw"); ``train_subjects``, ``test_subjects``: numbers (default: the quarter with the highest numbers is
    for testing).
    """
    path = options.path("path", "an .npz file with x, y, offsets and files")
    window, stride = options.integer("window", 128, 2, 65_536), options.integer("stride", 64, 1, 65_536)
    share = options.number("label_share", 0.7, 0.0, 1.0)
    device = options.word("device", "both", DEVICES)
    train, test = options.integers("train_subjects"), options.integers("test_subjects")
    if set(train) & set(test):
        options.wrong(
            "test_subjects", f"{sorted(set(train) & set(test))} in both parts", "each subject in one part"
        )
    options.finish()
    assert path is not None
    recordings = read_recordings(path, device, options)
    subjects = split_subjects(recordings.subjects, train, test, options)
    parts = [_windows(recordings, chosen, window, stride, share, options) for chosen in subjects]
    x, y, domain, group = ([part[column] for part in parts] for column in range(4))
    return assemble(path.stem, x, y, domain, recordings.class_names, source=path.name, group=group)


def read_recordings(path: Path, device: str, options: Options) -> Recordings:
    """Read the recordings of ``device`` from an .npz file. Raises UserError for arrays that do not fit."""
    with Archive(path, file=options.file, key=f"{options.key}.path") as archive:
        archive.require({name: name for name in _ARRAYS})
        x, y, offsets, files = (archive[name] for name in _ARRAYS)
        names = [str(one) for one in archive["class_names"]] if "class_names" in archive else []
    problems = _array_problems(x, y, offsets, files)
    matches = [_RECORDING.fullmatch(str(name)) for name in files] if files.ndim == 1 else []
    wrong = next((str(name) for name, match in zip(files, matches, strict=False) if match is None), None)
    if wrong is not None:
        problems.append(("files", repr(wrong), "sSS_EE_DEVICE.csv: subject, execution, device"))
    if problems:
        raise UserError(Problem(path.name, *problem) for problem in problems)
    (numbers,), classes = class_numbers([y], names, file=path.name, key="y")
    keep = np.array([device == "both" or match[3] == device for match in matches if match], dtype=bool)
    subjects = np.array([int(match[1]) for match in matches if match], dtype=np.int64)
    groups = subjects * MOST_EXECUTIONS + [int(match[2]) for match in matches if match]
    bounds = offsets.astype(np.int64)
    return Recordings(x, numbers, bounds[:-1][keep], bounds[1:][keep], subjects[keep], groups[keep], classes)


def _array_problems(
    x: NDArray[Any], y: NDArray[Any], offsets: NDArray[Any], files: NDArray[Any]
) -> list[tuple[str, str, str]]:
    problems = []
    if x.ndim != 2 or x.dtype.kind not in "iuf" or x.size == 0:
        problems.append(("x", f"{x.dtype} {x.shape}", "numbers, one row per moment, one column per channel"))
    if x.ndim and y.shape != x.shape[:1]:
        problems.append(("y", f"shape {y.shape}", "one label per row of x"))
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or offsets.shape[0] != files.size + 1:
        problems.append(("offsets", f"{offsets.dtype} {offsets.shape}", "whole numbers, one more than files"))
    elif (
        offsets[0] != 0 or offsets[-1] != len(x) or (offsets[1:].astype(int) < offsets[:-1].astype(int)).any()
    ):
        problems.append(
            ("offsets", f"{offsets[0]} to {offsets[-1]}", f"ascending from 0 to the {len(x)} rows")
        )
    if files.ndim != 1 or files.dtype.kind != "U":
        problems.append(("files", f"{files.dtype} {files.shape}", "one name per recording"))
    return problems


def split_subjects(
    found: IntArray, train: tuple[int, ...], test: tuple[int, ...], options: Options
) -> tuple[IntArray, IntArray]:
    """Return the subjects of training and of testing. Raises UserError for one that has no recording."""
    known = np.unique(found)
    for name, chosen in (("train_subjects", train), ("test_subjects", test)):
        missing = sorted(set(chosen) - set(known.tolist()))
        if missing:
            options.wrong(name, f"no recording of {missing}", f"of {', '.join(map(str, known))}")
    if len(known) < 2:
        options.wrong("path", f"{len(known)} subjects", "at least two: one to train on, one to test on")
    if options.problems:
        raise UserError(options.problems)
    if not test:
        rest = np.setdiff1d(known, train)
        test = tuple(rest if train else known[-int(np.ceil(TEST_SUBJECTS * len(known))) :])
    if not train:
        train = tuple(np.setdiff1d(known, test))
    for name, chosen in (("train_subjects", train), ("test_subjects", test)):
        if not chosen:
            raise UserError(
                Problem(options.file, f"{options.key}.{name}", "nobody is left", "name fewer in the other")
            )
    return np.sort(np.array(train, np.int64)), np.sort(np.array(test, np.int64))


def window_starts(start: int, end: int, window: int, stride: int) -> IntArray:
    """Return the first rows of the windows that lie wholly between rows ``start`` and ``end``."""
    return np.arange(start, end - window + 1, stride, dtype=np.int64)


def window_labels(
    y: IntArray, starts: IntArray, window: int, classes: int
) -> tuple[IntArray, NDArray[np.float64]]:
    """Return the most frequent class of each window (the lowest of equals), and its share of the rows."""
    counts = np.empty((len(starts), classes), dtype=np.int64)
    for one in range(classes):
        so_far = np.concatenate([[0], np.cumsum(y == one)])
        counts[:, one] = so_far[starts + window] - so_far[starts]
    label = counts.argmax(axis=1)
    return label, counts[np.arange(len(starts)), label] / window


def _windows(
    recordings: Recordings, subjects: IntArray, window: int, stride: int, share: float, options: Options
) -> tuple[NDArray[Any], IntArray, IntArray, IntArray]:
    chosen = np.flatnonzero(np.isin(recordings.subjects, subjects))
    pieces = [
        window_starts(int(recordings.starts[one]), int(recordings.ends[one]), window, stride)
        for one in chosen
    ]
    starts = np.concatenate(pieces)
    source = np.repeat(chosen, [len(piece) for piece in pieces])
    label, part = window_labels(recordings.y, starts, window, len(recordings.class_names))
    keep = part >= share
    starts, label, source = starts[keep], label[keep], source[keep]
    channels = recordings.x.shape[1]
    problems = size_problem(options.file, f"{options.key}.stride", len(starts) * channels * window * 8)
    if not len(starts):
        found = f"no window of {window} rows with label_share {share:g}"
        problems.append(
            Problem(options.file, f"{options.key}.window", found, "a shorter window, or a lower share")
        )
    if problems:
        raise UserError(problems)
    rows = recordings.x[starts[:, None] + np.arange(window)]
    return rows.transpose(0, 2, 1), label, recordings.subjects[source], recordings.groups[source]
