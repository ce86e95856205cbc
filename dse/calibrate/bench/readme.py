"""The page of a benchmark folder: what is measured and why, how to run it, what to measure by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from dse.calibrate.bench.cases import Case
from dse.calibrate.bench.choice import RESULTS, ByHand, Chosen
from dse.calibrate.bench.source import shared_text
from dse.cost.intervals import Influence

SHORT: Final[Mapping[str, str]] = {"event_s": "time", "event_j": "energy", "lifetime_s": "battery life"}


def span(influence: Influence) -> str:
    """Return what a number does to time, energy and battery life, in percent."""
    parts = []
    for name in RESULTS:
        change = 100.0 * float(abs(influence.change[name]).mean())
        if change >= 0.05:
            parts.append(f"{SHORT[name]} {change:.3g} %")
    return ", ".join(parts) or "less than 0.05 %"


def chosen_lines(chosen: Sequence[Chosen], cases: Sequence[Case]) -> Iterator[str]:
    """Yield a line per number that is measured, most influential first."""
    for each in chosen:
        paths = [subject.path for subject in each.subjects]
        names = [case.name for case in cases if set(case.paths) & set(paths)]
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        yield f"{paths[0]}{more}: moves {span(each.influence)}; measured by {', '.join(names)}"


def by_hand_lines(by_hand: Sequence[ByHand]) -> Iterator[str]:
    """Yield a line per number that no program measures."""
    for each in by_hand:
        yield f"{each.influence.path}: moves {span(each.influence)}; {each.how}"


def readme(
    title: str,
    board: str,
    core: str,
    chosen: Sequence[Chosen],
    by_hand: Sequence[ByHand],
    cases: Sequence[Case],
) -> str:
    """Return README.md."""
    states = ", ".join(case.state for case in cases if case.kind == "sleep")
    sleep = shared_text("guide_sleep.md").replace("@STATES@", states) + "\n" if states else ""
    guide = shared_text("guide.md").replace("@SLEEP@", sleep).replace("@TIMER@", _timer(core))
    numbers = "\n".join(f"{place}. {line}" for place, line in enumerate(chosen_lines(chosen, cases), 1))
    sections = [f"# Benchmarks: {title}", _WHY, numbers]
    if by_hand:
        sections += ["## By hand", _BY_HAND, "\n".join(f"- {line}" for line in by_hand_lines(by_hand))]
    return "\n\n".join([*sections, guide.replace("@BOARD@", shlex.quote(board))])


def _timer(core: str) -> str:
    if core in ("cortex-m0", "cortex-m0plus"):
        return (
            "This core has no cycle counter in its DWT, so SysTick counts; an interrupt counts its wraps.\n"
            "Where your project has a `SysTick_Handler`, the linker reports two: leave yours out meanwhile.\n"
        )
    return (
        "Cycles come from `DWT->CYCCNT`; where it does not count, the program says so and measures nothing."
    )


_WHY: Final = (
    "These numbers of the board's profile decide how sure time, energy and battery life of this plan are.\n"
    "The percentages say how far a result goes when the number goes from its low to its high."
)
_BY_HAND: Final = (
    "These move the results as much as the ones above, but no small program measures them. Write what you\n"
    "find into the board's file, with `low` and `high`."
)
