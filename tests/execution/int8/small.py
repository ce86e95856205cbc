"""Small networks for the int8 kernels, their parameters, and integers written out one product at a time."""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from dse.workload import load_network

HEAD = """
name = "small"
title = "t"
source = "s"
input = {{ channels = {channels}, height = {size}, width = {size} }}
classes = {classes}
legal_cuts = [{cut}]
layers = [
{layers}
]
"""

WEIGHTED = ('"conv2d', '"depthwise', '"pointwise', '"linear')


@cache
def network_of(layers: str, channels=2, size=5, classes=3):
    """Load a network of the entries ``layers``; the last one has to give ``classes`` numbers."""
    units = [entry for entry in layers.split("kind = ") if entry.startswith(WEIGHTED)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.toml"
        text = HEAD.format(layers=layers, channels=channels, size=size, classes=classes, cut=len(units) - 1)
        path.write_text(text, encoding="utf-8")
        return load_network(path)


def folded_parameters(workload, seed=0):
    """Random fp32 weights and biases of every unit, under their names."""
    draw, found = np.random.default_rng(seed), {}
    for unit in workload.units:
        layer, inputs = workload.layers[unit.layer], workload.shape_of(workload.inputs[unit.layer][0])
        if hasattr(layer, "geometry"):
            out, groups, kernel = layer.geometry(inputs)
            shape = (out, inputs[0] // groups, *kernel)
        else:
            shape = (unit.out_channels, inputs[0])
        spread = np.sqrt(2 / np.prod(shape[1:]))
        found[f"{unit.name}.weight"] = draw.normal(0, spread, shape).astype(np.float32)
        if unit.bias_params:
            found[f"{unit.name}.bias"] = draw.normal(0, 0.2, shape[0]).astype(np.float32)
    return found


def shifted(value: int, factor: float) -> int:
    """Round value x factor, halves upwards, with a mantissa of 24 bits and a shift, in Python's integers."""
    mantissa, exponent = np.frexp(np.float32(factor))
    whole, shift = int(mantissa * 2**24), 24 - int(exponent)
    assert shift > 0
    return (value * whole + (1 << (shift - 1))) >> shift


def windows(size, kernel, stride, dilation, before, positions):
    """Yield (output position, kernel element, input position) of one axis, inside the input alone."""
    for position, element in product(range(positions), range(kernel)):
        place = position * stride + element * dilation - before
        if 0 <= place < size:
            yield position, element, place


def links(geometry):
    """Yield (output row, column, kernel row, column, input row, column) of a window, by loops."""
    window = geometry.window
    axes = [
        list(windows(*args))
        for args in zip(
            window.size,
            window.kernel,
            window.stride,
            window.dilation,
            window.before,
            window.positions,
            strict=True,
        )
    ]
    for (row, up, y), (column, left, x) in product(*axes):
        yield row, column, up, left, y, x


def channels_of(geometry):
    """Yield (output channel, input channel, its place in the weights) of every pair that is linked."""
    for group, out, inside in product(
        range(geometry.groups), range(geometry.outside), range(geometry.inside)
    ):
        yield group * geometry.outside + out, group * geometry.inside + inside, inside
