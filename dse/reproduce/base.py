"""Model beside published figure: what a comparison is, and how a set of them is summed up.

A row that the model was fitted on is marked ``calibrated`` and never counts as a success. Every predicted
row stands beside null models, which know MACs and one factor; a model has to beat them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from dse.vocabulary import ReferenceEvidence

MODEL: Final = "model"
MEASURES: Final = ("median", "p90", "worst")
LEVEL: Final = 0.5e-3
"""Errors that differ by less than half a printed digit are level, and level is not beaten."""


@dataclass(frozen=True)
class Comparison:
    """One published figure and what the model says for it, both in ``unit``.

    ``relation`` is ``=`` for a figure and ``<`` for a published upper bound, which can be kept or broken
    but has no error. ``low`` and ``high`` bound the model's value where it has an interval.
    ``null_models`` maps the name of each null model to its value, the hardest to beat first.
    """

    name: str
    quantity: str
    unit: str
    model: float
    published: float
    evidence: ReferenceEvidence
    calibrated: bool
    source: str
    low: float | None = None
    high: float | None = None
    null_models: Mapping[str, float] = field(default_factory=dict)
    relation: str = "="
    note: str = ""

    @property
    def null_model(self) -> float | None:
        """Value of the hardest null model, if there is one."""
        return next(iter(self.null_models.values()), None)

    @property
    def error(self) -> float:
        """Relative error of the model, signed."""
        return self.model / self.published - 1.0

    @property
    def counts(self) -> bool:
        """Whether the row may count as a success or a failure: an identity follows from its inputs alone."""
        plain = self.relation == "=" and self.evidence != ReferenceEvidence.IDENTITY
        return plain and not self.calibrated

    @property
    def holds(self) -> bool:
        """Whether a published bound is kept; True for a plain figure."""
        return self.relation != "<" or self.model < self.published

    def null_error(self, name: str) -> float:
        """Relative error of the null model ``name``, signed."""
        return self.null_models[name] / self.published - 1.0


@dataclass(frozen=True)
class Statistics:
    """Absolute relative errors of ``count`` rows."""

    count: int
    median: float
    p90: float
    worst: float

    @classmethod
    def of(cls, errors: Iterable[float]) -> Statistics | None:
        """Sum up signed relative errors; None where there are none."""
        size = np.abs(np.array(list(errors), dtype=float))
        if not len(size):
            return None
        return cls(len(size), float(np.median(size)), float(np.quantile(size, 0.9)), float(size.max()))

    def __str__(self) -> str:
        return f"median {self.median:.1%}, p90 {self.p90:.1%}, worst {self.worst:.1%} of {self.count} rows"


@dataclass(frozen=True)
class Bound:
    """One statement that a reproduction must satisfy, with the figures that it rests on."""

    text: str
    holds: bool


@dataclass(frozen=True)
class Reproduction:
    """One study reproduced.

    ``rows`` are comparisons; ``contrasts`` say what another accounting answers for the same rows and
    count neither for nor against the model. ``inconsistencies`` are those of the published text,
    ``unpredicted`` the rows for which the model has no answer, each with its reason.
    """

    name: str
    title: str
    rows: tuple[Comparison, ...]
    summary: tuple[str, ...] = ()
    inconsistencies: tuple[str, ...] = ()
    unpredicted: tuple[str, ...] = ()
    contrasts: tuple[Comparison, ...] = ()
    bounds: tuple[Bound, ...] = ()

    @property
    def missed(self) -> tuple[Bound, ...]:
        """Stated bounds that do not hold."""
        return tuple(bound for bound in self.bounds if not bound.holds)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Quantities compared, in order of appearance."""
        return tuple(dict.fromkeys(row.quantity for row in self.rows))

    def row(self, name: str, quantity: str) -> Comparison:
        """Return one comparison; raises KeyError naming both."""
        for row in self.rows:
            if (row.name, row.quantity) == (name, quantity):
                return row
        raise KeyError(f"{self.name}: no row {name!r} for {quantity!r}")

    def statistics(
        self, quantity: str | None = None, where: Callable[[Comparison], bool] = lambda row: True
    ) -> dict[str, Statistics]:
        """Return median, p90 and worst absolute error over predicted rows, of the model and each null model.

        A null model is judged on the rows that it answers.
        """
        rows = [row for row in self.rows if row.counts and quantity in (None, row.quantity) and where(row)]
        names = dict.fromkeys(name for row in rows for name in row.null_models)
        errors = {MODEL: [row.error for row in rows]} | {
            name: [row.null_error(name) for row in rows if name in row.null_models] for name in names
        }
        found = ((name, Statistics.of(values)) for name, values in errors.items())
        return {name: statistics for name, statistics in found if statistics is not None}

    def against_nulls(self, quantity: str, measures: Sequence[str] = MEASURES) -> tuple[Bound, ...]:
        """Demand that the model beat every null model of ``quantity`` in each of ``measures``."""
        found = self.statistics(quantity)
        return tuple(
            _against(quantity, measure, found[MODEL], name, null)
            for measure in measures
            for name, null in found.items()
            if name != MODEL
        )

    def to_frame(self) -> Any:
        """Return a pandas frame with one record per row and contrast."""
        import pandas as pd

        return pd.DataFrame.from_records(
            [
                _record(row, contrast)
                for rows, contrast in ((self.rows, False), (self.contrasts, True))
                for row in rows
            ]
        )


def _against(quantity: str, measure: str, model: Statistics, name: str, null: Statistics) -> Bound:
    own, other = (getattr(statistics, measure) for statistics in (model, null))
    level = ", level" if abs(own - other) < LEVEL else ""
    text = f"{measure} error of {quantity} below {name}: {own:.1%} against {other:.1%}{level}"
    return Bound(text, own <= other - LEVEL)


def _record(row: Comparison, contrast: bool) -> dict[str, Any]:
    nulls = {f"null: {name}": value for name, value in row.null_models.items()}
    return {
        "row": row.name,
        "quantity": row.quantity,
        "unit": row.unit,
        "model": row.model,
        "low": row.low,
        "high": row.high,
        "published": row.published,
        "relation": row.relation,
        "error": row.error if row.relation == "=" else None,
        "evidence": str(row.evidence),
        "calibrated": row.calibrated,
        "contrast": contrast,
        "source": row.source,
        "note": row.note,
    } | nulls


def comparison_text(row: Comparison) -> str:
    """Write model beside published figure on one line, for messages and tests."""
    kind = "calibrated" if row.calibrated else "predicted"
    nulls = "".join(f", {name} {value:.4g}" for name, value in row.null_models.items())
    return (
        f"{row.name} {row.quantity}: model {row.model:.4g} {row.relation} published {row.published:.4g} "
        f"{row.unit} "
        f"({row.error:+.2%}; {kind}, {row.evidence}){nulls}"
    )
