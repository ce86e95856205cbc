"""MLPerf Tiny on silicon: the latency and energy of ``vww`` from what else is known about a board and its
software.

The model keys its rates by operator. Linear layers and dense convolutions are priced by the run's own
``ad`` and ``ic`` rows. What these cannot show, depthwise and pointwise layers relative to dense
convolutions, is taken from runs of *other* organisations, leaving the predicted run's organisation out, by
the rule of ``dse.calibrate.donors``. The median of their ratios is taken, and their range is the interval.
Power is the mean of the run's own ``ad`` and ``ic`` rows.

Null models, from the same other organisations: *one factor* (own ``ic`` latency per MAC times the median
ratio of ``vww`` to ``ic`` on the core), *own ic rate* (the same without the factor), *MACs only* (median
rate of the core).

The ratio has two modes, about 1.6 (X-CUBE-AI up to 8.0, HALE, Plumerai before 2023) and 1.0 (X-CUBE-AI
from 8.1, Plumerai 2023.05, ONNC), and ``ad`` and ``ic`` do not tell which: where a library comes from
one organisation alone, the model is right or about 60 % off. The rule was chosen for simplicity among
forms that were looked at on these same rows (nearest neighbours in own rates, slopes, time windows,
votes by library; medians from 8 % to 33 %), so its margin over the null models is optimistic: choosing
among an earlier family of forms by the other organisations' rows alone gave a median of 24 %. Later rows
are the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Final

from dse.calibrate.donors import SAME_LIBRARY, Donors, donors_for, others_of
from dse.calibrate.mlperf import (
    CALIBRATION_TASKS,
    NETWORKS,
    PREDICTED_TASK,
    Run,
    load_runs,
    operator_macs,
    separable_macs,
    task_macs,
)
from dse.reproduce.base import MODEL, Bound, Comparison, Reproduction
from dse.vocabulary import ReferenceEvidence

LATENCY: Final = "latency of vww"
ENERGY: Final = "energy of vww"
ONE_FACTOR: Final = "one factor"
NULL_MODELS: Final = (ONE_FACTOR, "own ic rate", "MACs only")
MEDIAN_OF_BLIND_CHOICE: Final = 0.24
"""Median error of latency that was recorded when a form was chosen among an earlier family by the rows of
the other organisations alone; nothing here computes it."""


def latency_s(run: Run, separable_ratio: float) -> float:
    """Return the latency of the predicted network [s]: the sum over operators of MACs x cycles per MAC."""
    macs = operator_macs(PREDICTED_TASK)
    cycles = (macs["conv2d"] + separable_macs() * separable_ratio) * run.dense + macs["linear"] * run.linear
    return cycles / run.clock_hz


def null_latencies_s(run: Run, runs: Sequence[Run]) -> dict[str, float]:
    """Return the latency of the predicted network [s] by each null model."""
    others = others_of(run, runs)
    others = [other for other in others if other.core == run.core] or others
    factor = median(other.cycles_per_mac(PREDICTED_TASK) / other.cycles_per_mac("ic") for other in others)
    rate = median(other.cycles_per_mac(task) for other in others for task in NETWORKS)
    seconds_per_cycle_per_mac = task_macs(PREDICTED_TASK) / run.clock_hz
    own = run.cycles_per_mac("ic")
    return {
        name: value * seconds_per_cycle_per_mac
        for name, value in zip(NULL_MODELS, (own * factor, own, rate), strict=True)
    }


def comparisons(run: Run, runs: Sequence[Run]) -> tuple[Comparison, ...]:
    """Compare the latency of ``run``, and its energy where that was measured."""
    donors = donors_for(run, runs)
    if donors is None or not run.complete:
        return ()
    ratios = sorted(donors.ratios)
    predicted = [latency_s(run, ratio) for ratio in (median(ratios), ratios[0], ratios[-1])]
    nulls = null_latencies_s(run, runs)
    rows = [_comparison(run, LATENCY, "ms", 1e3, predicted, nulls, run.latency_s[PREDICTED_TASK], donors)]
    power = [run.power_w[task] for task in CALIBRATION_TASKS if task in run.power_w]
    if power and PREDICTED_TASK in run.energy_j:
        scale = fmean(power) * 1e6
        rows.append(
            _comparison(
                run, ENERGY, "uJ", scale, predicted, nulls, run.energy_j[PREDICTED_TASK] * 1e6 / scale, donors
            )
        )
    return tuple(rows)


def _comparison(
    run: Run,
    quantity: str,
    unit: str,
    scale: float,
    predicted: Sequence[float],
    nulls: dict[str, float],
    published: float,
    donors: Donors,
) -> Comparison:
    """Scale seconds to ``unit``: for energy by power, so that null models get the same power."""
    model, low, high = (value * scale for value in predicted)
    return Comparison(
        name=run.name,
        quantity=quantity,
        unit=unit,
        model=model,
        published=published * scale,
        low=low,
        high=high,
        evidence=ReferenceEvidence.SILICON,
        calibrated=False,
        source=run.source,
        null_models={name: value * scale for name, value in nulls.items()},
        note=str(donors),
    )


def reproduce() -> Reproduction:
    """Predict ``vww`` of every run that also measured ``ad`` and ``ic``."""
    runs = load_runs()
    rows = tuple(row for run in runs for row in comparisons(run, runs))
    found = Reproduction(
        "mlperf-tiny",
        "MLPerf Tiny on silicon: vww predicted from ad, ic and other organisations",
        rows,
        unpredicted=_unpredicted(runs),
    )
    return replace(
        found,
        summary=(*_summaries(found), *_standing(found), _choice(found), _coverage(found), _taken_over(runs)),
        bounds=_bounds(found),
    )


def _unpredicted(runs: Sequence[Run]) -> tuple[str, ...]:
    reasons = []
    for run in runs:
        missing = [task for task in NETWORKS if task not in run.latency_s]
        if PREDICTED_TASK in missing:
            continue  # nothing to predict
        if missing:
            reasons.append(f"{run.name}: no {' and '.join(missing)} row")
        elif donors_for(run, runs) is None:
            reasons.append(f"{run.name}: no other organisation measured {run.dtype}")
    return tuple(reasons)


def _by_step(row: Comparison, *, same_library: bool) -> bool:
    return row.note.startswith(SAME_LIBRARY) == same_library


def _choice(found: Reproduction) -> str:
    factor = found.statistics(LATENCY)[ONE_FACTOR].median
    beside = "worse than" if factor < MEDIAN_OF_BLIND_CHOICE else "no worse than"
    return (
        "the rule was chosen on these same rows, so its median is optimistic: choosing among an earlier "
        "family of rules by the rows of other organisations alone gave a median of "
        f"{MEDIAN_OF_BLIND_CHOICE:.0%} (a recorded figure, not computed here), "
        f"{beside} {ONE_FACTOR} at {factor:.1%}"
    )


def _summaries(found: Reproduction) -> tuple[str, ...]:
    lines = []
    for quantity in (LATENCY, ENERGY):
        lines += [f"{quantity}, {name}: {value}" for name, value in found.statistics(quantity).items()]
    for same in (True, False):
        part = found.statistics(LATENCY, lambda row, same=same: _by_step(row, same_library=same))  # type: ignore[misc]
        where = "measured by another organisation" if same else "measured by nobody else"
        lines.append(f"libraries {where}: {MODEL} {part[MODEL]}; {ONE_FACTOR} {part[ONE_FACTOR]}")
    return tuple(lines)


def _coverage(found: Reproduction) -> str:
    rows = [row for row in found.rows if row.quantity == LATENCY and _by_step(row, same_library=False)]
    inside = [row for row in rows if (row.low or 0) <= row.published <= (row.high or 0)]
    share = f"{len(inside)} of {len(rows)} latencies"
    return f"libraries measured by nobody else: {share} lie in the range of their donors"


def _taken_over(runs: Sequence[Run]) -> str:
    pairs = [
        f"{a.name} / {b.organisation}"
        for index, a in enumerate(runs)
        for b in runs[index + 1 :]
        if a.organisation != b.organisation
        and "ad" in a.latency_s
        and a.latency_s["ad"] == b.latency_s.get("ad")
    ]
    return (
        "two organisations printed the same ad latency to the last digit, so that one may have taken over "
        "the other's program: " + "; ".join(pairs)
    )


def _standing(found: Reproduction) -> tuple[str, ...]:
    """Say in which error the model is level with a null model or behind it, by the computed statistics."""
    lines = []
    for quantity in (LATENCY, ENERGY):
        missed = [bound.text for bound in found.against_nulls(quantity) if not bound.holds]
        lines.append(
            f"{quantity}, where the model does not beat a null model: {'; '.join(missed) or 'nowhere'}"
        )
    return tuple(lines)


def _bounds(found: Reproduction) -> tuple[Bound, ...]:
    """The model should beat every null model in median, p90 and worst; else a bound is missed."""
    return tuple(bound for quantity in (LATENCY, ENERGY) for bound in found.against_nulls(quantity))
