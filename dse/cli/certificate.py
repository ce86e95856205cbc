"""``dse plan`` and ``dse certify``: the memory map of a point of a run, or of any plan, as a certificate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dse.cli.options import Board, Network, Plan, Preset, with_decisions

Alignment = Annotated[int, typer.Option(help="Bytes that every offset is a multiple of, a power of two; "
    "TensorFlow Lite Micro needs 16.", metavar="BYTES")]  # fmt: skip
Exact = Annotated[bool | None, typer.Option("--exact/--heuristic", show_default=False, help="Improve and "
    "prove the placement by a solver (extra 'arena'); without either, where it is installed.")]  # fmt: skip
Execute = Annotated[bool, typer.Option("--execute/--no-execute",
    help="Run one mini-batch and one inference inside the arenas.")]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Of the placement and of the numbers that are executed.")]


def plan(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of an exploration below --out.",
        show_default=False)],
    point: Annotated[str, typer.Option(help="'best' (in the first objective), a name that the report uses, "
        "such as balanced or smallest, or the number of a design.", metavar="POINT")] = "best",
    board: Annotated[str, typer.Option(help="Whose front, where several boards have one.",
        metavar="LABEL", show_default=False)] = "",
    alignment: Alignment = 4,
    exact: Exact = None,
    execute: Execute = True,
    seed: Seed = 0,
    to: Annotated[str | None, typer.Option(help="Folder for the certificate; else plan-POINT in the run "
        "folder.", metavar="DIR", show_default=False)] = None,
    out: Annotated[str, typer.Option(help="Where run folders are.", metavar="DIR")] = "runs",
) -> int:  # fmt: skip
    """Write the certificate of a plan that a run found: a memory map that is checked and executed.

    memory_map.csv (MiniMalloc's columns, then offset, role and level), a figure, a C header with static
    assertions, the offline plan for TensorFlow Lite Micro, and what makes the peak. Exit code 1 when the map
    does not fit or does not hold.
    """
    from dse.api.certificate import certify_meant, point_of
    from dse.cli.progress import stages
    from dse.report.certificate import certificate_folder

    meant = point_of(run, out, point, board)
    folder = str(meant.place) if to is None else to
    certificate_folder(folder)  # before the work
    with stages("operations") as shown:
        found = certify_meant(
            meant, alignment=alignment, exact=_exact(exact), execute=execute, seed=seed, stages=shown
        )
    return _write(found.certificate, folder)


@with_decisions
def certify(
    network: Network,
    board: Board,
    plan: Plan = None,
    preset: Preset = "default",
    alignment: Alignment = 4,
    exact: Exact = None,
    execute: Execute = True,
    seed: Seed = 0,
    to: Annotated[str, typer.Option(help="Folder for the certificate.", metavar="DIR")] = "certificate",
    *,
    decisions: Any,
) -> int:
    """Write the certificate of any plan; see ``dse plan`` for what it holds."""
    import dse
    from dse.cli.progress import stages
    from dse.report.certificate import certificate_folder

    certificate_folder(to)  # before the work
    with stages("operations") as shown:
        found = dse.certify(
            network, board, plan, preset=preset, alignment=alignment, exact=_exact(exact), execute=execute,
            seed=seed, stages=shown, **decisions,
        )  # fmt: skip
    return _write(found, to)


def _exact(wanted: bool | None) -> bool:
    from importlib.util import find_spec

    return find_spec("ortools") is not None if wanted is None else wanted


def _write(certificate: Any, folder: str) -> int:
    from dse.report.certificate import certificate_text, write_certificate

    files = write_certificate(certificate, folder)
    print(certificate_text(certificate, files))
    print(f"\n{folder}")
    return 0 if certificate.holds else 1
