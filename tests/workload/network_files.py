"""A small network file that is right, and the messages that a wrong one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.errors import UserError
from dse.workload import load_network

GOOD = """
name = "good"
title = "a chain"
source = "own"
input = { channels = 3, height = 8, width = 8 }
classes = 4
legal_cuts = [0, 1, 2]
layers = [
  { kind = "conv2d", name = "a", out_channels = 8, kernel = 3, then = ["batch_norm", "relu"] },
  { kind = "pointwise", name = "b", out_channels = 8 },
  { kind = "global_avg_pool", name = "pool" },
  { kind = "linear", name = "c", out_features = "classes" },
]
"""
WHOLE = "must be a whole number from 1 to 65536"
SIZE = f"{WHOLE}, or HEIGHTxWIDTH such as 32x48"


def problems(text: str, folder: Path) -> list[str]:
    """Messages of the file, without its name."""
    path = folder / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_network(path)
    assert all(problem.file == str(path) for problem in refused.value.problems)
    return [str(problem).removeprefix(f"{path}: ") for problem in refused.value.problems]
