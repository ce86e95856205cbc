"""``dse explore`` and ``dse sweep``: many plans."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dse.cli.options import Accept
from dse.cli.progress import progress

if TYPE_CHECKING:
    from pathlib import Path

    from dse.search import SearchResult
    from dse.search import Space as LoadedSpace

Space = Annotated[str, typer.Argument(help="A space: a TOML file, or a name of `dse explore --list`.",
    show_default=False, metavar="FILE|NAME")]  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """Options that make a space for a network; those that were not given are None or empty."""

    boards: tuple[str, ...]
    classes: int | None
    budgets: Mapping[str, float | None]
    duty: Mapping[str, float | None]
    accept: tuple[str, ...]
    task: str | None

    def network(self) -> dict[str, Any]:
        """Return the arguments of ``network_space``."""
        from dse.search.quick import BUDGETS

        budgets = {BUDGETS[name]: value for name, value in self.budgets.items() if value is not None}
        duty = {name[2:].replace("-", "_"): value for name, value in self.duty.items() if value is not None}
        return {
            "boards": self.boards, "classes": self.classes, "budgets": budgets, "duty": duty,
            "accept": self.accept, "task": self.task,
        }  # fmt: skip

    def require_space(self, *, alone: bool) -> None:
        """Raise UserError where an option goes with a network, and a space was given (or nothing)."""
        from dse.errors import Problem, UserError

        given: dict[str, Any] = {
            "--board": self.boards or None, "--classes": self.classes, **self.budgets, **self.duty,
            "--task": self.task, "--accept": (alone and self.accept) or None,
        }  # fmt: skip
        problems = [
            Problem("option", name, "goes with a network", "a space file says this itself")
            for name, value in given.items()
            if value is not None
        ]
        if problems:
            raise UserError(problems)


def explore(
    space: Annotated[str | None, typer.Argument(help="A space: a TOML file, or a name of --list. Without it, "
        "those of a newcomer are explored one after the other.", show_default=False)] = None,
    out: Annotated[str, typer.Option(help="The run folder is made in this folder.", metavar="DIR")] = "runs",
    method: Annotated[str, typer.Option(help="auto, exact, nsga2, tpe or random; else as the space says.",
        metavar="NAME", show_default=False)] = "",
    seed: Annotated[int | None, typer.Option(help="Of what is sampled.", show_default=False)] = None,
    trials: Annotated[int | None, typer.Option(help="Sampled, by board.", show_default=False)] = None,
    runs: Annotated[int | None, typer.Option(help="Training runs, where accuracy is measured.",
        show_default=False)] = None,
    workers: Annotated[int, typer.Option("--jobs", help="Training processes; 0: one per core.")] = 0,
    storage: Annotated[str, typer.Option(help="Where training runs live as trials: journal (a file in the "
        "run folder), memory, or an Optuna storage URL.", metavar="WHERE")] = "journal",
    designs: Annotated[str, typer.Option(help="What goes into designs.parquet: feasible, all or none.",
        metavar="WORD")] = "feasible",
    listed: Annotated[bool, typer.Option("--list", help="List the spaces that come along.")] = False,
    accept: Accept = None,
    board: Annotated[list[str] | None, typer.Option(help="With a network: a board with its parts; once per "
        "board.", metavar="BOARD", show_default=False)] = None,
    classes: Annotated[int | None, typer.Option(help="With a network: its outputs.",
        show_default=False)] = None,
    ram_kib: Annotated[float | None, typer.Option(help="With a network: most RAM.",
        metavar="KIB", show_default=False)] = None,
    flash_kib: Annotated[float | None, typer.Option(help="With a network: most non-volatile memory.",
        metavar="KIB", show_default=False)] = None,
    event_s: Annotated[float | None, typer.Option(help="With a network: longest learning event.",
        metavar="S", show_default=False)] = None,
    event_j: Annotated[float | None, typer.Option(help="With a network: most energy of a learning event.",
        metavar="J", show_default=False)] = None,
    battery_days: Annotated[float | None, typer.Option(help="With a network: shortest battery life.",
        metavar="DAYS", show_default=False)] = None,
    events_per_day: Annotated[float | None, typer.Option(help="With a network: learning events per "
        "day; else 1.", metavar="NUMBER", show_default=False)] = None,
    inferences_per_day: Annotated[float | None, typer.Option(help="With a network: inferences per day; "
        "else none.", metavar="NUMBER", show_default=False)] = None,
    task: Annotated[str | None, typer.Option(help="With a network: measure accuracy by training on the task "
        "of this TOML file.", metavar="FILE", show_default=False)] = None,
) -> int:  # fmt: skip
    """Find the designs of a space that no other beats; write a report.

    Given a network and --board, a space is made from options: choices that suit small boards, within the
    budgets. The run folder holds it as space.toml, to be edited.

    Exit code 1 when nothing fits anywhere.
    """
    from dse.api import explorations

    if listed:
        for name in explorations.list_explorations():
            print(name)
        return 0
    budgets = {
        "--ram-kib": ram_kib, "--flash-kib": flash_kib, "--event-s": event_s, "--event-j": event_j,
        "--battery-days": battery_days,
    }  # fmt: skip
    duty = {"--events-per-day": events_per_day, "--inferences-per-day": inferences_per_day}
    asked = Asked(tuple(board or ()), classes, budgets, duty, tuple(accept or ()), task)
    spaces = spaces_of(space, asked)
    if runs is not None and len(spaces) > 1:
        spaces = [
            explorations.with_settings(each, None, None, runs if each.measure else None) for each in spaces
        ]
        runs = None
    spaces = [explorations.with_settings(each, seed, trials, runs) for each in spaces]
    for each in spaces:
        if each.made and each.measure is None:
            from dse.search.quick import fixed_text

            print(f"{each.name}: {fixed_text()}\n")
    folders = [explorations.run_folder(each, out, method=method, designs=designs) for each in spaces]
    training = {"workers": workers, "storage": storage}
    fits = False
    for each, folder in zip(spaces, folders, strict=True):
        found = _explored(each, method, designs, folder, training)
        fits = fits or not found.nothing_fits
    return 0 if fits else 1


def spaces_of(space: str | None, asked: Asked) -> list[LoadedSpace]:
    """Return the spaces that are meant: those of a newcomer, a space, or one made for a network."""
    from dse.api import explorations
    from dse.api.quick import is_network, network_space

    if space is not None and is_network(space):
        return [network_space(space, **asked.network())]
    asked.require_space(alone=space is None)
    if space is None:
        return [explorations.load_space(name) for name in possible(explorations.DEFAULT)]
    return [explorations.load_space(space, accept=asked.accept)]


def possible(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the explorations that can be done here, and say why one cannot."""
    from dse.api.explorations import MEASURED_DEFAULT
    from dse.api.measured import missing
    from dse.training import EXTRA

    if not missing():
        return names
    print(f"{MEASURED_DEFAULT}: left out, not installed: {missing()}; {EXTRA}\n")
    return tuple(name for name in names if name != MEASURED_DEFAULT)


