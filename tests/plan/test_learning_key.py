"""Plans share a training run exactly when nothing that learning can depend on differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.learning_key import (
    keeps_stored_input,
    learning_content,
    learning_key,
    learning_plan,
    quantises_new,
)
from dse.plan.policy import UpdatePolicy
from dse.plan.techniques import build_spec
from dse.workload import load_network
from tests.plan.strategies import random_plans

NETWORK = load_network("resnet8")
BASE = TrainingPlan(cut=5, n_replays=100, replay_bits=8, new_per_batch=8, replays_per_batch=24)

IRRELEVANT = {
    "replay_level": "MRAM",
    "micro_batch": 4,
    "persist_every": 7,
    "first_input": "dequantised",  # new samples are cached at replay bits either way
    "in_place": "none",
    "checkpoints": "every 1",
    "im2col": "full",
    "patches": "2x2 to 2",
}

RELEVANT = {
    "cut": 8,
    "head": "ncm",
    "replay": "none",
    "n_replays": 200,
    "replay_bits": 4,
    "rounding": "floor",
    "frozen_bits": 32,
    "policy": "last-1",
    "bn_mode": "frozen_stats",
    "optimiser": "momentum",
    "new_per_batch": 16,
    "replays_per_batch": 16,
    "epochs": 2,
    "images_per_event": 160,
    "learning_dtype": "fp16",
    "saved_bits": 4,
}


@pytest.mark.parametrize("name", IRRELEVANT)
def test_what_the_board_decides_does_not_count(name: str) -> None:
    assert learning_key(NETWORK, replace(BASE, **{name: IRRELEVANT[name]})) == learning_key(NETWORK, BASE)


IN_INT8 = replace(BASE, learning_dtype="int8", policy="last-1")

OF_INT8 = {
    "backward_dtype": "int8",
    "accumulator_dtype": "int8",
    "classifier_dtype": "fp32",
    "gradient_scaling": "none",
    "weight_rounding": "nearest",
}

FROZEN = [  # of runs that were done before int8 learning was a choice
    ("resnet8", {"cut": 5}, "729e2a86ab33479e"),
    ("resnet8", {"cut": 5, "learning_dtype": "fp16", "optimiser": "momentum"}, "b1ac31348d3fc55e"),
    ("mobilenet-v1", {"cut": 19, "bn_mode": "batch_stats", "micro_batch": 128}, "bb3f7ec1a6a7616b"),
    ("mcunet-5fps", {"cut": 21, "policy": {"weights": [30, 42], "bias": [25]}, "replay": "none",
                     "new_per_batch": 8}, "33747970591d2015"),
    ("har-cnn-1d", {"cut": 2, "head": "slda"}, "1d3d56cbefbff811"),
    ("mobilenet-v1", {"cut": 23, "policy": "bias", "replay_bits": 6, "rounding": "floor",
                      "optimiser": "adam"}, "1e02eb7e1e860941"),
]  # fmt: skip


@pytest.mark.parametrize(("network", "decisions", "key"), FROZEN)
def test_keys_of_older_runs_stay(network: str, decisions: dict[str, Any], key: str) -> None:
    assert learning_key(load_network(network), TrainingPlan(**decisions)) == key


@pytest.mark.parametrize("name", OF_INT8)
def test_decisions_of_int8_learning_count_in_int8_alone(name: str) -> None:
    changed = {name: OF_INT8[name]}
    assert learning_key(NETWORK, replace(IN_INT8, **changed)) != learning_key(NETWORK, IN_INT8)
    assert learning_key(NETWORK, replace(BASE, **changed)) == learning_key(NETWORK, BASE)


@pytest.mark.parametrize("name", ["backward_dtype", "accumulator_dtype"])
def test_the_micro_batch_counts_where_it_decides_an_int8_scale(name: str) -> None:
    plan = replace(IN_INT8, **{name: "int8"})
    assert learning_key(NETWORK, replace(plan, micro_batch=4)) != learning_key(NETWORK, plan)
    assert learning_key(NETWORK, replace(IN_INT8, micro_batch=4)) == learning_key(NETWORK, IN_INT8)


@pytest.mark.parametrize(("ratio", "counts"), [({8: 0.5}, True), ({8: 1.0}, False), ({}, False)])
def test_the_selection_counts_where_some_channels_are_kept_but_not_all(
    ratio: dict[int, float], counts: bool
) -> None:
    keys = {
        learning_key(NETWORK, replace(BASE, policy=UpdatePolicy.of_scheme(2, ratio, selection)))
        for selection in ("magnitude", "random", "smallest")
    }
    assert len(keys) == (3 if counts else 1)


@pytest.mark.parametrize("name", RELEVANT)
def test_what_learning_depends_on_counts(name: str) -> None:
    assert learning_key(NETWORK, replace(BASE, **{name: RELEVANT[name]})) != learning_key(NETWORK, BASE)


def test_another_network_is_another_run() -> None:
    assert learning_key(load_network("resnet8@classes=5"), BASE) != learning_key(NETWORK, BASE)


def test_equal_policies_under_two_names_share_a_run() -> None:
    last = replace(BASE, policy="last-1")
    listed = replace(BASE, policy={"weights": [9]})  # type: ignore[arg-type]
    assert learning_key(NETWORK, last) == learning_key(NETWORK, listed)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"new_samples": "recompute"}, True),  # the learning stage keeps its input as stored
        ({"new_samples": "recompute", "first_input": "dequantised"}, False),
        ({"replay_bits": 32}, False),
        ({"replay": "raw", "new_samples": "recompute"}, False),
        ({"replay": "raw"}, True),  # cached as latents between the epochs
        ({"cut": -1, "replay": "raw"}, False),
    ],
)
def test_new_samples_pass_the_quantiser_where_they_are_held_at_replay_bits(
    changes: dict[str, object], expected: bool
) -> None:
    assert quantises_new(replace(BASE, **changes)) is expected  # type: ignore[arg-type]


@given(
    st.fixed_dictionaries(
        {
            "replay": st.sampled_from(["none", "raw", "latent"]),
            "new_samples": st.sampled_from(["cache_latent", "cache_raw", "recompute"]),
            "first_input": st.sampled_from(["stored", "dequantised"]),
            "replay_bits": st.sampled_from([4, 8, 32]),
            "rounding": st.sampled_from(["nearest", "floor"]),
            "head": st.sampled_from(["sgd", "ncm", "slda", "cwr", "tinyol"]),
            "learning_dtype": st.sampled_from(["fp32", "int8"]),
            "backward_dtype": st.sampled_from(["fp32", "int8"]),
            "micro_batch": st.sampled_from([1, 32]),
            "saved_bits": st.sampled_from([32, 8, 4]),
            "cut": st.sampled_from([5, 5, -1]),
        }
    )
)
def test_the_shared_plan_shares_its_own_key(changes: dict[str, object]) -> None:
    plan = replace(BASE, **changes)  # type: ignore[arg-type]
    shared = learning_plan(NETWORK, plan)
    assert learning_plan(NETWORK, shared) == shared
    assert learning_key(NETWORK, shared) == learning_key(NETWORK, plan)
    assert learning_content(NETWORK, shared) == learning_content(NETWORK, plan)


NARROW = replace(BASE, saved_bits=4, micro_batch=4)


@pytest.mark.parametrize("name", ["micro_batch", "first_input"])
def test_with_narrow_saved_activations_scales_and_the_first_input_count(name: str) -> None:
    changed = {"micro_batch": 8, "first_input": "dequantised"}[name]
    assert learning_key(NETWORK, replace(NARROW, **{name: changed})) != learning_key(NETWORK, NARROW)
    wide = replace(NARROW, saved_bits=32)
    assert learning_key(NETWORK, replace(wide, **{name: changed})) == learning_key(NETWORK, wide)


def test_the_width_in_which_activations_are_computed_is_no_narrow_one() -> None:
    wide, same = (replace(IN_INT8, saved_bits=bits) for bits in (32, 8))
    assert learning_key(NETWORK, wide) == learning_key(NETWORK, same)
    assert learning_key(NETWORK, replace(IN_INT8, saved_bits=4)) != learning_key(NETWORK, wide)


def test_whether_the_first_input_stays_as_stored_means_nothing_where_it_does_not_anyway() -> None:
    exact = replace(NARROW, replay_bits=32)
    other = replace(exact, first_input="dequantised")
    assert learning_key(NETWORK, exact) == learning_key(NETWORK, other)


@given(random_plans(names=("resnet8",)))
def test_the_first_input_stays_as_stored_where_the_step_says_so(drawn: tuple[str, TrainingPlan]) -> None:
    _, plan = drawn
    spec = build_spec(NETWORK, PlanBatch.from_plans(NETWORK, [plan]))
    assert keeps_stored_input(plan.canonical(NETWORK)) == bool(spec.keeps_stored_input[0])
