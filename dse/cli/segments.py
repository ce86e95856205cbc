"""``dse checkpoints``: where to split a learning stage, for a memory, at the least work."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dse.cli import options
from dse.cli.progress import progress


@options.with_decisions
def checkpoints(
    network: options.Network,
    budget: Annotated[str | None, typer.Option(help="Memory of the training step, without the samples "
        "beside it: bytes, or a number with KiB or MiB behind it, such as 64KiB.", metavar="SIZE",
        show_default=False)] = None,
    board: Annotated[str | None, typer.Option(help="Kernels have the workspace of this board's libraries; "
        "without it, none.", metavar="BOARD", show_default=False)] = None,
    plan: options.Plan = None,
    *,
    decisions: Any,
) -> int:  # fmt: skip
    """Find where to split the learning stage into segments that run forward again before their backward pass.

    Exact: every split that no other one beats in peak and recomputed work, and the one of least work within
    a budget. The texts it prints go into a plan, as the decision checkpoints.

    Exit code 1 when no split fits into the budget.
    """
    import dse
    from dse.api.checkpoints import beside_of
    from dse.report.segments import segments_text

    with progress("segments", "schedules") as shown:
        found = dse.segments(network, plan, budget=budget, board=board, progress=shown, **decisions)
    print(segments_text(found, beside_of(found, board), budget or ""))
    return 1 if budget is not None and found.chosen is None else 0