def _explored(space: Any, method: str, designs: str, folder: Path, training: dict[str, Any]) -> SearchResult:
    """Search one space, write its folder, and show what was found."""
    import dse
    from dse.report.document import Stopwatch, write_run
    from dse.report.outcome import outcome_text

    watch = Stopwatch()
    with _stages(space.name) as stages:
        found = dse.explore(space, method=method, folder=folder, stages=stages, **training)
    watch.stage("search")
    print(outcome_text(found))
    sys.stdout.flush()
    with _stages(space.name) as stages:
        write_run(found, folder, designs=designs, progress=stages, watch=watch)
    print(f"\n{folder}/report.md")
    if space.made:
        print(f"{folder}/space.toml: the space that was made; edit it and explore it again")
    print()
    return found


UNITS: Final = {
    "searching": "designs", "pricing": "designs", "designs": "designs", "rates": "runs", "training": "runs",
}  # fmt: skip
"""Stage -> what its progress counts; boards otherwise."""


@contextmanager
def _stages(name: str) -> Iterator[Any]:
    """Show the stages of writing one after the other."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def stage(what: str) -> Any:
            stack.pop_all().close()
            unit = UNITS.get(what, "boards")
            return stack.enter_context(progress(f"{name}: {what}", unit))

        yield stage


def sweep(
    space: Space,
    out: Annotated[str, typer.Option(help="The file to write: .csv or .parquet.", metavar="FILE")],
    feasible: Annotated[
        bool, typer.Option("--feasible", help="Leave out designs that a budget rejects.")
    ] = False,
) -> int:
    """Price every design of a space into a table.

    The column "status" says which are feasible, and which budget rejects the others.
    """
    import dse

    with progress("sweeping") as step:
        done = dse.sweep(space, out, feasible_only=feasible, progress=step)
    print(f"{done.count:,} designs in {out}")
    return 0
