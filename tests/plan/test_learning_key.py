"""Plans share a training run exactly when nothing that learning can depend on differs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.plan.decisions import TrainingPlan
from dse.plan.learning_key import learning_content, learning_key, learning_plan, quantises_new
from dse.workload import load_network

NETWORK = load_network("resnet8")
BASE = TrainingPlan(cut=5, n_replays=100, replay_bits=8, new_per_batch=8, replays_per_batch=24)

IRRELEVANT = {
    "replay_level": "MRAM",
    "micro_batch": 4,
    "persist_every": 7,
    "first_input": "dequantised",  # new samples are cached at replay bits either way
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
}


@pytest.mark.parametrize("name", IRRELEVANT)
def test_what_the_board_decides_does_not_count(name: str) -> None:
    assert learning_key(NETWORK, replace(BASE, **{name: IRRELEVANT[name]})) == learning_key(NETWORK, BASE)


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
        }
    )
)
def test_the_shared_plan_shares_its_own_key(changes: dict[str, object]) -> None:
    plan = replace(BASE, **changes)  # type: ignore[arg-type]
    shared = learning_plan(NETWORK, plan)
    assert learning_plan(NETWORK, shared) == shared
    assert learning_key(NETWORK, shared) == learning_key(NETWORK, plan)
    assert learning_content(NETWORK, shared) == learning_content(NETWORK, plan)
