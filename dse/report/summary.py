"""The text of a report: ``report.md`` of a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from dse.report import text
from dse.report.accepted import accepted_section
from dse.report.board_report import BoardReport, NamedDesign
from dse.report.breakdown import changed
from dse.report.estimate import RESULTS, plan_words
from dse.report.runs import runs_text
from dse.report.tables import accuracy_status, decided_columns, front_rows
from dse.search.arenas import GAP
from dse.search.budgets import NO_MAP, UTILISATION
from dse.search.choices import DECISIONS
from dse.search.result import BoardResult, Counts, Front, SearchResult, why_nothing
from dse.units import human_bytes

LISTED: Final = 30
"""Most designs of a front that the report itself lists; all are in front.csv."""


def completeness(found: SearchResult) -> str:
    """Say in a few words whether every design was priced."""
    total = sum(result.counts.total for result in found.boards)
    if found.complete:
        return f"exact, complete front: all {total:,} designs priced"
    return f"sampled by {found.method} (seed {found.seed}): {found.priced:,} of {total:,} designs priced"


def report_text(
    found: SearchResult, boards: Sequence[BoardReport], figures: Mapping[str, Sequence[str]]
) -> str:
    """Write the report as Markdown; ``figures`` maps a board to the files of its figures."""
    space = found.space
    sections = [
        f"# {space.name}",
        _summary(found),
        *(("## Training runs", runs_text(found)) if found.measurement is not None else ()),
        *(part for board in boards for part in _board(found, board, figures.get(board.result.board, ()))),
        *accepted_section(space),
        "## What was counted",
        _counted(found),
        "## Sources of the numbers",
        *_sources(found),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _summary(found: SearchResult) -> str:
    space = found.space
    rows = [
        (
            result.board, f"{result.counts.total:,}", f"{result.counts.feasible:,}", f"{len(result.front):,}",
            _best(result.front.columns, space.objectives) if len(result.front) else "nothing fits",
        )
        for result in found.boards
    ]  # fmt: skip
    lines = [
        f"{completeness(found)[0].upper()}{completeness(found)[1:]}.",
        f"Networks: {', '.join(space.network_names)}. Objectives: {', '.join(space.objectives)}.",
    ]
    header = ("board", "designs", "feasible", "on the front", "best of each objective")
    return "\n".join(lines) + "\n\n" + text.markdown(header, rows)


def _best(columns: Mapping[str, Any], objectives: Sequence[str]) -> str:
    words = []
    for name in objectives:
        column = np.asarray(columns[name], dtype=float)
        unit = "fraction" if name == "accuracy" else RESULTS[name][1]
        most = name in ("accuracy", "lifetime_s")
        title = "accuracy" if name == "accuracy" else RESULTS[name][0]
        words.append(f"{title} {text.written(float(column.max() if most else column.min()), unit)}")
    return ", ".join(words)


def _board(found: SearchResult, board: BoardReport, figures: Sequence[str]) -> Iterator[str]:
    result = board.result
    yield f"## {result.board}"
    if len(result.front) == 0:
        yield f"**Nothing fits.** {why_nothing(result)}"
        if result.relaxation is not None:
            yield nearest_text(result.relaxation.design)
    yield from (f"![{name}](figures/{name}.png)" for name in figures)
    for design in board.named:
        yield from _named(design)
    if len(result.front):
        yield from _front(result.front.columns, found.space.objectives)
        placed = placed_text(result.front)
        if placed:
            said = f"{placed[0].upper()}{placed[1:]}."
            yield f"{said} `dse plan` writes the map of a point, checked and executed."
    yield "### Where the other designs went"
    yield text.markdown(("designs", "what became of them"), fates(result.counts))
    if len(result.cuts) > 1:
        yield "### What became of each cut"
        yield cuts_text(found, result)
    if board.named:
        yield "### What the numbers rest on"
        yield _rests(board)


def nearest_text(design: Mapping[str, Any]) -> str:
    """Write the design that comes closest where nothing fits: what it decides and what it costs."""
    decisions = ", ".join(f"{name} {design[name]}" for name in ("network", *DECISIONS) if name in design)
    results = ", ".join(
        f"{title} {text.written(design[name], unit)}"
        for name, (title, unit) in RESULTS.items()
        if name in design
    )
    return f"The design that the smallest relaxation admits: {decisions}. It costs: {results}."


def fates(counts: Counts) -> list[tuple[str, str]]:
    """Return how many designs fell to each reason, the front first."""
    rows = [
        (f"{counts.front:,}", "on the front"),
        (f"{counts.variants:,}", "equal to a design of the front in every objective"),
        (f"{counts.dominated:,}", "feasible, but beaten by another design"),
        (f"{counts.unknown:,}", "within every budget, but of unknown accuracy"),
    ]
    rows += [
        (f"{count:,}", NO_MAP if name == NO_MAP else f"over budget: {_budget(name)}")
        for name, count in counts.rejected.items()
        if count
    ]
    rows += [(f"{count:,}", f"not possible: {reason}") for reason, count in counts.illegal.items() if count]
    unseen = counts.total - counts.evaluated
    rows += [(f"{unseen:,}", "never priced (sampled search)")] if unseen else []
    return [row for row in rows if row[0] != "0" or row[1] == "on the front"]


def cuts_text(found: SearchResult, result: BoardResult) -> str:
    """Write, for every network and cut, how many designs fit and the least RAM that they need."""
    front = result.front.columns
    rows = []
    for fate in result.cuts:
        chosen = 0
        if len(result.front):
            here = (front["network"] == fate.network) & (front["head"] == "sgd") & (front["cut"] == fate.cut)
            chosen = int(here.sum())
        cut = "input" if fate.cut < 0 else str(fate.cut)
        rows.append(
            (
                fate.network,
                cut,
                f"{fate.designs:,}",
                f"{fate.feasible:,}",
                f"{chosen:,}",
                human_bytes(fate.least_ram_bytes),
            )
        )
    which = "of known accuracy" if "accuracy" in found.space.objectives else "that can be executed"
    header = ("network", "cut", f"designs {which}", "feasible", "on the front", "least RAM of any of them")
    note = "Where memory rejects a step before its replays are placed, its least RAM counts the step alone."
    return text.markdown(header, rows) + f"\n\n{note}"


def placed_text(front: Front) -> str:
    """Say how close the arenas of the front's points come to their live bytes; empty without placements."""
    if GAP not in front.columns:
        return ""
    most = float(front.columns[GAP].max())
    above = "at their live bytes" if most == 0 else f"at most {100 * most:.2g} % above their live bytes"
    return f"every point of the front is placed in memory: RAM arenas {above}"


