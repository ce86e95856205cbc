"""MACs of a network by operator, for rates that are keyed by operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from dse.workload import Workload


def macs_by_operator(workload: Workload) -> Mapping[str, int]:
    """Return the MACs of one forward pass of one sample by operator."""
    macs: Counter[str] = Counter()
    for unit in workload.units:
        macs[unit.operator] += unit.macs
    return macs
