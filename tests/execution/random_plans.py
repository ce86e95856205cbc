"""Random plans that an executor in fp32 carries out, over the zoo and small networks of all kinds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from dse.plan.decisions import TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.techniques import plan_problems
from dse.workload import load_network
from dse.workload.units import single_tensor_cuts

TESTS = Path(__file__).resolve().parent.parent

SMALL = tuple(
    str(TESTS / "plan" / "data" / f"{name}.toml")
    for name in ("branches", "lenet", "residual", "two-linear", "tcn", "uneven")
)
ZOO = (
    "resnet8", "ds-cnn", "autoencoder", "har-cnn-1d", "mobilenet-v1@width=0.25,resolution=32", "mcunet-5fps",
    "mobilenet-v2-w0.35", "proxylessnas-w0.3",
)  # fmt: skip
LARGE = ("mcunet-5fps", "mobilenet-v2-w0.35", "proxylessnas-w0.3")
"""Cut high, so that a step takes a moment."""


@cache
def network(name):
    return load_network(name)


def random_plan(seed, names=(*SMALL, *ZOO)):
    """Draw (network, legal plan) by ``seed``: at most four samples, frozen stage and learning in fp32."""
    draw = np.random.default_rng([seed, 17])
    pick = lambda *words: words[draw.integers(len(words))]  # noqa: E731
    workload = network(pick(*names))
    for _ in range(500):
        plan = _drawn(workload, draw, pick).canonical(workload)
        if _is_executed(workload, plan) and not plan_problems(workload, plan, "plan"):
            return workload, plan
    raise AssertionError(f"no legal plan for {workload.name}")


def _drawn(workload, draw, pick):
    last = len(workload.units) - 1
    cuts = [cut for cut in (-1, *workload.legal_cuts) if workload.name not in LARGE or cut > 0.7 * last]
    cut = int(pick(*cuts))
    new, old = int(draw.integers(1, 3)), int(draw.integers(0, 3))
    replay = pick("none", "latent", "raw") if cut >= 0 else pick("none", "raw")
    old = 0 if replay == "none" else old
    places = [unit for unit in single_tensor_cuts(workload) if unit > cut]
    splits = sorted({int(pick(*places)) for _ in range(2)}) if places else []
    words = [f"units {' '.join(map(str, splits))}"] if splits else []
    return TrainingPlan(
        cut=cut, replay=replay, n_replays=0 if replay == "none" else 4, frozen_bits=32,
        replay_bits=8 if replay == "raw" else int(pick(1, 3, 6, 7, 8, 16, 32)),
        rounding=pick("nearest", "floor"), policy=_policy(workload, cut, draw, pick),
        bn_mode=pick("folded", "frozen_stats", "batch_stats", "group"),
        optimiser=pick("sgd", "momentum", "adam", "lars"), new_per_batch=new, replays_per_batch=old,
        micro_batch=int(draw.integers(1, new + old + 1)), update=pick("accumulate", "immediate", "in_place"),
        new_samples=pick("cache_latent", "cache_raw", "recompute"), first_input=pick("stored", "dequantised"),
        in_place=pick("elementwise", "none", "depthwise"), images_per_event=8, epochs=2,
        checkpoints=pick("none", "every 1", "every 2", *words), saved_bits=int(pick(32, 32, 32, 8, 4, 2)),
        patches=pick("none", "none", "2x2 to 0", "3x3 to 1", "2x2 to 2"),
        head=pick("sgd", "sgd", "sgd", "sgd", "sgd", "sgd", "sgd", "ncm", "slda", "cwr", "tinyol"),
    )  # fmt: skip


def _policy(workload, cut, draw, pick):
    last = len(workload.units) - 1
    first = min(cut + 1, last)
    kind = pick("all", "all", "bias", "last-2", "table", "table")
    if kind != "table":
        return kind
    ratios = {}
    for _ in range(3):
        unit = workload.units[int(draw.integers(first, last + 1))]
        ratios[unit.index] = float(draw.integers(1, unit.in_channels + 1)) / unit.in_channels
    ratios[last] = float(pick(1.0, 1.0, 0.5))
    return UpdatePolicy.parse({"ratio": ratios, "bias": [*draw.integers(first, last + 1, 3).tolist(), last]})


def _is_executed(workload, plan):
    """Group norms need channels in whole groups, and no convolution with a bias of its own in front."""
    if plan.bn_mode != "group":
        return True
    edge = workload.cut_layer(plan.cut)
    above = [unit for unit in workload.units if unit.layer > edge and unit.norm_channels]
    own = [workload.layers[unit.layer].bias for unit in above]
    return not any(own) and all(unit.out_channels % min(32, unit.out_channels) == 0 for unit in above)
