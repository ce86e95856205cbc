"""One plan, taken apart: seconds, joules and bytes per unit and pass, and the buffers that make the peak.

The rows of a breakdown sum to the event's totals; ``Explanation.check`` verifies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dse.cost.accounting import MCUNETV3_EXTRA
from dse.cost.context import Context
from dse.cost.energy import active_power, byte_energy
from dse.cost.event import Costs, Moves, event_moves
from dse.cost.latency import FrozenTime, StepTime, frozen_time, step_time
from dse.cost.memory import KEPT_ORDER, Placement, label_bytes
from dse.cost.memory_notions import MemoryRow, memory_notions
from dse.cost.model import StepCosts, describe, event_choices, price, step_costs
from dse.cost.neighbours import neighbours
from dse.cost.tiling_list import TileRow, tile_rows
from dse.errors import DseError, Unpriced
from dse.plan.decisions import FloatArray, IntArray, PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.step import READ, WRITE, TrainingStep
from dse.plan.techniques import illegal
from dse.plan.timeline import DYNAMIC_ROLES
from dse.vocabulary import PASSES, Role


@dataclass(frozen=True)
class Row:
    """One line of the breakdown, for a whole event; bytes are by level, read and written together."""

    stage: str
    unit: int
    name: str
    operator: str
    pass_: str
    macs: float
    seconds: float
    joules: float
    bytes_moved: dict[str, float]


@dataclass(frozen=True)
class PeakBuffer:
    """A buffer that is alive at the moment of the RAM peak."""

    role: Role
    name: str
    reason: str
    size_bytes: int
    share: float


@dataclass(frozen=True)
class Change:
    """One decision changed: what it does to the RAM peak and to the event."""

    decision: str
    before: Any
    after: Any
    ram_peak_bytes: float
    event_j: float
    event_s: float


@dataclass(frozen=True)
class Explanation:
    """A plan on a board, taken apart."""

    context: Context
    plan: TrainingPlan
    operating_point: str
    costs: Costs
    rows: tuple[Row, ...]
    roles: dict[Role, float]  # each role's own largest bytes, wherever it lies
    peak_roles: dict[Role, float]  # bytes in RAM at the moment of its peak
    placement: dict[Role, str]
    peak_operation: str
    peak_buffers: tuple[PeakBuffer, ...]
    changes: tuple[Change, ...]
    notions: tuple[MemoryRow, ...] = ()  # memory by name and at the peak, where a plan has such a name
    tiles: tuple[TileRow, ...] = ()  # kernel calls in the level next to the cores, where a board has one

    def check(self, tolerance: float = 1e-9) -> None:
        """Raise DseError unless the parts sum to the totals."""
        for name, total in (("seconds", self.costs.event_s[0]), ("joules", self.costs.event_j[0])):
            parts = sum(getattr(row, name) for row in self.rows)
            if abs(parts - total) > tolerance * max(abs(total), 1e-30):
                raise DseError(f"the breakdown of {name} sums to {parts}, the event to {total}")
        held, peak = sum(self.peak_roles.values()), float(self.costs.ram_peak_bytes[0])
        if abs(held - peak) > tolerance * peak:
            raise DseError(f"the roles at the RAM peak sum to {held} B, the peak is {peak} B")
        parts = sum(row.peak_bytes for row in self.notions)
        if self.notions and abs(parts - peak) > tolerance * peak:
            raise DseError(f"the parts of the RAM peak sum to {parts} B, the peak is {peak} B")

    def records(self) -> list[dict[str, Any]]:
        """Return the breakdown as plain records, one per row."""
        levels = [level.name for level in self.context.board.levels]
        return [
            {
                "stage": row.stage, "unit": row.unit, "name": row.name, "operator": row.operator,
                "pass": row.pass_, "macs": row.macs, "seconds": row.seconds, "joules": row.joules,
            } | {f"bytes_{level}": row.bytes_moved.get(level, 0.0) for level in levels}
            for row in self.rows
        ]  # fmt: skip

    def tiles_frame(self) -> Any:
        """Return the tiles of every kernel call as a pandas DataFrame; without rows where there are none."""
        import pandas as pd

        return pd.DataFrame.from_records([row.record() for row in self.tiles])

    def to_frame(self) -> Any:
        """Return the breakdown as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame.from_records(self.records())


