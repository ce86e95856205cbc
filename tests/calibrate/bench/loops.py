"""The kernels once more, as slow loops over numpy arrays; only the layout is shared with the C files."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.bench.geometry import Geometry

Array = NDArray[np.generic]


def taps(
    shape: Geometry,
) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int, int], tuple[int, int, int]]]:
    """Yield (place in the input, in the weights, in the output) of every MAC."""
    per_in, per_out = shape.inputs // shape.groups, shape.outputs // shape.groups
    for row, column, out, ty, tx, inner in np.ndindex(*shape.positions, shape.outputs, *shape.taps, per_in):
        place = (
            row * shape.strides[0] + ty * shape.apart[0],
            column * shape.strides[1] + tx * shape.apart[1],
            out // per_out * per_in + inner,
        )
        yield place, (out, ty, tx, inner), (row, column, out)


def multiplied(shape: Geometry, pass_: str, x: Array, w: Array, y: Array) -> tuple[NDArray[np.float64], int]:
    """Return the result of a pass in float64, and its MACs. Sums of these inputs are exact in float64."""
    x, w, y = (part.astype(np.float64) for part in (x, w, y))
    plain = pass_.removesuffix("_int8")
    result = np.zeros({"fwd": y, "bwd_input": x, "bwd_weight": w}[plain].shape)
    macs = 0
    for at_x, at_w, at_y in taps(shape):
        if plain == "fwd":
            result[at_y] += x[at_x] * w[at_w]
        elif plain == "bwd_input":
            result[at_x] += w[at_w] * y[at_y]
        else:
            result[at_w] += x[at_x] * y[at_y]
        macs += 1
    return result, macs


def requantised(total: float, multiplier: float, shift: int) -> int:
    """Return an int8 from an int32 sum: times multiplier / 2^31, over 2^shift, halves rounded up."""
    return min(max(math.floor(total * multiplier / 2**31 / 2**shift + 0.5), -128), 127)


def halves_away(value: float) -> int:
    """Round to the nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def clamped(value: int) -> int:
    """Return an int8."""
    return min(max(value, -128), 127)


def element(
    operation: str, pass_: str, a: Array, b: Array, old: Array, mask: Array, channels: int, width: int
) -> list[float]:
    """Return what an operation along vectors writes, element by element.

    ``old`` is what the output held (weights), ``mask`` the bytes of ``b``, ``width`` bits of a packed value.
    """
    first, second = a.astype(float).tolist(), b.astype(float).tolist()
    count, weights = len(first), old.astype(float).tolist()
    narrow = old.dtype == np.int8
    set_ = (
        [bool(int(mask[i // 8]) >> (i % 8) & 1) for i in range(count)] if operation.startswith("relu") else []
    )
    if operation in ("relu", "relu6"):
        top = 6.0 if operation == "relu6" else math.inf
        return [min(max(v, 0.0), top) for v in first] if pass_ == "fwd" else [
            v if kept else 0.0 for v, kept in zip(first, set_, strict=True)]  # fmt: skip
    if operation == "hard_swish":
        return _hard_swish(pass_, first, second, narrow=narrow)
    if operation == "batch_norm":
        return _batch_norm(pass_, first, second, channels)
    if operation in ("add", "concat") and (operation == "concat" or pass_ == "bwd_input"):
        return first
    if operation == "add":
        pairs = zip(first, second, strict=True)
        if narrow:
            return [requantised((v * 5 + u * 3) * 1024, 1518500250, 12) for v, u in pairs]
        return [v + u for v, u in pairs]
    if operation == "softmax_loss":
        if pass_ == "bwd_input":
            return [v - (i == count // 2) for i, v in enumerate(first)]
        powers = [math.exp(v - max(first)) for v in first]
        return [power / sum(powers) for power in powers]
    if operation == "quantise":
        return [clamped(halves_away(v / 0.03125) + 3) for v in first]
    if operation == "dequantise":
        return [(v - 3) * 0.03125 for v in first]
    if operation == "unpack":
        bits = "".join(f"{int(byte):08b}"[::-1] for byte in a)
        values = [int(bits[i * width : (i + 1) * width][::-1], 2) for i in range(count)]
        return [value - 256 if value > 127 else value for value in values]
    stepped = _updated(operation, weights, first)
    return [clamped(halves_away(value)) for value in stepped] if narrow else stepped


def _hard_swish(pass_: str, first: list[float], second: list[float], *, narrow: bool) -> list[float]:
    if narrow:  # in sixteenths
        return [requantised(v * min(max(v + 48, 0), 96), 1431655765, 6) for v in first]
    if pass_ == "fwd":
        return [v * min(max(v + 3, 0), 6) / 6 for v in first]
    slopes = [0.0 if s < -3 else 1.0 if s > 3 else (2 * s + 3) / 6 for s in second]
    return [v * slope for v, slope in zip(first, slopes, strict=True)]


def _batch_norm(pass_: str, first: list[float], second: list[float], channels: int) -> list[float]:
    count = len(first)
    if pass_ == "fwd":
        scale, shift = second[:channels], second[channels : 2 * channels]
        return [v * scale[i % channels] + shift[i % channels] for i, v in enumerate(first)]
    means = [np.mean(first[c::channels]) for c in range(channels)]
    products = [np.mean(np.multiply(first[c::channels], second[c::channels])) for c in range(channels)]
    return [float(first[i] - means[i % channels] - second[i] * products[i % channels]) for i in range(count)]


def _updated(operation: str, weights: list[float], gradients: list[float]) -> list[float]:
    """Return weights after the first step: every state begins at zero."""
    pairs = list(zip(weights, gradients, strict=True))
    if operation in ("update_sgd", "update_momentum"):
        return [w - 0.0625 * g for w, g in pairs]
    if operation == "update_adam":
        return [w - 0.0625 * 0.125 * g / (math.sqrt(0.015625 * g * g) + 1e-5) for w, g in pairs]
    rate = 0.0625 * 0.0078125 * math.hypot(*weights) / (math.hypot(*gradients) + 1e-5)
    return [w - rate * g for w, g in pairs]


def pooled(operation: str, pass_: str, shape: Geometry, a: Array, index: Array) -> NDArray[np.float64]:
    """Return what a pooling writes; ``a`` is the padded input, or the errors, ``index`` the winning taps."""
    source = a.astype(float)
    result = np.zeros((*shape.positions, shape.inputs) if pass_ == "fwd" else (*shape.padded, shape.inputs))
    count = shape.taps[0] * shape.taps[1]
    for row, column, channel in np.ndindex(*shape.positions, shape.inputs):
        top, left = row * shape.strides[0], column * shape.strides[1]
        window = np.s_[top : top + shape.taps[0], left : left + shape.taps[1], channel]
        if pass_ == "fwd":
            found = source[window]
            result[row, column, channel] = found.max() if operation == "max_pool" else found.sum() / count
        elif operation == "avg_pool":
            result[window] += source[row, column, channel] / count
        else:
            ty, tx = divmod(int(index[row, column, channel]), shape.taps[1])
            result[top + ty, left + tx, channel] += source[row, column, channel]
    if pass_ == "fwd" and a.dtype == np.int8 and operation == "avg_pool":
        return np.vectorize(halves_away)(result).astype(float)
    return result
