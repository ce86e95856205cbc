"""Random legal plans over the zoo, for property tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from dse import workload as networks
from dse.plan.decisions import (
    ACCUMULATOR_DTYPES,
    BACKWARD_DTYPES,
    CLASSIFIER_DTYPES,
    GRADIENT_SCALINGS,
    IN_PLACE,
    LEARNING_DTYPES,
    OPTIMISERS,
    SAVED_BITS,
    WEIGHT_ROUNDINGS,
    PlanBatch,
    TrainingPlan,
)
from dse.plan.policy import SELECTIONS, UpdatePolicy
from dse.plan.techniques import illegal
from dse.workload.units import single_tensor_cuts

DATA = Path(__file__).parent / "data"
BRANCHES = str(DATA / "branches.toml")
TCN, UNEVEN = str(DATA / "tcn.toml"), str(DATA / "uneven.toml")
NAMES = (
    "mobilenet-v1@width=0.25,resolution=32", BRANCHES, "mcunet-5fps", "resnet8", "ds-cnn", "autoencoder",
    "har-cnn-1d", "proxylessnas-w0.3", TCN, UNEVEN,
)  # fmt: skip

SMALL = tuple(
    str(DATA / f"{name}.toml") for name in ("chain", "residual", "lenet", "planes", "normed", "twice")
)
"""Networks in which a rule shows that large tensors elsewhere would hide in a peak."""


@cache
def network(name: str):
    """Load a network once."""
    return networks.load_network(name)


@st.composite
def random_plans(draw, names=NAMES, lifespans=()):
    """Draw (name of a network, legal backprop plan); ``network`` loads it.

    ``lifespans`` are the decisions about the lives of buffers that are drawn as well (``LIFESPANS`` for all).
    """
    name = draw(st.sampled_from(names))
    return name, draw(plans_of(network(name), lifespans))


@st.composite
def plans_of(draw, workload, lifespans=()):
    """Draw a legal backprop plan of ``workload``; see ``random_plans``."""
    last = len(workload.units) - 1
    cut = draw(st.sampled_from((-1, *workload.legal_cuts)))
    new = draw(st.integers(1, 4))
    replay = draw(st.sampled_from(("none", "latent", "raw")))
    if cut == -1 and replay == "latent":
        replay = "raw"
    replays = 0 if replay == "none" else draw(st.integers(0, 5))
    batch = new + replays
    first = min(cut + 1, last)
    policy = draw(st.sampled_from(("all", "bias", "last-1", "table", "sparse")))
    if policy == "table":
        biases = draw(st.lists(st.integers(first, last), max_size=4))
        table = {"ratio": draw(ratios(workload, first, (last,))), "bias": [*biases, last]}
        policy = UpdatePolicy.parse(table)
    if policy == "sparse":
        policy = draw(sparse_policies(workload, first))
    plan = TrainingPlan(
        cut=cut, replay=replay, n_replays=0 if replay == "none" else draw(st.integers(8, 40)),
        replay_bits=8 if replay == "raw" else draw(st.sampled_from((1, 3, 6, 7, 8, 16, 32))),
        frozen_bits=draw(st.sampled_from((8, 32))),
        policy=policy,
        learning_dtype=draw(st.sampled_from(LEARNING_DTYPES)),
        bn_mode=draw(st.sampled_from(("folded", "frozen_stats", "batch_stats", "group"))),
        optimiser=draw(st.sampled_from(OPTIMISERS)),
        new_per_batch=new, replays_per_batch=replays,
        micro_batch=draw(st.integers(1, batch)),
        update=draw(st.sampled_from(("accumulate", "immediate", "in_place"))),
        epochs=draw(st.integers(1, 3)), images_per_event=draw(st.integers(new, 20)),
        new_samples=draw(st.sampled_from(("cache_latent", "cache_raw", "recompute"))),
        first_input=draw(st.sampled_from(("stored", "dequantised"))),
        backward_dtype=draw(st.sampled_from(BACKWARD_DTYPES)),
        accumulator_dtype=draw(st.sampled_from(ACCUMULATOR_DTYPES)),
        classifier_dtype=draw(st.sampled_from(CLASSIFIER_DTYPES)),
        gradient_scaling=draw(st.sampled_from(GRADIENT_SCALINGS)),
        weight_rounding=draw(st.sampled_from(WEIGHT_ROUNDINGS)),
    )  # fmt: skip
    for decision in lifespans:
        plan = replace(plan, **{decision: draw(LIFESPANS[decision](workload, plan))})
    return legalised(workload, plan)


def checkpoint_places(workload, cut):
    """Units above ``cut`` behind which the learning stage can be split: one for each layer, the first."""
    edge = workload.cut_layer(cut)
    units = [workload.units[index] for index in single_tensor_cuts(workload)]
    above = {unit.cut_layer: unit.index for unit in reversed(units) if unit.cut_layer > edge}
    return sorted(above.values())


def checkpoint_words(workload, plan):
    """Strategy of the words of ``checkpoints``."""
    places = checkpoint_places(workload, plan.cut)
    words = [st.just("none"), st.integers(1, 6).map(lambda step: f"every {step}")]
    if places:
        chosen = st.sets(st.sampled_from(places), min_size=1, max_size=5)
        words.append(chosen.map(lambda units: f"units {' '.join(map(str, sorted(units)))}"))
    return st.one_of(words)


def patch_words(workload, plan):
    """Strategy of the words of ``patches``: units up to the cut whose output is a tensor with positions."""
    found = []
    for unit in single_tensor_cuts(workload):
        shape = workload.cut_shape(unit)
        if unit <= plan.cut and len(shape) > 1:
            found += [f"{tiles}x{tiles} to {unit}" for tiles in (2, 3, 4, 7) if tiles <= min(shape[1:])]
    return st.one_of(st.just("none"), st.sampled_from(found)) if found else st.just("none")


LIFESPANS = {
    "in_place": lambda workload, plan: st.sampled_from(IN_PLACE),
    "checkpoints": checkpoint_words,
    "saved_bits": lambda workload, plan: st.sampled_from(SAVED_BITS),
    "im2col": lambda workload, plan: st.sampled_from(("library", "none")),
    "patches": patch_words,
}
"""Decisions that change lifespans -> strategy of their words; unfolding a whole sample needs a workspace."""


@st.composite
def ratios(draw, workload, first, always=(), least=1):
    """Draw {unit: ratio} of units from ``first`` up; every ratio keeps a channel at least."""
    last = len(workload.units) - 1
    units = draw(st.lists(st.integers(first, last), min_size=least, max_size=4))
    shares = (0.125, 0.25, 0.3, 0.5, 1.0)
    return {
        unit: draw(st.sampled_from([r for r in shares if r * workload.units[unit].in_channels >= 1]))
        for unit in sorted({*units, *always})
    }


@st.composite
def sparse_policies(draw, workload, first):
    """Draw a sparse update above unit ``first``: units by index or by name, each channel selection."""
    scheme = draw(ratios(workload, first, least=0))
    scheme.pop(len(workload.units) - 1, None)  # the classifier learns whole
    named = {
        workload.units[unit].name if draw(st.booleans()) else unit: share for unit, share in scheme.items()
    }
    biases = draw(st.integers(0, len(workload.units) - 1 - first))
    return UpdatePolicy.of_scheme(biases, named, draw(st.sampled_from(SELECTIONS)))


def legalised(workload, plan):
    """Mend the combinations that random drawing gets wrong."""
    batch = plan.new_per_batch + plan.replays_per_batch
    if plan.learning_dtype == "int8":
        plan = replace(plan, bn_mode="folded")
    if plan.bn_mode == "batch_stats":
        plan = replace(plan, micro_batch=batch) if batch > 1 else replace(plan, bn_mode="folded")
    if plan.update != "accumulate":
        plan = replace(plan, micro_batch=batch)
    if plan.update == "in_place":  # holds no gradient
        optimiser = "momentum" if plan.optimiser == "lars" else plan.optimiser
        plan = replace(plan, optimiser=optimiser, accumulator_dtype="fp32")
    if plan.patches != "none" and plan.in_place == "depthwise":  # patches overlap
        plan = replace(plan, in_place="elementwise")
    reasons = illegal(workload, PlanBatch.from_plans(workload, [plan]))
    assert not reasons, reasons
    return plan


def resolve(workload, plan):
    """Return (ratio, bias) of a plan as plain lists."""
    ratio, bias = UpdatePolicy.parse(plan.policy).resolve(workload, plan.cut)
    return np.asarray(ratio).tolist(), np.asarray(bias).tolist()
