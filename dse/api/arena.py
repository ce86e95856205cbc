"""Placing buffers in an arena, from Python: offsets for a file or a list of buffers, and their check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dse.cost.arena import Arena, ArenaBuffer, BufferTable, CheckedArena, checked, place, read_buffers
from dse.errors import Problem, UserError
from dse.files import atomic_path, require_writable_file


def place_buffers(
    buffers: str | Path | Sequence[ArenaBuffer],
    *,
    capacity_bytes: int | None = None,
    exact: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
) -> Arena:
    """Return offsets for ``buffers`` in as small an arena as can be found; the same input gives the same map.

    Parameters
    ----------
    buffers: the path of a CSV file in MiniMalloc's format (columns id, lower, upper, size), or buffers.
    capacity_bytes: the arena may not be larger [B].
    exact: let CP-SAT (extra ``arena``) improve what the heuristic leaves above the bound, or prove it best;
        with a capacity only where the heuristic finds no placement within it.
    seed: of the searches.
    out: a CSV file to write the offsets to, complete or not at all; only where ``buffers`` is a file.

    Raises UserError with every problem of the file, ArenaTooSmall (a NothingFits) with the missing bytes
    and the buffers in conflict.

    """
    if isinstance(buffers, str | Path):
        target = None if out is None else require_writable_file(Path(out))
        table = _of_one_level(read_buffers(buffers))
        arena = place(table.buffers, capacity_bytes=capacity_bytes, exact=exact, seed=seed)
        if target is not None:
            _write(table, arena, target)
        return arena
    if out is not None:
        raise UserError(Problem("arena", "out", str(out), "only where the buffers come from a file"))
    return place(buffers, capacity_bytes=capacity_bytes, exact=exact, seed=seed)


def check_offsets(file: str | Path, *, capacity_bytes: int | None = None) -> CheckedArena:
    """Return what is wrong with the offsets in ``file``, by a checker that shares no code with ``place``.

    The arena is ``capacity_bytes`` [B], or as large as the offsets reach. Raises UserError with every
    problem of the file, missing offsets included.
    """
    table = _of_one_level(read_buffers(file))
    return checked(table.buffers, table.given_offsets(), capacity_bytes=capacity_bytes)


def _of_one_level(table: BufferTable) -> BufferTable:
    """Return ``table``; raise UserError where its buffers lie in several memories."""
    levels = dict.fromkeys(row.get("level", "") for row in table.rows)
    if len(levels) > 1:
        found = f"several levels: {', '.join(repr(level) for level in levels)}"
        raise UserError(Problem(table.file, "column 'level'", found[:200], "one level per file: one arena"))
    return table


def _write(table: BufferTable, arena: Arena, target: Path) -> None:
    with atomic_path(target) as partial:
        partial.write_text(table.text(arena.offsets), encoding="utf-8", newline="")
