"""The best splits of a learning stage as text."""

from __future__ import annotations

import re
from typing import Final

from dse.cost.beside import Beside
from dse.plan.structure import Checkpoints
from dse.report.text import percent, plural, table, wrapped
from dse.search.segments import Segments, Split
from dse.units import human_bytes

WIDTH: Final = 80


def segments_text(found: Segments, beside: Beside, budget: str = "") -> str:
    """Return the front for a terminal, which split meets the budget, and what stands beside it in RAM.

    ``budget`` is the budget as it was given, such as "64KiB".
    """
    parts = (
        _heading(found),
        _elsewhere(found),
        _front(found),
        _answer(found, budget),
        _beside(found, beside),
    )
    return "\n\n".join(part for part in parts if part)


def _heading(found: Segments) -> str:
    places = plural(len(found.places), "place") if found.places else "no place"
    return wrapped(
        f"{found.workload.name}, cut {_cut(found)}: {places} above the cut to split the learning stage; "
        f"{plural(len(found.splits), 'split')} that no other one beats, of "
        f"{2 ** len(found.places):,} (peak of the training step; what runs again, over its forward pass)",
        WIDTH,
    )


def _elsewhere(found: Segments) -> str:
    """Name the cuts with a place above, where this one has none."""
    every = Checkpoints(every=1)
    cuts = [
        str(cut) if cut >= 0 else "input"
        for cut in found.workload.cuts
        if every.places(found.workload, found.workload.cut_layer(cut))
    ]
    if found.places or not cuts:
        return ""
    return wrapped(f"A lower cut leaves more to split: --cut {', '.join(cuts)}.", WIDTH)


def _beside(found: Segments, beside: Beside) -> str:
    """Say what the RAM peak of ``dse estimate`` has in addition."""
    label = "RAM peak of `dse estimate`"
    if not beside.board:
        said = f"new samples with their labels: {beside.new_bytes:,} B for this plan"
        more = "; with --board, also replays and weights that lie in its RAM" if found.plan.n_replays else ""
        return wrapped(f"Beside the training step, in the {label}, stand {said}{more}.", WIDTH)
    parts = {
        "new samples": beside.new_bytes, "replays": beside.replay_bytes, "weights": beside.weight_bytes
    }  # fmt: skip
    said = ", ".join(f"{name} {size:,} B" for name, size in parts.items() if size) or "nothing"
    split = found.chosen or found.splits[-1]
    total = f"{_decision(split)} has a {label} of {split.peak_bytes + beside.ram_bytes:,} B"
    return wrapped(f"Beside the training step in the RAM of {beside.board}: {said}. {total}.", WIDTH)


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


def _answer(found: Segments, given: str) -> str:
    if found.budget_bytes is None:
        return ""
    parts = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", given)
    budget = f"{parts[1]} {parts[2] or 'B'}" if parts else human_bytes(found.budget_bytes)
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
