"""The head study: what goes into its predictions, and nothing of its own rows."""

from __future__ import annotations

import pytest

from dse.hardware import load_board
from dse.reproduce import heads_stm32 as study


def test_macs_of_the_frozen_layers() -> None:
    assert study.frozen_macs() == 600 * 128 + 128 * 128


def test_the_rate_comes_from_another_board() -> None:
    run = study.psoc_fp32()
    assert (run.board, run.core, run.dtype) == ("CY8CPROTO-062-4343W", "cortex-m4", "fp32")
    assert 1 / run.linear == pytest.approx(0.104994, rel=1e-4)


def test_the_frozen_time_by_hand() -> None:
    row = study.reproduce().row("rate of ad on PSoC 62", study.FROZEN)
    assert row.model == pytest.approx(93184 / 0.104994 / 84e6 * 1e3, rel=1e-4)


def test_no_row_is_calibrated_and_no_figure_of_the_board_comes_from_the_study() -> None:
    assert all(not row.calibrated for row in study.reproduce().rows)
    sources = " ".join(load_board(study.BOARD).sources().values())
    assert "2209.00591" not in sources


def test_the_failure_of_the_head_is_shown() -> None:
    """The head is out by more than half, and the summary says so rather than hiding it."""
    found = study.reproduce()
    row = found.row("TinyOL, 128 features, 8 classes", study.HEAD)
    assert row.error < -0.4
    assert any("83160 cycles" in line for line in found.summary)
