"""What a validation looks like as text, table and figure, in all the forms that it takes."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from dse.report.figures.validation import validation_figure
from dse.report.validation import outcome_text, validation_text, write_validation
from dse.training.task import Task
from dse.validation.comparison import Validation
from dse.validation.sample import draw_designs
from dse.validation.select import Left, Trained, comparisons, front_plans, others_in_space
from dse.validation.validate import FIRST_SEED, Campaign
from tests.validation import fake_runs
from tests.validation.spaces import CORE, explored


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    run = explored(CORE, tmp_path_factory.mktemp("runs"), designs="none")
    networks = Trained.own(run.space)
    front, _ = front_plans(run.space, run.front, networks)
    compared = [*front, *comparisons(front)]
    others = others_in_space(run.space, draw_designs(run.space, None, 0), 6, networks, compared)
    chosen = (*compared, *others)
    campaign = Campaign(chosen, Task(), "abc")
    records = {
        (each.key, seed): fake_runs.run(campaign.job(each, seed, 0.1))
        for seed in range(FIRST_SEED, FIRST_SEED + 3)
        for each in chosen
    }
    rates = {each.key: 0.1 for each in chosen}
    return Validation("core", Task(), chosen, records, rates, wanted=len(records), prediction="a table")


def one_seed(found: Validation) -> Validation:
    return replace(found, records={at: record for at, record in found.records.items() if at[1] == FIRST_SEED})


def nothing(found: Validation) -> Validation:
    return replace(found, records={})


def unpredicted(found: Validation) -> Validation:
    bare = {"predicted": math.nan, "low": math.nan, "high": math.nan, "status": "unknown"}
    return replace(found, chosen=tuple(replace(each, **bare) for each in found.chosen), prediction="")


def heads_alone(found: Validation) -> Validation:
    kept = [each for each in found.chosen if each.plan.head != "sgd"]
    front = [replace(each, role="front") for each in kept[:2]]
    return replace(found, chosen=(*front, *kept[2:]))


def one_plan(found: Validation) -> Validation:
    return replace(found, chosen=found.chosen[:1])


def stood_in(found: Validation) -> Validation:
    return replace(found, stand_in="small-net")


def unequal(found: Validation) -> Validation:
    records = {
        at: replace(record, replay_bytes=record.replay_bytes + 1) if record.replay_bytes else record
        for at, record in found.records.items()
    }
    return replace(found, records=records)


def unfinished(found: Validation) -> Validation:
    first = found.chosen[0]
    return replace(
        found,
        left=(Left("mobilenet-v1", replace(first.plan, learning_dtype="fp16"), "fp16 is not executed"),),
        failures={found.chosen[1].key: "plan: images_per_event: too many"},
        wanted=found.wanted + 20,
        records={at: record for at, record in found.records.items() if at[0] != found.chosen[1].key},
    )


def diverged(found: Validation) -> Validation:
    key = found.chosen[0].key
    return replace(
        found,
        records={
            at: replace(record, accuracy=math.nan) if at[0] == key else record
            for at, record in found.records.items()
        },
    )


FORMS: dict[str, Any] = {
    "whole": lambda found: found, "one seed": one_seed, "unpredicted": unpredicted,
    "heads alone": heads_alone, "one plan": one_plan, "stand-in": stood_in, "unequal bytes": unequal,
    "unfinished": unfinished, "diverged": diverged,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_and_drawn(found: Validation, form: str) -> None:
    shape = FORMS[form](found)
    text, said = validation_text(shape), outcome_text(shape)
    for unwanted in ("nan", "None", "inf"):
        assert not re.search(rf"\b{unwanted}\b", text), (form, unwanted)
        assert not re.search(rf"\b{unwanted}\b", said), (form, unwanted)
    figure = validation_figure(shape)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    assert len(figure.axes) == 3


def test_the_report_answers_the_questions(found: Validation) -> None:
    text = validation_text(found)
    for phrase in (
        "Measured best:",
        "Ties with it:",
        "Planned replay bytes equal the bytes held in all",
        "Spearman",
        "Kendall tau-b",
        "top-1 regret (points)",
        "| whole space | ",
        "| front | ",
        "Cheap heads and references on the same stream",
        "| ncm | ",
        "| joint | ",
        "Predicted by: a table",
        "3 paired seeds",
        "once what a seed does to all plans alike is taken out",
    ):
        assert phrase in text, phrase
    table = text.split("## Plans of the front")[1].split("##")[0]
    measured = [float(value) for value in re.findall(r"\| (\d+\.\d+) % ±", table)]
    assert measured == sorted(measured, reverse=True)
    roles = [each.role for each in found.trained]
    assert len(measured) == roles.count("front")


def test_a_stand_in_is_compared_by_rank_alone(found: Validation) -> None:
    text = validation_text(stood_in(found))
    assert "small-net was trained in place of the run's own network" in text
    assert "by rank alone" in text
    assert math.isnan(stood_in(found).agreement["front"].covered)
    assert not math.isnan(found.agreement["front"].covered)


def test_unequal_bytes_cannot_be_overlooked(found: Validation) -> None:
    text = validation_text(unequal(found))
    assert "**Planned and held replay bytes differ" in text
    assert "REPLAY BYTES DIFFER" in text
    assert "NOT EQUAL" in validation_figure(unequal(found)).axes[2].get_title(loc="left")


def test_what_was_not_trained_is_listed(found: Validation) -> None:
    text = validation_text(unfinished(found))
    assert "## What was not trained" in text
    assert "fp16 is not executed" in text
    assert "images_per_event: too many" in text
    done = len(unfinished(found).records)
    assert f"{found.wanted + 20 - done} more were asked for" in text


def test_a_plan_without_an_accuracy_ties_with_nothing(found: Validation) -> None:
    shape = diverged(found)
    row = next(row for row in shape.rows if row["key"] == found.chosen[0].key)
    assert not row["tied_with_best"]
    assert row["beaten_by_head"] == row["tied_with_head"] == ""
    assert math.isfinite(shape.noise)
    assert math.isfinite(shape.paired_noise)
    assert "no accuracy: its runs diverged" in validation_text(shape)


def test_one_seed_claims_nothing(found: Validation) -> None:
    text = validation_text(one_seed(found))
    assert "A single seed does not show how much runs differ" in text
    assert "beaten by" not in text
    assert "ties with" not in text


def test_beaten_plans_are_named_as_such(found: Validation) -> None:
    heads = {each.key for each in found.chosen if each.plan.head != "sgd"}
    records = {
        at: record if at[0] in heads else replace(record, accuracy=record.accuracy - 0.4)
        for at, record in found.records.items()
    }
    text = validation_text(replace(found, records=records))
    count = sum(each.role == "front" and each.plan.head == "sgd" for each in found.chosen)
    assert f"**Beaten by a cheap head: {count} of {count} plans of the front.**" in text
    assert "beaten by ncm, slda, cwr, tinyol" in text or "beaten by slda, cwr, tinyol" in text


def test_files_are_complete_and_lead_to_each_other(found: Validation, tmp_path: Path) -> None:
    report = write_validation(found, tmp_path)
    text = report.read_text(encoding="utf-8")
    targets = set(re.findall(r"\]\(([^)]+)\)", text)) - {"validation"}
    assert targets
    assert all((tmp_path / target).is_file() for target in targets)
    table = pd.read_csv(tmp_path / "validation.csv")
    assert len(table) == len(found.trained)
    assert table["measured"].tolist() == pytest.approx([row["measured"] for row in found.rows], rel=1e-5)
    assert not list(tmp_path.glob(".*"))


def test_where_nothing_was_trained_the_report_says_so(found: Validation, tmp_path: Path) -> None:
    text = write_validation(nothing(found), tmp_path).read_text(encoding="utf-8")
    assert "0 plans trained" in text
    assert "not reached" in text
    assert not (tmp_path / "figures").exists()


def test_the_figure_shows_every_plan_of_the_front_and_every_head(found: Validation) -> None:
    plans = validation_figure(found).axes[1]
    names = [label.get_text() for label in plans.get_yticklabels()]
    shown = [row["name"] for row in found.rows if row["role"] in ("front", "head", "reference")]
    assert sorted(names) == sorted(shown)
    title = validation_figure(found).axes[0].get_title(loc="left")
    assert f"{found.agreement['front'].spearman.value:.2f}" in title
    assert f"{100 * found.agreement['whole space'].regret.value:.2f}" in title
