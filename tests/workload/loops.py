"""Slow, obvious counts: multiplications of a convolution one by one, tensors that cross a cut by replay."""

from __future__ import annotations

from itertools import product

from dse.workload import Workload


def starts(size: int, kernel: int, stride: int, padding: int | str) -> list[int]:
    """Where a window begins on one axis, by sliding it until it no longer fits."""
    if padding == "same":
        return list(range(0, size, stride))
    found, start = [], -int(padding)
    while start + kernel <= size + int(padding):
        found.append(start)
        start += stride
    return found


def multiplications(
    sizes: tuple[int, ...],
    channels: int,
    outputs: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: int | str,
    groups: int,
) -> int:
    """Multiplications of one forward pass, counted one at a time."""
    axes = [starts(*axis, padding) for axis in zip(sizes, kernel, stride, strict=True)]
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
