"""Joules, battery life and wear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.cost.context import Context
from dse.plan.decisions import BoolArray, FloatArray, IntArray

DAY_S: Final = 86400.0
YEAR_S: Final = 365.25 * DAY_S
DAYS_PER_YEAR: Final = 365.25


def active_power(context: Context) -> FloatArray:
    """Power at work by operating point [W], (C, 2): inference, training; attached parts on standby."""
    rows = []
    for point in context.board.operating_points:
        standby = sum(
            level.standby_power_w.value
            for level in context.board.levels
            if level.standby_power_w is not None and level.domain not in point.domains
        )
        rows.append((point.inference_power_w.value + standby, point.training_power_w.value + standby))
    return np.array(rows)


def byte_energy(context: Context) -> FloatArray:
    """Joules per byte beyond the power of the operating point: (K, 2) for read and written.

    A level outside the powered domains always has a figure; inside, a profile writes ``included`` unless a
    source gives what the access draws on top.
    """
    return np.array(
        [(level.read_j_per_byte.value, level.write_j_per_byte.value) for level in context.board.levels]
    )


@dataclass(frozen=True)
class Sleep:
    """Sleep by choice and by what must be retained: tables of shape (1 + states, 2^K).

    Row 0 is the automatic choice: the state of least power that retains what is needed. ``allowed`` is
    False where a state would lose something.
    """

    power_w: FloatArray
    wake_s: FloatArray
    wake_j: FloatArray
    allowed: BoolArray
    chosen: IntArray  # code of the state


def powered_levels(context: Context) -> BoolArray:
    """Levels that draw power to keep what they hold: volatile ones, and parts with a figure, (K,)."""
    return np.array([level.volatile or level.retention_power_w is not None for level in context.board.levels])


def sleep_table(context: Context) -> Sleep:
    """Tabulate sleep power over every set of levels that must keep their contents.

    An attached RAM keeps itself at its own retention power, whatever the board's state.
    """
    levels, states = context.board.levels, context.board.sleep_states
    sets = 1 << len(levels)
    power = np.full((len(states) + 1, sets), np.inf)
    wake_s, wake_j = np.zeros_like(power), np.zeros_like(power)
    own = {
        k: level.retention_power_w.value
        for k, level in enumerate(levels)
        if level.retention_power_w is not None
    }
    for row, state in enumerate(states, start=1):
        covered = {k for k, level in enumerate(levels) if level.name in state.retains or not level.volatile}
        for need in range(sets):
            asked = {k for k in range(len(levels)) if need >> k & 1}
            if asked <= covered | own.keys():
                # A part draws its own power; a level that the board's state keeps is inside its figure.
                kept_by_state = {k for k in covered if levels[k].volatile}
                power[row, need] = state.power_w.value + sum(
                    own[k] for k in (asked & own.keys()) - kept_by_state
                )
        wake_s[row], wake_j[row] = state.wake_s.value, state.wake_j.value
    best = np.argmin(power[1:], axis=0) + 1
    chosen = np.repeat(np.arange(-1, len(states))[:, None], sets, axis=1)
    for table in (power, wake_s, wake_j, chosen):
        table[0] = table[best, np.arange(sets)]
    return Sleep(power, wake_s, wake_j, np.isfinite(power), chosen)


def usage_energy(
    event_j: FloatArray, inference_j: FloatArray, wake_j: FloatArray, context: Context
) -> FloatArray:
    """Energy drawn from the battery per day for work [J]: events, inferences and waking, over the supply."""
    duty = context.duty
    wakes = duty.events_per_day + duty.inferences_per_day
    work = duty.events_per_day * event_j + duty.inferences_per_day * inference_j + wakes * wake_j
    return np.asarray(work / context.board.supply.efficiency_active_fraction.value)


def lifetime(
    context: Context, work_j_per_day: FloatArray, sleep_w: FloatArray, utilisation: FloatArray
) -> FloatArray:
    """Battery life [s]: usable energy over the mean power of work, sleep, regulator and self-discharge."""
    supply, battery = context.board.supply, context.board.battery
    asleep = np.clip(1.0 - utilisation, 0.0, None) * sleep_w / supply.efficiency_sleep_fraction.value
    leak = battery.energy_j * battery.self_discharge_per_year.value / YEAR_S
    return np.asarray(battery.energy_j / (work_j_per_day / DAY_S + asleep + supply.quiescent_w.value + leak))


def events_per_day_for(
    context: Context, life_s: float, event_j: FloatArray, event_s: FloatArray, inference_j: FloatArray,
    inference_s: FloatArray, wake_j: FloatArray, wake_s: FloatArray, sleep_w: FloatArray,
) -> FloatArray:  # fmt: skip
    """Return the learning events per day that the battery sustains for ``life_s`` [s]; 0 where none are.

    The inverse of ``lifetime``: linear in the number of events, and never more than fit into a day.
    """
    supply, battery, duty = context.board.supply, context.board.battery, context.duty
    active, idle = supply.efficiency_active_fraction.value, sleep_w / supply.efficiency_sleep_fraction.value
    leak = battery.energy_j * battery.self_discharge_per_year.value / YEAR_S
    budget_w = battery.energy_j / life_s - leak - supply.quiescent_w.value
    busy_s = duty.inferences_per_day * (inference_s + wake_s)
    other_w = duty.inferences_per_day * (inference_j + wake_j) / active / DAY_S + idle * (1 - busy_s / DAY_S)
    each_w = ((event_j + wake_j) / active - idle * (event_s + wake_s)) / DAY_S
    # An event that costs less than the sleep that it replaces is limited by time alone.
    affordable = np.where(each_w > 0, (budget_w - other_w) / np.maximum(each_w, 1e-300), np.inf)
    affordable = np.where((each_w <= 0) & (budget_w < other_w), 0.0, affordable)
    room = np.maximum(DAY_S - busy_s, 0.0) / (event_s + wake_s)
    return np.asarray(np.clip(np.minimum(affordable, room), 0.0, None))


def blocks_programmed(
    context: Context, level: IntArray, area_bytes: FloatArray, pieces: FloatArray, piece_bytes: FloatArray
) -> FloatArray:
    """Bytes programmed when ``pieces`` of ``piece_bytes`` at random places of an area are rewritten [B].

    Where a part must erase, each piece touches 1 + (bytes - 1) / block blocks on average, and no more
    than all; an upper bound, because two pieces may share a block. Elsewhere the bytes themselves.
    """
    block = _erase_block(context)[level]
    erases = block > 0
    safe = np.where(erases, block, 1.0)
    touched = np.minimum(
        pieces * (1.0 + np.maximum(piece_bytes - 1.0, 0.0) / safe), np.ceil(area_bytes / safe)
    )
    return np.where(erases, touched * safe * (pieces > 0), pieces * piece_bytes)


def whole_blocks(context: Context, level: IntArray, size: FloatArray) -> FloatArray:
    """Bytes programmed when ``size`` [B] is rewritten as a whole."""
    block = _erase_block(context)[level]
    safe = np.where(block > 0, block, 1.0)
    return np.where(block > 0, np.ceil(size / safe) * safe, size)


def _erase_block(context: Context) -> FloatArray:
    return np.array(
        [0.0 if level.write_in_place or level.erase_block_bytes is None else level.erase_block_bytes.value
         for level in context.board.levels]
    )  # fmt: skip


def wear_years(
    context: Context, level: IntArray, programmed: FloatArray, area_bytes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Years until an area wears out at ``programmed`` [B per event]: (its own blocks, levelled).

    Volatile levels do not wear: infinity.
    """
    endurance = np.array(
        [
            np.inf if level.endurance_cycles is None else level.endurance_cycles.value
            for level in context.board.levels
        ]
    )[level]
    per_year = programmed * context.duty.events_per_day * DAYS_PER_YEAR
    written = per_year > 0
    safe = np.where(written, per_year, 1.0)
    own = np.where(written & (area_bytes > 0), endurance * np.maximum(area_bytes, 1.0) / safe, np.inf)
    return own, np.where(written, endurance * context.capacity_bytes[level] / safe, np.inf)
