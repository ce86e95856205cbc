"""``dse reproduce``: the model beside published figures."""

from __future__ import annotations

from typing import Annotated

import typer


def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="A study; without it, all are listed.", show_default=False)
    ] = None,
    csv: Annotated[
        str | None, typer.Option(help="Write the rows to this file as well.", metavar="FILE")
    ] = None,
) -> int:
    """Set the model beside the figures of a published study.

    Each row says its kind of evidence, whether it was used to calibrate, and what a null model answers.
    Exit code 1 when a stated bound is missed.
    """
    from pathlib import Path

    from dse.files import atomic_path, require_writable_file
    from dse.report.reproduction import reproduction_text
    from dse.reproduce import REPRODUCTIONS
    from dse.reproduce import reproduce as reproduced

    if name is None:
        print("\n".join(REPRODUCTIONS))
        return 0
    target = None if csv is None else require_writable_file(Path(csv))
    found = reproduced(name)
    if target is not None:
        with atomic_path(target) as partial:
            found.to_frame().to_csv(partial, index=False, lineterminator="\n")
    print(reproduction_text(found))
    return 1 if found.missed else 0
