"""Integer kernels as a microcontroller runs them, in numpy: uint8 with zero points, int32 sums, one shift.

Written apart from the code under test; grids are taken as (scale, zero point).
"""

from __future__ import annotations

from itertools import product

import numpy as np


def shifted(sums, ratio):
    """Round (sums x ratio) to integers, halves upwards, with a 24-bit mantissa and a shift, in int64."""
    mantissa, exponent = np.frexp(np.float32(ratio))
    mantissa = int(mantissa * 2**24)
    shift = 24 - int(exponent)
    assert mantissa < 2**24
    assert shift > 0
    return (sums.astype(np.int64) * mantissa + (1 << (shift - 1))) >> shift


def quantised_weights(weight, bias, source_scale):
    """int8 weights per output channel, int32 biases, and the scale of each channel."""
    scales = (np.abs(weight.reshape(len(weight), -1)).max(1).astype(np.float64) / 127).astype(np.float32)
    scales = scales.astype(np.float64)
    q = np.rint(weight / scales.reshape(-1, *[1] * (weight.ndim - 1)))
    assert np.abs(q).max() <= 127
    b = np.rint(bias.astype(np.float64) / (source_scale * scales))
    assert np.abs(b).max() < 2**31
    return q.astype(np.int8), b.astype(np.int32), scales


def convolve(x, weight, bias, source, target, stride, before, positions, groups, clamp):
    """Integer convolution of one sample (C, H, W) uint8 -> (O, H', W') uint8."""
    (source_scale, source_zero), (target_scale, target_zero) = source, target
    q, b, scales = quantised_weights(weight, bias, source_scale)
    out = np.zeros((len(weight), *positions), dtype=np.uint8)
    inside, outside = weight.shape[1], len(weight) // groups
    for o in range(len(weight)):
        sums = np.full(positions, b[o], dtype=np.int64)
        for i, r, c in product(range(inside), range(weight.shape[2]), range(weight.shape[3])):
            for row, column in np.ndindex(*positions):
                y, z = row * stride + r - before, column * stride + c - before
                if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                    value = int(x[(o // outside) * inside + i, y, z]) - source_zero
                    sums[row, column] += value * int(q[o, i, r, c])
        assert np.abs(sums).max() < 2**31
        moved = shifted(sums, source_scale * scales[o] / target_scale) + target_zero
        out[o] = np.clip(moved, target_zero if clamp else 0, 255)
    return out


def add(tensors, grids, target):
    """Sum of tensors uint8 on grids of their own."""
    total = sum(
        (x.astype(np.float64) - zero) * float(np.float32(scale / target[0]))
        for x, (scale, zero) in zip(tensors, grids, strict=True)
    )
    return np.clip(np.floor(total + 0.5) + target[1], 0, 255).astype(np.uint8)


def mean(x, zero):
    """Average over positions, halves upwards, on the same grid."""
    sums = x.astype(np.int64).sum((1, 2)) - zero * x[0].size
    count = x[0].size
    return np.clip((2 * sums + count) // (2 * count) + zero, 0, 255).astype(np.uint8)
