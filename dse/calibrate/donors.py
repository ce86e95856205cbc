"""Whom a run may learn from: runs of other organisations that measured what its own rows cannot show.

What ``ad`` and ``ic`` do not contain, depthwise and pointwise layers relative to dense convolutions, is taken
from runs of *other* organisations:

1. runs with the same kernel library and version, on the same core where there are any;
2. else all runs on the same core up to the round of the run, where there are at least two (later
   software was not there yet);
3. else all runs up to that round, else all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from dse.calibrate.fit import student_90
from dse.calibrate.mlperf import PREDICTED_TASK, Run, operator_macs, separable_macs
from dse.calibrate.prior import NORMAL_90, Ratio, prior_sd, spread
from dse.calibrate.response import path_of
from dse.hardware import HardwareProfile

SAME_LIBRARY: Final = "same library elsewhere"
SAME_CORE: Final = "other libraries on the core"
ANY_CORE: Final = "other libraries on any core"


@dataclass(frozen=True)
class Donors:
    """Runs of other organisations that a ratio is taken from, and by which step of the rule."""

    runs: tuple[Run, ...]
    step: str

    def __str__(self) -> str:
        names = ", ".join(sorted({run.organisation for run in self.runs}))
        return f"{self.step}: {len(self.runs)} runs of {names}"

    @property
    def ratios(self) -> tuple[float, ...]:
        """Separable ratio of each donor."""
        return tuple(run.separable_ratio for run in self.runs)


def others_of(run: Run, runs: Sequence[Run]) -> list[Run]:
    """Return the complete runs of other organisations in the dtype of ``run``."""
    return [
        other
        for other in runs
        if other.organisation != run.organisation and other.dtype == run.dtype and other.complete
    ]


def donors_for(run: Run, runs: Sequence[Run]) -> Donors | None:
    """Return the donors of ``run``; None where no other organisation measured its dtype."""
    others = others_of(run, runs)
    same = [other for other in others if other.kernels == run.kernels]
    past = [other for other in others if other.round <= run.round]
    steps = (
        (SAME_LIBRARY, 1, [other for other in same if other.core == run.core]),
        (SAME_LIBRARY, 1, same),
        (SAME_CORE, 2, [other for other in past if other.core == run.core]),
        (ANY_CORE, 2, past),
        (ANY_CORE, 1, others),
    )
    return next((Donors(tuple(found), step) for step, enough, found in steps if len(found) >= enough), None)


RATIO_SD: Final = 0.25
"""Scatter of the ratio between boards that is expected, counted as ``RATIO_RUNS`` runs.

Published ratios have two modes, about 1.0 and 1.6: half a logarithm apart. Settled after coverages of 80 to
100 % had been seen on the published rows at other widths (docs/calibrate.md): no blind choice.
"""
RATIO_RUNS: Final = 3.0
_FALLBACK_ROUND: Final = "v9"


def stand_in(board: HardwareProfile, dtype: str) -> Run:
    """Return a run of nobody on the core of ``board`` with its own library, after every round."""
    return Run(
        round=_FALLBACK_ROUND, organisation="", label="", board=board.name, core=board.core,
        kernels=board.kernels.get(dtype, ""), dtype=dtype, clock_hz=1.0, source="", latency_s={}, power_w={},
        energy_j={},
    )  # fmt: skip


def ratio_prior(
    board: HardwareProfile, library: str, dtype: str, cores: int, donors: Donors
) -> tuple[tuple[Ratio, ...], frozenset[str]]:
    """Return what ``donors`` say of depthwise and pointwise rates beside that of dense convolutions.

    Their ratio holds for both together, by the MACs of the predicted network; how the two differ is left to
    the profile, because no row of the donors tells. The two rates are believed through these ratios alone.
    Raises Unpriced where the board has no such rate.
    """
    rates = {
        operator: board.rate(operator, "fwd", dtype, library, cores)
        for operator in ("conv2d", "depthwise", "pointwise")
    }
    paths = {operator: path_of(rate) for operator, rate in rates.items()}
    macs, together = operator_macs(PREDICTED_TASK), separable_macs()
    logs = [math.log(ratio) for ratio in donors.ratios]
    shares = {paths[operator]: macs[operator] / together for operator in ("depthwise", "pointwise")}
    deep, point = rates["depthwise"].mac_per_cycle, rates["pointwise"].mac_per_cycle
    split_sd = math.hypot(prior_sd(deep), prior_sd(point))
    split = math.log(point.value / deep.value)
    # Few donors do not tell their own scatter: Student's t, as the normal prior that is as wide.
    wider = student_90(RATIO_RUNS + len(logs) - 1) / NORMAL_90
    sd = wider * spread(logs, RATIO_SD, RATIO_RUNS)
    return (
        Ratio(shares, {paths["conv2d"]: 1.0}, median(logs), sd, str(donors)),
        Ratio({paths["depthwise"]: 1.0}, {paths["pointwise"]: 1.0}, split, split_sd, board.name),
    ), frozenset(shares)
