"""What stands behind a price by the user's word alone: accepted operations, their share and their bound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dse.cost.acceptance import FROZEN_DTYPES, accepted_shares
from dse.cost.context import Context
from dse.hardware import HardwareProfile
from dse.report import text
from dse.search.space import Space
from dse.workload import Workload

SCRATCH = "What such kernels need in scratch memory is not known and not counted, but for recurrent state."


def accepted_lines(board: HardwareProfile, workload: Workload, dtypes: Iterable[str] = ()) -> tuple[str, ...]:
    """Return one line per accepted operation of ``workload``, of some dtypes where these are given."""
    return tuple(share.text for share in accepted_shares(board, workload, dtypes))


def accepted_text(context: Context, frozen_bits: int) -> str:
    """Write what was accepted, for the dtype of the frozen stage; empty where nothing was."""
    lines = accepted_lines(context.board, context.workload, (FROZEN_DTYPES[frozen_bits],))
    if not lines:
        return ""
    listed = [text.wrapped(line, 108, "  ") for line in lines]
    return "\n".join([f"accepted without a figure of {context.board.label}:", *listed, SCRATCH])


def accepted_section(space: Space) -> Iterator[str]:
    """Yield the accepted operations of a space as Markdown; nothing where nothing was accepted."""
    networks = tuple(zip(space.network_names, space.networks, strict=True))
    dtypes = [FROZEN_DTYPES[bits] for bits in space.choices.values["frozen_bits"]]
    lines = [
        f"- {board.label}, {name}: {line}"
        for board in space.boards
        for name, workload in networks
        for line in accepted_lines(board, workload, dtypes)
    ]
    if lines:
        yield "## Accepted prices"
        yield "Bounds that the user accepted where a board has no figure; intervals carry them."
        yield "\n".join(lines)
        yield SCRATCH
