"""Tiles of one kernel call: which part of each operand lies in a scratchpad, and what moves for it.

A call walks four loops over tiles: groups (outermost; every operand belongs to a group), pixels (whole
samples, or rows of one sample), output channels and input channels of a group. An operand's tile is fetched
when the walk reaches another one than it left; a result that is not finished goes back and comes again. The
search is exact over a stated set: every size ceil(extent / k) of each loop, every order of the inner three.
Of all that fit it takes the one that moves fewest bytes, and of those the one with fewest tiles.

A larger tile never moves more bytes, so that of each pair of other sizes only the largest that fits needs to
be weighed. Every tile takes its bytes once, or twice where transfers run beside the cores.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np

from dse.cost.tiling_geometry import (
    INPUT,
    OPERANDS,
    OUTPUT,
    WEIGHTS,
    WRITTEN,
    Loops,
    ceil_splits,
    row_splits,
)
from dse.plan.decisions import FloatArray, IntArray
from dse.plan.spec import INT8_BYTES, SUM_BYTES
from dse.plan.workspace import FORMULAS
from dse.workload import Unit

PIXELS: Final = "pixels"
OUTS: Final = "outs"
INS: Final = "ins"
AXES: Final = {INPUT: (PIXELS, INS), WEIGHTS: (OUTS, INS), OUTPUT: (PIXELS, OUTS)}
"""Operand -> the inner loops that choose its tile."""

ORDERS: Final = tuple(itertools.permutations((PIXELS, OUTS, INS)))
"""Orders of the inner loops, outermost first."""

_Columns = tuple[Any, Any, Any]
"""Bytes read, bytes written and transfers of one operand, an array each, for each tile shape."""

REDUCED: Final = {"fwd": INS, "bwd_input": OUTS, "bwd_weight": PIXELS}
"""Pass -> the loop over which its result is summed up."""


@dataclass(frozen=True)
class Call:
    """One kernel call: ``samples`` samples through one pass of a layer.

    ``*_bytes`` are bytes per element. ``buffers`` is how often each tile is held. ``workspace`` names the
    formula of what the kernel needs beside its tiles, with elements of ``workspace_bytes``. Sums that are not
    finished leave the scratchpad only where ``spills`` (the result has a buffer for them) and an element of
    the result is as wide as a sum. ``accumulates``: the result is added to what is there already.
    """

    loops: Loops
    pass_: str
    samples: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    buffers: int = 2
    workspace: str = "none"
    workspace_bytes: int = 4
    cores: int = 1
    spills: bool = True
    accumulates: bool = False

    def width(self, operand: str) -> int:
        """Bytes per element of an operand."""
        return {INPUT: self.input_bytes, WEIGHTS: self.weight_bytes, OUTPUT: self.output_bytes}[operand]

    @property
    def sum_bytes(self) -> int:
        """Bytes per element of a result that is not finished: narrow numbers are summed up in 32 bits."""
        width = self.width(WRITTEN[self.pass_])
        return SUM_BYTES if width == INT8_BYTES else width

    def once_bytes(self, operand: str) -> int:
        """Bytes of a whole operand."""
        samples = 1 if operand == WEIGHTS else self.samples
        return samples * self.loops.elements(operand) * self.width(operand)


@dataclass(frozen=True)
class Moved:
    """What one operand moves between the scratchpad and the level behind it, in one call."""

    once_bytes: float
    read_bytes: float
    written_bytes: float
    transfers: int


@dataclass(frozen=True)
class Tiling:
    """The tiles of one call: their largest shape, how they are walked, and what moves.

    ``rows`` are those that the pass walks. ``order`` names the inner loops, outermost first.
    """

    samples: int
    rows: int
    groups: int
    outs: int
    ins: int
    order: tuple[str, ...]
    tiles: int
    used_bytes: float
    operands: Mapping[str, Moved]

    @property
    def bytes_moved(self) -> float:
        """Bytes of all operands, read and written."""
        return sum(moved.read_bytes + moved.written_bytes for moved in self.operands.values())

    @property
    def transfers(self) -> int:
        """Transfers that have to be set up."""
        return sum(moved.transfers for moved in self.operands.values())


@dataclass(frozen=True)
class _Tiles:
    """Tile shapes to choose from: arrays that broadcast against each other.

    ``pixel_tiles`` is how many tiles the pixels make; ``overlap`` and ``overlap_total`` are the rows of the
    overlapping tensor: of one tile, and of all tiles of one sample.
    """

    samples: IntArray
    rows: IntArray
    pixel_tiles: IntArray
    overlap: IntArray
    overlap_total: IntArray
    groups: IntArray
    outs: IntArray
    ins: IntArray

    def __getitem__(self, where: Any) -> _Tiles:
        columns = dict(zip(vars(self), np.broadcast_arrays(*vars(self).values()), strict=True))
        return _Tiles(**{name: values[where] for name, values in columns.items()})

    @staticmethod
    def joined(parts: list[_Tiles]) -> _Tiles:
        """Return the shapes of several one-dimensional tables in one."""
        names = vars(parts[0])
        return _Tiles(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@lru_cache(maxsize=1 << 16)
def best_tiling(call: Call, room_bytes: float) -> Tiling | None:
    """Return the tiling of ``call`` in ``room_bytes`` that moves fewest bytes; None where no tile fits."""
    tiles = _Tiles.joined([_largest_that_fit(call, family, room_bytes) for family in _families(call)])
    if not tiles.samples.size:
        return None
    scores = [_scored(call, tiles, order) for order in ORDERS]
    moved = np.stack([total for total, _ in scores])
    count = _tile_count(call, tiles)
    best = moved.min()
    ties = np.where(moved == best, count[None, :], np.inf)
    order, index = np.unravel_index(int(np.argmin(ties)), ties.shape)
    return _tiling(call, tiles, scores[order][1], ORDERS[order], int(index))


@lru_cache(maxsize=1 << 12)
def smallest_bytes(call: Call) -> float:
    """Return the bytes that the smallest tile of ``call`` takes, with its workspace."""
    return float(min(used_bytes(call, family).min() for family in _families(call)))


def _tiling(
    call: Call, tiles: _Tiles, moved: Mapping[str, _Columns], order: tuple[str, ...], index: int
) -> Tiling:
    chosen = tiles[np.array([index])]
    operands = {
        name: Moved(call.once_bytes(name), float(read[index]), float(written[index]), int(transfers[index]))
        for name, (read, written, transfers) in moved.items()
    }
    shape = {name: int(getattr(chosen, name)[0]) for name in ("samples", "rows", "groups", "outs", "ins")}
    count = int(_tile_count(call, chosen)[0])
    return Tiling(
        **shape, order=order, tiles=count, used_bytes=float(used_bytes(call, chosen)[0]), operands=operands
    )


# --- what there is to choose from ---


def _families(call: Call) -> Iterator[_Tiles]:
    """Yield tables (pixels, outs or groups, ins): parts of one group, and several whole groups."""
    loops, pixels = call.loops, _pixels(call)
    outs, ins = ceil_splits(loops.outs), ceil_splits(loops.ins)
    one = np.ones((1, 1, 1), dtype=np.int64)
    yield _Tiles(*pixels, one, outs[None, :, None], ins[None, None, :])
    if loops.groups > 1:
        groups = ceil_splits(loops.groups)[1:]
        yield _Tiles(*pixels, groups[None, :, None], one * loops.outs, one * loops.ins)


def _pixels(call: Call) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
    """Return samples, rows, tiles, overlapping rows of a tile and of a sample, each (pixels, 1, 1)."""
    splits = row_splits(call.loops, call.pass_)
    samples = ceil_splits(call.samples)
    found = [(1, split.rows, call.samples * split.tiles, split.widest, split.total) for split in splits]
    whole = splits[-1]
    found += [
        (int(count), whole.rows, -(-call.samples // int(count)), whole.widest, whole.total)
        for count in samples[1:]
    ]
    one, rows, tiles, widest, total = np.array(found, dtype=np.int64).T[..., None, None]
    return one, rows, tiles, widest, total


def used_bytes(call: Call, tiles: _Tiles) -> FloatArray:
    """Bytes that tiles and workspace take; the result of a divided sum is held at the width of a sum."""
    loops, written = call.loops, WRITTEN[call.pass_]
    channels = {INPUT: tiles.ins, OUTPUT: tiles.outs}
    walked = INPUT if call.pass_ == "bwd_input" else OUTPUT
    total: Any = _workspace(call, tiles)
    for operand in OPERANDS:
        width: Any = call.width(operand)
        if operand == written and call.sum_bytes != width:
            width = np.where(_trips(call, tiles)[REDUCED[call.pass_]] > 1, call.sum_bytes, width)
        if operand == WEIGHTS:
            size = tiles.groups * tiles.outs * tiles.ins * prod(loops.kernel)
        else:
            rows = tiles.rows if operand == walked else tiles.overlap
            columns = loops.in_columns if operand == INPUT else loops.out_columns
            size = tiles.samples * tiles.groups * channels[operand] * rows * columns
        total = total + call.buffers * width * size
    return np.asarray(total, dtype=float)


def _workspace(call: Call, tiles: _Tiles) -> Any:
    """Bytes of workspace for one sample of a tile, by the formula of the kernel library."""
    if call.workspace == "none":
        return 0
    loops = call.loops
    rows = tiles.overlap if call.pass_ == "bwd_input" else tiles.rows
    made: Any = tiles.groups * tiles.outs
    weights: Any = made * tiles.ins * prod(loops.kernel)
    part = Unit(
        index=0, name="", layer=0, followers=(), operator=loops.operator, macs=0, weight_params=weights,
        bias_params=0, norm_channels=0, in_channels=0, out_channels=made, input_elements=0,
        output_elements=made * rows * loops.out_columns, kernel=loops.kernel, cut_layer=0,
    )  # fmt: skip
    return FORMULAS[call.workspace](part, call.workspace_bytes, call.cores)


def _largest_that_fit(call: Call, family: _Tiles, room_bytes: float) -> _Tiles:
    """Keep, for each choice of pixels and of outs or groups, the most input channels that fit."""
    fits = used_bytes(call, family) <= room_bytes
    last = fits.shape[2] - 1 - np.argmax(fits[:, :, ::-1], axis=2)
    pixels, others = np.nonzero(fits.any(axis=2))
    return family[pixels, others, last[pixels, others]]


# --- what moves ---


def _trips(call: Call, tiles: _Tiles) -> dict[str, IntArray]:
    """Tiles along each inner loop."""
    loops = call.loops
    return {PIXELS: tiles.pixel_tiles, OUTS: -(-loops.outs // tiles.outs), INS: -(-loops.ins // tiles.ins)}


def _tile_count(call: Call, tiles: _Tiles) -> IntArray:
    trips = _trips(call, tiles)
    return np.asarray(-(-call.loops.groups // tiles.groups) * trips[PIXELS] * trips[OUTS] * trips[INS])


def _visits(trips: Mapping[str, IntArray], order: tuple[str, ...]) -> dict[str, IntArray]:
    """How often a walk in ``order`` comes to each tile of an operand.

    A tile is left where a loop that chooses it steps; every loop outside the innermost of those repeats it.
    """
    steps: Any = np.ones_like(trips[PIXELS])
    fetched: dict[str, Any] = dict.fromkeys(OPERANDS, steps)
    for axis in order:
        steps = steps * trips[axis]
        for operand in OPERANDS:
            if axis in AXES[operand]:
                fetched[operand] = np.where(trips[axis] > 1, steps, fetched[operand])
    return {name: fetched[name] // (trips[AXES[name][0]] * trips[AXES[name][1]]) for name in OPERANDS}


def _scored(call: Call, tiles: _Tiles, order: tuple[str, ...]) -> tuple[FloatArray, dict[str, _Columns]]:
    """Return the bytes that move in all, and by operand (read, written, transfers); infinite if forbidden."""
    trips = _trips(call, tiles)
    groups = -(-call.loops.groups // tiles.groups)
    moved, total = {}, np.zeros(tiles.samples.shape)
    for operand, visits in _visits(trips, order).items():
        first, second = AXES[operand]
        distinct = groups * trips[first] * trips[second]
        part = _result if operand == WRITTEN[call.pass_] else _fetched
        moved[operand] = part(call, tiles, operand, visits, distinct)
        total = total + moved[operand][0] + moved[operand][1]
    return total, moved


def _fetched(call: Call, tiles: _Tiles, operand: str, visits: IntArray, distinct: IntArray) -> _Columns:
    """Read an operand at every visit, with the rows that neighbouring tiles share."""
    sweep: Any = call.once_bytes(operand)
    overlapping = OUTPUT if call.pass_ == "bwd_input" else INPUT
    if operand == overlapping:
        rows = call.loops.out_rows if operand == OUTPUT else call.loops.in_rows
        sweep = sweep // rows * tiles.overlap_total
    return sweep * visits * 1.0, np.zeros(visits.shape), distinct * visits


def _result(call: Call, tiles: _Tiles, operand: str, visits: IntArray, distinct: IntArray) -> _Columns:
    """Write a result; at every visit but the last it leaves unfinished, and comes back at the next."""
    once = call.once_bytes(operand)
    again = (visits - 1) * (once // call.width(operand) * call.sum_bytes)
    added = once if call.accumulates else 0
    allowed = call.spills and call.sum_bytes == call.width(operand)
    forbidden = np.where((visits > 1) & (not allowed), np.inf, 0.0)
    transfers = distinct * (2 * visits - 1 + call.accumulates)
    return again + added + forbidden, once + again * 1.0, transfers
