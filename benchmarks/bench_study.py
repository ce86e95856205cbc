"""NSGA-II with 1000 trials beside the exact front of the same space, over five seeds."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np

from benchmarks.figures import Figure, timed
from dse.search import Space, explore_exact, explore_study

SEEDS = range(5)
TRIALS = 1000

SPACE: dict[str, Any] = {
    "networks": ["mobilenet-v1"],
    "boards": ["vega + hyperram-64"],
    "objectives": ["accuracy", "ram_peak_bytes", "event_j"],
    "choices": {
        "cut": [19, 21, 23, 25, 27],
        "n_replays": {"from": 400, "to": 3000, "step": 50},
        "replay_bits": [6, 7, 8, 16, 32],
        "frozen_bits": [8, 32],
        "micro_batch": "batch",
        "bn_mode": "batch_stats",
        "replay_level": ["auto", "MRAM", "HyperRAM"],
        "update": ["accumulate", "immediate", "in_place"],
        "first_input": ["stored", "dequantised"],
        "new_samples": ["cache_latent", "cache_raw", "recompute"],
    },
}


def measure() -> list[Figure]:
    """Compare hypervolumes within the ranges of the exact feasible set, and count front points found."""
    space = Space.from_dict(SPACE)
    exact = explore_exact(space).boards[0].front
    volumes, shares, seconds, priced = [], [], [], []
    for seed in SEEDS:
        with timed() as clock:
            result = explore_study(space, trials=TRIALS, seed=seed)
        found = result.boards[0].front
        volumes.append(found.hypervolume_within(exact.ranges) / exact.hypervolume)
        shares.append(float(np.isin(found.index, exact.index).sum()) / len(exact))
        seconds.append(clock.wall_s)
        priced.append(result.priced)
    spread = f"{min(volumes):.2%} to {max(volumes):.2%} over {len(SEEDS)} seeds, {space.size:,} designs"
    grid = f"{len(exact)} exact front points; {median(priced):.0f} designs priced, coarse grid included"
    return [
        Figure("NSGA-II, 1000 trials, hypervolume", 100 * median(volumes), "%", ">=", 99.0, spread),
        Figure("  front points found", 100 * median(shares), "%", note=grid),
        Figure("  wall clock", median(seconds), "s"),
    ]
