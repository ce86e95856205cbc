"""``dse explore`` and ``dse sweep``: many plans."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dse.cli.progress import progress

if TYPE_CHECKING:
    from pathlib import Path

    from dse.search import SearchResult

Space = Annotated[str, typer.Argument(help="A space: a TOML file, or a name of `dse explore --list`.",
    show_default=False, metavar="FILE|NAME")]  # fmt: skip


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
) -> int:  # fmt: skip
    """Find the designs of a space that no other beats; write a report.

    Exit code 1 when nothing fits anywhere.
    """
    from dse.api import explorations

    if listed:
        for name in explorations.list_explorations():
            print(name)
        return 0
    names = possible(explorations.DEFAULT) if space is None else (space,)
    spaces = [explorations.load_space(name) for name in names]
    if runs is not None and len(spaces) > 1:
        spaces = [
            explorations.with_settings(each, None, None, runs if each.measure else None) for each in spaces
        ]
        runs = None
    spaces = [explorations.with_settings(each, seed, trials, runs) for each in spaces]
    folders = [explorations.run_folder(each, out, method=method, designs=designs) for each in spaces]
    training = {"workers": workers, "storage": storage}
    fits = False
    for each, folder in zip(spaces, folders, strict=True):
        found = _explored(each, method, designs, folder, training)
        fits = fits or not found.nothing_fits
    return 0 if fits else 1


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
    print(f"\n{folder}/report.md\n")
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
