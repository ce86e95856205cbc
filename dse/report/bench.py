"""What a benchmark folder measures and what is left to measure by hand, as text."""

from __future__ import annotations

from collections.abc import Sequence

from dse.calibrate.bench import Benchmarks
from dse.calibrate.bench.readme import by_hand_lines, chosen_lines
from dse.report.text import plural, wrapped


def bench_text(found: Benchmarks, folder: str, files: Sequence[str]) -> str:
    """Return what is measured, in order of influence, and what no program can measure."""
    lines = [f"{found.title}: {plural(len(found.chosen), 'number')} to measure"]
    for place, line in enumerate(chosen_lines(found.chosen, found.cases), 1):
        lines.append(wrapped(f"{place}. {line}"))
    if found.by_hand:
        lines += ["", "by hand; no program measures them:"]
        for line in by_hand_lines(found.by_hand):
            lines.append(wrapped(f"- {line}"))
    lines += ["", f"{folder}: {', '.join(files)}", f"next: {folder}/README.md"]
    return "\n".join(lines)
