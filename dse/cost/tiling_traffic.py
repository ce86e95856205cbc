"""What tiles add to a training step: bytes that are fetched again, and transfers that are set up.

The step counts each operand once per operation and micro-batch. On a board whose cores work in a scratchpad
(a level with access "tile"), conv and linear layers walk tiles of it (``dse.cost.tiling``), and what a tiling
moves beyond the operands themselves is added to the roles that hold them, unit by unit and pass by pass.
Plans are grouped by what decides their tiles: micro-batch, widths, and what the kernels need.

Tiles come from the level next to the scratchpad. What lies farther away is brought there first, in larger
tiles: as large as what the step leaves free of that level, rounded down to a power of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from dse.cost.context import Context
from dse.cost.forward_tiles import frozen_tiling
from dse.cost.memory import Placement
from dse.cost.tiling import Tiling
from dse.cost.tiling_calls import (
    MAC_PASSES,
    Scratchpad,
    level_behind,
    require_tiling,
    scratchpad_of,
    step_call,
)
from dse.cost.tiling_geometry import INPUT, OPERANDS, OUTPUT, WEIGHTS, WRITTEN
from dse.plan.decisions import FloatArray, IntArray
from dse.plan.step import READ, WRITE, Traffic, TrainingStep
from dse.vocabulary import Role
from dse.workload import Workload

_FORWARD: Final = (Role.TRANSIENT_ACTIVATIONS, Role.SAVED_ACTIVATIONS)
_ERRORS: Final = (Role.TRANSIENT_ACTIVATIONS,)
_WEIGHTS: Final = (Role.LEARNING_WEIGHTS, Role.FROZEN_WEIGHTS)

ROLES: Final[dict[tuple[str, str], tuple[Role, ...]]] = {
    (INPUT, "fwd"): _FORWARD,
    (OUTPUT, "fwd"): _FORWARD,
    (INPUT, "bwd_input"): _ERRORS,
    (OUTPUT, "bwd_input"): _ERRORS,
    (INPUT, "bwd_weight"): (Role.SAVED_ACTIVATIONS,),
    (OUTPUT, "bwd_weight"): _ERRORS,
    (WEIGHTS, "fwd"): _WEIGHTS,
    (WEIGHTS, "bwd_input"): _WEIGHTS,
    (WEIGHTS, "bwd_weight"): (Role.GRADIENTS,),
}
"""(operand, pass) -> the roles that may hold it; a saved input that is widened for its use is transient."""


OPERAND_ROLES: Final = tuple(dict.fromkeys(role for roles in ROLES.values() for role in roles))


@dataclass(frozen=True)
class Tiles:
    """What tiles add to a mini-batch by plan, unit and pass, or to one image of the frozen stage by unit."""

    extra: FloatArray  # (passes, operands, 2, P, U) or (operands, 2, P, U): bytes read, written
    transfers: FloatArray  # (P, U, passes) or (P, U)


@dataclass(frozen=True)
class Passage:
    """Tiles between the scratchpad and level ``near`` behind it, and those between that level and others."""

    near: int
    tiles: Tiles
    staged: Tiles


def _staging(context: Context, pad: Scratchpad, placement: Placement) -> tuple[Scratchpad, ...]:
    """Where each plan's tiles from farther levels are held: in what is free behind the scratchpad."""
    near = level_behind(context)
    free = context.capacity_bytes[near] - placement.peak_bytes[:, near]
    rooms = 2.0 ** np.floor(np.log2(np.maximum(free, 1.0)))
    name = context.board.levels[near].name
    larger = {
        room: replace(pad, level=name, room_bytes=room, formulas=()) if room > pad.room_bytes else pad
        for room in np.unique(rooms).tolist()
    }
    return tuple(larger[room] for room in rooms.tolist())


class _Table:
    """Tiles of every unit and pass for plans that share widths and micro-batch, filled as they are needed."""

    def __init__(self, units: int) -> None:
        self.extra = np.zeros((len(MAC_PASSES), len(OPERANDS), 2, units))
        self.transfers = np.zeros((units, len(MAC_PASSES)))
        self.known = np.zeros((units, len(MAC_PASSES)), dtype=bool)

    def put(self, unit: int, pass_: int, tiling: Tiling) -> None:
        """Keep the tiling of one call."""
        self.extra[pass_, ..., unit], self.transfers[unit, pass_] = _added(tiling), tiling.transfers
        self.known[unit, pass_] = True