def explain(
    context: Context, plan: TrainingPlan, operating_point: str | int = 0, sleep_state: str | int = -1
) -> Explanation:
    """Break one plan down. Raises IllegalPlan, Unpriced or UnknownName."""
    plan = plan.canonical(context.workload)
    plans = PlanBatch.from_plans(context.workload, [plan])
    costs = price(context, plans, operating_point=operating_point, sleep_state=sleep_state)
    step, placement = describe(context, plans)
    time, frozen = step_time(context, step, placement), frozen_time(context, step, placement)
    table = step_costs(context, plans)
    point = int(event_choices(context, plans, operating_point)["operating_point"][0])
    rows = (
        *_frozen_rows(context, costs, step, frozen, table, point),
        *_learning_rows(context, costs, step, time, table, point),
        *_event_rows(context, costs, event_moves(context, table, event_choices(context, plans, point))),
    )
    levels = [level.name for level in context.board.levels]
    peak_roles = _peak_roles(context, costs, placement)
    explanation = Explanation(
        context, plan, context.board.operating_points[point].name, costs, rows,
        roles=_roles(costs, placement),
        peak_roles=peak_roles,
        placement=_levels_of_roles(levels, costs, placement),
        peak_operation=step.schedule.clock.names(context.workload)[int(placement.peak_operation[0])],
        peak_buffers=_peak_buffers(step, placement, peak_roles),
        changes=cheapest_changes(context, plan, operating_point),
        notions=memory_notions(step, peak_roles) if has_a_name(context, plan) else (),
        tiles=tile_rows(context, step),
    )  # fmt: skip
    explanation.check()
    return explanation


def has_a_name(context: Context, plan: TrainingPlan) -> bool:
    """Return whether arXiv 2206.15472 names the memory of ``plan``: a sparse update, or by its preset."""
    sparse = plan.head == "sgd" and UpdatePolicy.parse(plan.policy).sparse
    return sparse or context.accounting.name == MCUNETV3_EXTRA.name


def _frozen_rows(
    context: Context, costs: Costs, step: TrainingStep, frozen: FrozenTime, table: StepCosts, point: int
) -> Iterator[Row]:
    seconds = frozen.unit_seconds[0, point]
    each = float(costs.frozen_image_s[0])
    passes = float(costs.seconds["frozen stage"][0]) / each if each else 0.0
    power, outside = float(table.frozen_power_w[0, point]), byte_energy(context)
    for u, unit in enumerate(context.workload.units):
        moved = {k: traffic[0, u, 0] for k, traffic in frozen.moved.items()}
        if seconds[u] or any(part.any() for part in moved.values()):
            joules = seconds[u] * power + sum(
                part[way] * outside[k, way] for k, part in moved.items() for way in (READ, WRITE)
            )
            macs = unit.macs * float(step.frozen_repeat[unit.layer]) * bool(step.frozen_units[0, u])
            yield Row(
                "frozen stage", u, unit.name, unit.operator, "fwd", macs * passes, seconds[u] * passes,
                joules * passes, _named(context, {k: part.sum() * passes for k, part in moved.items()}),
            )  # fmt: skip


