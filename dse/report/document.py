"""The folder that a run leaves behind: tables, figures, a report, and what it was made from.

All files but ``timing.json`` are the same bytes for the same inputs and versions (see ``dse.report.inputs``
for one more where a task names data of the user).
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from dse.files import atomic_folder, merged_folder
from dse.report.board_report import BoardReport, board_report
from dse.report.designs import Chunk, DesignWriter, design_chunks, design_schema, sampled_values
from dse.report.inputs import write_inputs
from dse.report.provenance import file_hashes, provenance
from dse.report.runs import RUNS, write_runs
from dse.report.summary import completeness, report_text
from dse.search.result import BoardResult, SearchResult
from dse.search.space import Space

DESIGNS: Final = ("feasible", "all", "none")
"""Which designs go into designs.parquet."""

Progress = Callable[[str], Callable[[int, int], None]]
"""Given what is being done, returns what is to be called with (done, in all)."""


@dataclass
class Stopwatch:
    """Seconds that each stage of a run took."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def stage(self, name: str) -> None:
        """Book the time since the last stage under ``name``."""
        now = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.began
        self.began = now


def folder_name(space: Space, method: str, seed: int, trials: int, designs: str) -> str:
    """Return ``<name>-<hash of everything that determines the content>``."""
    from dse import __version__

    content = [space.content_hash, space.name, method, seed, trials, designs, __version__]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
    return f"{slug(space.name)}-{digest}"


def slug(name: str) -> str:
    """Return ``name`` as part of a file name.

    >>> slug("vega + hyperram-64")
    'vega-hyperram-64'
    """
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "run"


def write_run(
    found: SearchResult,
    folder: Path,
    *,
    designs: str = "feasible",
    progress: Progress | None = None,
    watch: Stopwatch | None = None,
) -> Path:
    """Write everything that is known about a search into ``folder``, which appears complete or not at all.

    Where training runs are behind it, the folder is there before; then run.json comes last.

    Parameters
    ----------
    found: what a search returned.
    folder: is replaced where it exists; the one above it must exist.
    designs: which designs go into designs.parquet, one of ``DESIGNS``. Sampled searches write none.
    progress: receives each long stage by name.
    watch: stages that were timed before; those of writing are added.

    """
    say = progress or (lambda _: lambda done, total: None)
    watch = watch or Stopwatch()
    with _filled(found, folder) as partial:
        _front(found, partial / "front.csv")
        if found.measurement is not None:
            write_runs(found.space, found.measurement, partial / RUNS)
        write_inputs(found.space, partial)
        others, written = _designs(found, partial, designs, say("designs"))
        watch.stage("designs")
        reports = _board_reports(found, say("intervals"))
        watch.stage("intervals")
        figures = _figures(found, reports, others, partial, say("figures"))
        watch.stage("figures")
        (partial / "report.md").write_text(
            report_text(found, reports, figures), encoding="utf-8", newline="\n"
        )
        _write_json(partial / "run.json", provenance(found, written, file_hashes(partial)))
        watch.stage("report")
        _write_json(partial / "timing.json", {"seconds": watch.seconds})
    return folder


def _filled(found: SearchResult, folder: Path) -> AbstractContextManager[Path]:
    """Return what fills ``folder``; one with training runs is shared with processes that still train."""
    return atomic_folder(folder) if found.measurement is None else merged_folder(folder, last="run.json")


def _front(found: SearchResult, path: Path) -> None:
    """Write the fronts of all boards; where there is none, the names of the columns that every front has."""
    import pandas as pd

    frame = found.to_frame()
    if frame.empty:
        frame = pd.DataFrame(columns=design_schema(found.space).names)
    frame.to_csv(path, index=False, lineterminator="\n")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def _designs(
    found: SearchResult, folder: Path, which: str, step: Callable[[int, int], None]
) -> tuple[dict[int, Any], dict[str, Any]]:
    """Write designs.parquet; returns the designs that figures show, by board, and what was written."""
    if not found.complete or which == "none":
        reason = "left out on request" if found.complete else "a sampled search does not keep its designs"
        return {}, {"file": None, "rows": 0, "which": which, "note": reason}
    space = found.space
    feasible = {number: result.counts.feasible for number, result in enumerate(found.boards)}
    writer = DesignWriter(space, folder / "designs.parquet")
    try:
        others = sampled_values(feasible, _written(space, writer, which, step))
    finally:
        writer.close()
    return others, {"file": "designs.parquet", "rows": writer.count, "which": which}


def _written(
    space: Space, writer: DesignWriter, which: str, step: Callable[[int, int], None]
) -> Iterator[tuple[int, Chunk]]:
    for board in range(len(space.boards)):
        for chunk in design_chunks(space, board, everything=which == "all"):
            writer.add(chunk)
            yield board, chunk
            step(chunk.last, space.size)


def _board_reports(found: SearchResult, step: Callable[[int, int], None]) -> list[BoardReport]:
    reports = []
    for number in range(len(found.boards)):
        reports.append(board_report(found, number))
        step(number + 1, len(found.boards))
    return reports


def _subtitle(found: SearchResult, result: BoardResult) -> str:
    """Say how many designs of this board were priced and how many of them are feasible."""
    return f"{completeness(replace(found, boards=(result,)))}; {result.counts.feasible:,} feasible designs"


def _figures(
    found: SearchResult, reports: list[BoardReport], others: Mapping[int, Any], folder: Path,
    step: Callable[[int, int], None],
) -> dict[str, list[str]]:  # fmt: skip
    """Draw every board that has a front; returns the stems of its figures."""
    import numpy as np

    from dse.report import figures as draw
    from dse.report.bar_info import energy_info, memory_info, unit_info
    from dse.report.front_info import front_info

    (folder / "figures").mkdir()
    names: dict[str, list[str]] = {}
    for number, report in enumerate(reports):
        if not report.named:
            continue
        board = report.result.board
        beaten = others.get(number, np.zeros((0, len(found.space.objectives))))
        units = [unit_info(label.replace("\n", ", "), plan) for label, plan in report.labels.items()]
        drawn = {
            "front": draw.front_figure(
                front_info(
                    report.result,
                    beaten,
                    f"{found.space.name}: {board}",
                    _subtitle(found, report.result),
                )
            ),
            "memory": draw.memory_figure(memory_info(f"Memory at the peak: {board}", report.labels)),
            "energy": draw.cause_figure(
                energy_info(f"Energy of one learning event by cause: {board}", report.labels)
            ),
            "latency": draw.units_figure(units, f"Time of one learning event by unit and pass: {board}"),
        }
        names[board] = [f"{slug(board)}-{what}" for what in drawn]
        for name, figure in zip(names[board], drawn.values(), strict=True):
            draw.save_all(figure, folder / "figures" / name)
        step(number + 1, len(reports))
    return names
