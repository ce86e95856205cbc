"""Published studies, model beside figure: one module per study.

``REPRODUCTIONS`` maps a name to a function that returns its ``Reproduction``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dse.errors import UnknownName
from dse.reproduce import calibration, heads_stm32, mcunetv3, mlperf_tiny, qlr_cl, trainlib
from dse.reproduce.base import Bound, Comparison, Reproduction, Statistics, comparison_text

REPRODUCTIONS: Final[Mapping[str, Callable[[], Reproduction]]] = {
    "qlr-cl": qlr_cl.reproduce,
    "mlperf-tiny": mlperf_tiny.reproduce,
    "calibration": calibration.reproduce,
    "trainlib": trainlib.reproduce,
    "heads-stm32": heads_stm32.reproduce,
    "mcunetv3": mcunetv3.reproduce,
}


def reproduce(name: str) -> Reproduction:
    """Return the reproduction called ``name``; raises UnknownName with the nearest one."""
    if name not in REPRODUCTIONS:
        raise UnknownName("reproduction", name, REPRODUCTIONS)
    return REPRODUCTIONS[name]()


__all__ = [
    "REPRODUCTIONS",
    "Bound",
    "Comparison",
    "Reproduction",
    "Statistics",
    "comparison_text",
    "reproduce",
]
