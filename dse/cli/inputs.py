"""What commands check before any work: files that are to be written, and the duty cycle."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def duty_of(events_per_day: float, inferences_per_day: float, capture_ms: float, capture_mj: float) -> Any:
    """Return the duty cycle of a command line; raises UserError with every problem."""
    from math import isfinite

    import dse
    from dse.errors import Problem, UserError

    given = {
        "--events-per-day": events_per_day, "--inferences-per-day": inferences_per_day,
        "--capture-ms": capture_ms, "--capture-mj": capture_mj,
    }  # fmt: skip
    problems = [
        Problem("option", name, f"{value}", "a finite number of at least 0")
        for name, value in given.items()
        if not isfinite(value) or value < 0
    ]
    if not problems and events_per_day == 0:
        problems = [Problem("option", "--events-per-day", "0", "a finite number above 0")]
    if problems:
        raise UserError(problems)
    return dse.Duty(events_per_day, inferences_per_day, capture_ms / 1e3, capture_mj / 1e3)


def writable(name: str | None, endings: tuple[str, ...] = ()) -> Path | None:
    """Return the path, after making sure before any work that it can be written."""
    from dse.errors import Problem, UserError
    from dse.files import require_writable_file

    if name is None:
        return None
    path = Path(name)
    if endings and path.suffix not in endings:
        raise UserError(Problem(name, "", f"ending {path.suffix!r}", f"one of {', '.join(endings)}"))
    return require_writable_file(path)


def write_csv(path: Path, frame: Any) -> None:
    """Write a DataFrame as CSV, whole or not at all."""
    from dse.files import atomic_path

    with atomic_path(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")
