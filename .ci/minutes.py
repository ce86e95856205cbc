"""Minutes that each stage of the last ``.ci/run`` took.

``show`` prints them, ``record`` adds them to docs/ci.md.
"""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "build" / "ci-minutes.tsv"
PAGE = ROOT / "docs" / "ci.md"
STAGES = ("set-up", "lint", "types", "wheel", "test")
HEADER = "| date (UTC) | machine | " + " | ".join(STAGES) + " | total | result |"
RULE = "|---|---|" + "---:|" * (len(STAGES) + 1) + "---|"


def read_log(text: str) -> dict[str, tuple[float, float, str]]:
    """Stage -> (began, ended, result), times in seconds since the epoch."""
    rows = (line.split("\t") for line in text.splitlines() if line)
    return {name: (float(began), float(ended), result) for name, began, ended, result in rows}


def row(log: dict[str, tuple[float, float, str]]) -> str:
    """One line of the table: minutes per stage, ``-`` for a stage that did not run."""
    took = {name: (ended - began) / 60 for name, (began, ended, _) in log.items()}
    date = datetime.fromtimestamp(min(began for began, _, _ in log.values()), UTC).strftime("%Y-%m-%d %H:%M")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    cells = [f"{took[name]:.2f}" if name in took else "-" for name in STAGES]
    failed = [name for name, (_, _, result) in log.items() if result != "ok"]
    result = "failed: " + ", ".join(failed) if failed else "ok"
    return f"| {date} | {machine} | {' | '.join(cells)} | {sum(took.values()):.2f} | {result} |"


def with_row(page: str, line: str) -> str:
    """Return ``page`` with ``line`` as the last row of its table; the table is made when it is missing."""
    if HEADER not in page:
        return f"{page.rstrip()}\n\n{HEADER}\n{RULE}\n{line}\n"
    before, after = page.split(HEADER, 1)
    lines = after.splitlines()
    end = next((i for i, text in enumerate(lines) if i and not text.startswith("|")), len(lines))
    return before + HEADER + "\n".join([*lines[:end], line, *lines[end:]]) + "\n"


def main(arguments: list[str]) -> int:
    """Run one of the two commands; 2 when it is neither, or when no run has been logged."""
    if arguments not in (["show"], ["record"]):
        print("usage: minutes.py show | record", file=sys.stderr)
        return 2
    log = read_log(LOG.read_text(encoding="utf-8")) if LOG.exists() else {}
    if not log:
        print(f"{LOG.relative_to(ROOT)} has no stage: run .ci/run first", file=sys.stderr)
        return 2
    line = row(log)
    if arguments == ["show"]:
        print(f"Minutes per stage:\n\n{HEADER}\n{RULE}\n{line}")
    else:
        PAGE.write_text(with_row(PAGE.read_text(encoding="utf-8"), line), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
