"""Which part of each earlier tensor a patch of one layer's output needs, position by position."""

from __future__ import annotations


def patch_shapes(net, tiles: int, last: int) -> dict[int, tuple[int, ...]]:
    """Largest part of each layer's output, up to layer ``last``, over tiles x tiles patches of the last one.

    Channels are whole. Patches form a grid, so that each axis can be looked at alone.
    """
    axes = range(len(net.shapes[last]) - 1)
    widest = {layer: [0 for _ in axes] for layer in range(last + 1)}
    for axis in axes:
        for tile in range(tiles):
            for layer, need in _one_patch(net, tiles, tile, last, axis).items():
                span = max(need) - min(need) + 1 if need else 0
                widest[layer][axis] = max(widest[layer][axis], span)
    return {layer: (net.shapes[layer][0], *sizes) for layer, sizes in widest.items()}


def _one_patch(net, tiles: int, tile: int, last: int, axis: int) -> dict[int, set[int]]:
    """Positions of each layer's output that one patch needs on one axis, and those that lie between them."""
    size = net.shapes[last][1 + axis]
    need = {last: set(range(size * tile // tiles, size * (tile + 1) // tiles))}
    for layer in range(last, -1, -1):
        if need.get(layer):
            need[layer] = set(range(min(need[layer]), max(need[layer]) + 1))
        for producer in net.inputs[layer]:
            if producer >= 0 and layer in need:
                length = net.shapes[producer][1 + axis]
                read = _read(net.layers[layer], axis, need[layer], length, net.shapes[layer][1 + axis])
                need.setdefault(producer, set()).update(read)
    return need


def _read(layer, axis: int, wanted: set[int], length: int, positions: int) -> set[int]:
    """Positions of the input that the windows of the wanted outputs touch."""
    if not hasattr(layer, "kernel"):
        return wanted
    kernel, stride = _along(layer.kernel, axis), _along(layer.stride, axis)
    step = _along(getattr(layer, "dilation", (1,)), axis)
    taps = [tap * step for tap in range(kernel)]
    if layer.padding == "same":
        before = max((positions - 1) * stride + taps[-1] + 1 - length, 0) // 2
    else:
        before = _along(layer.padding, axis)
        before = before[0] if isinstance(before, tuple) else before
    touched = {out * stride - before + tap for out in wanted for tap in taps}
    return touched & set(range(length))


def _along(sizes, axis: int):
    return sizes[axis] if len(sizes) > 1 else sizes[0]
