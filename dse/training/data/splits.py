"""Which samples of one collection are kept for testing: by a rule on one of its columns, or a drawn share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.options import Options

Mask = NDArray[np.bool_]
DEFAULT_SHARE: Final = 0.2


@dataclass(frozen=True)
class TestRule:
    """A condition on column ``key`` (below, at least, or one of values), or a drawn share of each class."""

    __test__ = False  # not a test case, whatever its name makes of it

    key: str = ""
    below: float | None = None
    at_least: float | None = None
    values: tuple[Any, ...] = ()
    share: float = DEFAULT_SHARE
    seed: int = 0

    def mask(self, column: NDArray[Any] | None, y: NDArray[np.int64], options: Options) -> Mask:
        """Return which of n samples are for testing (n,).

        Raises UserError for a condition that ``column`` (n,) cannot answer, or a value that it does not have.
        """
        if column is None:
            return drawn(y, self.share, self.seed)
        texts = column.dtype.kind in "US"
        if texts != (bool(self.values) and isinstance(self.values[0], str)):
            found, allowed = ("texts", "values = [...], texts") if texts else ("numbers", "numbers")
            found = f"{self.key!r} holds {found}"
            raise UserError(Problem(options.file, f"{options.key}.test", found, f"a condition on {allowed}"))
        if self.below is not None:
            return np.asarray(column < self.below)
        if self.at_least is not None:
            return np.asarray(column >= self.at_least)
        held = column.astype(str) if texts else column
        missing = [one for one in self.values if one not in set(held.tolist())]
        if missing:
            found, allowed = f"no sample with {self.key} {missing}", f"of {', '.join(_some(held))}"
            raise UserError(Problem(options.file, f"{options.key}.test.values", found, allowed))
        return np.isin(held, np.asarray(self.values))


def _some(column: NDArray[Any], most: int = 10) -> list[str]:
    values = np.unique(column)
    return [str(one) for one in values[:most]] + (["..."] if len(values) > most else [])


def read_rule(options: Options) -> TestRule:
    """Read table ``test``: ``key`` with ``below``, ``at_least`` or ``values``, or ``share`` and ``seed``."""
    table = options.table("test")
    if table is None:
        return TestRule()
    rule = TestRule(
        table.text("key"),
        table.value("below", _number, "a number"),
        table.value("at_least", _number, "a number"),
        tuple(table.value("values", _listed, "a list of numbers or of texts") or ()),
        table.number("share", DEFAULT_SHARE, 0.01, 0.9),
        table.integer("seed", 0, 0, 2**31 - 1),
    )
    table.unknown()
    conditions = [rule.below is not None, rule.at_least is not None, bool(rule.values)]
    if rule.key and sum(conditions) != 1:
        options.wrong(
            "test", f"{sum(conditions)} conditions on {rule.key!r}", "one of below, at_least, values"
        )
    if not rule.key and any(conditions):
        options.wrong("test", "a condition without key", 'key = "the array that it is about"')
    if rule.key and (table.has("share") or table.has("seed")):
        options.wrong("test", "both a key and a drawn share", "one of the two")
    return rule


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(value: Any) -> bool:
    alike: tuple[Callable[[Any], bool], ...] = (_number, lambda one: isinstance(one, str))
    return isinstance(value, list | tuple) and bool(value) and any(all(map(kind, value)) for kind in alike)


def drawn(y: NDArray[np.int64], share: float, seed: int) -> Mask:
    """Return a mask (n,) with ``share`` of each class, at least one sample of each, drawn by ``seed``."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(y), dtype=bool)
    for one in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == one))
        mask[members[: max(1, round(share * len(members)))]] = True
    return mask


def require_both(mask: Mask, options: Options) -> None:
    """Raise UserError unless some samples are for training and some for testing."""
    if mask.all() or not mask.any():
        found = f"{int(mask.sum())} of {len(mask)} samples are for testing"
        raise UserError(Problem(options.file, f"{options.key}.test", found, "some for each: change the rule"))
