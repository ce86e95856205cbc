"""The best splits of a learning stage as text."""

from __future__ import annotations

from dse.report.text import percent, plural, table
from dse.search.segments import Segments, Split
from dse.units import human_bytes


def segments_text(found: Segments) -> str:
    """Return the front for a terminal, and which split meets the budget, or how much is missing."""
    return "\n\n".join(part for part in (_heading(found), _front(found), _answer(found)) if part)


def _heading(found: Segments) -> str:
    places = plural(len(found.places), "place") if found.places else "no place"
    return (
        f"{found.workload.name}, cut {_cut(found)}: {places} above the cut to split the learning stage; "
        f"{plural(len(found.splits), 'split')} that no other one beats, of "
        f"{2 ** len(found.places):,} (peak of the training step; what runs again, over its forward pass)"
    )


def _cut(found: Segments) -> str:
    return "input" if found.plan.cut < 0 else str(found.plan.cut)


def _front(found: Segments) -> str:
    rows = [
        ["*" if split == found.chosen else " ", f"{split.peak_bytes:,}", *_work(split), _decision(split)]
        for split in found.splits
    ]
    return table([" ", "peak B", "MACs again", "share", "decision"], rows, indent="  ")


def _work(split: Split) -> tuple[str, str]:
    return f"{split.macs:,}", percent(split.share)


def _decision(split: Split) -> str:
    return f'checkpoints = "{split.checkpoints}"'


def _answer(found: Segments) -> str:
    if found.budget_bytes is None:
        return ""
    budget = human_bytes(found.budget_bytes)
    if found.chosen is None:
        return (
            f"No split fits into {budget}: the least peak, {found.least_bytes:,} B, is "
            f"{found.missing_bytes:,.0f} B too large."
        )
    chosen = found.chosen
    return (
        f"Least work within {budget}: {_decision(chosen)}, {chosen.peak_bytes:,} B, "
        f"{percent(chosen.share)} of the forward pass again."
    )
