"""Explored spaces that tests validate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dse
from dse.report.inputs import ExploredRun

CORE: dict[str, Any] = {
    "name": "core",
    "networks": ["mobilenet-v1"],
    "boards": ["vega + hyperram-64"],
    "choices": {
        "head": ["sgd", "ncm"],
        "cut": [21, 23, 25, 27],
        "n_replays": [750, 1500, 3000],
        "replay_bits": [7, 8],
        "bn_mode": "batch_stats",
        "micro_batch": [128, "batch"],
        "persist_every": [0, 1],
    },
}
"""Accuracy is published for its plans; each is there four times, by decisions that no run depends on."""

COSTS_ONLY: dict[str, Any] = {
    **CORE,
    "name": "costs",
    "accuracy": "none",
    "objectives": ["ram_peak_bytes", "event_j"],
}


def explored(space: dict[str, Any], folder: Path, designs: str = "feasible") -> ExploredRun:
    """Return ``space`` explored as if read back from its folder; without figures and reports, but quicker."""
    found = dse.explore(space)
    if designs != "none":
        dse.sweep(found.space, folder / "designs.parquet", feasible_only=designs == "feasible")
    frame = found.to_frame()
    return ExploredRun(folder, found.space, {name: frame[name].to_numpy() for name in frame.columns})
