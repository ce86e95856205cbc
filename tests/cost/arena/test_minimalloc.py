"""Public instances of MiniMalloc, solved within their published capacity."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.cost.arena import ArenaTooSmall, live_bytes, place, read_buffers, violations
from tests.cost.arena.naive import rows_of

FOLDER = Path(__file__).parent / "minimalloc"
CAPACITY = 1048576


@pytest.mark.parametrize(
    ("name", "count", "live", "gap"),
    [("A", 154, 1048576, 0.04), pytest.param("D", 213, 986112, 0.12, marks=pytest.mark.slow)],
)
def test_an_instance_by_the_heuristic_and_by_the_solver(name, count, live, gap):
    buffers = read_buffers(FOLDER / f"{name}.{CAPACITY}.csv").buffers
    assert (len(buffers), live_bytes(buffers)) == (count, live)
    found = place(buffers)
    assert found.gap < gap
    with pytest.raises(ArenaTooSmall, match="not proven"):
        place(buffers, capacity_bytes=CAPACITY)
    solved = place(buffers, capacity_bytes=CAPACITY, exact=True)
    assert solved.size_bytes <= CAPACITY
    assert solved.proven == (live == CAPACITY)
    assert solved.method == "CP-SAT"
    assert violations(rows_of(solved), CAPACITY) == ()
