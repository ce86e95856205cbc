"""The entries of a board profile: memory levels, rates, powers. Everything is SI and frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, StrictBool

from dse.errors import allowed_names
from dse.hardware.quantity import Entry, Fault, Quantity
from dse.vocabulary import (
    DTYPES,
    ELEMENT_OPERATIONS,
    FORWARD_ELEMENT_OPERATIONS,
    FORWARD_OPERATORS,
    INT8_ERROR_PASSES,
    OPERATORS,
    WORKSPACE_FORMULAS,
    is_custom,
)

TECHNOLOGIES: Final = ("sram", "tcm", "mram", "flash", "hyperram", "psram", "fram", "nor", "sd")
ACCESSES: Final = ("tile", "core", "stream")
MAC_PASSES: Final = ("fwd", "bwd_input", "bwd_weight")
RATE_PASSES: Final = (*MAC_PASSES, *INT8_ERROR_PASSES.values())
ELEMENT_PASSES: Final = ("fwd", "bwd_input", "update")

Count = Annotated[int, Field(strict=True, gt=0)]
Array = TypeVar("Array", float, npt.NDArray[np.float64])


class WaitStates(Entry):
    """Flash read through wait states: ``thresholds_hz[i]`` is the fastest clock with i of them."""

    thresholds_hz: tuple[float, ...] = Field(min_length=1)
    bytes_per_access: Quantity

    positive: ClassVar[tuple[str, ...]] = ("bytes_per_access",)

    @classmethod
    def faults(cls, fields: Mapping[str, Any]) -> Iterator[Fault]:
        """Yield the general faults, and thresholds that do not ascend."""
        yield from super().faults(fields)
        steps = fields.get("thresholds_hz", ())
        if not (isinstance(steps, tuple) and all(isinstance(step, int | float) for step in steps)):
            return  # not numbers: reported where the types are checked
        if any(not low < high for low, high in zip((0.0, *steps), (*steps, math.inf), strict=True)):
            found = ", ".join(f"{step:g}" for step in steps)
            yield Fault("thresholds_hz", found, "must be finite, positive and ascend")

    def states(self, clock_hz: Array) -> Array:
        """Return the wait states at ``clock_hz`` [Hz, any shape]: the number of thresholds below it."""
        return sum((clock_hz > limit) * 1.0 for limit in self.thresholds_hz) + clock_hz * 0.0

    def s_per_byte(self, clock_hz: Array) -> Array:
        """Return seconds per byte read: (1 + wait states) / (clock x bytes per access)."""
        return (1.0 + self.states(clock_hz)) / (clock_hz * self.bytes_per_access.value)


class MemoryLevel(Entry):
    """One level of memory: a bank of the chip, or an attached part.

    ``access`` says how cores reach it: "tile" holds tiles of the running operation only, "core" is
    worked on at the rates of the profile, "stream" is moved at a bandwidth. ``holds`` says whether the
    program ("code") or the stack ("stack") lives there, which makes ``reserve_bytes`` compulsory.
    ``standby_power_w`` is drawn while the board is awake, ``retention_power_w`` while it sleeps with
    the contents kept (self-refresh), both only outside the domains of the operating points.
    """

    name: str = Field(min_length=1)
    technology: str
    access: str
    volatile: StrictBool
    domain: str = Field(min_length=1)
    size_bytes: Quantity
    reserve_bytes: Quantity | None = None
    holds: tuple[str, ...] = ()
    read_bytes_per_s: Quantity | None = None
    write_bytes_per_s: Quantity | None = None
    read_bytes_per_cycle: Quantity | None = None
    write_bytes_per_cycle: Quantity | None = None
    wait_states: WaitStates | None = None
    read_j_per_byte: Quantity
    write_j_per_byte: Quantity
    erase_block_bytes: Quantity | None = None
    erase_s: Quantity | None = None
    write_in_place: StrictBool = True
    endurance_cycles: Quantity | None = None
    standby_power_w: Quantity | None = None
    retention_power_w: Quantity | None = None
    attached: StrictBool = False
    note: str = ""

    positive: ClassVar[tuple[str, ...]] = (
        "size_bytes", "read_bytes_per_s", "write_bytes_per_s", "read_bytes_per_cycle",
        "write_bytes_per_cycle", "erase_block_bytes", "endurance_cycles",
    )  # fmt: skip
    words: ClassVar[Mapping[str, tuple[str, ...]]] = {"technology": TECHNOLOGIES, "access": ACCESSES}

    @classmethod
    def faults(cls, fields: Mapping[str, Any]) -> Iterator[Fault]:
        """Yield the general faults, then those of bandwidth, wear and reserve."""
        yield from super().faults(fields)
        yield from _bandwidth_faults(fields)
        yield from _wear_faults(fields)
        size, reserve = fields.get("size_bytes"), fields.get("reserve_bytes")
        if size is not None and reserve is not None and reserve.high_value > size.value:
            yield Fault("reserve_bytes", f"{reserve.high_value:g} B", f"at most the size, {size.value:g} B")
        if fields.get("holds") and "reserve_bytes" in fields and reserve is None:
            yield Fault("reserve_bytes", "missing", "a level that holds code or stack needs a reserve")
        holds = fields.get("holds")
        for word in holds if isinstance(holds, tuple) else ():
            if word not in ("code", "stack"):
                yield Fault("holds", f"unknown content {word!r}", allowed_names(word, ("code", "stack")))

    @property
    def usable_bytes(self) -> float:
        """Size less the reserve [B]."""
        return self.size_bytes.value - (self.reserve_bytes.value if self.reserve_bytes else 0.0)

    def read_s_per_byte(self, clock_hz: Array) -> Array:
        """Return seconds per byte read at ``clock_hz`` [Hz, any shape]; 0 where access is not "stream"."""
        if self.wait_states is not None:
            return self.wait_states.s_per_byte(clock_hz)
        return _s_per_byte(self.read_bytes_per_s, self.read_bytes_per_cycle, clock_hz)

    def write_s_per_byte(self, clock_hz: Array) -> Array:
        """Return seconds per byte written, erasing included: 1 / bandwidth + erase time / block."""
        seconds = _s_per_byte(self.write_bytes_per_s, self.write_bytes_per_cycle, clock_hz)
        if self.erase_s is None or self.erase_block_bytes is None:
            return seconds
        return seconds + self.erase_s.value / self.erase_block_bytes.value


def _s_per_byte(per_s: Quantity | None, per_cycle: Quantity | None, clock_hz: Array) -> Array:
    if per_s is not None:
        return clock_hz * 0.0 + 1.0 / per_s.value
    if per_cycle is not None:
        return 1.0 / (clock_hz * per_cycle.value)
    return clock_hz * 0.0


def _bandwidth_faults(fields: Mapping[str, Any]) -> Iterator[Fault]:
    forms = {
        "read": ("read_bytes_per_s", "read_bytes_per_cycle", "wait_states"),
        "write": ("write_bytes_per_s", "write_bytes_per_cycle"),
    }
    for way, names in forms.items():
        if not {"access", *names} <= fields.keys():
            continue  # one of them could not be read: that mistake is reported already
        given = [name for name in names if fields[name] is not None]
        if fields["access"] == "stream" and len(given) != 1:
            found = f"{len(given)} figures for the {way} bandwidth"
            yield Fault(
                f"{way}_bytes_per_s", found, f"access 'stream' needs exactly one of {', '.join(names)}"
            )
        if fields["access"] in ("tile", "core") and given:
            yield Fault(given[0], "a bandwidth", "only a level with access 'stream' has one")


def _wear_faults(fields: Mapping[str, Any]) -> Iterator[Fault]:
    if (
        fields.get("volatile") is False
        and "endurance_cycles" in fields
        and fields["endurance_cycles"] is None
    ):
        yield Fault("endurance_cycles", "missing", "a non-volatile level needs its endurance")
    if fields.get("write_in_place") is False and fields.get("erase_block_bytes", "") is None:
        yield Fault(
            "erase_block_bytes", "missing", "a level that is not written in place needs its erase block"
        )


def _forward_faults(fields: Mapping[str, Any], key: str, known: tuple[str, ...]) -> Iterator[Fault]:
    word, pass_ = fields.get(key), fields.get("pass_")
    forward = isinstance(word, str) and (word in known or is_custom(word))
    if forward and isinstance(pass_, str) and pass_ != "fwd":
        yield Fault("pass_", f"{pass_!r} of {word}", "'fwd': it runs forward only")


class Rate(Entry):
    """MACs per cycle of one operator in one pass, dtype and kernel library on a number of cores.

    A backward pass takes errors of the dtype, or fp32 errors where the dtype is int8; those on int8 errors
    are passes of their own, ``bwd_input_int8`` and ``bwd_weight_int8``.
    ``weights_in`` names the level where weights were when it was measured ("" where not stated).
    """

    library: str = Field(min_length=1)
    operator: str
    pass_: str
    dtype: str
    cores: Count
    mac_per_cycle: Quantity
    measured_at_hz: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    weights_in: str = ""
    shape: str = ""

    positive: ClassVar[tuple[str, ...]] = ("mac_per_cycle",)
    words: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "operator": (*OPERATORS, *FORWARD_OPERATORS), "pass_": RATE_PASSES, "dtype": DTYPES,
    }  # fmt: skip
    custom: ClassVar[tuple[str, ...]] = ("operator",)

    @classmethod
    def faults(cls, fields: Mapping[str, Any]) -> Iterator[Fault]:
        """Yield the general faults, and backward passes of what runs forward only."""
        yield from super().faults(fields)
        yield from _forward_faults(fields, "operator", FORWARD_OPERATORS)

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What the rate is looked up by."""
        return self.library, self.operator, self.pass_, self.dtype, self.cores


