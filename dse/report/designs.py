"""Every design of a space as a stream of columns: to parquet, and thinned out for the figures.

Designs are priced again rather than kept by the search, so that memory stays bounded by a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.accuracy import STATUSES, AccuracyEstimate
from dse.cost.event import Costs
from dse.plan.decisions import CODES
from dse.search.blocks import Block
from dse.search.budgets import rejections, step_rejection
from dse.search.choices import AUTO, DECISIONS, SPELLINGS
from dse.search.pricing import FEASIBLE, UNKNOWN, Judged, Rows, judged_grid, row_batches
from dse.search.space import Space

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Progress = Callable[[int, int], None]

CHUNK: Final = 1 << 16
"""Designs that are turned into columns at once."""

ROW_GROUP: Final = 1 << 18
"""Designs that are written at once."""

DRAWN: Final = 12_000
"""Most designs of a board that a figure shows."""

COSTS: Final = (
    "ram_peak_bytes", "nvm_bytes", "event_s", "event_j", "lifetime_s", "utilisation", "wear_years",
    "wear_years_levelled", "minibatch_s", "frozen_image_s", "replay_bytes", "new_sample_bytes",
)  # fmt: skip
"""Columns of ``Costs`` that are written, besides the bytes of every level."""

ACCURACY: Final = ("accuracy", "accuracy_low", "accuracy_high")


@dataclass(frozen=True)
class Words:
    """A column of words: positions (n,) in ``names``."""

    codes: NDArray[Any]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """Some designs of one block: their columns, and the objectives of the feasible ones.

    ``last`` is an index up to which the space has been gone through, for progress.
    """

    columns: dict[str, Any]
    feasible_values: FloatArray
    count: int
    last: int


def design_chunks(space: Space, board: int, *, everything: bool) -> Iterator[Chunk]:
    """Yield the feasible designs of a board, or all that are legal."""
    budgets = space.board_budgets(board)
    for block in space.board_blocks(board):
        for rows in row_batches(block, space.accuracy):
            if rows.step is None:
                continue
            rejected, _ = step_rejection(block.context, budgets, rows.step)
            which = np.arange(len(rows)) if everything else np.flatnonzero(rejected < 0)
            for start in range(0, len(which), CHUNK):
                part = which[start : start + CHUNK]
                for tile in block.tiles(len(part), CHUNK):
                    judged = judged_grid(rows, part, tile, space.objectives, budgets)
                    judged.reason[rejected[part] >= 0] = rejected[part][rejected[part] >= 0][:, None]
                    yield _chunk(space, board, rows, part, tile.columns, judged, everything)


def _chunk(
    space: Space, board: int, rows: Rows, part: IntArray, columns: slice, judged: Judged, everything: bool
) -> Chunk:
    shape = judged.reason.shape
    flat = np.ravel(judged.reason)
    kept = np.arange(flat.size) if everything else np.flatnonzero(flat == FEASIBLE)
    row, column = np.divmod(kept, shape[1])
    block = rows.block
    numbers = rows.rows[part][row], np.arange(columns.start, columns.stop)[column]
    found: dict[str, Any] = {
        "design": block.first + numbers[0] * block.columns + numbers[1],
        "status": _status(space, board, flat[kept]),
        "board": Words(np.zeros(len(kept), dtype=np.int16), (block.context.board.label,)),
        "network": Words(np.zeros(len(kept), dtype=np.int16), (space.network_names[block.network],)),
        **_decisions(block, *numbers),
    }
    if rows.accuracy is not None:
        found |= _accuracy(rows.accuracy.pairs(part[row], numbers[1]))
    found |= _costs(judged.costs, shape, kept)
    values = [np.ravel(objective)[flat == FEASIBLE] for objective in judged.objectives]
    return Chunk(
        found, np.stack(values, axis=1), len(kept), block.first + int(rows.rows[part[-1]] + 1) * block.columns
    )


def _status(space: Space, board: int, reason: NDArray[np.int8]) -> Words:
    names = (*rejections(space.boards[board], space.board_budgets(board)), "accuracy unknown", "feasible")
    last = len(names) - 1
    codes = np.where(reason == FEASIBLE, last, np.where(reason == UNKNOWN, last - 1, reason))
    return Words(codes.astype(np.int16), names)


def _decisions(block: Block, rows: IntArray, columns: IntArray) -> dict[str, Any]:
    board = block.context.board
    names: dict[str, tuple[str, ...]] = {
        "operating_point": tuple(point.name for point in board.operating_points),
        "sleep_state": tuple(state.name for state in board.sleep_states),
        "replay_level": tuple(level.name for level in board.levels),
        "policy": tuple(policy.name for policy in block.policies),
        **CODES,
    }
    values = {name: np.full(len(rows), value) for name, value in block.kind.decisions.items()}
    values |= block.step_values(rows) | block.event_values(columns)
    order = [*block.kind.decisions, *(name for name in DECISIONS if name in values)]
    return {
        name: _words(values[name], names[name]) if name in names else _spelled(name, values[name])
        for name in dict.fromkeys(order)
    }


def _spelled(name: str, values: IntArray) -> IntArray | Words:
    if name not in SPELLINGS:
        return values
    codes, places = np.unique(values, return_inverse=True)
    return Words(places.astype(np.int16), tuple(SPELLINGS[name](int(code)) for code in codes))


def _words(codes: IntArray, names: tuple[str, ...]) -> Words:
    return Words(np.where(codes == AUTO, len(names), codes).astype(np.int16), (*names, "auto"))


def _accuracy(estimate: AccuracyEstimate) -> dict[str, Any]:
    columns: dict[str, Any] = dict(zip(ACCURACY, estimate[:3], strict=True))
    return columns | {"accuracy_status": Words(estimate.status.astype(np.int16), STATUSES)}


def _costs(costs: Costs, shape: tuple[int, ...], kept: IntArray) -> dict[str, FloatArray]:
    def picked(value: Any) -> FloatArray:
        return np.asarray(np.broadcast_to(value, shape).reshape(-1)[kept], dtype=np.float64)

    found = {name: picked(getattr(costs, name)) for name in COSTS}
    return found | {f"level_bytes.{level}": picked(used) for level, used in costs.level_bytes.items()}


def sampled_values(
    result_boards: Mapping[int, int], chunks: Iterator[tuple[int, Chunk]]
) -> dict[int, FloatArray]:
    """Thin the feasible designs of ``chunks`` out, evenly by index: board -> objectives (k, m), k <= DRAWN.

    ``result_boards`` says how many feasible designs each board has.
    """
    kept: dict[int, list[FloatArray]] = {board: [] for board in result_boards}
    seen = dict.fromkeys(result_boards, 0)
    for board, chunk in chunks:
        stride = -(-result_boards[board] // DRAWN) or 1
        first = -seen[board] % stride
        kept[board].append(chunk.feasible_values[first::stride])
        seen[board] += len(chunk.feasible_values)
    return {board: np.concatenate(parts) for board, parts in kept.items() if parts}


class DesignWriter:
    """Writes chunks to one parquet or csv file; a level that a board lacks is null there."""

    def __init__(self, space: Space, path: Path) -> None:
        import pyarrow.csv
        import pyarrow.parquet

        self.schema = design_schema(space)
        self.csv = path.suffix == ".csv"
        self.writer: Any
        if self.csv:
            self.writer = pyarrow.csv.CSVWriter(path, _plain(self.schema))
        else:
            self.writer = pyarrow.parquet.ParquetWriter(path, self.schema, compression="zstd", version="2.6")
        self.waiting: list[Any] = []
        self.count = 0

    def add(self, chunk: Chunk) -> None:
        """Take over a chunk; rows are written in groups of ``ROW_GROUP``."""
        if chunk.count == 0:
            return
        self.waiting.append(arrow_table(chunk, self.schema))
        self.count += chunk.count
        if sum(len(table) for table in self.waiting) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self.waiting:
            table = pa.concat_tables(self.waiting).unify_dictionaries()
            if self.csv:
                self.writer.write_table(table.cast(_plain(self.schema)))
            else:
                self.writer.write_table(table, row_group_size=ROW_GROUP)
            self.waiting = []

    def close(self) -> None:
        """Write what is left and end the file."""
        self._flush()
        self.writer.close()


def _plain(schema: Any) -> Any:
    """Return ``schema`` with words instead of dictionaries."""
    import pyarrow as pa

    return pa.schema(
        [(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type) for field in schema]
    )


_INTEGERS: Final = (
    "design", "new_per_batch", "replays_per_batch", "cut", "frozen_bits", "replay_bits", "micro_batch",
    "persist_every", "saved_bits", "n_replays", "images_per_event", "epochs",
)  # fmt: skip


def design_schema(space: Space) -> Any:
    """Return the arrow schema that the designs of all boards share."""
    import pyarrow as pa

    word = pa.dictionary(pa.int16(), pa.string())
    names = ["design", "status", "board", "network", "head", "replay", "new_per_batch", "replays_per_batch"]
    names += [name for name in DECISIONS if name not in (*names, "batch")]
    names += [*ACCURACY, "accuracy_status"] if space.accuracy is not None else []
    levels = dict.fromkeys(level.name for board in space.boards for level in board.levels)
    floats = [*COSTS, *(f"level_bytes.{level}" for level in levels)]
    types = {name: pa.int64() if name in _INTEGERS else word for name in names}
    types |= {name: pa.float64() for name in (*floats, *(name for name in ACCURACY if name in names))}
    return pa.schema([(name, types[name]) for name in dict.fromkeys((*names, *floats))])


def arrow_table(chunk: Chunk, schema: Any) -> Any:
    """Return a chunk as an arrow table; columns that it lacks are null."""
    import pyarrow as pa

    arrays = []
    for field in schema:
        column = chunk.columns.get(field.name)
        if column is None:
            arrays.append(pa.nulls(chunk.count, field.type))
        elif isinstance(column, Words):
            arrays.append(pa.DictionaryArray.from_arrays(pa.array(column.codes), pa.array(column.names)))
        else:
            arrays.append(pa.array(np.ascontiguousarray(column), type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
