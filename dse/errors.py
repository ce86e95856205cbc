"""The exception tree of ``dse``.

DseError
├── UserError           the input is wrong; carries every Problem found (exit code 2)
│   ├── UnknownName     a name that nothing answers to; carries the nearest known ones
│   ├── IllegalPlan     a combination of decisions that no device can execute
│   └── Unpriced        the board has no figure for something that the plan does
└── NothingFits         the question was sound, the answer is "no design" (exit code 1)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one input: where it stands, what was found, what is allowed."""

    file: str
    key: str
    found: str
    allowed: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}: " if self.key else f"{self.file}: "
        return f"{where}{self.found}; {self.allowed}" if self.allowed else f"{where}{self.found}"


class DseError(Exception):
    """Root of every error that ``dse`` raises on purpose."""


class UserError(DseError):
    """Input that cannot be used, with all of its problems at once."""

    def __init__(self, problems: Problem | str | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem("input", "", problems, "")
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownName(UserError):
    """A name that is not known, with the nearest known one."""

    def __init__(
        self, what: str, name: object, known: Iterable[object], *, file: str = "input", key: str = ""
    ) -> None:
        self.known = tuple(str(entry) for entry in known)
        super().__init__(Problem(file, key, f"unknown {what} {str(name)!r}", allowed_names(name, self.known)))


class IllegalPlan(UserError):
    """Decisions that exclude each other, or that the network does not allow."""


class Unpriced(UserError):
    """The board profile has no figure for an operation that the plan performs."""


class NothingFits(DseError):
    """No design satisfies the budgets. The message names the binding budget."""


def allowed_names(name: object, known: Sequence[str]) -> str:
    """Say which names are allowed, nearest first when one is near."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(known) or 'none'}"
