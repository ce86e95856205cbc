"""Small spaces that the tests of reports and commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dse.report.provenance import file_hashes

TINY: dict[str, Any] = {
    "name": "tiny",
    "networks": ["resnet8"],
    "boards": ["stm32l4r5"],
    "objectives": ["ram_peak_bytes", "event_j"],
    "accuracy": "none",
    "choices": {
        "cut": [5, "last"],
        "n_replays": [100, 400],
        "replay_bits": [7, 8],
        "micro_batch": [1, "batch"],
        "update": ["accumulate", "in_place"],
    },
}
"""Designs that fit, designs that do not, designs that no device can execute."""

STUDIED: dict[str, Any] = {
    "name": "studied",
    "networks": ["mobilenet-v1"],
    "boards": ["vega + hyperram-64"],
    "choices": {
        "head": ["sgd", "ncm"],
        "cut": [25, 27],
        "n_replays": [600, 750, 1500],
        "bn_mode": "batch_stats",
        "micro_batch": "batch",
    },
}
"""Accuracy is known for some, extrapolated for some, unknown for the others."""

IMPOSSIBLE: dict[str, Any] = {
    "name": "impossible",
    "networks": ["mobilenet-v1"],
    "boards": ["stm32l476rg"],
    "objectives": ["ram_peak_bytes", "event_j"],
    "accuracy": "none",
    "choices": {"cut": "last", "n_replays": [10]},
}


def seal(folder: Path) -> None:
    """Write the hashes of the tables into run.json anew, as whoever changes both would."""
    path = folder / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "files_sha256": file_hashes(folder)}), encoding="utf-8")
