"""What every reproduction keeps, whatever it reproduces."""

from __future__ import annotations

from functools import cache
from math import isfinite

import pytest

from dse.reference import list_tables, load_table
from dse.reproduce import REPRODUCTIONS, Reproduction, comparison_text
from dse.vocabulary import ReferenceEvidence

TABLES = ("mlperf_tiny", "qlrcl_table4", "qlrcl_lr_shapes", "qlrcl_dma", "trainlib", "heads_stm32")


@cache
def study(name: str) -> Reproduction:
    return REPRODUCTIONS[name]()


every_study = pytest.mark.parametrize("name", REPRODUCTIONS)


@every_study
def test_its_name_is_its_key(name: str) -> None:
    assert study(name).name == name
    assert study(name).title


@every_study
def test_no_row_stands_twice(name: str) -> None:
    keys = [(row.name, row.quantity) for row in study(name).rows]
    assert len(keys) == len(set(keys)), sorted(key for key in keys if keys.count(key) > 1)


@every_study
def test_every_row_is_complete(name: str) -> None:
    for row in (*study(name).rows, *study(name).contrasts):
        values = (row.model, row.published, *row.null_models.values())
        assert all(isfinite(value) and value > 0 for value in values), comparison_text(row)
        assert "" not in (row.source, row.unit, row.name), comparison_text(row)


@every_study
def test_intervals_enclose_the_model(name: str) -> None:
    for row in study(name).rows:
        if row.low is not None and row.high is not None:
            assert row.low * (1 - 1e-12) <= row.model <= row.high * (1 + 1e-12), comparison_text(row)


MISSED = {
    "mlperf-tiny": {
        "p90 error of latency of vww below own ic rate",
        "worst error of latency of vww below one factor",
        "worst error of latency of vww below own ic rate",
        "p90 error of energy of vww below one factor",
        "p90 error of energy of vww below own ic rate",
        "worst error of energy of vww below one factor",
        "worst error of energy of vww below own ic rate",
    },
    "calibration": {
        "p90 error of latency of vww below own ic rate",
        "worst error of latency of vww below own ic rate",
        "p90 error of energy of vww below own ic rate",
        "worst error of energy of vww below own ic rate",
    },
    "trainlib": {
        "median error of cycles of a kernel below ideal speed-up",
        "median error of MAC/cycle of a training step below fp32 kernel",
    },
}


@every_study
def test_stated_bounds_hold_but_for_those_known_to_be_missed(name: str) -> None:
    missed = {bound.text.split(":")[0] for bound in study(name).missed}
    assert missed == MISSED.get(name, set()), "\n".join(map(comparison_text, study(name).rows))


@every_study
def test_predicted_rows_stand_beside_a_null_model(name: str) -> None:
    bare = [row for row in study(name).rows if row.counts and not row.null_models]
    assert not bare, "\n".join(map(comparison_text, bare))


@every_study
def test_the_frame_holds_every_row(name: str) -> None:
    found = study(name)
    assert len(found.to_frame()) == len(found.rows) + len(found.contrasts)


@every_study
def test_it_is_the_same_every_time(name: str) -> None:
    assert REPRODUCTIONS[name]().to_frame().equals(study(name).to_frame())


@pytest.mark.parametrize("table", TABLES)
def test_every_reference_row_has_source_place_and_evidence(table: str) -> None:
    assert table in list_tables()
    for row in load_table(table):
        assert "" not in (row["source"], row["locator"]), row
        assert row["evidence"] in set(ReferenceEvidence), row
