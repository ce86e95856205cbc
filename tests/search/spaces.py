"""Small spaces over shipped networks and boards."""

from __future__ import annotations

from typing import Any

from dse.search.space import Space

TINY: dict[str, Any] = {
    "networks": ["har-cnn-1d"],
    "boards": ["stm32l476rg"],
    "objectives": ["ram_peak_bytes", "event_j", "event_s"],
    "accuracy": "none",
    "choices": {
        "head": ["sgd", "ncm"],
        "replay": ["latent", "none"],
        "cut": "all",
        "n_replays": [4, 10, 40],
        "replay_bits": [7, 8],
        "batch": [[4, 8], [2, 0]],
        "micro_batch": [1, "batch"],
        "update": ["accumulate", "in_place"],
        "images_per_event": [3, 20],
        "epochs": [1, 2],
    },
}

CORE50: dict[str, Any] = {
    "networks": ["mobilenet-v1"],
    "boards": ["vega + hyperram-64"],
    "choices": {
        "cut": [21, 23, 25, 27],
        "n_replays": {"from": 250, "to": 3250, "step": 250},
        "replay_bits": [6, 7, 8],
        "bn_mode": "batch_stats",
        "micro_batch": "batch",
        "rounding": ["nearest", "floor"],
    },
}


def space(base: dict[str, Any] = TINY, **changes: Any) -> Space:
    """Return a space; ``choices`` are merged into those of ``base``, other tables replace theirs."""
    merged = {**base, **changes}
    merged["choices"] = {**base["choices"], **changes.get("choices", {})}
    return Space.from_dict(merged)
