"""Units: each suffix has one factor, and numbers for people keep their value."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.units import SUFFIXES, human, human_bytes, human_seconds, to_si

PREFIX = {"G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12}


@pytest.mark.parametrize(
    ("key", "si", "factor"),
    [
        ("clock_mhz", "clock_hz", 1e6),
        ("size_kib", "size_bytes", 1024.0),
        ("size_kb", "size_bytes", 1000.0),
        ("size_mib", "size_bytes", 1048576.0),
        ("read_mb_per_s", "read_bytes_per_s", 1e6),
        ("write_nj_per_byte", "write_j_per_byte", 1e-9),
        ("charge_mah", "charge_c", 3.6),
        ("self_discharge_percent_per_year", "self_discharge_per_year", 0.01),
        ("efficiency_active_percent", "efficiency_active_fraction", 0.01),
        ("training_power_mw", "training_power_w", 1e-3),
        ("capture_mj", "capture_j", 1e-3),
        ("wake_us", "wake_s", 1e-6),
        ("cores", "cores", 1.0),
        ("event_s", "event_s", 1.0),
    ],
)
def test_suffix_and_factor(key: str, si: str, factor: float) -> None:
    assert to_si(key) == (si, factor)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_suffix_hides_behind_a_shorter_one(suffix: str) -> None:
    assert to_si("x" + suffix) == ("x" + SUFFIXES[suffix][0], SUFFIXES[suffix][1])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_conversion_happens_once(suffix: str) -> None:
    si, _ = to_si("x" + suffix)
    assert to_si(si) == (si, 1.0)


@given(st.floats(1e-11, 9.9e11))
def test_numbers_for_people_keep_three_digits(value: float) -> None:
    match = re.fullmatch(r"([0-9.e+]+) ([GMkmµnp]?)W", human(value, "W"))
    assert match
    assert math.isclose(float(match[1]) * PREFIX[match[2]], value, rel_tol=6e-3)


def test_numbers_without_size_are_written_plainly() -> None:
    assert human(0.0, "J") == "0 J"
    assert human(math.inf, "J") == "inf J"
    assert human(math.nan, "J") == "nan J"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (10239, "10239 B"), (10240, "10 KiB"), (131072, "128 KiB"), (64 * 2**20, "64 MiB")],
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(math.inf, "never"), (0.0125, "12.5 ms"), (90, "1.5 min"), (5400, "1.5 h"), (3 * 86400, "3 days")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text
