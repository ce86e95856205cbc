"""Published figures as CSV files: every row names its source, its place there and its uncertainty."""

from __future__ import annotations

import csv
import io
from importlib.resources import files

from dse.errors import UnknownName

Row = dict[str, str]


def list_tables() -> tuple[str, ...]:
    """Return the names of the tables that come with the package, sorted."""
    found = (entry.name for entry in files("dse.reference").iterdir())
    return tuple(sorted(name.removesuffix(".csv") for name in found if name.endswith(".csv")))


def load_table(name: str) -> tuple[Row, ...]:
    """Return the rows of table ``name`` as text, one dict per row under the names of its header.

    Raises UnknownName where no table of that name comes with the package.
    """
    if name not in list_tables():
        raise UnknownName("reference table", name, list_tables(), file="dse.reference")
    text = (files("dse.reference") / f"{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(io.StringIO(text, newline="")))
