"""Walks the tiles of a kernel call one after the other and counts bytes; shares nothing with the search."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from math import prod

from dse.cost.tiling import Call

READS = {"fwd": ("input", "weights"), "bwd_input": ("output", "weights"), "bwd_weight": ("input", "output")}
WRITES = {"fwd": "output", "bwd_input": "input", "bwd_weight": "weights"}


@dataclass(frozen=True)
class Walked:
    """What a walk moved: bytes read and written by operand, transfers, steps, and the fullest scratchpad."""

    read: dict[str, int]
    written: dict[str, int]
    transfers: int
    steps: int
    fullest: int

    @property
    def moved(self) -> int:
        return sum(self.read.values()) + sum(self.written.values())


def parts(extent: int, size: int) -> list[range]:
    return [range(start, min(start + size, extent)) for start in range(0, extent, size)]


def reached(call: Call, walked: range) -> set[int]:
    """Rows of the other tensor between the first and the last tap that meet the rows ``walked``."""
    loops = call.loops
    pairs = []
    for y in range(loops.out_rows):
        taps = [y * loops.stride - loops.padding + k * loops.dilation for k in range(loops.kernel[0])]
        pairs += [(x, y) for x in range(min(taps), max(taps) + 1) if 0 <= x < loops.in_rows]
    if call.pass_ == "bwd_input":
        return {y for x, y in pairs if x in walked}
    return {x for x, y in pairs if y in walked}


def overlapping_rows(call: Call, walked: list[range]) -> list[set[int]]:
    """Rows that each tile brings in: a contiguous stretch, and rows that nobody reaches with the earlier."""
    extent = call.loops.out_rows if call.pass_ == "bwd_input" else call.loops.in_rows
    spans = []
    for tile in walked:
        rows = reached(call, tile)
        spans.append(set(range(min(rows), max(rows) + 1)) if rows else set())
    for row in set(range(extent)) - set().union(*spans):
        earlier = [span for span in spans if span and min(span) < row]
        (earlier[-1] if earlier else next(span for span in spans if span)).add(row)
    return spans


def walk(
    call: Call, samples: int, rows: int, groups: int, outs: int, ins: int, order: tuple[str, ...]
) -> Walked:
    """Walk tiles of this shape in this order; an operand's tile is fetched when it is another than before."""
    loops = call.loops
    extent = loops.in_rows if call.pass_ == "bwd_input" else loops.out_rows
    walked = parts(extent, rows)
    other = overlapping_rows(call, walked)
    pixels = [
        (len(batch), len(walked[tile]), len(other[tile]))
        for batch in parts(call.samples, samples)
        for tile in range(len(walked))
    ]
    sizes = {
        "pixels": pixels,
        "outs": [len(part) for part in parts(loops.outs, outs)],
        "ins": [len(part) for part in parts(loops.ins, ins)],
    }
    steps = [
        {"group": group, **dict(zip(order, place, strict=True))}
        for group in range(len(parts(loops.groups, groups)))
        for place in itertools.product(*(range(len(sizes[axis])) for axis in order))
    ]
    taken = {group: len(part) for group, part in enumerate(parts(loops.groups, groups))}

    def elements(operand: str, step: dict[str, int]) -> int:
        count, own, theirs = pixels[step["pixels"]]
        wide, made = sizes["ins"][step["ins"]], sizes["outs"][step["outs"]]
        if operand == "weights":
            return taken[step["group"]] * wide * made * prod(loops.kernel)
        if operand == "input":
            height = own if call.pass_ == "bwd_input" else theirs
            return taken[step["group"]] * wide * count * height * loops.in_columns
        height = theirs if call.pass_ == "bwd_input" else own
        return taken[step["group"]] * made * count * height * loops.out_columns

    return _counted(call, steps, elements)


CHOSEN_BY = {
    "input": ("group", "pixels", "ins"),
    "weights": ("group", "outs", "ins"),
    "output": ("group", "pixels", "outs"),
}
SUMMED_OVER = {"fwd": "ins", "bwd_input": "outs", "bwd_weight": "pixels"}


def _counted(call: Call, steps, elements) -> Walked:  # type: ignore[no-untyped-def]
    read, written, transfers = Counter(), Counter(), 0
    for operand in READS[call.pass_]:
        before = None
        for step in steps:
            tile = tuple(step[axis] for axis in CHOSEN_BY[operand])
            if tile != before:
                read[operand] += elements(operand, step) * call.width(operand)
                transfers += 1
            before = tile
    made = WRITES[call.pass_]
    stays = [tuple(step[axis] for axis in CHOSEN_BY[made]) for step in steps]
    stints = [
        (tile, step)
        for index, (tile, step) in enumerate(zip(stays, steps, strict=True))
        if index == 0 or stays[index - 1] != tile
    ]
    left, seen = Counter(tile for tile, _ in stints), set()
    for tile, step in stints:
        size = elements(made, step)
        if tile in seen:
            read[made] += size * call.sum_bytes
            transfers += 1
        elif call.accumulates:
            read[made] += size * call.width(made)
            transfers += 1
        seen.add(tile)
        left[tile] -= 1
        written[made] += size * (call.sum_bytes if left[tile] else call.width(made))
        transfers += 1
    divided = len({step[SUMMED_OVER[call.pass_]] for step in steps}) > 1
    width = {name: call.width(name) for name in CHOSEN_BY} | ({made: call.sum_bytes} if divided else {})
    fullest = max(
        call.buffers * sum(elements(name, step) * width[name] for name in CHOSEN_BY) for step in steps
    )
    return Walked(dict(read), dict(written), transfers, len(steps), fullest)


def spills(call: Call, walked: Walked) -> bool:
    """Whether an unfinished result left the scratchpad."""
    return walked.written[WRITES[call.pass_]] > call.once_bytes(WRITES[call.pass_])


def every_tiling(call: Call):  # type: ignore[no-untyped-def]
    """Yield every walk of the stated set: sizes ceil(extent / k), orders, several groups only if whole."""
    loops = call.loops
    extent = loops.in_rows if call.pass_ == "bwd_input" else loops.out_rows
    shapes = {(1, rows) for rows in cuts(extent)} | {(samples, extent) for samples in cuts(call.samples)}
    channels = {(1, outs, ins) for outs in cuts(loops.outs) for ins in cuts(loops.ins)}
    channels |= {(groups, loops.outs, loops.ins) for groups in cuts(loops.groups)}
    for (samples, rows), (groups, outs, ins) in itertools.product(shapes, channels):
        for order in itertools.permutations(("pixels", "outs", "ins")):
            yield walk(call, samples, rows, groups, outs, ins, order)


def cuts(extent: int) -> set[int]:
    return {-(-extent // pieces) for pieces in range(1, extent + 1)}
