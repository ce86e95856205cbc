"""Verdicts on claims, against cases worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dse.search.reader import Reader
from dse.validation.claims import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    decide,
    matching,
    paired_interval,
    read_claims,
    require_plans,
)


def rows(better: list[float], worse: list[float]) -> list[dict[str, Any]]:
    sides = (("a", better), ("b", worse))
    return [
        {"head": head, "reference": "", "seed": seed, "accuracy": value / 100}
        for head, values in sides
        for seed, value in enumerate(values)
    ]


def claim(**options: float) -> Claim:
    return Claim("a beats b", "hand", {"head": "a"}, {"head": "b"}, **options)


def test_the_interval_is_that_of_the_t_distribution() -> None:
    # differences 1, 2, 3: mean 2, s = 1, t(0.95, 2) = 2.91999
    mean, half = paired_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(2.91999 / math.sqrt(3), rel=1e-5)


def test_no_interval_without_two_values() -> None:
    assert math.isnan(paired_interval([])[0])
    assert paired_interval([4.0])[0] == 4.0
    assert math.isnan(paired_interval([4.0])[1])


@pytest.mark.parametrize(
    ("better", "worse", "options", "verdict"),
    [
        ([80, 81, 82], [70, 71, 72.1], {}, HOLDS),
        ([70, 71, 72.1], [80, 81, 82], {}, FAILS),
        ([80, 71, 75], [75, 74, 75], {}, OPEN),
        ([80, 81, 82], [70, 71, 72.1], {"by": 5.0}, HOLDS),
        ([80, 81, 82], [70, 71, 72.1], {"by": 9.9}, OPEN),
        ([80, 81, 82], [70, 71, 72.1], {"by": 15.0}, FAILS),
        ([80, 81, 82], [80.1, 80.9, 82.1], {"within": 1.0}, HOLDS),
        ([80, 81, 82], [70, 71, 72.1], {"within": 1.0}, FAILS),
        ([80, 81, 82], [82, 80, 82], {"within": 1.0}, OPEN),
        ([80], [70], {}, OPEN),
        ([], [70], {}, OPEN),
    ],
)
def test_verdicts(better: list[float], worse: list[float], options: dict[str, float], verdict: str) -> None:
    assert decide(claim(**options), rows(better, worse)).verdict == verdict


def test_a_seed_that_lifts_both_sides_does_not_blur_the_difference() -> None:
    verdict = decide(claim(), rows([50, 70, 90], [48, 68.1, 88]))
    assert verdict.verdict == HOLDS
    assert verdict.difference == pytest.approx((2 + 1.9 + 2) / 3)


def test_only_seeds_of_both_sides_are_compared() -> None:
    verdict = decide(claim(), rows([50, 51, 52, 99], [40, 41, 42.1]))
    assert verdict.seeds == 3
    assert verdict.difference == pytest.approx((10 + 10 + 9.9) / 3)


def test_conditions_may_list_values() -> None:
    both = Claim("", "", {"head": ["a", "b"]}, {"head": "b"})
    assert decide(both, rows([80, 82], [70, 72])).difference == pytest.approx(5.0)


def test_mistakes_in_claims_are_all_reported() -> None:
    reader = Reader("study.toml")
    read_claims(
        reader, [3, {"text": "x", "bettr": {}}, {"better": {"cut": 1}, "worse": {"cut": 2}, "by": "far"}]
    )
    keys = [problem.key for problem in reader.problems]
    assert keys == ["claims[0]", "claims[1].bettr", "claims[1]", "claims[2].by"]


PLANS = [
    {"head": "sgd", "cut": cut, "n_replays": n, "reference": reference}
    for cut in (5, 8)
    for n in (100, 500)
    for reference in ("", "naive")
]


def test_a_side_means_plans_unless_it_names_a_reference() -> None:
    assert [PLANS[place]["reference"] for place in matching({"cut": 5}, PLANS)] == ["", ""]
    assert len(matching({"cut": 5, "reference": "naive"}, PLANS)) == 2


@pytest.mark.parametrize(
    ("side", "text"),
    [
        ({"cutt": 5}, "did you mean 'cut'"),
        ({"cut": 99, "n_replays": 100}, "conditions that some plan"),
        ({"cut": "5", "n_replays": 100}, "conditions that some plan"),
        ({"cut": 5}, "2 different plans; say which n_replays"),
    ],
)
def test_a_side_that_speaks_of_no_plan_or_of_several_is_refused(side: dict[str, Any], text: str) -> None:
    reader = Reader("study.toml")
    good = {"cut": 8, "n_replays": [100, 500]}
    require_plans(reader, [Claim("", "", good, side)], PLANS)
    assert [problem.key.split(".")[0] for problem in reader.problems] == ["claims[0]"]
    assert text in str(reader.problems[0])