def _learning_rows(
    context: Context, costs: Costs, step: TrainingStep, time: StepTime, table: StepCosts, point: int
) -> Iterator[Row]:
    count = float(costs.minibatches[0])
    power = float(active_power(context)[point, 1])
    outside = byte_energy(context)
    units = context.workload.units
    for u in range(len(units) + 1):
        name, operator = (units[u].name, units[u].operator) if u < len(units) else ("latents and loss", "")
        for p, pass_ in enumerate(PASSES):
            seconds = float(time.seconds[0, point, u, p])
            moved = {k: traffic[0, u, p] for k, traffic in time.moved.items()}
            if not seconds and not any(part.any() for part in moved.values()):
                continue
            joules = seconds * power + sum(
                part[way] * outside[k, way] for k, part in moved.items() for way in (READ, WRITE)
            )
            macs = float(step.macs[0, u, p]) if u < len(units) and p < 3 else 0.0
            yield Row(
                "learning", u if u < len(units) else -1, name, operator, pass_, macs * count, seconds * count,
                joules * count, _named(context, {k: part.sum() * count for k, part in moved.items()}),
            )  # fmt: skip
    head = float(table.head_s[0, point])
    if head:
        macs = float(step.spec.head_event_macs[0])
        yield Row(
            "learning", -1, "head at the end of the event", "linear", "fwd", macs, head, head * power, {}
        )


def _event_rows(context: Context, costs: Costs, moves: Moves) -> Iterator[Row]:
    for cause in costs.seconds:
        if cause in ("frozen stage", "learning"):
            continue
        seconds, joules = float(costs.seconds[cause].ravel()[0]), float(costs.joules[cause].ravel()[0])
        if seconds or joules:
            moved: dict[int, float] = {}
            for level, _, size in moves.get(cause, ()):
                code = int(np.ravel(level)[0])
                moved[code] = moved.get(code, 0.0) + float(np.ravel(size)[0])
            yield Row("event", -1, cause, "", "", 0.0, seconds, joules, _named(context, moved))


def _named(context: Context, moved: dict[int, Any]) -> dict[str, float]:
    return {context.board.levels[k].name: float(value) for k, value in moved.items() if value}


def _roles(costs: Costs, placement: Placement) -> dict[Role, float]:
    """Each role's own largest bytes."""
    roles = {role: float(size[0]) for role, size in placement.role_bytes.items()}
    roles[Role.NEW_SAMPLES] = float(np.ravel(costs.new_sample_bytes)[0])
    roles[Role.REPLAY_SAMPLES] = float(np.ravel(costs.replay_bytes)[0])
    roles[Role.LABELS] = float(np.ravel(costs.label_bytes)[0])
    return roles


def _peak_roles(context: Context, costs: Costs, placement: Placement) -> dict[Role, float]:
    """Bytes of each role in RAM at the moment of the RAM peak; they sum to it."""
    volatile = [level.volatile for level in context.board.levels]
    roles = {}
    for role, size in placement.peak_role_bytes.items():
        if role not in KEPT_ORDER or volatile[int(placement.level[role][0])]:
            roles[role] = float(size[0])
    label = label_bytes(context.workload.classes) if context.accounting.replay_headers else 0
    new, held = float(np.ravel(costs.new_sample_bytes)[0]), float(np.ravel(costs.replay_bytes)[0])
    labels = float(np.ravel(costs.label_bytes)[0])
    in_ram = bool(np.ravel(costs.replays_in_ram)[0])
    new_labels = float(np.ravel(costs.cached_samples)[0]) * label
    roles |= {Role.NEW_SAMPLES: new, Role.LABELS: labels if in_ram else new_labels}
    return roles | ({Role.REPLAY_SAMPLES: held} if in_ram else {})


def _levels_of_roles(levels: list[str], costs: Costs, placement: Placement) -> dict[Role, str]:
    where = {role: levels[int(code[0])] for role, code in placement.level.items()}
    where[Role.REPLAY_SAMPLES] = where[Role.LABELS] = levels[int(np.ravel(costs.replay_level)[0])]
    where[Role.NEW_SAMPLES] = levels[int(np.ravel(costs.new_sample_level)[0])]
    return where


