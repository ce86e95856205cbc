"""The table that names a data set, read option by option; every problem of it is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dse.errors import Problem, UserError, allowed_names

Value = TypeVar("Value")


class Options:
    """Reads the options of one data set; ``finish`` raises what is wrong before anything is opened.

    A reader returns its default (or a harmless value) where the option is wrong or missing, so that the
    others are still read.
    """

    def __init__(
        self, table: Mapping[str, Any], *, file: str, folder: Path | None, key: str = "task.data"
    ) -> None:
        self.file, self.folder, self.key = file, folder, key
        self.problems: list[Problem] = []
        self._table, self._asked = dict(table), ["kind"]

    def has(self, name: str) -> bool:
        """Return whether the table says anything about ``name``."""
        return name in self._table

    def wrong(self, name: str, found: object, allowed: str) -> None:
        """Note that option ``name`` cannot be used."""
        self.problems.append(Problem(self.file, f"{self.key}.{name}", str(found), allowed))

    def _read(self, name: str, default: Value, accept: Callable[[Any], bool], allowed: str) -> Value:
        self._asked.append(name)
        if name not in self._table:
            return default
        value = self._table[name]
        if accept(value):
            found: Value = value
            return found
        self.wrong(name, _shown(value), allowed)
        return default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Read a whole number from ``low`` to ``high``."""
        return self._read(
            name, default, lambda v: _whole(v) and low <= v <= high, f"a whole number from {low} to {high}"
        )

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Read a number from ``low`` to ``high``."""
        return float(
            self._read(
                name, default, lambda v: _real(v) and low <= v <= high, f"a number from {low:g} to {high:g}"
            )
        )

    def flag(self, name: str, default: bool) -> bool:
        """Read true or false."""
        return self._read(name, default, lambda v: isinstance(v, bool), "true or false")

    def word(self, name: str, default: str, allowed: Sequence[str]) -> str:
        """Read one of the words ``allowed``."""
        self._asked.append(name)
        value = self._table.get(name, default)
        if isinstance(value, str) and value in allowed:
            return value
        self.wrong(name, _shown(value), allowed_names(value, allowed))
        return default

    def text(self, name: str, default: str = "") -> str:
        """Read a text."""
        return self._read(name, default, lambda v: isinstance(v, str) and "\0" not in v, "a text")

    def texts(self, name: str) -> tuple[str, ...]:
        """Read a list of texts; empty where nothing is said."""
        ok = "a list of texts"
        return tuple(
            self._read(name, (), lambda v: _list(v) and all(isinstance(one, str) and one for one in v), ok)
        )

    def integers(self, name: str) -> tuple[int, ...]:
        """Read a list of distinct whole numbers; empty where nothing is said."""
        ok = "a list of distinct whole numbers"
        return tuple(
            self._read(name, (), lambda v: _list(v) and all(map(_whole, v)) and len(set(v)) == len(v) > 0, ok)
        )

    def value(self, name: str, accept: Callable[[Any], bool], allowed: str) -> Any:
        """Read anything that ``accept`` takes; None where nothing is said."""
        return self._read(name, None, accept, allowed)

    def table(self, name: str) -> Options | None:
        """Read a table inside this one; None where nothing is said. Its problems are reported with these."""
        found = self.value(name, lambda v: isinstance(v, Mapping), "a table")
        if found is None:
            return None
        inner = Options(found, file=self.file, folder=self.folder, key=f"{self.key}.{name}")
        inner.problems = self.problems
        inner._asked = []
        return inner

    def path(self, name: str, what: str, *, is_folder: bool = False, required: bool = True) -> Path | None:
        """Read the path of something that exists; relative paths start at the folder of the file."""
        given = self.text(name)
        if not given:
            if required and not any(one.key == f"{self.key}.{name}" for one in self.problems):
                self.wrong(name, "missing", what)
            return None
        path = Path(given).expanduser()
        path = path if path.is_absolute() or self.folder is None else self.folder / path
        if not (path.is_dir() if is_folder else path.is_file()):
            self.wrong(name, f"no {'folder' if is_folder else 'file'} at {path}", what)
            return None
        return path

    def unknown(self) -> None:
        """Note every key that no reader has asked for."""
        known = list(dict.fromkeys(self._asked))
        for name in self._table:
            if name not in known:
                self.wrong(name, "unknown option", allowed_names(name, known))

    def finish(self) -> None:
        """Raise UserError with everything that is wrong, unknown options included."""
        self.unknown()
        if self.problems:
            raise UserError(self.problems)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
