"""Networks with layers that run forward only, small enough to be counted by hand."""

from __future__ import annotations

from pathlib import Path

from dse.workload import Workload, load_network

STEPS, FEATURES, HIDDEN, CLASSES = 20, 6, 8, 4
LSTM_WEIGHTS = 4 * HIDDEN * (FEATURES + HIDDEN)  # 448
LSTM_BIASES = 8 * HIDDEN  # as frameworks keep them: one vector for the input, one for the state
LSTM_MACS = STEPS * LSTM_WEIGHTS  # 8960
COUNTS = f"forward_macs = {LSTM_MACS}, weights = {LSTM_WEIGHTS}, biases = {LSTM_BIASES}"

LSTM = f"""
name = "keyword"
title = "An LSTM and a head"
source = "made for tests"
input = {{ channels = {FEATURES}, length = {STEPS} }}
classes = {CLASSES}
legal_cuts = [0, 1]
layers = [
  {{ kind = "forward_only", name = "turn", operation = "copy", shape = [{STEPS}, {FEATURES}] }},
  {{ kind = "forward_only", name = "cells", operation = "lstm", shape = [{HIDDEN}], {COUNTS} }},
  {{ kind = "linear", name = "head", out_features = "classes" }},
]
"""

# The same with a gate in the copy's place, as large: boards price a copy, and none of them a sigmoid.
GATED = LSTM.replace('name = "turn", operation = "copy"', 'name = "gate", operation = "sigmoid"')

# A product of two views of one tensor, a gate, and a residual: what an attention block does with memory.
ATTENTION = """
name = "mixer"
title = "A product, a gate and a head"
source = "made for tests"
input = { channels = 4, height = 3, width = 3 }
classes = 2
legal_cuts = [2]
layers = [
  { kind = "pointwise", name = "embed", out_channels = 8 },
  { kind = "forward_only", name = "rows", operation = "view", shape = [8, 9] },
  { kind = "forward_only", name = "turned", inputs = ["embed"], operation = "copy", shape = [9, 8] },
  { kind = "forward_only", name = "scores", inputs = ["rows", "turned"], SCORES },
  { kind = "forward_only", name = "weigh", operation = "softmax", shape = [8, 8] },
  { kind = "forward_only", name = "scale", operation = "layer_norm", NORM },
  { kind = "forward_only", name = "flat", operation = "view", shape = [64] },
  { kind = "linear", name = "head", out_features = "classes" },
]
""".replace("SCORES", 'operation = "matmul", shape = [8, 8], forward_macs = 576').replace(
    "NORM", "shape = [8, 8], weights = 8, biases = 8"
)


def load(text: str, folder: Path) -> Workload:
    """Return the network of a file with ``text``."""
    return load_network(write(text, folder))


def write(text: str, folder: Path) -> Path:
    """Write a network file and return its path."""
    path = folder / "network.toml"
    path.write_text(text, encoding="utf-8")
    return path
