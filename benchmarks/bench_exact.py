"""The exact search: designs per second and core, ten million designs, and an Optuna loop beside it.

The front is included; writing parquet and intervals are not. The rate of one board counts only designs that
stay within the board, all of which are priced in full: what is rejected adds time to it but no designs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna

from benchmarks.figures import Figure, peak_rss_bytes, timed
from dse.cost.model import price
from dse.plan.decisions import PlanBatch
from dse.search import SearchResult, Space, explore_exact
from dse.search.coarse import Axes
from dse.search.table import plan_at

TRIALS = 300
"""Trials of the Optuna loop: enough for a steady rate."""

ONE_BOARD: dict[str, Any] = {
    "networks": ["mobilenet-v1"],
    "boards": ["vega + hyperram-64"],
    "objectives": ["accuracy", "ram_peak_bytes", "event_j"],
    "choices": {
        "cut": [25, 27],
        "n_replays": {"from": 375, "to": 3000},
        "replay_bits": [6, 7, 8],
        "frozen_bits": [8, 32],
        "bn_mode": "batch_stats",
        "micro_batch": "batch",
        "update": ["accumulate", "immediate", "in_place"],
        "first_input": ["stored", "dequantised"],
        "new_samples": ["cache_latent", "cache_raw", "recompute"],
    },
}

TEN_MILLION: dict[str, Any] = {
    "networks": ["mobilenet-v1", "mobilenet-v1-0.25", "mcunet-5fps", "proxylessnas-w0.3"],
    "boards": ["vega + hyperram-64", "stm32h743 + psram", "gap9 + hyperram-64"],
    "objectives": ["ram_peak_bytes", "event_j", "event_s"],
    "accuracy": "none",
    "choices": {
        "cut": "all",
        "n_replays": {"from": 107, "to": 3000, "step": 4},
        "replay_bits": [4, 6, 7, 8, 32],
        "micro_batch": [1, 4, 16, "batch"],
    },
}

STEP_HEAVY: dict[str, Any] = {
    "networks": ["mobilenet-v1-0.25"],
    "boards": ["stm32h743 + psram"],
    "objectives": ["ram_peak_bytes", "event_j", "event_s"],
    "accuracy": "none",
    "choices": {
        "cut": "all",
        "n_replays": [375, 1500],
        "replay_bits": [6, 7, 8],
        "optimiser": ["sgd", "momentum", "adam"],
        "micro_batch": [1, 4, 16, "batch"],
        "update": ["accumulate", "immediate", "in_place"],
        "frozen_bits": [8, 32],
        "new_samples": ["cache_latent", "cache_raw", "recompute"],
    },
}
"""Few N for each training step, so that pricing steps rather than replay memories takes the time."""


def small() -> list[Figure]:
    """One board and network with an accuracy axis, and the same cost function under a sampler."""
    space = Space.from_dict(ONE_BOARD)
    explore_exact(Space.from_dict({**ONE_BOARD, "choices": {"n_replays": 1500}}))  # warm caches
    with timed() as exact:
        result = explore_exact(space)
    with timed() as sampled:
        optuna_loop(space, TRIALS)
    kept = result.boards[0].counts.feasible + result.boards[0].counts.unknown
    rate, loop = kept / exact.cpu_s, TRIALS / sampled.cpu_s
    return [
        Figure("exact search, one board", rate, "designs/s/core", ">=", 1e6, said(space, result)),
        Figure(
            "Optuna RandomSampler loop", loop, "designs/s/core", note=f"{TRIALS} trials, same cost function"
        ),
        Figure("exact over Optuna loop", rate / loop, "x", ">=", 100.0),
    ]


def large() -> list[Figure]:
    """Ten million designs over networks, cuts, N, bits, boards, clocks and micro-batches."""
    space = Space.from_dict(TEN_MILLION)
    with timed() as clock:
        result = explore_exact(space)
    rate = space.size / clock.cpu_s
    return [
        Figure("ten million designs", space.size, "designs", ">=", 1e7, said(space, result)),
        Figure("  wall clock", clock.wall_s, "s", "<=", 20.0),
        Figure("  peak resident set", peak_rss_bytes() / 2**30, "GiB", "<=", 2.0),
        Figure("  rate, early rejections included", rate, "designs/s/core"),
    ]


def step_heavy() -> list[Figure]:
    """A space whose designs differ in their training steps, not in N: rate of all, and of those that fit."""
    space = Space.from_dict(STEP_HEAVY)
    with timed() as clock:
        result = explore_exact(space)
    feasible = result.boards[0].counts.feasible / clock.cpu_s
    return [
        Figure("step-heavy space", space.size / clock.cpu_s, "designs/s/core", note=said(space, result)),
        Figure("  those within the board", feasible, "designs/s/core", note="illegal and rejected add time"),
    ]


def said(space: Space, result: SearchResult) -> str:
    """Say how many designs there were and where they went."""
    counts = result.counts.values()
    rejected = sum(sum(one.rejected.values()) + sum(one.illegal.values()) for one in counts)
    front = sum(one.front for one in counts)
    return f"{space.size:,} designs: {rejected / space.size:.0%} rejected, {front} on fronts"


def optuna_loop(space: Space, trials: int) -> None:
    """Price one design per trial as an Optuna user would: suggest, build the plan, price it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    axes = Axes(space, 0)

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        positions = {name: trial.suggest_int(name, 0, count - 1) for name, count in axes.counts.items()}
        design = axes.design(positions)
        assert design is not None
        block = space.block_of(design)
        choice = plan_at(block, design, "")
        plans = PlanBatch.from_plans(block.context.workload, [choice.plan])
        costs = price(block.context, plans, operating_point=choice.operating_point)
        return tuple(
            float(np.ravel(values)[0]) for values in (costs.ram_peak_bytes, costs.event_j, costs.event_s)
        )

    study = optuna.create_study(directions=["minimize"] * 3, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=trials)
