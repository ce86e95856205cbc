"""``dse hw calibrate`` on silicon: a board of each core fitted to ``ad`` and ``ic``, asked for ``vww``.

Every run of MLPerf Tiny with all three networks calibrates a generic board of its core on its own ``ad`` and
``ic`` rows. What these do not contain, depthwise and pointwise layers beside dense convolutions, comes from
runs of other organisations (``dse.calibrate.donors``); so do the values that the generic board starts from,
the medians of other organisations' rates with a factor of four either way. No row of the predicted run's
organisation but its own ``ad`` and ``ic`` is used, so nothing is tuned on what is predicted.

Beside it, from the same other organisations: *one factor* (own ``ic`` latency per MAC times the median ratio
of ``vww`` to ``ic``), *own ic rate* (without the factor), *MACs only* (median rate of the core).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean, median
from typing import Final

from dse.calibrate import (
    Calibration,
    calibrate,
    donors_for,
    load_runs,
    predicted_measurement,
    run_measurements,
)
from dse.calibrate.donors import SAME_LIBRARY, others_of
from dse.calibrate.mlperf import CALIBRATION_TASKS, NETWORKS, PREDICTED_TASK, Run
from dse.calibrate.profile import with_quantities
from dse.calibrate.resolve import Resolver
from dse.calibrate.response import Response, path_of
from dse.hardware import HardwareProfile, Quantity, list_boards, load_board
from dse.reproduce.base import MODEL, Bound, Comparison, Reproduction
from dse.reproduce.mlperf_tiny import null_latencies_s
from dse.vocabulary import Evidence, ReferenceEvidence

LATENCY: Final = "latency of vww"
ENERGY: Final = "energy of vww"
ONE_FACTOR: Final = "one factor"
FALLBACK: Final = "stm32l4r5"
"""The board of cores that no shipped board has: its rates are replaced, its memories do not matter here."""
WIDTH: Final = 4.0


@cache
def _board_of(core: str) -> HardwareProfile:
    boards = [load_board(name) for name in list_boards()]
    own = [board for board in boards if board.core == core and "int8" in board.kernels]
    return load_board(own[0].name) if own else load_board(FALLBACK)


def generic_board(run: Run, runs: Sequence[Run]) -> HardwareProfile:
    """Return a board of the core of ``run`` with other organisations' median rates, widely uncertain."""
    board = _board_of(run.core)
    others = others_of(run, runs)
    others = [other for other in others if other.core == run.core] or others
    dense = 1.0 / median(other.dense for other in others)
    values = {"linear": 1.0 / median(other.linear for other in others), "conv2d": dense, "pointwise": dense}
    quantities = {}
    for operator, value in values.items():
        rate = board.rate(operator, "fwd", run.dtype)
        quantities[path_of(rate)] = Quantity(
            value=value, low=value / WIDTH, high=value * WIDTH, kind=Evidence.ASSUMED, source="mlperf",
            note="median of other organisations",
        )  # fmt: skip
    return with_quantities(board, quantities)


def predicted_s(
    run: Run, runs: Sequence[Run], responses: dict[tuple[object, ...], Response] | None = None
) -> tuple[tuple[float, float, float], Calibration] | None:
    """Return the latency of the predicted network [s] (value, low, high) and the calibrated board.

    None where nobody can help. ``responses`` keeps what boards of one core have in common.
    """
    donors = donors_for(run, runs)
    if donors is None or not run.complete:
        return None
    board = generic_board(run, runs)
    resolver = Resolver(board, responses={} if responses is None else responses)
    found = calibrate(
        board, run_measurements(run), source=run.name, donors=donors, keep_implausible=True, resolver=resolver
    )
    return found.predict(predicted_measurement(run), resolver), found


def comparisons(
    run: Run, runs: Sequence[Run], responses: dict[tuple[object, ...], Response] | None = None
) -> tuple[Comparison, ...]:
    """Compare the latency of ``run``, and its energy where that was measured."""
    answer = predicted_s(run, runs, responses)
    if answer is None:
        return ()
    seconds, found = answer
    nulls = null_latencies_s(run, runs)
    note = found.notes[0]
    rows = [_comparison(run, LATENCY, "ms", seconds, nulls, run.latency_s[PREDICTED_TASK], 1e3, note)]
    powers = [run.power_w[task] for task in CALIBRATION_TASKS if task in run.power_w]
    if powers and PREDICTED_TASK in run.energy_j:
        watts = fmean(powers)
        published = run.energy_j[PREDICTED_TASK] / watts
        rows.append(_comparison(run, ENERGY, "uJ", seconds, nulls, published, watts * 1e6, note))
    return tuple(rows)


