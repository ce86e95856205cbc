"""Power in sleep states, from segments of a recording."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dse.calibrate.joining import Slept
from dse.calibrate.physics import KEEP
from dse.calibrate.power import FittedPower, power_of
from dse.errors import Problem, allowed_names
from dse.hardware import HardwareProfile
from dse.units import human

SLEEP_FACTOR: Final = 100.0
"""A sleep power this many times off the profile's is taken for a slip of its unit, or for a chip awake."""


@dataclass(frozen=True)
class FittedSleep(FittedPower):
    """Power of one sleep state [W]; ``low`` to ``high`` holds a further measurement with 90 %."""

    @property
    def path(self) -> str:
        """Path of the number, as ``HardwareProfile.numbers`` writes it."""
        return f"sleep_state.{self.point}.{self.field}"


def fitted_sleeps(board: HardwareProfile, sleeps: Sequence[Slept]) -> tuple[FittedSleep, ...]:
    """Return the power of every sleep state that was recorded."""
    found = []
    for state in board.sleep_states:
        own = [each for each in sleeps if each.state == state.name]
        logs: dict[tuple[object, ...], float] = {(each.line,): math.log(each.segment.power_w) for each in own}
        if logs:
            value, reach = power_of(list(logs.values()), state.power_w)
            low, high = value / math.exp(reach), value * math.exp(reach)
            found.append(FittedSleep(state.name, "power_w", state.power_w, value, low, high, logs, ()))
    return tuple(found)


def sleep_problems(
    board: HardwareProfile, sleeps: Sequence[Slept], file: str, *, keep: bool
) -> Iterator[Problem]:
    """Yield states that the board does not have, and powers that it cannot draw asleep."""
    known = {state.name: state.power_w.value for state in board.sleep_states}
    for each in sleeps:
        where, power = f"line {each.line}", each.segment.power_w
        if each.state not in known:
            found = f"unknown sleep state {each.state!r}"
            yield Problem(file, where, found, allowed_names(each.state, tuple(known)))
        elif known[each.state] <= 0:
            found = f"the profile gives {each.state} no power to start from"
            yield Problem(file, where, found, "a power above zero in the board's file")
        elif not keep and not 1 / SLEEP_FACTOR < power / known[each.state] < SLEEP_FACTOR:
            found = f"{human(power, 'W')} asleep, where the profile says {human(known[each.state], 'W')}"
            yield Problem(file, where, found, f"within a factor of {SLEEP_FACTOR:g}; {KEEP}")
