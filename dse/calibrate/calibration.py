"""Fits a board's rates, overheads and powers to measurements, and says how sure each is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.donors import Donors, ratio_prior
from dse.calibrate.fit import FITTED, PRIOR, Design, Fit, fit, half_width, prior_sds, student_90
from dse.calibrate.holdout import held_out, one_factor
from dse.calibrate.identify import Inseparable, inseparable
from dse.calibrate.measurement import Measurement
from dse.calibrate.power import INFERENCE, TRAINING, FittedPower, fitted_powers
from dse.calibrate.prior import NORMAL_90, Prior, Ratio, Term, terms_of
from dse.calibrate.repeats import Repeats, grouped
from dse.calibrate.resolve import Resolver, Row
from dse.calibrate.table import first_problems
from dse.errors import Problem, UserError
from dse.hardware import HardwareProfile

FloatArray = NDArray[np.float64]

BY_RATIO: Final = "by ratio"
ALONE: Final = 0.9
"""A fitted term counts as measured, not derived, where some row spends this share of its time on it."""


@dataclass(frozen=True)
class FittedTerm:
    """One number of the board after the fit; ``low`` to ``high`` is its 90 % interval.

    ``status`` is "fitted", "only together" (with others), "by ratio" (to a fitted one, as on other boards) or
    "prior"; ``rows`` counts the measured things that it is part of, ``share`` its largest share of one.
    """

    term: Term
    value: float
    low: float
    high: float
    status: str
    rows: int
    share: float


@dataclass(frozen=True)
class FittedRow:
    """One measurement beside the fit; ``held_out_s`` is predicted without it and its repeats.

    ``one_factor_s`` is the null model, a factor on the MACs (None where it says nothing). Energies [J] are
    power times time; None where none was measured.
    """

    row: Row
    prior_s: float
    fitted_s: float
    held_out_s: float
    one_factor_s: float | None
    energy_j: float | None = None
    fitted_j: float | None = None
    held_out_j: float | None = None

    def error(self, seconds: float | None) -> float | None:
        """Relative error of ``seconds``, signed."""
        measured = self.row.seconds
        return None if seconds is None or measured is None else seconds / measured - 1.0


@dataclass(frozen=True)
class Calibration:
    """What measurements make of a board.

    ``fit`` and ``prior`` stand over the terms in order; ``zeros`` are what stays zero and why; ``scatter`` is
    the relative scatter of repeats (None: there are none).
    """

    board: HardwareProfile
    source: str
    terms: tuple[FittedTerm, ...]
    rows: tuple[FittedRow, ...]
    powers: tuple[FittedPower, ...]
    inseparable: tuple[Inseparable, ...]
    zeros: tuple[tuple[str, str], ...]
    implausible: tuple[Problem, ...]
    notes: tuple[str, ...]
    fit: Fit
    prior: Prior
    scatter: float | None
    count: int

    @property
    def noise_sd(self) -> float:
        """Relative standard deviation of a measured thing around its prediction."""
        return self.fit.noise_sd

    def predict(self, row: Measurement, resolver: Resolver | None = None) -> tuple[float, float, float]:
        """Return seconds (value, low, high; 90 % interval) of what ``row`` describes; its times are not read.

        Terms that no measurement touched have their prior. Raises UserError where it has no price.
        """
        found, problems = (resolver or Resolver(self.board)).row(row)
        if found is None:
            raise UserError(problems)
        return self.predicted(found)

    def predicted(self, row: Row) -> tuple[float, float, float]:
        """Return seconds (value, low, high) of ``row``; see ``predict``."""
        more = [path for path in row.response.paths if path not in {term.path for term in self.prior.terms}]
        own = self.prior
        prior = replace(own, terms=(*own.terms, *terms_of(self.board, more)[0]))
        theta, size = prior.log_values, len(self.fit.theta)
        theta[:size] = self.fit.theta
        covariance = np.diag([term.sd**2 for term in prior.terms])
        from_noise = np.zeros_like(covariance)
        covariance[:size, :size], from_noise[:size, :size] = self.fit.covariance, self.fit.from_noise
        log_seconds, slopes = Design.of([row.response], prior).log_seconds(theta)
        freedom = self.fit.freedom
        reach = half_width(slopes[0], covariance, from_noise, freedom)
        reach = math.hypot(reach, student_90(freedom) * self.noise_sd)
        value = math.exp(log_seconds[0])
        return value, value / math.exp(reach), value * math.exp(reach)

    def to_frame(self) -> Any:
        """Return a pandas frame with one record per measurement: measured, fitted and held out [s, J]."""
        import pandas as pd

        return pd.DataFrame.from_records([_record(row) for row in self.rows])

    def terms_frame(self) -> Any:
        """Return a pandas frame with one record per term: prior, fitted, interval and status."""
        import pandas as pd

        return pd.DataFrame.from_records([_term_record(term) for term in self.terms])


def calibrate(
    board: HardwareProfile,
    measurements: Sequence[Measurement],
    *,
    source: str = "measurements",
    donors: Donors | None = None,
    keep_implausible: bool = False,
    resolver: Resolver | None = None,
) -> Calibration:
    """Fit the numbers of ``board`` that ``measurements`` speak of.

    Parameters
    ----------
    board: the prior: values and intervals of its profile.
    measurements: rows, from a file or any other origin.
    source: what the rows are called in the calibrated profile.
    donors: runs on other boards that give depthwise and pointwise rates relative to dense convolutions.
    keep_implausible: fit rows that contradict physics instead of refusing them.
    resolver: one that has seen the same networks on the same board, to save time.

    Raises UserError with every row that cannot be used.

    """
    rows, problems, implausible = (resolver or Resolver(board)).resolve(measurements)
    if problems or (implausible and not keep_implausible):
        raise UserError(first_problems([*problems, *([] if keep_implausible else implausible)]))
    repeats = grouped(rows)
    powers = fitted_powers(board, rows)
    if not len(repeats) and not powers:
        raise UserError(
            Problem(source, "", "nothing to fit", "rows with a time, or a power at an operating point")
        )
    prior, zeros = prior_of(board, repeats, donors)
    design = Design.of([group[0].response for group in repeats.rows], prior) if len(repeats) else None
    if design is None or not prior.terms:
        found = _nothing(prior, repeats)
        design = None
    else:
        found = fit(design, repeats.log_seconds, np.ones(len(repeats)), prior, repeats.mean_sd)
    return Calibration(
        board=board, source=source, terms=_fitted_terms(found, prior, repeats),
        rows=_fitted_rows(found, design, repeats, prior, rows, powers), powers=powers,
        inseparable=_inseparable(found, prior, rows), zeros=zeros, implausible=tuple(implausible),
        notes=tuple(_notes(board, rows, prior)), fit=found, prior=prior, scatter=repeats.scatter,
        count=len(rows),
    )  # fmt: skip


def prior_of(
    board: HardwareProfile, repeats: Repeats, donors: Donors | None
) -> tuple[Prior, tuple[tuple[str, str], ...]]:
    """Return the prior over what is measured, with the ratios of ``donors``, and what stays zero."""
    paths = [path for group in repeats.rows for path in group[0].response.paths]
    ratios: tuple[Ratio, ...] = ()
    released: frozenset[str] = frozenset()
    settings = {
        (row.setting.library, row.measurement.dtype, row.setting.cores)
        for group in repeats.rows
        for row in group[:1]
        if "fwd" in row.measurement.passes and donors and row.measurement.dtype == donors.runs[0].dtype
    }
    for library, dtype, cores in sorted(settings):
        if donors is not None:
            more, some = ratio_prior(board, library, dtype, cores, donors)
            ratios, released = (*ratios, *more), released | some
            paths += [path for ratio in more for path in (*ratio.numerator, *ratio.denominator)]
    terms, zeros = terms_of(board, paths)
    return Prior(terms, ratios, released), zeros


def _nothing(prior: Prior, repeats: Repeats) -> Fit:
    """Return the fit of no time at all: powers alone were measured."""
    size = len(prior.terms)
    empty = np.zeros(len(repeats))
    none = np.zeros((size, size))
    return Fit(prior.log_values, none, none, 0.0, 3.0, empty, np.zeros((len(repeats), size)))


def _fitted_terms(found: Fit, prior: Prior, repeats: Repeats) -> tuple[FittedTerm, ...]:
    if not prior.terms:
        return ()
    reach = np.minimum(found.reach, NORMAL_90 * prior_sds(prior, found.theta))
    result = []
    for index, (term, status) in enumerate(zip(prior.terms, found.statuses, strict=True)):
        slopes = np.abs(found.jacobian[:, index])
        seen = int(np.sum(slopes > 1e-3))
        if term.path in prior.released and status != FITTED:
            status = BY_RATIO
        value = math.exp(found.theta[index])
        low, high = value * math.exp(-reach[index]), value * math.exp(reach[index])
        if status == PRIOR:
            low, high = term.interval
        result.append(FittedTerm(term, value, low, high, status, seen, float(slopes.max(initial=0.0))))
    return tuple(result)


def _inseparable(found: Fit, prior: Prior, rows: Sequence[Row]) -> tuple[Inseparable, ...]:
    if not prior.terms or not found.noise_sd:
        return ()
    return inseparable(found, prior, prior_sds(prior, found.theta), rows)


def _fitted_rows(
    found: Fit, design: Design | None, repeats: Repeats, prior: Prior,
    rows: Sequence[Row], powers: Sequence[FittedPower],
) -> tuple[FittedRow, ...]:  # fmt: skip
    if design is None:
        return ()
    without, factor = held_out(design, repeats, prior), one_factor(repeats)
    places = {id(row): group for group, members in enumerate(repeats.rows) for row in members}
    result = []
    for row in rows:
        if id(row) not in places:
            continue
        group = places[id(row)]
        fitted_s, held_s = math.exp(found.log_seconds[group]), math.exp(without[group])
        null = None if np.isnan(factor[group]) else math.exp(factor[group])
        energies = _energies(row, powers, fitted_s, held_s)
        result.append(FittedRow(row, row.prior_s, fitted_s, held_s, null, *energies))
    return tuple(result)


def _energies(
    row: Row, powers: Sequence[FittedPower], fitted_s: float, held_s: float
) -> tuple[float | None, float | None, float | None]:
    """Return measured, fitted and held-out joules: power x time, the power also without this row."""
    power, field = row.power_w, TRAINING if row.trains else INFERENCE
    own = next((each for each in powers if (each.point, each.field) == (row.point, field)), None)
    if power is None or own is None or row.seconds is None:
        return None, None, None
    measured = row.measurement.energy_j or power * row.seconds
    return measured, own.value_w * fitted_s, own.without_w(row.key) * held_s


def _notes(board: HardwareProfile, rows: Sequence[Row], prior: Prior) -> list[str]:
    notes = [f"{ratio.source}: ratio {math.exp(ratio.log_mean):.3g}" for ratio in prior.ratios[:1]]
    nowhere = sorted({row.setting.clock_hz for row in rows if not row.point and row.power_w is not None})
    for clock in nowhere:
        notes.append(
            f"power at {clock / 1e6:g} MHz is not used: {board.name} has no operating point with that clock"
        )
    for point in sorted({row.point for row in rows if row.point and row.power_w is not None}):
        same = [
            other.name
            for other in board.operating_points
            if other.clock_hz.value == board.operating_point(point).clock_hz.value
        ]
        if len(same) > 1 and not any(row.measurement.operating_point for row in rows):
            notes.append(f"{', '.join(same)} have the same clock: power is taken for {point}; a column "
                         "operating_point says which")  # fmt: skip
    return notes


def _record(each: FittedRow) -> dict[str, Any]:
    one, set_ = each.row.measurement, each.row.setting
    return {
        "line": one.line, "what": one.name, "library": set_.library, "cores": set_.cores,
        "clock_hz": set_.clock_hz, "operating_point": each.row.point, "macs": each.row.macs,
        "repeats": one.repeats, "measured_s": each.row.seconds, "prior_s": each.prior_s,
        "fitted_s": each.fitted_s, "error": each.error(each.fitted_s), "held_out_s": each.held_out_s,
        "held_out_error": each.error(each.held_out_s), "one_factor_s": each.one_factor_s,
        "one_factor_error": each.error(each.one_factor_s), "measured_j": each.energy_j,
        "fitted_j": each.fitted_j, "held_out_j": each.held_out_j, "note": one.note,
    }  # fmt: skip


def _term_record(each: FittedTerm) -> dict[str, Any]:
    low, high = each.term.interval
    return {
        "number": each.term.path, "unit": each.term.unit, "prior": each.term.quantity.value,
        "prior_low": low, "prior_high": high, "value": each.value, "low": each.low, "high": each.high,
        "status": each.status, "rows": each.rows, "share": each.share,
    }  # fmt: skip
