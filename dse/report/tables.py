"""Fronts as tidy tables: what varies, in the reader's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from dse.plan.decisions import LIFESPAN_CHOICES
from dse.report import text
from dse.report.estimate import RESULTS

DECIDED: Final = (
    "network", "head", "replay", "new_per_batch", "replays_per_batch", "cut", "policy", "frozen_bits",
    "replay_bits", "n_replays", "rounding", "replay_level", "learning_dtype", "bn_mode", "optimiser",
    "backward_dtype", "accumulator_dtype", "classifier_dtype", "gradient_scaling", "weight_rounding",
    "micro_batch", "update", "epochs", "images_per_event", "new_samples", "first_input", "persist_every",
    *LIFESPAN_CHOICES, "operating_point", "sleep_state",
)  # fmt: skip
"""Columns that say what a design is, in the order in which tables show them."""


def decided_columns(columns: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the decisions that differ between designs, and the values of those that do not."""
    varying, constant = [], {}
    for name in DECIDED:
        if name not in columns:
            continue
        values = np.unique(columns[name])
        if len(values) == 1:
            constant[name] = values[0].item()
        else:
            varying.append(name)
    return varying, constant


def front_rows(
    columns: Mapping[str, Any], varying: Sequence[str], objectives: Sequence[str], most: int
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of up to ``most`` designs, evenly spread over the first objective."""
    values = np.asarray(columns[objectives[0]], dtype=float)
    order = np.argsort(-values if objectives[0] in ("accuracy", "lifetime_s") else values, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)]
    header = ["design", *varying, *(title(name) for name in objectives)]
    rows = []
    for place in chosen:
        decided = [str(columns[name][place]) for name in varying]
        results = [result(columns, name, place) for name in objectives]
        rows.append([str(columns["design"][place]), *decided, *results])
    return header, rows


def title(name: str) -> str:
    """Return the name of an objective for people."""
    return "accuracy" if name == "accuracy" else RESULTS[name][0]


def result(columns: Mapping[str, Any], name: str, place: int) -> str:
    """Write one objective of one design; an accuracy that is not published says what it is."""
    value = float(columns[name][place])
    if name != "accuracy":
        return text.written(value, RESULTS[name][1])
    said = accuracy_status({key: columns[key][place] for key in columns if key.startswith("accuracy_")})
    return text.percent(value) + (f" ({said})" if said != "published" else "")


def accuracy_status(row: Mapping[str, Any]) -> str:
    """Return how the accuracy of a design came about, in words."""
    status, runs = str(row["accuracy_status"]), int(row.get("accuracy_runs", 0))
    return f"measured, {text.plural(runs, 'run')}" if status == "measured" and runs else status
