"""One plan taken apart, as text: units and passes, roles, the buffers of the peak, what would lower it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dse.cost.explain import Change, Explanation, Row
from dse.cost.memory_notions import MemoryRow
from dse.report import text
from dse.report.accepted import accepted_text
from dse.report.estimate import causes_text, heading, levels_text, plan_text
from dse.units import human_bytes


def breakdown_text(explanation: Explanation) -> str:
    """Write an explanation for a terminal."""
    context, costs = explanation.context, explanation.costs
    return "\n\n".join(
        (
            heading(context, explanation.operating_point),
            plan_text(explanation.plan, context),
            "time, energy and traffic of one event, by unit and pass\n" + units_table(explanation),
            causes_text(costs),
            "memory by role\n" + roles_table(explanation),
            levels_text(context, costs),
            peak_text(explanation),
            *([notions_text(explanation)] if explanation.notions else []),
            changes_text(explanation),
            *filter(None, [accepted_text(context, explanation.plan.frozen_bits)]),
        )
    )


def units_table(explanation: Explanation) -> str:
    """Write the rows of the breakdown and their sum."""
    costs = explanation.costs
    total_s, total_j = float(costs.event_s[0]), float(costs.event_j[0])
    levels = [
        level.name
        for level in explanation.context.board.levels
        if any(row.bytes_moved.get(level.name) for row in explanation.rows)
    ]
    rows = [_unit_row(row, levels, total_s, total_j) for row in explanation.rows]
    moved = [sum(row.bytes_moved.get(name, 0.0) for row in explanation.rows) for name in levels]
    macs = sum(row.macs for row in explanation.rows)
    rows.append(
        (
            "event", "", "all", "", "", _macs(macs), text.written(total_s, "s"), "100 %",
            text.joules(total_j),            "100 %", *(human_bytes(value) for value in moved),
        )
    )  # fmt: skip
    header = (
        "stage", "unit", "name", "operator", "pass", "MACs", "time", "share", "energy", "share",
        *(f"moved {name}" for name in levels),
    )  # fmt: skip
    return text.table(header, rows)


def _unit_row(row: Row, levels: list[str], total_s: float, total_j: float) -> tuple[Any, ...]:
    return (
        row.stage, row.unit if row.unit >= 0 else "", row.name, row.operator, row.pass_,
        _macs(row.macs) if row.macs else "", text.written(row.seconds, "s"),
        f"{100 * row.seconds / total_s:.1f} %", text.joules(row.joules),
        f"{100 * row.joules / total_j:.1f} %",
        *(human_bytes(row.bytes_moved[name]) if row.bytes_moved.get(name) else "" for name in levels),
    )  # fmt: skip


def _macs(value: float) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}"
    return f"{value:.0f}"


def roles_table(explanation: Explanation) -> str:
    """Write every role that takes memory, with its level."""
    rows = [
        (role.value, human_bytes(size), explanation.placement.get(role, ""))
        for role, size in sorted(explanation.roles.items(), key=lambda item: -item[1])
        if size
    ]
    note = "each role at its own largest; the roles of a step do not all peak at once"
    return text.table(("role", "bytes", "level"), rows) + f"\n{note}"


def peak_text(explanation: Explanation) -> str:
    """Write the largest buffers that are alive at the RAM peak."""
    peak = float(np.ravel(explanation.costs.ram_peak_bytes)[0])
    rows = [
        (
            buffer.name,
            buffer.role.value,
            buffer.reason,
            human_bytes(buffer.size_bytes),
            f"{100 * buffer.share:.1f} %",
        )
        for buffer in explanation.peak_buffers
    ]
    title = (
        f"RAM peak {human_bytes(peak)}, during {explanation.peak_operation}; the largest buffers alive then"
    )
    return title + "\n" + text.table(("buffer", "role", "alive because", "bytes", "share"), rows)


def notions_text(explanation: Explanation) -> str:
    """Write the memory twice, by its name and at the peak, part by part."""
    parts = explanation.notions
    rows = [(part.part, *map(human_bytes, _columns(part)), part.reason) for part in parts]
    totals = (sum(column) for column in zip(*(_columns(part) for part in parts), strict=True))
    rows.append(("in all", *map(human_bytes, totals), ""))
    title = "memory by its name (extra memory, arXiv 2206.15472) and at its fullest moments"
    header = ("part", "in the name", "RAM peak", "from the loss on", "what it is")
    return title + "\n" + text.table(header, rows)


def _columns(part: MemoryRow) -> tuple[float, float, float]:
    return part.named_bytes, part.peak_bytes, part.backward_bytes


def changes_text(explanation: Explanation) -> str:
    """Write the single changes that lower the RAM peak, cheapest in energy first."""
    if not explanation.changes:
        return "no single change of a decision lowers the RAM peak"
    costs = explanation.costs
    now = float(costs.ram_peak_bytes[0]), float(costs.event_j[0]), float(costs.event_s[0])
    rows = [("now", "", human_bytes(now[0]), "", text.joules(now[1]), text.written(now[2], "s"))]
    rows += [
        (
            f"{change.decision} = {_word(change.after)}", f"was {_word(change.before)}",
            human_bytes(change.ram_peak_bytes), f"-{human_bytes(now[0] - change.ram_peak_bytes)}",
            text.joules(change.event_j), text.written(change.event_s, "s"),
        )
        for change in explanation.changes
    ]  # fmt: skip
    title = "single changes that lower the RAM peak, cheapest event first (accuracy is not weighed)"
    return title + "\n" + text.table(("change", "", "RAM peak", "saves", "energy", "time"), rows)


def changed(change: Change) -> str:
    """Write one change in a sentence's end: what it does to peak and energy."""
    return (
        f"{change.decision} = {_word(change.after)} (was {_word(change.before)}), to "
        f"{human_bytes(change.ram_peak_bytes)} at {text.joules(change.event_j)} per event"
    )


def _word(value: Any) -> str:
    return str(getattr(value, "name", value))
