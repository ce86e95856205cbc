"""Everything that a benchmark folder holds, and the folder itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dse.calibrate.bench.cases import Case, Setting, cases_of
from dse.calibrate.bench.choice import ByHand, Chosen
from dse.calibrate.bench.readme import readme
from dse.calibrate.bench.source import (
    CASES,
    CORES,
    SHARED,
    TEMPLATE,
    cases_text,
    makefile,
    shared_text,
    template_csv,
)
from dse.errors import Problem, UserError
from dse.files import atomic_folder
from dse.hardware import HardwareProfile

MAKEFILE: Final = "Makefile"
README: Final = "README.md"


@dataclass(frozen=True)
class Benchmarks:
    """The numbers that are to be measured, how, and what a program cannot measure.

    ``title`` names board, network and operating point; ``board`` is what the user calls the board.
    """

    title: str
    board: str
    core: str
    clock_hz: float
    chosen: tuple[Chosen, ...]
    by_hand: tuple[ByHand, ...]
    cases: tuple[Case, ...]

    def files(self) -> dict[str, str]:
        """Return name -> text of every file; equal inputs give equal texts."""
        own = {
            CASES: cases_text(self.cases, self.title),
            TEMPLATE: template_csv(self.cases, self.title),
            MAKEFILE: makefile(self.core, self.clock_hz),
            README: readme(self.title, self.board, self.core, self.chosen, self.by_hand, self.cases),
        }
        return own | {name: shared_text(name) for name in SHARED}


def require_core(board: HardwareProfile) -> None:
    """Raise UserError where no benchmark is written for the core of ``board``."""
    if board.core not in CORES:
        allowed = (
            f"one of {', '.join(CORES)}; time kernels with your vendor's tools and give them to "
            "`dse hw calibrate`: its --template kernels shows the form"
        )
        raise UserError(Problem(board.label, "core", f"no benchmark is written for {board.core}", allowed))


def benchmarks(
    setting: Setting, network: str, board: str, chosen: tuple[Chosen, ...], by_hand: tuple[ByHand, ...]
) -> Benchmarks:
    """Return the benchmarks of the chosen numbers. Raises UserError where there is nothing to measure."""
    if not chosen:
        found = "no number that a program can measure moves the results of this plan"
        raise UserError(Problem(setting.board.label, "", found, "see `dse estimate` for what does"))
    point = setting.board.operating_point(setting.point)
    return Benchmarks(
        title=f"{setting.board.label}, {network}, {setting.point}", board=board, core=setting.board.core,
        clock_hz=point.clock_hz.value, chosen=chosen, by_hand=by_hand, cases=cases_of(setting, chosen),
    )  # fmt: skip


def write_folder(found: Benchmarks, folder: Path) -> tuple[str, ...]:
    """Write every file into ``folder``, complete or not at all; what else is in it is kept."""
    texts = found.files()
    with atomic_folder(folder) as partial:
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8", newline="\n")
    return tuple(sorted(texts))