def _peak_buffers(
    step: TrainingStep, placement: Placement, peak_roles: dict[Role, float], count: int = 10
) -> tuple[PeakBuffer, ...]:
    """The largest things in RAM when its use peaks: buffers of the step, and roles that are always there."""
    moment, total = int(placement.peak_operation[0]), sum(peak_roles.values())
    found = [
        (buffer.role, buffer.name, buffer.reason, int(buffer.size[0]))
        for buffer in step.schedule.buffers
        if buffer.start <= moment <= buffer.end and buffer.size[0] > 0
    ]
    found += [
        (role, role.value, "alive throughout the event", int(size))
        for role, size in peak_roles.items()
        if role not in DYNAMIC_ROLES and size > 0
    ]
    found.sort(key=lambda item: -item[3])
    return tuple(PeakBuffer(*item, item[3] / total) for item in found[:count])


def cheapest_changes(
    context: Context, plan: TrainingPlan, operating_point: str | int = 0, count: int = 5
) -> tuple[Change, ...]:
    """Return the single changes that lower the RAM peak, cheapest in energy first.

    Accuracy is not weighed: a later cut or fewer replays usually cost some. Of the values of one decision,
    those stay that no other one beats in energy and peak.
    """
    candidates = list(neighbours(context, plan))
    if not candidates:
        return ()
    plans = PlanBatch.from_plans(context.workload, [plan, *(other for _, _, other in candidates)])
    bad = np.zeros(len(plans), dtype=bool)
    for mask in illegal(context.workload, plans).values():
        bad |= mask
    found = list(_priced(context, plans, np.flatnonzero(~bad), operating_point))
    own, short = next(
        (costs.ram_peak_bytes[at], costs.short_bytes[at]) for row, costs, at in found if row == 0
    )
    changes = [
        Change(
            candidates[row - 1][0], getattr(plan, candidates[row - 1][0]), candidates[row - 1][1],
            float(costs.ram_peak_bytes[at]), float(costs.event_j[at]), float(costs.event_s[at]),
        )
        for row, costs, at in found
        if row > 0 and costs.ram_peak_bytes[at] < own and costs.short_bytes[at] <= short
    ]  # fmt: skip
    changes.sort(key=lambda change: (change.event_j, change.ram_peak_bytes))
    return tuple(_unbeaten(changes)[:count])


def _unbeaten(changes: list[Change]) -> list[Change]:
    """Return the sorted ``changes`` without those that a cheaper value of the same decision beats in RAM."""
    least: dict[str, float] = {}
    found = []
    for change in changes:
        if change.ram_peak_bytes < least.get(change.decision, np.inf):
            least[change.decision] = change.ram_peak_bytes
            found.append(change)
    return found


def _priced(
    context: Context, plans: PlanBatch, rows: IntArray, operating_point: str | int
) -> Iterator[tuple[int, Costs, int]]:
    """Yield (row, costs, position in them) of the ``rows`` that the board can price; no price, no advice."""
    try:
        costs = price(context, plans.rows(rows), operating_point=operating_point)
    except Unpriced:
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]) if len(rows) > 1 else ():
            yield from _priced(context, plans, half, operating_point)
        return
    yield from ((int(row), costs, at) for at, row in enumerate(rows))


def unit_seconds(explanation: Explanation) -> tuple[list[str], dict[str, FloatArray]]:
    """Return unit names and, per pass, seconds per unit (for a stacked bar)."""
    units = explanation.context.workload.units
    series = {f"frozen {PASSES[0]}": np.zeros(len(units))} | {pass_: np.zeros(len(units)) for pass_ in PASSES}
    for row in explanation.rows:
        if row.unit >= 0:
            series["frozen fwd" if row.stage == "frozen stage" else row.pass_][row.unit] += row.seconds
    return [unit.name for unit in units], series


__all__ = ["Change", "Explanation", "PeakBuffer", "Row", "cheapest_changes", "explain", "unit_seconds"]
