"""``dse explore`` and ``dse sweep``: many plans."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

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
    seed: Annotated[int | None, typer.Option(help="Of a sampled search.", show_default=False)] = None,
    trials: Annotated[int | None, typer.Option(help="Sampled, by board.", show_default=False)] = None,
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
    names = explorations.DEFAULT if space is None else (space,)
    spaces = [explorations.with_settings(name, seed, trials) for name in names]
    folders = [explorations.run_folder(each, out, method=method, designs=designs) for each in spaces]
    fits = False
    for each, folder in zip(spaces, folders, strict=True):
        found = _explored(each, method, designs, folder)
        fits = fits or not found.nothing_fits
    return 0 if fits else 1


def _explored(space: Any, method: str, designs: str, folder: Path) -> SearchResult:
    """Search one space, write its folder, and show what was found."""
    import dse
    from dse.report.document import Stopwatch, write_run
    from dse.report.outcome import outcome_text

    watch = Stopwatch()
    with progress(f"{space.name}: searching") as step:
        found = dse.explore(space, method=method, progress=step)
    watch.stage("search")
    print(outcome_text(found))
    sys.stdout.flush()
    with _stages(space.name) as stages:
        write_run(found, folder, designs=designs, progress=stages, watch=watch)
    print(f"\n{folder}/report.md\n")
    return found


@contextmanager
def _stages(name: str) -> Iterator[Any]:
    """Show the stages of writing one after the other."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def stage(what: str) -> Any:
            stack.pop_all().close()
            unit = "designs" if what == "designs" else "boards"
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
