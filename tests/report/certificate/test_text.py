"""A certificate in words: golden texts of the map by hand, and what must never be claimed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dse.report.certificate import LevelSummary, certificate_markdown, certificate_text
from tests.report.certificate.maps import certificate_of, hand_made

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = {"memory_map.csv": "every buffer: lifespan, size, offset, level, reason", "certificate.md": "this"}


def assert_golden(name: str, text: str) -> None:
    """Compare with tests/golden; DSE_WRITE_GOLDEN=1 writes it anew, to be read before it is committed."""
    path = GOLDEN / name
    if os.environ.get("DSE_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_text_for_a_terminal() -> None:
    assert_golden("certificate.txt", certificate_text(certificate_of(hand_made()), FILES) + "\n")


def test_page_of_the_folder() -> None:
    assert_golden(
        "certificate.md", certificate_markdown(certificate_of(hand_made()), FILES, "memory_map.png")
    )


def test_no_line_is_wider_than_a_terminal() -> None:
    certificate = certificate_of(hand_made())
    row = certificate.peaks[0].rows[0]
    long = replace(row.placed.buffer, name="a name of many words " * 6, reason="because " * 30)
    peak = replace(certificate.peaks[0], rows=(replace(row, placed=replace(row.placed, buffer=long)),))
    hostile = replace(
        certificate,
        peaks=(peak,),
        plan_words=("some decision",) * 20,
        executed="what an execution showed " * 9,
    )
    text = certificate_text(hostile, {"name": "what it is " * 20})
    assert max(map(len, text.splitlines())) <= 80


def test_a_map_that_nobody_checked_is_not_certified() -> None:
    certificate = replace(certificate_of(hand_made()), faults=None)
    assert not certificate.holds
    text = certificate_text(certificate)
    assert "not checked: nothing is certified" in text
    assert "checked by code" not in text


def test_faults_are_listed_instead_of_a_promise() -> None:
    certificate = replace(certificate_of(hand_made()), faults=("a overlaps b", "c ends behind its arena"))
    assert not certificate.holds
    text = certificate_text(certificate)
    assert "the check found 2 faults:\na overlaps b\nc ends behind its arena" in text
    assert "no two live buffers" not in text


def test_a_level_that_is_too_small_says_how_much_is_missing() -> None:
    certificate = certificate_of(hand_made(), capacity={"SRAM": 371})
    assert not certificate.holds
    assert "SRAM is too small: 1 B are missing" in certificate_text(certificate)
    assert certificate_of(hand_made(), capacity={"SRAM": 372}).holds


def test_a_promise_that_differs_is_shown() -> None:
    text = certificate_text(replace(certificate_of(hand_made()), promised_bytes=300))
    assert "304 B alive at once in all RAM, promised: 300 B" in text
    assert "as promised" not in text


def test_sizes_that_rounding_hides_are_written_to_the_byte() -> None:
    text = certificate_text(replace(certificate_of(hand_made()), promised_bytes=20_001))
    assert "promised: 19.53 KiB (20,001 B)" in text


def test_ram_peak_is_that_of_all_volatile_levels_at_one_moment() -> None:
    certificate = certificate_of(hand_made())
    assert certificate.ram_peak_bytes == 304  # without flash
    both = tuple(replace(summary, volatile=True) for summary in certificate.levels)
    assert replace(certificate, levels=both).ram_peak_bytes == 304 + 1432


@pytest.mark.parametrize(
    ("bound", "arena", "gap", "said"),
    [
        (100, 100, 0.0, "0 %"),
        (100, 101, 0.01, "1.00 %"),
        (10**6, 10**6 + 4, 4e-6, "< 0.01 %"),
        (0, 0, 0.0, "0 %"),
    ],
)
def test_gap_by_hand(bound: int, arena: int, gap: float, said: str) -> None:
    summary = LevelSummary("L1", bound, bound, arena, 2 * arena, "exact", proven=False)
    assert (summary.gap, summary.gap_text) == (pytest.approx(gap), said)
