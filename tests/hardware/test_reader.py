"""Whatever stands in a file, reading ends with a board or with problems, never with a traceback."""

from __future__ import annotations

import copy
import datetime
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dse.hardware.board import read_board_tables
from dse.hardware.profile import HardwareProfile
from dse.hardware.reader import Reader

TEXT = (Path(__file__).parent / "data" / "small-board.toml").read_text(encoding="utf-8")
TABLES = tomllib.loads(TEXT)
JUNK: tuple[Any, ...] = (
    [], {}, "", "x", -1, 0, 1.5, 10**400, float("nan"), float("inf"), True, [1], ["x", "x"], [[]], [{}],
    {"value": "x"}, {"value": 1}, {"included": ""}, {"name": 3}, datetime.date(2020, 1, 1),
)  # fmt: skip


def paths(node: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the trail of every node below ``node``."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield (*trail, key)
        yield from paths(child, (*trail, key))


PATHS = list(paths(TABLES))


def read(tables: dict[str, Any]) -> tuple[HardwareProfile | None, Reader]:
    reader = Reader("file.toml", {"sheet": "Data sheet"})
    return read_board_tables(reader, tables, lambda _: None), reader


def replaced(trail: tuple[Any, ...], junk: Any) -> dict[str, Any]:
    tables = copy.deepcopy(TABLES)
    node: Any = tables
    for key in trail[:-1]:
        node = node[key]
    node[trail[-1]] = junk
    return tables


def removed(trail: tuple[Any, ...]) -> dict[str, Any]:
    tables = copy.deepcopy(TABLES)
    node: Any = tables
    for key in trail[:-1]:
        node = node[key]
    del node[trail[-1]]
    return tables


@given(st.sampled_from(PATHS), st.sampled_from(JUNK))
def test_junk_anywhere_is_a_problem_or_a_board(trail: tuple[Any, ...], junk: Any) -> None:
    board, reader = read(replaced(trail, junk))
    assert (board is None) == bool(reader.problems)


@given(st.sampled_from(PATHS))
def test_anything_left_out_is_a_problem_or_a_board(trail: tuple[Any, ...]) -> None:
    board, reader = read(removed(trail))
    assert (board is None) == bool(reader.problems) or trail == ("battery",)


def test_problems_are_noted_once_in_the_order_of_the_file() -> None:
    tables = replaced(("rate", 0, "operator"), ["convv", "convv", "poolng"])
    _, reader = read(tables)
    assert [problem.key for problem in reader.problems][:2] == ["rate[0].operator", "rate[0].operator"]
    assert "convv" in reader.problems[0].found
    assert "poolng" in reader.problems[1].found
    assert len(set(reader.problems)) == len(reader.problems)
