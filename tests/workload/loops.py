"""Slow, obvious counts: multiplications of a convolution one by one, tensors that cross a cut by replay."""

from __future__ import annotations

from itertools import product

from dse.workload import Workload

Pad = int | tuple[int, int] | str


def starts(size: int, kernel: int, stride: int, padding: Pad, dilation: int = 1) -> list[int]:
    """Where a window begins on one axis, by sliding it until its last tap no longer fits."""
    if padding == "same":
        return list(range(0, size, stride))
    before, after = padding if isinstance(padding, tuple) else (int(padding), int(padding))
    found, start = [], -before
    while max(start + tap * dilation for tap in range(kernel)) < size + after:
        found.append(start)
        start += stride
    return found


def multiplications(
    sizes: tuple[int, ...],
    channels: int,
    outputs: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pad | list[Pad],
    groups: int,
    dilation: tuple[int, ...] | None = None,
) -> int:
    """Multiplications of one forward pass, counted one at a time; ``padding`` for all axes, or a list."""
    pads = padding if isinstance(padding, list) else [padding] * len(sizes)
    steps = dilation or (1,) * len(sizes)
    axes = [starts(*axis) for axis in zip(sizes, kernel, stride, pads, steps, strict=True)]
    count = 0
    for _position in product(*axes):
        for out in range(outputs):
            for channel in range(channels):
                if channel * groups // channels != out * groups // outputs:
                    continue
                for _tap in product(*(range(size) for size in kernel)):
                    count += 1
    return count


def crossing_by_replay(workload: Workload, edge: int) -> set[int]:
    """Run the layers after ``edge`` and note every tensor that they ask for and that was made before."""
    made_after: set[int] = set()
    asked: set[int] = set()
    for layer in range(edge + 1, len(workload.layers)):
        asked |= {producer for producer in workload.inputs[layer] if producer not in made_after}
        made_after.add(layer)
    return asked
