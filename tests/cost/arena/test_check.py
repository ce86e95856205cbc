"""The independent checker against a painter of bytes, and against one row of every kind of mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.cost.arena import check
from dse.cost.arena.check import violations
from tests import architecture
from tests.cost.arena.naive import painted


@st.composite
def placements(draw):
    rows = []
    for number in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, 5))
        end = draw(st.integers(start, 6))
        rows.append((f"b{number}", start, end, draw(st.integers(1, 6)), 1, draw(st.integers(-2, 14))))
    return rows, draw(st.integers(0, 16))


@given(placements())
def test_overlaps_and_bounds_are_those_of_a_painter(placement):
    rows, arena_bytes = placement
    found = violations(rows, arena_bytes)
    shared, outside = painted(rows, arena_bytes)
    overlaps = {frozenset(one.ids): one for one in found if one.kind == "overlap"}
    assert sum(one.kind == "overlap" for one in found) == len(overlaps)
    assert overlaps.keys() == shared.keys()
    for pair, cells in shared.items():
        one = overlaps[pair]
        operations = range(one.first_operation, one.last_operation + 1)
        assert cells == {(at, byte) for at in operations for byte in range(one.first_byte, one.end_byte)}
    assert {one.ids[0] for one in found if one.kind.startswith("outside")} == outside


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("x", -1, 3, 4, 4, 0), "lifespan"),
        (("x", 3, 2, 4, 4, 0), "lifespan"),
        (("x", 0, 0, 0, 4, 0), "size"),
        (("x", 0, 0, -4, 4, 8), "size"),
        (("x", 0, 0, 4, 3, 0), "alignment 3 is not a power of two"),
        (("x", 0, 0, 4, 0, 0), "alignment 0 is not a power of two"),
        (("x", 0, 0, 4, -4, 0), "alignment -4 is not a power of two"),
        (("x", 0, 0, 4, 4, 2), "offset 2 is not a multiple of 4"),
        (("x", 0, 0, 4, 4, -4), "outside the arena of 16 bytes"),
        (("x", 0, 0, 5, 4, 12), "outside the arena of 16 bytes"),
    ],
)
def test_each_kind_of_mistake_is_named(row, said):
    (found,) = violations([row, ("fine", 5, 5, 16, 16, 0)], 16)
    assert said in found.kind
    assert found.ids == ("x",)


def test_all_that_is_wrong_is_reported():
    found = violations([("a", 0, 2, 8, 3, 9), ("a", 1, 4, 4, 1, 10)], 16)
    assert [one.kind.split()[0] for one in found] == ["alignment", "outside", "id", "overlap"]
    assert str(found[-1]) == "overlap: 'a' and 'a', operations 1 to 2, bytes 10 to 14 (exclusive)"


def test_touching_is_allowed():
    assert violations([("a", 0, 2, 8, 8, 0), ("b", 3, 4, 16, 1, 0), ("c", 0, 2, 8, 8, 8)], 16) == ()


def test_it_imports_nothing_of_the_package():
    source = Path(check.__file__).read_text(encoding="utf-8")
    names = {found.name for found in architecture.imports(source, "dse.cost.arena.check")}
    assert names == {"__future__", "collections.abc", "dataclasses"}
