"""Placing buffers: time and gap of the heuristic, and what the solver adds, on random and public instances.

Random instances look like a training step (lifespans within each other, what is alive throughout, workspaces)
or like nothing in particular (lifespans and sizes at random, which is much harder than any network).
"""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.figures import Figure, timed
from dse.cost.arena import ArenaBuffer, place, read_buffers

INSTANCES = Path(__file__).resolve().parent.parent / "tests" / "cost" / "arena" / "minimalloc"
CAPACITY = 1048576
SEED = 0


def heuristic() -> list[Figure]:
    """Random instances, nested and scattered, of a few hundred buffers and of 2,000."""
    place(nested(50))  # warm
    figures = []
    for count in (300, 2000):
        for name, buffers in (("nested", nested(count)), ("scattered", scattered(count))):
            with timed() as clock:
                arena = place(buffers)
            what = f"heuristic, {len(buffers)} {name} buffers"
            figures.append(Figure(what, clock.cpu_s, "s", "<=", 1.0, arena.method))
            gap = ("<=", 1.0) if name == "nested" else ("", float("nan"))
            figures.append(Figure("  arena above the bound", 100 * arena.gap, "%", *gap))
    return figures


def public() -> list[Figure]:
    """MiniMalloc's instances by the heuristic, and by the solver within their published capacity."""
    figures = []
    for name in ("A", "D"):
        buffers = read_buffers(INSTANCES / f"{name}.{CAPACITY}.csv").buffers
        with timed() as quick:
            found = place(buffers)
        with timed() as slow:
            solved = place(buffers, capacity_bytes=CAPACITY, exact=True)
        figures += [
            Figure(f"MiniMalloc {name}, heuristic", quick.cpu_s, "s", "<=", 1.0, found.method),
            Figure("  arena above the bound", 100 * found.gap, "%"),
            Figure("  arena over capacity", found.size_bytes / CAPACITY, "x"),
            Figure("  with the solver", slow.cpu_s, "s", "<=", 10.0, solved.method),
            Figure("  arena over capacity", solved.size_bytes / CAPACITY, "x", "<=", 1.0),
        ]
    return figures


def nested(count: int) -> list[ArenaBuffer]:
    """Return buffers like those of a step of ``count`` / 6 layers, forward and back."""
    draw, layers, found = random.Random(SEED), count // 6, []
    last = 2 * layers
    for layer in range(layers):
        back = last - layer
        sizes = [4 * draw.randrange(16, 4096) for _ in range(6)]
        lives = [(0, last + 1), (layer, layer + 1), (layer, back), (back - 1, back), (back, last + 1)]
        lives.append((layer, layer) if draw.random() < 0.5 else (back, back))
        for kind, (size, (start, end)) in enumerate(zip(sizes, lives, strict=True)):
            found.append(ArenaBuffer(f"{kind}-{layer}", start, end, size, 4))
    return found


def scattered(count: int) -> list[ArenaBuffer]:
    """Return ``count`` buffers with lifespans and sizes at random."""
    draw, found = random.Random(SEED), []
    for number in range(count):
        start = draw.randrange(count)
        end = start + draw.randrange(1, count // 4)
        found.append(ArenaBuffer(f"b{number}", start, end, 4 * draw.randrange(1, 4096), 4))
    return found
