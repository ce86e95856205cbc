"""A calibration as plain text: numbers before and after, what cannot be told apart, and every row's error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from dse.calibrate import Calibration, FittedRow, FittedTerm, find_run, predicted_measurement
from dse.calibrate.fit import NOISE_ROWS
from dse.calibrate.mlperf import PREDICTED_TASK
from dse.report import text
from dse.units import human, human_seconds

WIDTH: Final = 100
MOST_ROWS: Final = 40
OUTLIER: Final = 0.4
"""A residual of the logarithm that is larger is no noise of a stopwatch."""


def calibration_text(found: Calibration, extra: Sequence[str] = ()) -> str:
    """Write numbers, combinations, rows and powers; ``extra`` are statements for the end."""
    return "\n\n".join(part for part in (*_sections(found), *_listed("", extra)) if part)


def _sections(found: Calibration) -> Iterator[str]:
    rows = text.plural(found.count, "row")
    yield f"{found.board.label} calibrated from {found.source}: {rows}"
    yield from _listed("implausible, and kept", map(str, found.implausible))
    if found.terms:
        yield "numbers (90 % intervals)\n" + _terms(found.terms)
    yield from _listed("what the measurements cannot tell apart", map(str, found.inseparable))
    yield from _listed("not fitted", _zeros(found.zeros))
    if found.rows:
        yield "rows (predicted over measured)\n" + _rows(found.rows)
        yield "size of the errors\n" + _summary(found)
    if found.powers:
        where = " and asleep" if any(power.field == "power_w" for power in found.powers) else ""
        yield f"power at work{where} (90 % interval of a further measurement)\n" + _powers(found)
    yield from _listed("", _statements(found))


def _zeros(zeros: Sequence[tuple[str, str]]) -> Iterator[str]:
    reasons = dict.fromkeys(reason for _, reason in zeros)
    for reason in reasons:
        labels = [label for label, why in zeros if why == reason]
        yield f"{'; '.join(labels)}: zero, {reason}" if reason else f"{'; '.join(labels)}: zero"


def _terms(terms: Sequence[FittedTerm]) -> str:
    header = ("number", "profile", "its interval", "fitted", "interval", "unit", "how", "seen in")
    rows = [
        (
            each.term.label, f"{each.term.quantity.value:.4g}", _range(*each.term.interval),
            f"{each.value:.4g}", _range(each.low, each.high), each.term.unit, _how(each), each.rows,
        )
        for each in terms
    ]  # fmt: skip
    return text.table(header, rows, indent="  ")


def _how(each: FittedTerm) -> str:
    return {"prior": "keeps its prior", "by ratio": "as on other boards"}.get(each.status, each.status)


def _range(low: float, high: float) -> str:
    return f"{low:.3g} .. {high:.3g}"


def _rows(rows: Sequence[FittedRow]) -> str:
    header = ("row", "measured", "profile", "fitted", "held out", "one factor")
    worst = sorted(range(len(rows)), key=lambda place: -abs(rows[place].error(rows[place].held_out_s) or 0.0))
    shown = set(worst[:MOST_ROWS])
    lines = [
        (
            row.row.measurement.name, human_seconds(row.row.seconds or 0.0), _error(row, row.prior_s),
            _error(row, row.fitted_s), _error(row, row.held_out_s), _error(row, row.one_factor_s),
        )
        for place, row in enumerate(rows)
        if place in shown
    ]  # fmt: skip
    left = len(rows) - len(shown)
    more = f"\n  and {text.plural(left, 'row')} with smaller errors (--csv writes all)" if left else ""
    return text.table(header, lines, indent="  ") + more


def _error(row: FittedRow, seconds: float | None) -> str:
    error = row.error(seconds)
    return "" if error is None else f"{error:+.1%}"


def _summary(found: Calibration) -> str:
    columns: dict[str, list[float | None]] = {
        "profile as it was": [row.error(row.prior_s) for row in found.rows],
        "fitted": [row.error(row.fitted_s) for row in found.rows],
        "fitted, held out": [row.error(row.held_out_s) for row in found.rows],
        "one factor on MACs, held out": [row.error(row.one_factor_s) for row in found.rows],
        "energy, held out": [
            row.held_out_j / row.energy_j - 1.0
            for row in found.rows
            if row.held_out_j is not None and row.energy_j
        ],
    }
    lines = []
    for name, errors in columns.items():
        size = np.abs([error for error in errors if error is not None])
        if size.size:
            lines.append((name, len(size), f"{np.median(size):.1%}", f"{size.max():.1%}"))
    return text.table(("by", "rows", "median", "worst"), lines, indent="  ")


_STAGES: Final = {"inference_power_w": "inference", "power_w": "sleep"}


def _powers(found: Calibration) -> str:
    header = ("operating point", "at", "profile", "fitted", "interval", "measured", "rails")
    rows = [
        (
            each.point, _STAGES.get(each.field, "training"),
            human(each.prior.value, "W"), human(each.value_w, "W"),
            f"{human(each.low_w, 'W')} .. {human(each.high_w, 'W')}", each.rows, ", ".join(each.domains),
        )
        for each in found.powers
    ]  # fmt: skip
    return text.table(header, rows, indent="  ")


def _statements(found: Calibration) -> Iterator[str]:
    if found.rows:
        told = "" if found.fit.freedom > NOISE_ROWS + 1 else " (as expected beforehand: the rows are too few)"
        said = "a further measurement of what was seen scatters by"
        yield f"{said} {found.noise_sd:.1%} around its prediction{told}"
    for row in found.rows:
        if abs(math.log(row.fitted_s / (row.row.seconds or row.fitted_s))) > OUTLIER:
            where = f"line {row.row.measurement.line}, {row.row.measurement.name}"
            yield f"{where}: no numbers explain it beside the other rows; it widens every interval"
    if found.scatter is not None:
        yield f"repeats of the same thing scatter by {found.scatter:.1%}"
    if len(found.rows) == 1:
        yield "one row alone: held out, it is predicted by the profile as it was"
    if found.powers:
        yield "power is right where the meter saw the rails above, and only those"
    yield from found.notes


def run_prediction(found: Calibration, run: str) -> list[str]:
    """Say what the calibrated board predicts for the network of a published run that was not fitted."""
    chosen = find_run(run)
    if PREDICTED_TASK not in chosen.latency_s:
        return []
    value, low, high = found.predict(predicted_measurement(chosen))
    measured = chosen.latency_s[PREDICTED_TASK]
    lines = [
        f"{PREDICTED_TASK} of this run, not fitted: {human_seconds(value)} ({human_seconds(low)} .. "
        f"{human_seconds(high)}), measured {human_seconds(measured)}, {value / measured - 1.0:+.1%}"
    ]
    if not found.prior.ratios:
        lines.append(
            "its depthwise and pointwise rates are those of the profile, which may come from such a run; "
            "--other-boards takes them from other organisations"
        )
    return lines


def _listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    items = ["  - " + text.wrapped(line, WIDTH - 4).replace("\n", "\n    ") for line in lines]
    if items:
        yield "\n".join([title, *items] if title else items)