@lru_cache(maxsize=4096)
def _table(pad: Scratchpad, workload: Workload, key: tuple[int, ...]) -> _Table:
    return _Table(len(workload.units))


def _added(tiling: Tiling) -> FloatArray:
    """Bytes beyond each operand once, (operands, 2): the step counts that, and what accumulators read."""
    added = np.zeros((len(OPERANDS), 2))
    for index, name in enumerate(OPERANDS):
        moved = tiling.operands[name]
        if moved.written_bytes:  # unfinished sums go and come as often
            added[index] = moved.written_bytes - moved.once_bytes
        else:
            added[index, READ] = moved.read_bytes - moved.once_bytes
    return added


# --- the learning stage ---


def step_tiles(context: Context, step: TrainingStep, placement: Placement) -> Passage | None:
    """Return what tiles add to one mini-batch; None on a board without a scratchpad. Raises Unpriced."""
    pad = scratchpad_of(context)
    if pad is None:
        return None
    near, tiles = level_behind(context), _step_tiles(step, (pad,) * len(step))
    if all((placement.level[role] == near).all() for role in OPERAND_ROLES):
        return Passage(near, tiles, tiles)  # nothing lies farther away
    return Passage(near, tiles, _step_tiles(step, _staging(context, pad, placement)))


def _step_tiles(step: TrainingStep, pads: tuple[Scratchpad, ...]) -> Tiles:
    """Return what tiles in each plan's own pad add to one mini-batch."""
    plans, units, passes = step.calls.shape
    tiles = Tiles(np.zeros((passes, len(OPERANDS), 2, plans, units)), np.zeros((plans, units, passes)))
    runs = step.calls > 0
    for key, rows in _groups(step, pads):
        pad = pads[rows[0]]
        table = _table(pad, step.workload, key)
        for unit, pass_ in np.argwhere(runs[rows].any(axis=0) & ~table.known).tolist():
            row = int(rows[np.argmax(runs[rows, unit, pass_])])
            table.put(unit, pass_, _step_tiling(pad, step, row, unit, pass_))
        tiles.extra[..., rows, :] = table.extra[..., None, :]
        tiles.transfers[rows] = table.transfers
    _sparse(pads, step, tiles)
    return _per_mini_batch(step, tiles)


def _groups(step: TrainingStep, pads: tuple[Scratchpad, ...]) -> Iterator[tuple[tuple[int, ...], IntArray]]:
    """Yield what decides the tiles of some plans, and their rows."""
    spec = step.spec
    key = np.column_stack(
        [
            [int(pad.room_bytes) for pad in pads],
            spec.micro, spec.act_bytes, spec.grad_bytes, spec.int8_errors, spec.fp32_classifier,
            spec.gradient_buffer, spec.accumulators, spec.im2col, step.learning.dtype,
            *spec.weight_bytes[:, [0, -1]].T, *spec.acc_bytes[:, [0, -1]].T,  # only the last may differ
        ]
    )  # fmt: skip
    found, group = np.unique(key, axis=0, return_inverse=True)
    for index, values in enumerate(found):
        yield tuple(values.tolist()), np.flatnonzero(group.ravel() == index)


def _sparse(pads: tuple[Scratchpad, ...], step: TrainingStep, tiles: Tiles) -> None:
    """Put in the weight gradients of units of which only some input channels learn."""
    channels = np.array([unit.in_channels for unit in step.workload.units])
    kept = step.learning.kept_channels
    some = (kept > 0) & (kept < channels) & (step.calls[:, :, 2] > 0)
    for row, unit in np.argwhere(some).tolist():
        tiling = _step_tiling(pads[row], step, row, unit, 2, int(kept[row, unit]))
        tiles.extra[2, ..., row, unit], tiles.transfers[row, unit, 2] = _added(tiling), tiling.transfers


