"""Reads the tables of a space file and collects every problem, so that all are reported at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dse.errors import Problem, UserError, allowed_names
from dse.workload.names import is_file

LONGEST: Final = 100_000
"""Most values that one decision may list."""

LARGEST: Final = 1_000_000_000
"""Largest integer of a decision or setting where nothing smaller is stated: products stay exact."""

SHOWN: Final = 60
"""Characters of a wrong value that a message repeats."""


@dataclass
class Reader:
    """Problems of one file in the making."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, key: str, found: object, allowed: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(self.file, key, str(found), allowed))

    def unknown(self, key: str, what: str, name: object, known: Iterable[object]) -> None:
        """Note a name that nothing answers to, with the nearest known one."""
        text = name if isinstance(name, str) else shown(name)
        found = f"unknown {what} {shown(text)}"
        self.wrong(key, found, allowed_names(text[:SHOWN], [str(one) for one in known]))

    def adopt(self, error: UserError, key: str) -> None:
        """Take over the problems of a network or board; those without a file of their own get this one."""
        for problem in error.problems:
            own = problem.file == self.file or is_file(problem.file)
            self.problems.append(problem if own else Problem(self.file, key, problem.found, problem.allowed))

    def raise_problems(self) -> None:
        """Raise UserError where something is wrong."""
        if self.problems:
            raise UserError(dict.fromkeys(self.problems))

    def table(self, data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """Return the table under ``key``; empty where absent."""
        value = data.get(key, {})
        if isinstance(value, Mapping):
            return value
        self.wrong(key, shown(value), "a table")
        return {}

    def known_keys(self, data: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
        """Refuse keys that mean nothing."""
        for name in data:
            if name not in known:
                self.unknown(f"{where}.{name}" if where else name, "key", name, known)

    def number(
        self, data: Mapping[str, Any], key: str, where: str, default: float, *, low: float = 0.0,
        high: float = math.inf, above: bool = False,
    ) -> float:  # fmt: skip
        """Return a finite number in low..high (above low where ``above``); the default where absent."""
        value = data.get(key, default)
        limits = f"a finite number {'above' if above else 'of at least'} {low:g}"
        limits += "" if high == math.inf else f" and at most {high:g}"
        if is_finite(value) and low <= value <= high and not (above and value == low):
            return float(value)
        self.wrong(f"{where}.{key}", shown(value), limits)
        return default

    def integer(
        self, data: Mapping[str, Any], key: str, where: str, default: int, low: int, high: int = LARGEST
    ) -> int:
        """Return an integer in low..high; the default where absent."""
        value = data.get(key, default)
        if is_integer(value) and low <= value <= high:
            return int(value)
        self.wrong(f"{where}.{key}", shown(value), f"an integer from {low} to {high}")
        return default

    def word(
        self, data: Mapping[str, Any], key: str, where: str, default: str, known: Collection[str]
    ) -> str:
        """Return one of the ``known`` words; the default where absent."""
        value = data.get(key, default)
        if isinstance(value, str) and value in known:
            return value
        self.unknown(f"{where}.{key}" if where else key, key, value, known)
        return default

    def values(self, key: str, found: Any, accept: Callable[[str, Any], Any]) -> tuple[Any, ...]:
        """Return the distinct values of a list, or of a scalar taken as a list of one, in their order.

        ``accept(key, value)`` returns what the value means, or None after noting why it is refused.
        """
        listed = found if isinstance(found, list | tuple) else [found]
        if not listed:
            self.wrong(key, "an empty list", "at least one value, or leave the decision out")
        if len(listed) > LONGEST:
            self.wrong(key, f"{len(listed)} values", f"at most {LONGEST}")
            listed = listed[:1]
        many = isinstance(found, list | tuple)
        accepted = [accept(f"{key}[{i}]" if many else key, value) for i, value in enumerate(listed)]
        return tuple(dict.fromkeys(value for value in accepted if value is not None))

    def integers(
        self, key: str, found: Any, low: int, known: Collection[int] = (), high: int = LARGEST
    ) -> tuple[int, ...]:
        """Return the integers of a list or of ``{ from, to, step }``, each in low..high or ``known``."""
        if isinstance(found, Mapping):
            return self._range(key, found, low, high)
        text = f"one of {', '.join(map(str, known))}" if known else f"an integer from {low} to {high}"

        def accept(where: str, value: Any) -> int | None:
            if is_integer(value) and (value in known if known else low <= value <= high):
                return int(value)
            self.wrong(where, shown(value), text)
            return None

        return self.values(key, found, accept)

    def _range(self, key: str, table: Mapping[str, Any], low: int, high: int) -> tuple[int, ...]:
        before = len(self.problems)
        self.known_keys(table, ("from", "to", "step"), key)
        for name in ("from", "to"):
            if name not in table:
                self.wrong(key, f"no {name!r}", "a range has from, to and step")
        first, step = self.integer(table, "from", key, low, low, high), self.integer(table, "step", key, 1, 1)
        last = self.integer(table, "to", key, low, low, high)
        if len(self.problems) == before and last < first:
            self.wrong(key, f"from {first} to {last}", "to must not be less than from")
        if len(self.problems) == before and (last - first) // step >= LONGEST:
            self.wrong(key, f"{(last - first) // step + 1} values", f"at most {LONGEST}")
        return tuple(range(first, last + 1, step)) if len(self.problems) == before else ()


def shown(value: Any) -> str:
    """Write what was found, shortened: a number of thousands of digits says nothing."""
    try:
        text = repr(value)
    except ValueError:  # an integer too long to be written
        return "an integer of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 10]}... ({len(text)} characters)"


def is_finite(value: Any) -> bool:
    """Return whether ``value`` is a number that a float can hold, and not a truth value."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # TOML allows integers of any length
        return False


def is_integer(value: Any) -> bool:
    """Return whether ``value`` is an integer and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)
