"""``dse arena``: offsets for the buffers of a CSV file, or a check of those in it."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from dse.errors import Problem, UserError

_UNITS: Final = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip


def arena(
    file: Annotated[str, typer.Argument(help="Buffers in MiniMalloc's CSV: id, lower, upper, size; optional "
        "alignment, offset.", metavar="FILE.csv", show_default=False)],
    capacity: Annotated[str | None, typer.Option(help="The arena may not be larger: 1048576, 1MiB, 64kB.",
        metavar="SIZE", show_default=False)] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Let OR-tools improve the placement or prove it "
        "best; with a capacity, only find one within it.")] = False,
    seed: Annotated[int, typer.Option(help="Of the searches.", min=0, max=2**31 - 1)] = 0,
    out: Annotated[str | None, typer.Option(help="Write the buffers with their offsets.", metavar="FILE",
        show_default=False)] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the offsets in the file.")] = False,
) -> int:  # fmt: skip
    """Place buffers with lifespans in one arena, or check a placement.

    Says the most live bytes, the lower bound, the arena and what is proven. Exit code 1: no placement within
    the capacity was found, or the offsets to check are wrong.
    """
    from dse.api.arena import check_offsets, place_buffers
    from dse.report.arena import arena_text, checked_text

    capacity_bytes = None if capacity is None else read_bytes(capacity)
    if check:
        if exact or out is not None:
            raise UserError(
                Problem("dse arena", "--check", "with --exact or --out", "checking places nothing")
            )
        result = check_offsets(file, capacity_bytes=capacity_bytes)
        print(checked_text(result, capacity_bytes))
        return 1 if result.violations else 0
    placed = place_buffers(file, capacity_bytes=capacity_bytes, exact=exact, seed=seed, out=out)
    print(arena_text(placed, capacity_bytes))
    if out is not None:
        print(f"\n{out}")
    return 0


def read_bytes(text: str) -> int:
    """Return a size [B]: a number alone, or with B, kB, MB, GB (powers of 1000) or KiB, MiB, GiB (of 1024).

    >>> read_bytes("1.5 KiB")
    1536
    """
    match = re.fullmatch(r"([0-9]{1,15})(?:\.([0-9]{1,6}))?\s*([A-Za-z]*)", text.strip())
    unit = _UNITS.get(match[3].lower()) if match else None
    if match is None or unit is None:
        allowed = "a size such as 1048576, 1MiB or 64kB"
        raise UserError(Problem("dse arena", "--capacity", repr(text[:40]), allowed))
    digits = match[2] or ""
    scale: int = 10 ** len(digits)
    value, remainder = divmod(int(match[1] + digits) * unit, scale)
    if remainder:
        raise UserError(Problem("dse arena", "--capacity", repr(text[:40]), "a whole number of bytes"))
    return value