def _per_mini_batch(step: TrainingStep, tiles: Tiles) -> Tiles:
    """From one call to all of a mini-batch, whose last micro-batch may be smaller."""
    spec = step.spec
    filled = spec.samples / (spec.micro * np.ceil(spec.samples / spec.micro))
    for pass_ in range(len(MAC_PASSES)):
        tiles.extra[pass_] *= step.calls[..., pass_]
        for operand in (INPUT, OUTPUT):
            tiles.extra[pass_, OPERANDS.index(operand)] *= filled[:, None]
    return Tiles(tiles.extra, tiles.transfers * step.calls)


def _step_tiling(
    pad: Scratchpad, step: TrainingStep, row: int, unit: int, pass_: int, kept: int | None = None
) -> Tiling:
    return require_tiling(pad, step_call(pad, step, row, unit, pass_, kept), step.workload.units[unit].name)


def added_traffic(step: TrainingStep, tiles: Tiles) -> Traffic:
    """Return what tiles add to each role's traffic: bytes (P, U, 3, 2), read and written.

    Roles that hold parts of an operand take their share of what it adds.
    """
    plans, units, passes = step.calls.shape
    added = {role: np.zeros((plans, units, passes, 2)) for role in OPERAND_ROLES}
    for (operand, pass_), roles in ROLES.items():
        p, made = MAC_PASSES.index(pass_), WRITTEN[pass_] == operand
        extra = tiles.extra[p, OPERANDS.index(operand)]
        if extra.any():
            for role, share in _shares(step, roles, p, WRITE if made else READ).items():
                for way in (READ, WRITE) if made else (READ,):
                    added[role][:, :, p, way] += share * extra[way]
    return added


def _shares(step: TrainingStep, roles: tuple[Role, ...], pass_: int, way: int) -> dict[Role, Any]:
    """Share (P, U) of each role in what ``roles`` move; where they move nothing it is transient."""
    if len(roles) == 1 and roles[0] != Role.SAVED_ACTIVATIONS:
        return {roles[0]: np.ones(1)}
    parts = {role: step.traffic[role][:, :-1, pass_, way] for role in roles}
    total = np.asarray(sum(parts.values()))
    shares = {role: part / np.where(total > 0, total, 1.0) for role, part in parts.items()}
    rest = Role.TRANSIENT_ACTIVATIONS
    shares[rest] = np.where(total > 0, shares.get(rest, 0.0), 1.0)
    return shares


# --- the frozen stage ---


def frozen_tiles(context: Context, step: TrainingStep, placement: Placement) -> Passage | None:
    """Return what tiles add to one image through the frozen stage; None without a scratchpad."""
    pad = scratchpad_of(context)
    if pad is None:
        return None
    tiles = _frozen_tiles(step, (pad,) * len(step))
    return Passage(level_behind(context), tiles, _frozen_tiles(step, _staging(context, pad, placement)))


def _frozen_tiles(step: TrainingStep, pads: tuple[Scratchpad, ...]) -> Tiles:
    running = step.frozen_units
    tiles = Tiles(np.zeros((len(OPERANDS), 2, *running.shape)), np.zeros(running.shape))
    key = np.column_stack([[int(pad.room_bytes) for pad in pads], step.spec.frozen_bytes, step.spec.im2col])
    found, group = np.unique(key, axis=0, return_inverse=True)
    for index, (_, width, im2col) in enumerate(found.tolist()):
        rows = np.flatnonzero(group.ravel() == index)
        pad = pads[rows[0]]
        table = _table(pad, step.workload, (width, im2col))
        for unit in np.flatnonzero(running[rows].any(axis=0) & ~table.known[:, 0]).tolist():
            table.put(unit, 0, frozen_tiling(pad, step.workload, unit, width, im2col))
        tiles.extra[..., rows, :] = table.extra[0, ..., None, :]
        tiles.transfers[rows] = table.transfers[:, 0]
    again = step.frozen_repeat[[unit.layer for unit in step.workload.units]]  # where patches overlap
    return Tiles(tiles.extra * running * again, tiles.transfers * running * again)
