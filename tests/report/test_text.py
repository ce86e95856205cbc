"""Plain-text tables and numbers."""

from __future__ import annotations

import math

import pytest

from dse.report import text


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    lines = text.table(("name", "bytes"), [("a", "1 KiB"), ("long", "100 KiB")]).splitlines()
    assert lines == ["name    bytes", "a       1 KiB", "long  100 KiB"]


def test_a_missing_value_is_a_dash() -> None:
    assert text.table(("a", "b"), [("x", None)]).splitlines()[1].split() == ["x", "-"]


def test_rows_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        text.table(("a", "b"), [("x",)])


def test_markdown_escapes_what_would_end_a_cell() -> None:
    assert "a\\|b" in text.markdown(("x",), [("a|b",)])


def test_numbers_carry_units() -> None:
    assert text.written(2**20, "B") == "1 MiB"
    assert text.written(math.inf, "years") == "never"
    assert text.written(math.nan, "fraction") == "unknown"
    assert text.written(None, "J") == "-"
    with pytest.raises(KeyError):
        text.written(1.0, "parsec")


def test_an_interval_that_reads_the_same_at_both_ends_is_left_out() -> None:
    assert text.interval(1.0, 2.0, "J") == "1 J .. 2 J"
    assert text.interval(1.0, 1.00001, "J") == ""


def test_a_battery_that_idles_empty_says_so() -> None:
    assert text.yearly(0.0).startswith("0:")
    assert text.yearly(3.86) == "3.86 per day"
