"""``dse study``: grids of plans, trained for real."""

from __future__ import annotations

from typing import Annotated

import typer

from dse.cli.progress import progress


def study(
    name: Annotated[str | None, typer.Argument(help="A study: a TOML file, or a name of --list.",
        show_default=False, metavar="FILE|NAME")] = None,
    data: Annotated[str | None, typer.Option(help="Where the data set lies.", metavar="PATH",
        show_default=False)] = None,
    out: Annotated[str, typer.Option(help="The run folder is made in this folder.", metavar="DIR")] = "runs",
    seeds: Annotated[int | None, typer.Option(help="Else as the study says.", min=1, max=1000,
        show_default=False)] = None,
    jobs: Annotated[int, typer.Option(help="Training processes; 0: one per core.", min=0, max=1024)] = 0,
    listed: Annotated[bool, typer.Option("--list", help="List the studies that come along.")] = False,
) -> int:  # fmt: skip
    """Train every plan of a study with paired seeds and decide its claims.

    Interrupted, it keeps what is complete and goes on from there the next time.
    """
    from dse.api import studies
    from dse.report.study import plan_table, verdict_table

    if listed or name is None:
        for each in studies.list_studies():
            print(each)
        return 0
    with progress(f"{name}: training", "runs") as step:
        result, folder = studies.study(name, out, data=data, seeds=seeds, workers=jobs, progress=step)
    print(plan_table(result.summary()))
    if result.study.claims:
        print()
        print(verdict_table(result.verdicts))
    print(f"\n{folder}/study.md")
    return 0
