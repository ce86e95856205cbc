"""One measurement: what ran, on what, and what a stopwatch or a power meter said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dse.errors import Problem

FWD: Final = ("fwd",)


@dataclass(frozen=True)
class Measurement:
    """A network, a layer of one, or a single kernel, run once or as a mean of ``repeats``; SI units.

    ``network`` (with ``layer``, the name or index of a unit, for one layer alone), or ``operator`` with
    ``macs`` (of all ``passes`` together) and ``calls`` (of each pass), or ``elements``. ``columns`` maps a
    field to the column of the file.
    """

    dtype: str
    passes: tuple[str, ...] = FWD
    network: str = ""
    layer: str = ""
    operator: str = ""
    macs: float = 0.0
    elements: float = 0.0
    calls: float = 1.0
    library: str = ""
    cores: int | None = None
    clock_hz: float | None = None
    operating_point: str = ""
    latency_s: float | None = None
    cycles: float | None = None
    energy_j: float | None = None
    power_w: float | None = None
    repeats: int = 1
    note: str = ""
    file: str = "measurements"
    line: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """Whether it says how long something took."""
        return self.latency_s is not None or self.cycles is not None

    @property
    def subject(self) -> str:
        """What ran: the network, with the layer where it is one alone, or the kernel."""
        if self.operator:
            size = f"{self.macs:.6g} MACs" if self.macs else f"{self.elements:.6g} elements"
            return f"{self.operator}, {size}"
        return f"{self.network}, layer {self.layer}" if self.layer else self.network

    @property
    def name(self) -> str:
        """What ran, in which passes and dtype."""
        cores = f", {self.cores} cores" if self.cores is not None and self.cores > 1 else ""
        return f"{self.subject}, {'+'.join(self.passes)} {self.dtype}{cores}"

    def problem(self, key: str, found: str, allowed: str) -> Problem:
        """Return a problem of this row under the column that holds ``key``."""
        return Problem(self.file, f"line {self.line}, {self.columns.get(key, key)}", found, allowed)
