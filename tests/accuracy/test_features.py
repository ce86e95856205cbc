"""Points of a space, and what a model sees of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from dse.accuracy.features import (
    Encoder,
    Hull,
    LearningPoint,
    coarseness,
    numbers,
    points_of,
    words,
)
from dse.plan.decisions import CODES, TrainingPlan, code_of
from dse.plan.learning_key import LEARNING_CHOICES, learning_key
from dse.plan.policy import UpdatePolicy
from tests.accuracy.plans import grid, network, point

VARIED: dict[str, tuple[Any, ...]] = {
    "head": ("sgd", "ncm"),
    "replay": ("none", "raw", "latent"),
    "cut": (0, 2, 4),
    "policy": ("all", "last-1", "mine"),
    "new_samples": ("cache_latent", "recompute"),
    "first_input": ("stored", "dequantised"),
    "n_replays": (10, 1000),
    "epochs": (1, 4),
}
MINE = UpdatePolicy("mine", {4: 0.5, 3: 1.0}, (3, 4))


def axes() -> dict[str, np.ndarray]:
    """One axis per decision, so that all combinations broadcast."""
    default = TrainingPlan(cut=0)
    found = {}
    for place, name in enumerate(LEARNING_CHOICES):
        values = VARIED.get(name, (getattr(default, name),))
        coded = [code_of(name, value) for value in values] if name in CODES else values
        shape = [1] * len(LEARNING_CHOICES)
        shape[place] = len(values)
        found[name] = np.array(coded).reshape(shape)
    return found


def test_points_of_choices_are_those_of_their_plans() -> None:
    found, which = points_of(network(), axes(), {"mine": MINE})
    combinations = list(itertools.product(*(VARIED.get(name, (None,)) for name in LEARNING_CHOICES)))
    assert which.size == len(combinations)
    for combination, place in zip(combinations, which.ravel(), strict=True):
        given = dict(zip(LEARNING_CHOICES, combination, strict=True))
        values = {name: value for name, value in given.items() if value is not None}
        values["policy"] = MINE if values["policy"] == "mine" else values["policy"]
        assert found[place].key == learning_key(network(), TrainingPlan(**values))


def test_points_that_were_made_before_are_not_made_again() -> None:
    known: dict[tuple[Any, ...], LearningPoint] = {}
    first, _ = points_of(network(), axes(), {"mine": MINE}, known)
    again, _ = points_of(network(), axes(), {"mine": MINE}, known)
    assert all(one is other for one, other in zip(first, again, strict=True))


def test_numbers_and_words_of_a_plan_by_hand() -> None:
    plan = point(2, 64, replay_bits=5, replays_per_batch=15, new_per_batch=16, epochs=4, images_per_event=256)
    assert numbers(plan) == {
        "images_per_event": 2.0, "epochs": 0.5, "new_per_batch": 1.0, "depth": 3 / len(network().units),
        "coarseness": pytest.approx(1 / 3), "n_replays": 1.5, "replays_per_batch": 1.0,
        "saved_coarseness": 0.0,
    }  # fmt: skip
    assert words(plan)["policy"] == "all"
    assert words(plan)["new_latents"] == "quantised"


def test_narrow_saved_activations_by_hand() -> None:
    """Then it matters who shares a scale, and whether the first input stays as stored."""
    narrow = point(2, 64, saved_bits=4, micro_batch=4, first_input="stored", replay_bits=8)
    found = numbers(narrow)
    assert found["saved_coarseness"] == pytest.approx(np.log2(3) / 3)
    assert found["micro_batch"] == 0.5
    assert words(narrow)["first_input"] == "stored"
    assert "micro_batch" not in numbers(point(2, 64, micro_batch=4))
    assert "first_input" not in words(point(2, 64))


def test_what_means_nothing_is_no_feature() -> None:
    assert "n_replays" not in numbers(point(replay="none"))
    assert {"depth", "coarseness", "n_replays", "epochs"} & numbers(point(head="ncm")).keys() == set()


def test_a_policy_that_trains_everything_above_the_cut_is_all() -> None:
    last = len(network().units) - 1
    assert words(point(last, policy="last-1"))["policy"] == "all"
    assert words(point(0, policy="last-1"))["policy"] == "last-1"


def test_coarseness_falls_with_every_bit_and_floor_costs_two() -> None:
    values = [coarseness(point(replay_bits=bits).plan) for bits in (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)]
    assert all(one > other for one, other in itertools.pairwise(values))
    assert values[-1] == 0
    floor = point(replay_bits=8, rounding="floor").plan
    assert coarseness(floor) == pytest.approx(coarseness(point(replay_bits=6).plan))


def test_only_what_varies_is_encoded_and_words_are_one_apart() -> None:
    points = [point(2), point(2, optimiser="adam"), point(3)]
    encode = Encoder.over(points)
    assert encode.names == ("depth", "optimiser=adam", "optimiser=sgd")
    x = encode(points)
    assert np.linalg.norm(x[0] - x[1]) == pytest.approx(1.0)
    assert np.linalg.norm(x[0] - x[2]) == pytest.approx(1 / len(network().units))


def test_a_number_without_meaning_lies_in_the_middle() -> None:
    points = [point(0, 16), point(0, 256), point(0, replay="none")]
    encode = Encoder.over(points)
    column = encode.names.index("n_replays")
    assert encode(points)[:, column].tolist() == [1.0, 2.0, 1.5]


def test_the_hull_holds_what_was_run_and_what_lies_between() -> None:
    hull = Hull.of([point(0, 50), point(3, 500)])
    assert point(1, 200) in hull
    assert point(0, 500) in hull
    assert point(1, 501) not in hull
    assert point(4, 200) not in hull
    assert point(1, 200, optimiser="adam") not in hull
    assert point(head="ncm") not in hull
    assert all(one in Hull.of(grid()) for one in grid())
