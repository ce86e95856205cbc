"""Comparisons and their statistics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dse.errors import UnknownName
from dse.reproduce import REPRODUCTIONS, reproduce
from dse.reproduce.base import MODEL, Bound, Comparison, Reproduction, Statistics, comparison_text
from dse.vocabulary import ReferenceEvidence

ROW = Comparison(
    "row",
    "time",
    "s",
    model=110.0,
    published=100.0,
    evidence=ReferenceEvidence.SILICON,
    calibrated=False,
    source="somewhere",
    null_models={"one factor": 150.0, "MACs": 50.0},
)


def study(*rows: Comparison, bounds: tuple[Bound, ...] = ()) -> Reproduction:
    return Reproduction("study", "A study", rows, bounds=bounds)


def test_errors_are_relative_to_the_published_figure() -> None:
    assert ROW.error == pytest.approx(0.1)
    assert ROW.null_model == 150.0
    assert ROW.null_error("MACs") == pytest.approx(-0.5)


def test_calibrated_rows_identities_and_bounds_never_count() -> None:
    rows = (
        replace(ROW, calibrated=True, model=500.0),
        replace(ROW, evidence=ReferenceEvidence.IDENTITY, model=500.0),
        replace(ROW, relation="<", model=50.0),
    )
    assert study(*rows).statistics() == {}
    assert study(ROW, *rows).statistics()[MODEL] == Statistics(1, *[pytest.approx(0.1)] * 3)


def test_null_models_are_judged_on_the_rows_that_they_answer() -> None:
    silent = replace(ROW, null_models={})
    found = study(ROW, silent).statistics()
    assert (found[MODEL].count, found["one factor"].count) == (2, 1)
    assert found["one factor"].median == pytest.approx(0.5)


def test_statistics_are_of_absolute_errors() -> None:
    found = Statistics.of([-0.3, 0.1, 0.2, -0.4, 0.0])
    assert found is not None
    assert (found.median, found.worst) == (pytest.approx(0.2), pytest.approx(0.4))
    assert found.p90 == pytest.approx(0.36)  # between the fourth and the fifth
    assert str(found) == "median 20.0%, p90 36.0%, worst 40.0% of 5 rows"
    assert Statistics.of([]) is None


def test_statistics_select_rows() -> None:
    other = replace(ROW, name="other", quantity="energy", model=200.0)
    found = study(ROW, other)
    assert found.quantities == ("time", "energy")
    assert found.statistics("energy")[MODEL].median == pytest.approx(1.0)
    assert found.statistics(where=lambda row: row.name == "row")[MODEL].median == pytest.approx(0.1)
    assert found.row("other", "energy") is other
    with pytest.raises(KeyError, match="no row 'other' for 'time'"):
        found.row("other", "time")


@pytest.mark.parametrize(("model", "holds"), [(99.0, True), (100.0, False), (101.0, False)])
def test_an_upper_bound_is_kept_below_it_only(model: float, holds: bool) -> None:
    assert replace(ROW, relation="<", model=model).holds is holds


def test_missed_bounds_are_listed() -> None:
    kept, missed = Bound("kept", True), Bound("missed", False)
    assert study(ROW, bounds=(kept, missed)).missed == (missed,)


@pytest.mark.parametrize(
    ("model", "holds", "end"), [(140.0, True, "50.0%"), (150.0, False, ", level"), (160.0, False, "50.0%")]
)
def test_a_level_null_model_is_not_beaten(model: float, holds: bool, end: str) -> None:
    bound, _ = study(replace(ROW, model=model)).against_nulls("time", ["worst"])
    assert bound.text.startswith("worst error of time below one factor: ")
    assert (bound.holds, bound.text.endswith(end)) == (holds, True)


def test_the_text_shows_model_beside_published() -> None:
    text = comparison_text(ROW)
    assert text == (
        "row time: model 110 = published 100 s (+10.00%; predicted, silicon), one factor 150, MACs 50"
    )


def test_the_frame_has_rows_and_contrasts() -> None:
    found = replace(study(ROW, replace(ROW, relation="<")), contrasts=(ROW,)).to_frame()
    assert list(found["contrast"]) == [False, False, True]
    assert found["null: MACs"][0] == 50.0
    assert found["error"].isna().tolist() == [False, True, False]


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'mlperf-tiny'"):
        reproduce("mlperf_tiny")


def test_the_studies_that_come_with_the_product() -> None:
    assert list(REPRODUCTIONS) == [
        "qlr-cl", "mlperf-tiny", "calibration", "trainlib", "heads-stm32", "mcunetv3"
    ]  # fmt: skip
