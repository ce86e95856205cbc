"""TinyOL on an STM32F401RE (silicon): frozen network, head and RAM."""

from __future__ import annotations

from dse.reproduce import comparison_text
from dse.reproduce.heads_stm32 import FROZEN, RAM, reproduce

STUDY = reproduce()


def test_frozen_network_within_5_percent_from_another_cortex_m4() -> None:
    row = STUDY.row("rate of ad on PSoC 62", FROZEN)
    assert abs(row.error) < 0.05, comparison_text(row)


def test_frozen_network_lies_in_the_interval_of_the_shipped_profile() -> None:
    row = STUDY.row("shipped profile", FROZEN)
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.published <= row.high, comparison_text(row)


def test_ram_lies_in_the_interval_of_the_reserve() -> None:
    row = STUDY.row("TinyOL, 128 features, 8 classes", RAM)
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.published <= row.high, comparison_text(row)
