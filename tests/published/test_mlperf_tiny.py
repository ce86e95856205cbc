"""MLPerf Tiny on silicon: the vww latency and energy that nobody told the model."""

from __future__ import annotations

import pytest

from dse.reproduce import comparison_text
from dse.reproduce.base import MODEL
from dse.reproduce.mlperf_tiny import ENERGY, LATENCY, NULL_MODELS, SAME_LIBRARY, reproduce

STUDY = reproduce()


def rows_text(quantity: str) -> str:
    return "\n".join(comparison_text(row) for row in STUDY.rows if row.quantity == quantity)


@pytest.mark.parametrize("quantity", [LATENCY, ENERGY])
@pytest.mark.parametrize("null", NULL_MODELS)
def test_median_error_is_below_every_null_model(quantity: str, null: str) -> None:
    found = STUDY.statistics(quantity)
    assert found[MODEL].median < found[null].median, rows_text(quantity)


@pytest.mark.parametrize("quantity", [LATENCY, ENERGY])
def test_nowhere_worse_than_one_factor(quantity: str) -> None:
    found = STUDY.statistics(quantity)
    same = 1e-4  # where both take the same donors, they differ by a linear layer of 512 MACs
    assert found[MODEL].p90 <= found["one factor"].p90 + same, rows_text(quantity)
    assert found[MODEL].worst <= found["one factor"].worst + same, rows_text(quantity)


def test_latency_statistics() -> None:
    """Pinned, so that a change of data, networks or rule is seen."""
    found = STUDY.statistics(LATENCY)[MODEL]
    shown = (found.count, round(found.median, 3), round(found.p90, 3), round(found.worst, 3))
    assert shown == (44, 0.109, 0.587, 0.756), rows_text(LATENCY)


def test_libraries_that_others_measured_too() -> None:
    found = STUDY.statistics(LATENCY, lambda row: row.note.startswith(SAME_LIBRARY))
    assert found[MODEL].median < 0.03, rows_text(LATENCY)
    assert found[MODEL].worst < 0.25, rows_text(LATENCY)


def test_the_summary_says_how_the_rule_was_chosen_and_where_it_is_not_better() -> None:
    text = "\n".join(STUDY.summary)
    factor = STUDY.statistics(LATENCY)["one factor"]
    assert (
        f"median of 24% (a recorded figure, not computed here), worse than one factor at {factor.median:.1%}"
        in text
    )
    assert f"below one factor: {factor.worst:.1%} against {factor.worst:.1%}, level" in text
    assert "p90 error of latency of vww below own ic rate" in text
