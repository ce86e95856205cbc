"""Labelled data by name or table: generated, bundled, or read from the user's files.

``DATA_KINDS`` is the list of what can be loaded: a kind is a function from options to a ``Dataset``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dse.errors import Problem, UnknownName, UserError
from dse.training.data.base import Dataset, Split
from dse.training.data.core50 import load_core50
from dse.training.data.digits import load_digits
from dse.training.data.fashion import load_fashion
from dse.training.data.idx import load_idx
from dse.training.data.images import load_images
from dse.training.data.npz import load_npz
from dse.training.data.options import Options
from dse.training.data.shapes import load_shapes
from dse.training.data.windows import load_windows

DATA_KINDS: Final[dict[str, Callable[[Options], Dataset]]] = {
    "shapes": load_shapes,
    "digits": load_digits,
    "fashion-mnist": load_fashion,
    "idx": load_idx,
    "npz": load_npz,
    "images": load_images,
    "core50": load_core50,
    "windows": load_windows,
}


def load_data(
    spec: str | Mapping[str, Any], *, file: str = "task", folder: str | Path | None = None
) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    spec: a kind ("shapes", "digits", "fashion-mnist"), or a table with ``kind`` and the options of that kind.
    file: the file that says so, for messages.
    folder: where relative paths start; None: the working directory.

    Raises UserError (UnknownName for a kind that nothing answers to) with every problem.

    """
    table: Mapping[str, Any] = {"kind": spec} if isinstance(spec, str) else spec
    kind = table.get("kind")
    if kind is None:
        raise UserError(Problem(file, "task.data.kind", "missing", f"one of {', '.join(DATA_KINDS)}"))
    if not isinstance(kind, str) or kind not in DATA_KINDS:
        raise UnknownName("data set", kind, DATA_KINDS, file=file, key="task.data.kind")
    options = Options(table, file=file, folder=None if folder is None else Path(folder))
    return DATA_KINDS[kind](options)


__all__ = ["DATA_KINDS", "Dataset", "Split", "load_data"]
