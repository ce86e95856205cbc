"""What no measurement of a board can be: faster than its core multiplies, or a thousand times too slow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from dse.calibrate.measurement import Measurement
from dse.errors import Problem
from dse.hardware import HardwareProfile
from dse.units import human, human_seconds

KEEP: Final = "--keep-implausible fits it all the same"
FURTHEST: Final = 200.0
"""A row this many times slower or faster than the profile says is taken for a slip of its unit: units lie
1000 apart, and no profile is wrong by so much."""
POWER_FACTOR: Final = 30.0
CLOCK_FACTOR: Final = 200.0
ENERGY_TOLERANCE: Final = 0.10


class Peak(NamedTuple):
    """MACs per cycle that one core cannot exceed, and why."""

    macs: float
    reason: str


_SMLAD: Final = "SMLAD: two 16-bit MACs"
_FMA: Final = "one fused multiply-add"
PEAKS: Final = {
    ("cortex-m0plus", "int8"): Peak(1, "one MULS"),
    ("cortex-m0plus", "fp32"): Peak(1, "no FPU; assumed"),
    ("cortex-m4", "int8"): Peak(2, _SMLAD),
    ("cortex-m4", "fp32"): Peak(1, _FMA),
    ("cortex-m33", "int8"): Peak(2, _SMLAD),
    ("cortex-m33", "fp32"): Peak(1, _FMA),
    ("cortex-m7", "int8"): Peak(4, "SMLAD, dual issue; assumed"),
    ("cortex-m7", "fp32"): Peak(2, "one fused multiply-add, dual issue; assumed"),
    ("cortex-m55", "int8"): Peak(8, "Helium, two 64-bit beats"),
    ("cortex-m85", "int8"): Peak(16, "Helium; assumed"),
    ("riscv-pulp", "int8"): Peak(4, "sdotp of four int8"),
    ("riscv-pulp", "fp16"): Peak(2, "vfmac of two fp16"),
    ("riscv-pulp", "fp32"): Peak(1, _FMA),
    ("riscv", "int8"): Peak(4, "four int8 of a packed extension; assumed"),
    ("riscv", "fp32"): Peak(1, _FMA),
    ("xtensa-lx7", "int8"): Peak(16, "128-bit vectors"),
    ("xtensa-lx7", "fp32"): Peak(1, _FMA),
}
"""(core, dtype) -> peak of one core; instructions of the cores' reference manuals, where not assumed."""

UNKNOWN: Final = {"int8": Peak(16, "unknown core; assumed"), "fp16": Peak(8, "unknown core; assumed"),
                  "fp32": Peak(4, "unknown core; assumed")}  # fmt: skip


def peak(board: HardwareProfile, dtype: str, cores: int) -> Peak:
    """Return the MACs per cycle of ``cores`` that a measurement cannot exceed.

    A rate of the profile that is higher than the table raises it: accelerators stand in profiles only.
    """
    one = PEAKS.get((board.core, dtype), UNKNOWN[dtype])
    rates = [
        rate.mac_per_cycle.high_value for rate in board.rates if (rate.dtype, rate.cores) == (dtype, cores)
    ]
    known = max(rates, default=0.0)
    if known > one.macs * cores:
        return Peak(known, "the highest rate of the profile")
    return Peak(one.macs * cores, one.reason)


def time_problems(
    row: Measurement, board: HardwareProfile, seconds: float, prior_s: float, macs: float, cores: int,
    clock_hz: float,
) -> Iterator[Problem]:  # fmt: skip
    """Yield why ``seconds`` cannot be what ``row`` took; ``prior_s`` is what the profile says [s]."""
    key = "latency_s" if row.latency_s is not None else "cycles"
    rate, limit = macs / (seconds * clock_hz), peak(board, row.dtype, cores)
    if rate > limit.macs:
        found = f"{rate:.3g} MAC/cycle ({human_seconds(seconds)} at {human(clock_hz, 'Hz')})"
        allowed = f"{board.core} reaches {limit.macs:g} in {row.dtype} on {cores} ({limit.reason})"
        yield row.problem(key, found, f"{allowed}{_slip(seconds * 1e3, prior_s)}; {KEEP}")
    elif not 1 / FURTHEST <= seconds / prior_s <= FURTHEST:
        times, other_s = seconds / prior_s, seconds * (1e-3 if seconds > prior_s else 1e3)
        found = f"{human_seconds(seconds)}, {times:.3g} times the {human_seconds(prior_s)} expected"
        allowed = f"{1 / FURTHEST:g} to {FURTHEST:g} times{_slip(other_s, prior_s)}; {KEEP}"
        yield row.problem(key, found, allowed)


def clock_problems(row: Measurement, board: HardwareProfile) -> Iterator[Problem]:
    """Yield why ``row`` cannot have run at its clock: further from every operating point than any setting."""
    clocks = [point.clock_hz.value for point in board.operating_points]
    if row.clock_hz is None or min(clocks) / CLOCK_FACTOR <= row.clock_hz <= max(clocks) * CLOCK_FACTOR:
        return
    found = f"{human(row.clock_hz, 'Hz')}, where {board.name} runs at {human(max(clocks), 'Hz')}"
    allowed = f"within a factor of {CLOCK_FACTOR:g}; is the unit in the header right (Hz, MHz)?; {KEEP}"
    yield row.problem("clock_hz", found, allowed)


def _slip(other_s: float, prior_s: float) -> str:
    """Say that the unit of the header slipped, where the value fits the profile in the next unit."""
    return "; is the unit in the header right (ms, us)?" if 0.05 < other_s / prior_s < 20 else ""


def power_problems(row: Measurement, seconds: float | None, prior_w: float | None) -> Iterator[Problem]:
    """Yield where energy contradicts power and time, and a power that the board cannot draw."""
    power = row.power_w
    if seconds is not None and row.energy_j is not None:
        own = row.energy_j / seconds
        if power is not None and abs(own / power - 1.0) > ENERGY_TOLERANCE:
            found = f"{human(row.energy_j, 'J')}, where power x latency gives {human(power * seconds, 'J')}"
            yield row.problem("energy_j", found, f"within {ENERGY_TOLERANCE:.0%} of it; {KEEP}")
        power = own if power is None else power
    if power is None or prior_w is None or 1 / POWER_FACTOR < power / prior_w < POWER_FACTOR:
        return
    found = f"{human(power, 'W')}, where the profile says {human(prior_w, 'W')}"
    key = "power_w" if row.power_w is not None else "energy_j"
    yield row.problem(key, found, f"within a factor of {POWER_FACTOR:g}; {KEEP}")