def _budget(name: str) -> str:
    return "utilisation (more work than fits into the day)" if name == UTILISATION else name


def _named(design: NamedDesign) -> Iterator[str]:
    yield f"### {design.title[0].upper()}{design.title[1:]}: {design.row['network']}"
    yield " ".join(design.why)
    words = ", ".join(plan_words(design.plan, design.context))
    yield f"Design {design.row['design']}: {words}; at {design.row['operating_point']}."
    yield text.markdown(("result", "value", "interval from assumed numbers"), _results(design))
    yield text.markdown(("level", "usable", "used", "free"), _levels(design))
    level, share = design.fullest
    changes = [changed(change) for change in design.explanation.changes[:1]]
    yield (
        f"Fullest memory: {level}, {share:.0%} used. The RAM peak is reached during "
        f"{design.explanation.peak_operation}; its largest buffer is {_largest(design)}."
        + (f" Cheapest change that lowers it: {changes[0]}." if changes else "")
    )


def _largest(design: NamedDesign) -> str:
    buffers = design.explanation.peak_buffers
    if not buffers:
        return "none"
    return f"{buffers[0].name} ({human_bytes(buffers[0].size_bytes)}, {buffers[0].share:.0%})"


def _results(design: NamedDesign) -> Iterator[tuple[str, str, str]]:
    row = design.row
    if np.isfinite(row.get("accuracy", np.nan)):
        ends = text.interval(row["accuracy_low"], row["accuracy_high"], "fraction")
        yield "accuracy", text.percent(row["accuracy"]), f"{ends} ({accuracy_status(row)})"
    for name, (title, unit) in RESULTS.items():
        value = float(row[name])
        low, high = design.low.get(name, value), design.high.get(name, value)
        yield title, text.written(value, unit), text.interval(low, high, unit)
    yield text.YEARLY, text.yearly(design.events_per_day_for_a_year), ""


