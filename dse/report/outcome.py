"""What a search found, as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dse.plan.decisions import LIFESPAN_CHOICES, TrainingPlan
from dse.report import text
from dse.report.summary import completeness, fates, nearest_text, placed_text
from dse.report.tables import result as written_result
from dse.report.tables import title
from dse.search.result import BoardResult, SearchResult, why_nothing


def outcome_text(found: SearchResult) -> str:
    """Write what was found on every board: counts, named designs, or why nothing fits."""
    lines = [f"{found.space.name}: {completeness(found)}"]
    return "\n\n".join([*lines, *(part for result in found.boards for part in _board(found, result))])


def _board(found: SearchResult, result: BoardResult) -> Iterator[str]:
    counts = result.counts
    said = (
        f"{counts.total:,} designs; {counts.feasible:,} feasible, {counts.front:,} on the front"
        if counts.feasible
        else f"{counts.total:,} designs; nothing fits"
    )
    yield f"{result.board}: {said}"
    if len(result.front) == 0:
        yield "  " + why_nothing(result).removeprefix(f"{result.board}: ").removeprefix("nothing fits; ")
        if result.relaxation is not None:
            yield text.wrapped(nearest_text(result.relaxation.design), 110, "  ")
    else:
        yield _named(found, result)
        placed = placed_text(result.front)
        if placed:
            yield f"  {placed}"
    rows = [row for row in fates(counts) if not row[1].startswith(("on the front", "equal"))]
    if rows:
        yield text.table(("designs", "that are not on the front"), rows, indent="  ")


def _named(found: SearchResult, result: BoardResult) -> str:
    columns = result.front.columns
    names: dict[int, list[str]] = {}
    for plan in result.front.named:
        names.setdefault(plan.position, []).append(plan.name)
    rows = [
        (
            ", ".join(names[place]), columns["network"][place], _decided(columns, place),
            *(written_result(columns, name, place) for name in found.space.objectives),
        )
        for place in names
    ]  # fmt: skip
    header = ("plan", "network", "what it does", *(title(name) for name in found.space.objectives))
    return text.table(header, rows, indent="  ")


def _decided(table: Mapping[str, Any], place: int) -> str:
    """Write the decisions that shape a plan most."""
    got = {name: column[place] for name, column in table.items()}
    other = [f"{name} {got[name]}" for name, usual in _USUAL.items() if got[name] != usual]
    if got["head"] != "sgd":
        return ", ".join([f"head {got['head']}", *other])
    words = [f"cut {got['cut']}"]
    if got["replay"] != "none":
        words.append(f"{got['n_replays']} x {got['replay_bits']} bits in {got['replay_level_used']}")
    words.append(f"micro-batch {got['micro_batch']}, {got['update']}, {got['operating_point']}")
    return ", ".join([*words, *other])


_USUAL: Final = {name: getattr(TrainingPlan(cut=-1), name) for name in LIFESPAN_CHOICES}
"""How long buffers live, where nobody decides otherwise."""