def _comparison(
    run: Run, quantity: str, unit: str, seconds: tuple[float, float, float], nulls: dict[str, float],
    published_s: float, scale: float, note: str,
) -> Comparison:  # fmt: skip
    """Scale seconds to ``unit``; energies by the same power for model and null models."""
    model, low, high = (value * scale for value in seconds)
    return Comparison(
        name=run.name, quantity=quantity, unit=unit, model=model, published=published_s * scale, low=low,
        high=high, evidence=ReferenceEvidence.SILICON, calibrated=False, source=run.source,
        null_models={name: value * scale for name, value in nulls.items()}, note=note,
    )  # fmt: skip


def reproduce() -> Reproduction:
    """Calibrate a board for every run and predict its ``vww``."""
    runs = load_runs()
    shared: dict[str, dict[tuple[object, ...], Response]] = {run.core: {} for run in runs}
    rows = tuple(row for run in runs for row in comparisons(run, runs, shared[run.core]))
    found = Reproduction(
        "calibration",
        "boards calibrated on ad and ic, with ratios of other organisations: vww predicted",
        rows,
        unpredicted=_unpredicted(runs),
    )
    return replace(found, summary=tuple(_summary(found)), bounds=_bounds(found))


def _unpredicted(runs: Sequence[Run]) -> tuple[str, ...]:
    reasons = []
    for run in runs:
        missing = [task for task in NETWORKS if task not in run.latency_s]
        if PREDICTED_TASK not in missing and missing:
            reasons.append(f"{run.name}: no {' and '.join(missing)} row")
        elif not missing and donors_for(run, runs) is None:
            reasons.append(f"{run.name}: no other organisation measured {run.dtype}")
    return tuple(reasons)


def _summary(found: Reproduction) -> list[str]:
    lines = []
    for quantity in (LATENCY, ENERGY):
        lines += [f"{quantity}, {name}: {value}" for name, value in found.statistics(quantity).items()]
    for same, where in ((True, "measured by another organisation"), (False, "measured by nobody else")):
        part = found.statistics(LATENCY, lambda row, same=same: row.note.startswith(SAME_LIBRARY) == same)  # type: ignore[misc]
        lines.append(f"libraries {where}: {MODEL} {part[MODEL]}; {ONE_FACTOR} {part[ONE_FACTOR]}")
    lines.append(_coverage(found))
    for quantity in (LATENCY, ENERGY):
        missed = [bound.text for bound in found.against_nulls(quantity) if not bound.holds]
        lines.append(
            f"{quantity}, where calibration does not beat a null model: {'; '.join(missed) or 'nowhere'}"
        )
    return lines


def coverage(found: Reproduction) -> tuple[int, int]:
    """Return how many latencies lie in their 90 % interval, and of how many."""
    rows = [row for row in found.rows if row.quantity == LATENCY]
    return sum((row.low or 0.0) <= row.published <= (row.high or 0.0) for row in rows), len(rows)


def _coverage(found: Reproduction) -> str:
    inside, count = coverage(found)
    widths = sorted((row.high or 0.0) / row.model for row in found.rows if row.quantity == LATENCY)
    reach = f"which reach a factor of {median(widths):.2f} up and down in the median"
    return f"{inside} of {count} latencies ({inside / count:.0%}) lie in their 90 % intervals, {reach}"


def _bounds(found: Reproduction) -> tuple[Bound, ...]:
    """Calibration should beat every null model in median, p90 and worst; else a bound is missed."""
    covered, count = coverage(found)
    return (
        *(bound for quantity in (LATENCY, ENERGY) for bound in found.against_nulls(quantity)),
        Bound(
            f"90 % intervals hold at least 85 % of the latencies: {covered} of {count}",
            covered / count >= 0.85,
        ),
    )
