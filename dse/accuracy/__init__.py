"""What a plan learns: published tables, and models fitted to measured runs under the same interface.

A source that needs no runs is listed in ``SOURCES`` under the name that a space file uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dse.accuracy.base import STATUSES, AccuracyEstimate, AccuracySource
from dse.accuracy.measured import MeasuredAccuracy, Unmeasured
from dse.accuracy.published import PublishedCore50
from dse.errors import UnknownName

SOURCES: Final[dict[str, Callable[[], AccuracySource]]] = {PublishedCore50.name: PublishedCore50}
"""Name of a source -> what makes it."""


def accuracy_source(name: str, *, file: str = "input", key: str = "accuracy") -> AccuracySource:
    """Return the source ``name``; raises UnknownName."""
    if name not in SOURCES:
        raise UnknownName("accuracy source", name, SOURCES, file=file, key=key)
    return SOURCES[name]()


__all__ = [
    "SOURCES",
    "STATUSES",
    "AccuracyEstimate",
    "AccuracySource",
    "MeasuredAccuracy",
    "PublishedCore50",
    "Unmeasured",
    "accuracy_source",
]
