"""An arena as text: live bytes, bound, size, gap, how it was made and what is proven."""

from __future__ import annotations

from typing import Final

from dse.cost.arena import Arena, CheckedArena, fullest
from dse.report.text import plural
from dse.units import human_bytes

SHOWN_VIOLATIONS: Final = 50


def arena_text(arena: Arena, capacity_bytes: int | None = None) -> str:
    """Return ``arena`` for a terminal, a fact per line."""
    operation, live = fullest(arena.buffers)
    lines = [
        ("live bytes", f"{_bytes(live)} during operation {operation}, the most"),
        ("bound", f"{_bytes(arena.bound_bytes)}, with padding that no placement avoids"),
        ("arena", f"{_bytes(arena.size_bytes)}, {_above(arena)}"),
        ("method", arena.method),
        ("proven", "yes, no placement is smaller" if arena.proven else "no, a smaller one may exist"),
    ]
    if capacity_bytes is not None:
        spare = capacity_bytes - arena.size_bytes
        lines.append(
            ("capacity", f"{_bytes(capacity_bytes)}, {abs(spare)} B {'spare' if spare >= 0 else 'short'}")
        )
    facts = "\n".join(f"  {name:<10}  {value}" for name, value in lines)
    return f"{plural(len(arena.buffers), 'buffer')} in one arena\n{facts}"


def checked_text(checked: CheckedArena, capacity_bytes: int | None = None) -> str:
    """Return the arena of given offsets, and every violation, or that there is none."""
    found = checked.violations
    lines = [f"  {violation}" for violation in found[:SHOWN_VIOLATIONS]]
    if len(found) > SHOWN_VIOLATIONS:
        lines.append(f"  and {len(found) - SHOWN_VIOLATIONS} more")
    verdict = (
        f"invalid: {plural(len(found), 'violation')}"
        if found
        else "valid: no overlap, all within the arena, all aligned"
    )
    return "\n".join([arena_text(checked.arena, capacity_bytes), verdict, *lines])


def _above(arena: Arena) -> str:
    """Say how far an arena lies above its bound; only offsets that overlap are below it."""
    if arena.gap < 0:
        return "smaller than any valid placement"
    return f"{100 * arena.gap:.4g} % above the bound"


def _bytes(count: int) -> str:
    human = human_bytes(count)
    return human if human == f"{count} B" else f"{count} B ({human})"
