"""Which part of each earlier tensor a patch of one layer's output needs, axis by axis."""

from __future__ import annotations


def patch_shapes(net, tiles: int, last: int) -> dict[int, tuple[int, ...]]:
    """Largest part of each layer's output, up to layer ``last``, over tiles x tiles patches of the last one.

    Channels are whole. Patches form a grid, so that each axis can be looked at alone.
    """
    axes = len(net.shapes[last]) - 1
    widest = {layer: [0] * axes for layer in range(last + 1)}
    for axis in range(axes):
        for tile in range(tiles):
            for layer, (low, high) in _one_patch(net, tiles, tile, last, axis).items():
                widest[layer][axis] = max(widest[layer][axis], high - low)
    return {layer: (net.shapes[layer][0], *sizes) for layer, sizes in widest.items()}


def _one_patch(net, tiles: int, tile: int, last: int, axis: int) -> dict[int, tuple[int, int]]:
    """Interval of each layer's output that one patch needs on one axis; empty where nobody reads it."""
    size = net.shapes[last][1 + axis]
    need = {last: (size * tile // tiles, size * (tile + 1) // tiles)}
    for layer in range(last, -1, -1):
        if layer not in need:
            need[layer] = (0, 0)
            continue
        for producer in net.inputs[layer]:
            if producer >= 0:
                length = net.shapes[producer][1 + axis]
                low, high = _window(net.layers[layer], axis, need[layer], length, net.shapes[layer][1 + axis])
                low, high = max(low, 0), min(high, length)
                if producer in need:
                    low, high = min(low, need[producer][0]), max(high, need[producer][1])
                need[producer] = (low, high)
    return need


def _window(layer, axis: int, wanted: tuple[int, int], length: int, positions: int) -> tuple[int, int]:
    """Interval of the input under the windows of the wanted outputs, padding included."""
    if not hasattr(layer, "kernel"):
        return wanted
    kernel = layer.kernel[axis] if len(layer.kernel) > 1 else layer.kernel[0]
    stride = layer.stride[axis] if len(layer.stride) > 1 else layer.stride[0]
    if layer.padding == "same":
        before = max((positions - 1) * stride + kernel - length, 0) // 2
    else:
        before = layer.padding[axis] if len(layer.padding) > 1 else layer.padding[0]
    return wanted[0] * stride - before, (wanted[1] - 1) * stride - before + kernel