def _levels(design: NamedDesign) -> Iterator[tuple[str, str, str, str]]:
    for level in design.context.board.levels:
        used = float(design.row[f"level_bytes.{level.name}"])
        free = human_bytes(level.usable_bytes - used)
        yield level.name, human_bytes(level.usable_bytes), human_bytes(used), free


def _front(columns: Mapping[str, Any], objectives: Sequence[str]) -> Iterator[str]:
    count = len(columns["design"])
    yield f"### The front: {text.plural(count, 'design')}"
    varying, constant = decided_columns(columns)
    if constant:
        yield "The same for all: " + ", ".join(f"{name} {value}" for name, value in constant.items()) + "."
    yield text.markdown(*front_rows(columns, varying, objectives, LISTED))
    if count > LISTED:
        yield f"{LISTED} of {count}, evenly spread; all are in [front.csv](front.csv)."


def _rests(board: BoardReport) -> str:
    if not board.ranked:
        return "No uncertain number moves an objective of this front."
    rows = [
        (
            number.path, f"{number.quantity.value:g}",
            f"{number.quantity.low_value:g} .. {number.quantity.high_value:g}", number.quantity.kind.value,
            _moved(number.change),
            number.quantity.note,
        )
        for number in board.ranked
    ]  # fmt: skip
    header = ("number (SI)", "value", "low .. high", "evidence", "moves on average", "note")
    intro = (
        "The three assumed numbers that matter most for this front, and others that matter as much (each "
        f"moved alone from its low to its high, over {text.plural(board.examined, 'design')} of the front):"
    )
    return f"{intro}\n\n{text.markdown(header, rows)}"


def _moved(change: Mapping[str, float]) -> str:
    return ", ".join(f"{RESULTS[name][0]} {part:.0%}" for name, part in change.items() if part >= 0.005)


def _counted(found: SearchResult) -> str:
    space, duty = found.space, found.space.duty
    budgets = ", ".join(
        f"{budget.name} {'>=' if budget.floor else '<='} {budget.text(budget.limit)}"
        for budget in space.budgets
    )
    lines = [
        f"- accounting: {space.accounting.name}"
        + (f" ({space.accounting.note})" if space.accounting.note else ""),
        f"- duty: {duty.events_per_day:g} learning events and {duty.inferences_per_day:g} inferences "
        f"per day; capturing a sample takes {duty.capture_s:g} s and {duty.capture_j:g} J; writes averaged "
        f"over {duty.horizon_events:,} events",
        f"- budgets besides the levels of each board: {budgets or 'none'}",
        "- wear: years until the most used erase block reaches its endurance, with writes kept to their own "
        "blocks, and spread over the whole level",
        "- intervals: every assumed number at the end that lowers, and at the end that raises, the result",
    ]
    if space.accuracy is not None:
        lines.append(f"- accuracy: {space.accuracy.name}; it answers for: {space.accuracy.domain()}")
    return "\n".join(lines)


def _sources(found: SearchResult) -> Iterator[str]:
    space = found.space
    names = zip(space.network_names, space.networks, strict=True)
    yield "Networks:\n\n" + "\n".join(f"- {name}: {network.source}" for name, network in names)
    entries = {key: entry for board in space.boards for key, entry in board.sources().items()}
    yield "Boards and parts:\n\n" + "\n".join(f"- {key}: {entry}" for key, entry in sorted(entries.items()))
