"""Feasible designs of a space, drawn at random with a seed: from the table of a run, or by pricing draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.accuracy import STATUSES
from dse.errors import Problem, UserError
from dse.search.pricing import FEASIBLE, Designs, price_designs
from dse.search.space import Space

IntArray = NDArray[np.int64]

TABLE: Final = "designs.parquet"
DRAWN_AT_ONCE: Final = 256
MOST_DRAWN: Final = 64 * DRAWN_AT_ONCE
"""Designs that are priced at most; where few fit, fewer are found."""

PREDICTION: Final = {"predicted": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}


@dataclass(frozen=True)
class Sampled:
    """A feasible design; ``predicted``, ``low``, ``high`` and ``status`` where accuracy was predicted."""

    design: int
    prediction: Mapping[str, Any]


def draw_designs(space: Space, folder: Path | None, seed: int) -> Iterator[Sampled]:
    """Yield distinct feasible designs of ``space`` in a random order that ``seed`` decides.

    They come from designs.parquet in ``folder`` where it is there, with what was predicted when it was
    written; else designs of the space are drawn and priced. Stops after ``MOST_DRAWN`` draws.
    """
    if folder is not None and has_table(folder):
        yield from _from_table(folder / TABLE, seed)
    else:
        yield from _by_pricing(space, seed)


def has_table(folder: Path) -> bool:
    """Return whether a run folder has a table of designs."""
    return (folder / TABLE).is_file()


# --- from the table ---


def _from_table(path: Path, seed: int) -> Iterator[Sampled]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            total = file.metadata.num_rows
            draws = np.random.default_rng([seed, 41]).choice(total, min(total, MOST_DRAWN), replace=False)
            columns = [
                name
                for name in ("design", "status", *PREDICTION.values(), "accuracy_status")
                if name in file.schema_arrow.names
            ]
            found = dict(_rows(file, columns, np.sort(draws)))
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else "damaged"
        raise UserError(
            Problem(str(path), "", f"cannot be read: {reason}", "explore the space again")
        ) from None
    for draw in draws:
        row = found[int(draw)]
        if row["status"] == "feasible":
            yield Sampled(int(row["design"]), _prediction(row))


def _rows(file: Any, columns: list[str], wanted: IntArray) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows ``wanted`` (ascending), one row group at a time: tables may be larger than memory."""
    first = 0
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        mine = wanted[(wanted >= first) & (wanted < first + count)]
        if len(mine):
            rows = file.read_row_group(group, columns=columns).take(mine - first).to_pylist()
            yield from zip(mine.tolist(), rows, strict=True)
        first += count


def _prediction(row: Mapping[str, Any]) -> dict[str, Any]:
    if row.get("accuracy") is None or np.isnan(row["accuracy"]):
        return {}
    values = {name: float(row[column]) for name, column in PREDICTION.items()}
    return {**values, "status": str(row["accuracy_status"])}


# --- by pricing ---


def _by_pricing(space: Space, seed: int) -> Iterator[Sampled]:
    draw = np.random.default_rng([seed, 43])
    total = sum(block.size for block in space.blocks)
    seen: set[int] = set()
    for _ in range(MOST_DRAWN // DRAWN_AT_ONCE):
        if len(seen) >= total:
            return
        drawn = draw.integers(0, total, DRAWN_AT_ONCE).tolist()
        fresh = [design for design in dict.fromkeys(drawn) if design not in seen]
        seen.update(fresh)
        feasible = _feasible(space, np.array(fresh, dtype=np.int64))
        yield from (Sampled(design, feasible[design]) for design in fresh if design in feasible)


def _feasible(space: Space, index: IntArray) -> dict[int, dict[str, Any]]:
    """Return the feasible ones of the designs ``index``, with what is predicted for them."""
    found: dict[int, dict[str, Any]] = {}
    for block in space.blocks:
        mine = index[(index >= block.first) & (index < block.first + block.size)]
        if len(mine) == 0:
            continue
        budgets = space.board_budgets(block.board)
        designs, _ = price_designs(block, mine, space.accuracy, space.objectives, budgets)
        if designs is not None:
            fits = np.flatnonzero(designs.judged.reason == FEASIBLE)
            found |= {int(designs.index[row]): _estimated(designs, int(row)) for row in fits}
    return found


def _estimated(designs: Designs, row: int) -> dict[str, Any]:
    if designs.accuracy is None or np.isnan(designs.accuracy.value[row]):
        return {}
    value, low, high, status = (field[row] for field in designs.accuracy)
    return {
        "predicted": float(value),
        "low": float(low),
        "high": float(high),
        "status": STATUSES[int(status)],
    }
