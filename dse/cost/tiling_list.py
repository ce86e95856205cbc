"""The tiles of one plan, kernel call by kernel call: what fits into the level next to the cores, and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dse.cost.context import Context
from dse.cost.forward_tiles import frozen_tiling
from dse.cost.tiling import Tiling
from dse.cost.tiling_calls import MAC_PASSES, require_tiling, scratchpad_of, step_call
from dse.plan.step import TrainingStep


@dataclass(frozen=True)
class TileRow:
    """One kernel call of a micro-batch (of an image, in the frozen stage) and the tiles that it runs in.

    ``used_bytes`` of ``room_bytes`` [B] in ``level`` hold tiles and workspace, every tile ``buffers`` times.
    """

    stage: str
    unit: str
    pass_: str
    level: str
    buffers: int
    room_bytes: float
    tiling: Tiling

    def record(self) -> dict[str, Any]:
        """Return plain values: the largest tile's samples, rows, groups, output and input channels first."""
        tiles = self.tiling
        return {
            "stage": self.stage, "unit": self.unit, "pass": self.pass_, "level": self.level,
            "samples": tiles.samples, "rows": tiles.rows, "groups": tiles.groups, "outs": tiles.outs,
            "ins": tiles.ins, "order": " ".join(tiles.order), "tiles": tiles.tiles, "buffers": self.buffers,
            "used_bytes": tiles.used_bytes, "room_bytes": self.room_bytes,
            "bytes_moved": tiles.bytes_moved, "transfers": tiles.transfers,
        }  # fmt: skip


def tile_rows(context: Context, step: TrainingStep, row: int = 0) -> tuple[TileRow, ...]:
    """Return the tiles of plan ``row`` of ``step``; empty on a board whose cores reach their levels directly.

    Operands lie in the level behind the scratchpad; such as lie farther away are moved there first. Raises
    Unpriced, naming unit, bytes needed and level, where not even the smallest tile fits.
    """
    return tuple(_rows(context, step, row))


def _rows(context: Context, step: TrainingStep, row: int) -> Iterator[TileRow]:
    pad = scratchpad_of(context)
    if pad is None:
        return
    workload, learning = step.workload, step.learning
    width, im2col = int(step.spec.frozen_bytes[row]), int(step.spec.im2col[row])
    for unit in workload.units:
        if step.frozen_units[row, unit.index]:
            tiling = frozen_tiling(pad, workload, unit.index, width, im2col)
            yield TileRow("frozen stage", unit.name, "fwd", pad.level, pad.buffers, pad.room_bytes, tiling)
        for pass_ in range(len(MAC_PASSES)):
            if step.calls[row, unit.index, pass_]:
                kept = int(learning.kept_channels[row, unit.index])
                some = pass_ == 2 and kept < unit.in_channels
                call = step_call(pad, step, row, unit.index, pass_, kept if some else None)
                tiling = require_tiling(pad, call, unit.name)
                yield TileRow(
                    "learning", unit.name, MAC_PASSES[pass_], pad.level, pad.buffers, pad.room_bytes, tiling
                )