class ElementCost(Entry):
    """Cycles per element of one element operation (often included in a MAC rate)."""

    library: str = Field(min_length=1)
    operation: str
    pass_: str
    dtype: str
    cores: Count
    cycles_per_element: Quantity

    words: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "operation": (*ELEMENT_OPERATIONS, *FORWARD_ELEMENT_OPERATIONS), "pass_": ELEMENT_PASSES,
        "dtype": DTYPES,
    }  # fmt: skip
    custom: ClassVar[tuple[str, ...]] = ("operation",)

    @classmethod
    def faults(cls, fields: Mapping[str, Any]) -> Iterator[Fault]:
        """Yield the general faults, and backward passes of what runs forward only."""
        yield from super().faults(fields)
        yield from _forward_faults(fields, "operation", FORWARD_ELEMENT_OPERATIONS)

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What the cost is looked up by."""
        return self.library, self.operation, self.pass_, self.dtype, self.cores


class Overhead(Entry):
    """Cycles per kernel call of a library (often included in its MAC rates)."""

    library: str = Field(min_length=1)
    cores: Count
    cycles_per_call: Quantity

    @property
    def key(self) -> tuple[str, int]:
        """What the overhead is looked up by."""
        return self.library, self.cores


class Workspace(Entry):
    """Which buffer formula the kernels of a library need besides their tensors.

    ``tile_formula`` is what they need beside the tiles in a scratchpad, where that is another buffer.
    """

    library: str = Field(min_length=1)
    operator: str
    pass_: str
    formula: str
    tile_formula: str | None = None
    source: str = Field(min_length=1)
    note: str = ""

    words: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "operator": OPERATORS, "pass_": MAC_PASSES, "formula": WORKSPACE_FORMULAS,
        "tile_formula": WORKSPACE_FORMULAS,
    }  # fmt: skip

    @property
    def key(self) -> tuple[str, str, str]:
        """What the workspace is looked up by."""
        return self.library, self.operator, self.pass_


class Dma(Entry):
    """How "stream" levels reach the cores: in the background, or in turn with them.

    ``duplex_fraction`` says how much of the shorter direction runs beside the longer between a scratchpad and
    the level behind it: 0 is half duplex, 1 full duplex. Only boards with a scratchpad need it.
    """

    double_buffered: StrictBool
    setup_cycles: Quantity
    duplex_fraction: Quantity | None = None

    fractions: ClassVar[tuple[str, ...]] = ("duplex_fraction",)


class OperatingPoint(Entry):
    """Clock and power of the chip at work. ``domains`` are the rails inside those watts."""

    name: str = Field(min_length=1)
    clock_hz: Quantity
    voltage_v: Quantity | None = None
    inference_power_w: Quantity
    training_power_w: Quantity
    domains: tuple[str, ...] = Field(min_length=1)

    positive: ClassVar[tuple[str, ...]] = ("clock_hz", "inference_power_w", "training_power_w")


class SleepState(Entry):
    """Power while nothing runs, the volatile levels that keep their contents, and what waking costs."""

    name: str = Field(min_length=1)
    power_w: Quantity
    retains: tuple[str, ...] = ()
    wake_s: Quantity
    wake_j: Quantity


class Supply(Entry):
    """The regulator between battery and board."""

    efficiency_active_fraction: Quantity
    efficiency_sleep_fraction: Quantity
    quiescent_w: Quantity

    positive: ClassVar[tuple[str, ...]] = ("efficiency_active_fraction", "efficiency_sleep_fraction")
    fractions: ClassVar[tuple[str, ...]] = ("efficiency_active_fraction", "efficiency_sleep_fraction")


class Battery(Entry):
    """What the board lives on: charge [C], voltage [V], the usable share, and the share lost per year."""

    name: str = Field(min_length=1)
    charge_c: Quantity
    voltage_v: Quantity
    usable_fraction: Quantity
    self_discharge_per_year: Quantity

    positive: ClassVar[tuple[str, ...]] = ("charge_c", "voltage_v", "usable_fraction")
    fractions: ClassVar[tuple[str, ...]] = ("usable_fraction", "self_discharge_per_year")

    @property
    def energy_j(self) -> float:
        """Usable energy [J]: charge x voltage x usable share."""
        return self.charge_c.value * self.voltage_v.value * self.usable_fraction.value
