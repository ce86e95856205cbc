"""In what two boards differ: their numbers by path, and what only one of them has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dse.hardware.profile import HardwareProfile
from dse.hardware.quantity import Quantity


@dataclass(frozen=True)
class Difference:
    """One number of two boards [SI]; None where a board has no such number."""

    path: str
    first: Quantity | None
    second: Quantity | None

    @property
    def ratio(self) -> float | None:
        """Second over first; None where one is missing, included elsewhere, or 0."""
        if self.first is None or self.second is None or self.first.included or self.second.included:
            return None
        return self.second.value / self.first.value if self.first.value else None

    @property
    def same_value(self) -> bool:
        """Whether both have the number, with the same value and the same interval."""
        if self.first is None or self.second is None:
            return False
        return _numbers(self.first) == _numbers(self.second)


def _numbers(quantity: Quantity) -> tuple[float, float, float, bool]:
    return quantity.value, quantity.low_value, quantity.high_value, quantity.included


def differences(first: HardwareProfile, second: HardwareProfile) -> tuple[Difference, ...]:
    """Return every number in which two boards differ, in the order of the first board."""
    ours, theirs = dict(first.numbers()), dict(second.numbers())
    paths = [*ours, *(path for path in theirs if path not in ours)]
    found = (Difference(path, ours.get(path), theirs.get(path)) for path in paths)
    return tuple(each for each in found if not each.same_value)


def words(board: HardwareProfile) -> dict[str, Any]:
    """Return what a board says in words: core, kernel libraries, and what is attached."""
    libraries = {f"kernels.{dtype}": library for dtype, library in board.default_libraries}
    return {"core": board.core, **libraries, "parts": ", ".join(board.parts)}
