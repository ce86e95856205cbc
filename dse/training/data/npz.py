"""Labelled arrays from one .npz file: images, maps, series or vectors, with optional domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.archive import Archive
from dse.training.data.assemble import assemble
from dse.training.data.base import Dataset
from dse.training.data.labels import class_numbers
from dse.training.data.options import Options
from dse.training.data.splits import TestRule, read_rule, require_both

AXES: Final = {
    "nf": (0, 1), "nl": (0, 1), "nhw": (0, 1, 2), "ncl": (0, 1, 2), "nlc": (0, 2, 1), "nchw": (0, 1, 2, 3),
    "nhwc": (0, 3, 1, 2),
}  # fmt: skip
"""Orders of axes that are read -> the transposition that puts channels second."""

_NEEDS_CHANNEL: Final = ("nl", "nhw")
_PLAIN: Final = {2: "nf", 4: "nchw"}
_CHANNEL_COUNTS: Final = (1, 3, 4)
_ALLOWED_AXES: Final = f"axes = one of {', '.join(AXES)} (n samples, c channels, h, w, l length, f features)"

_COLUMNS: Final = ("x", "y", "domain")

Column = NDArray[Any]


def load_npz(options: Options) -> Dataset:
    """Load the labelled arrays of an .npz file.

    Options: ``path``; the names of the arrays ``x`` ("x"), ``y`` ("y") and ``domain`` (none); either a
    second set ``x_test``, ``y_test``, ``domain_test`` or the rule ``test`` (``splits.read_rule``); ``axes``
    of x where they are not plain; ``class_names``, a list or the name of an array; ``range`` = [low, high],
    numbers or names of scalars, between which uint8 samples lie (value = low + x / 255 * (high - low));
    ``standardise`` (true): mean 0 and deviation 1 over the training samples, per channel for floats.
    uint8 stays uint8.
    """
    path = options.path("path", "an .npz file")
    content = _read_options(options)
    options.finish()
    assert path is not None
    with Archive(path, file=options.file, key=options.key) as archive:
        return content.load(archive, options, path.stem)


@dataclass(frozen=True)
class _Content:
    """What to read from the archive, and how."""

    names: dict[str, str]
    axes: str
    class_names: Any
    limits: Any
    standardise: bool
    rule: TestRule

    def load(self, archive: Archive, options: Options, name: str) -> Dataset:
        """Read, check and split the arrays."""
        loaded = self._arrays(archive, options)
        given = archive[self.class_names] if isinstance(self.class_names, str) else self.class_names or ()
        words = [str(one) for one in given]
        limits = self._limits(archive, options)
        ends = ("", "_test") if "x_test" in loaded else ("",)
        x, y, domain = ([loaded[f"{one}{end}"] for end in ends if one in loaded] for one in _COLUMNS)
        labels, names = class_numbers(y, words, file=options.file, key=f"{options.key}.y")
        if len(ends) == 1:
            mask = self.rule.mask(loaded.get("test.key"), labels[0], options)
            require_both(mask, options)
            x, labels, domain = ([part[kept] for part in column for kept in (~mask, mask)]
                                 for column in (x, labels, domain))  # fmt: skip
        return assemble(
            name, x, labels, domain or None, names,
            source=archive.path.name, limits=limits, standardise=self.standardise,
        )  # fmt: skip

    def _arrays(self, archive: Archive, options: Options) -> dict[str, Column]:
        """Return option -> array, as long as each other, x with its channels second."""
        wanted = self.names | ({"test.key": self.rule.key} if self.rule.key else {})
        wanted = {option: array for option, array in wanted.items() if array}
        archive.require(wanted)
        loaded = {option: archive[array] for option, array in wanted.items()}
        _require_lengths(loaded, options)
        for option in ("x", "x_test"):
            if option in loaded:
                loaded[option] = oriented(loaded[option], self.axes, options)
        return loaded

    def _limits(self, archive: Archive, options: Options) -> tuple[float, float] | None:
        if self.limits is None:
            return None
        low, high = (_scalar(archive, one, options) for one in self.limits)
        if not low < high:
            key = f"{options.key}.range"
            raise UserError(Problem(options.file, key, f"[{low}, {high}]", "low below high"))
        return low, high


def _read_options(options: Options) -> _Content:
    names = {name: options.text(name, default) for name, default in (("x", "x"), ("y", "y"), ("domain", ""))}
    names |= {f"{name}_test": options.text(f"{name}_test") for name in ("x", "y", "domain")}
    axes = options.text("axes")
    if axes and axes not in AXES:
        options.wrong("axes", repr(axes), _ALLOWED_AXES)
    rule = read_rule(options)
    if bool(names["x_test"]) != bool(names["y_test"]):
        options.wrong("x_test", "x_test and y_test go together", "name both arrays, or neither")
    if names["x_test"] and names["x_test"] == names["x"]:
        options.wrong("x_test", f"{names['x']!r}, as x", "another array: what is tested on is not trained on")
    if names["x_test"] and options.has("test"):
        options.wrong("test", "both a rule and arrays for testing", "one of the two")
    if bool(names["domain_test"]) != bool(names["x_test"] and names["domain"]):
        options.wrong("domain_test", repr(names["domain_test"]), "domain_test goes with domain and x_test")
    classes = options.value("class_names", _is_names, "a list of texts, or the name of an array")
    limits = options.value(
        "range", _is_range, "[low, high]: two numbers, or two names of arrays with one number"
    )
    return _Content(names, axes, classes, limits, options.flag("standardise", True), rule)


def oriented(x: Column, axes: str, options: Options) -> Column:
    """Return samples with their channels second, (n, C, H, W), (n, C, L) or (n, F).

    ``axes`` "" takes what is plain: vectors (n, F), uint8 maps (n, H, W), images (n, C, H, W). Raises
    UserError where the axes have to be named.
    """
    key = f"{options.key}.axes"
    if not axes:
        axes = "nhw" if x.ndim == 3 and x.dtype == np.uint8 else _PLAIN.get(x.ndim, "")
        last_is_channel = x.ndim == 4 and x.shape[3] in _CHANNEL_COUNTS and x.shape[1] not in _CHANNEL_COUNTS
        if not axes or last_is_channel:
            raise UserError(Problem(options.file, key, f"missing for x of shape {x.shape}", _ALLOWED_AXES))
    if len(axes) != x.ndim:
        raise UserError(Problem(options.file, key, f"{axes!r} for x of shape {x.shape}", _ALLOWED_AXES))
    turned = x.transpose(AXES[axes])
    return turned[:, None] if axes in _NEEDS_CHANNEL else turned


def _require_lengths(loaded: dict[str, Column], options: Options) -> None:
    """Raise UserError unless every column of a part has one entry per sample."""
    problems = []
    for option, array in loaded.items():
        samples = loaded["x_test" if option.endswith("_test") else "x"]
        found = "" if array.ndim and samples.ndim and len(array) == len(samples) else f"shape {array.shape}"
        if not found and option not in ("x", "x_test") and array.ndim != 1 and not option.startswith("y"):
            found = f"shape {array.shape}"
        if found:
            allowed = f"one entry for each of the {len(samples) if samples.ndim else 0} samples"
            problems.append(Problem(options.file, f"{options.key}.{option}", found, allowed))
    if problems:
        raise UserError(problems)


def _scalar(archive: Archive, value: Any, options: Options) -> float:
    if not isinstance(value, str):
        return float(value)
    array = archive[value]
    if array.size != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        found = f"array {value!r} of shape {array.shape}"
        raise UserError(Problem(options.file, f"{options.key}.range", found, "one finite number"))
    return float(array.reshape(()))


def _is_names(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    return (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) and one for one in value)
    )


def _is_range(value: Any) -> bool:
    number = isinstance(value, list | tuple) and len(value) == 2
    return number and all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in value)
