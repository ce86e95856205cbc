"""The numbers of a network by name: their shapes, where training starts, and batch norms folded away.

Names are ``<layer>.weight`` and ``.bias`` of convolutions and linear layers, and ``<layer>.gamma``,
``.beta``, ``.mean`` and ``.variance`` of batch norms. A batch norm whose numbers are missing has been folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.workload import Shape, Workload
from dse.workload.convolutions import BatchNorm, Convolution, Linear

Parameters = dict[str, NDArray[np.float32]]

EPSILON: Final = 1e-5
"""Added to the variance of a batch norm."""

NORM_PARTS: Final = ("gamma", "beta", "mean", "variance")


def weight_shape(workload: Workload, layer: int) -> Shape:
    """Shape of a layer's weights: (out, in per group, kernel...) or (out, in)."""
    found, inputs = workload.layers[layer], workload.shape_of(workload.inputs[layer][0])
    if isinstance(found, Convolution):
        out, groups, kernel = found.geometry(inputs)
        return (out, inputs[0] // groups, *kernel)
    return (workload.shapes[layer][0], inputs[0])


def parameter_shapes(workload: Workload) -> dict[str, Shape]:
    """Return the shape of every parameter, in the order of the layers, batch norms not folded."""
    shapes: dict[str, Shape] = {}
    for index, layer in enumerate(workload.layers):
        channels = workload.shapes[index][:1]
        if isinstance(layer, BatchNorm):
            shapes |= {f"{layer.name}.{part}": channels for part in NORM_PARTS}
        elif isinstance(layer, Convolution | Linear):
            shapes[f"{layer.name}.weight"] = weight_shape(workload, index)
            if layer.bias_params(workload.shape_of(workload.inputs[index][0])):
                shapes[f"{layer.name}.bias"] = channels
    return shapes


def initial_parameters(workload: Workload, seed: int) -> Parameters:
    """Return parameters to start training from; the same seed gives the same bits.

    Weights are normal with variance 2 / fan-in (He et al., ICCV 2015, arXiv 1502.01852, Eq. 10), 1 / fan-in
    in the last unit, which no rectifier follows; biases and shifts 0, scales 1. Each layer draws from a
    generator of its own, so another number of classes leaves the other layers alone.
    """
    last = workload.layers[workload.units[-1].layer].name
    constants = {"bias": 0.0, "gamma": 1.0, "beta": 0.0, "mean": 0.0, "variance": 1.0}
    parameters: Parameters = {}
    for place, (key, shape) in enumerate(parameter_shapes(workload).items()):
        name, part = key.rsplit(".", 1)
        if part == "weight":
            deviation = np.sqrt((1.0 if name == last else 2.0) / prod(shape[1:]))
            drawn = np.random.default_rng([seed, place]).standard_normal(shape)
            parameters[key] = (deviation * drawn).astype(np.float32)
        else:
            parameters[key] = np.full(shape, constants[part], dtype=np.float32)
    return parameters


def fold(workload: Workload, parameters: Mapping[str, NDArray[np.float32]]) -> Parameters:
    """Return parameters without batch norms: w' = w g / s, b' = beta + (b - mean) g / s.

    g is the scale (gamma) and s = sqrt(variance + 1e-5). Batch norms that are folded already stay so. Raises
    UserError where ``parameters`` do not fit the network.
    """
    check_parameters(workload, parameters)
    folded: Parameters = {key: value for key, value in parameters.items() if key.rsplit(".", 1)[1] in _OWN}
    for index, layer in enumerate(workload.layers):
        if not isinstance(layer, BatchNorm) or f"{layer.name}.gamma" not in parameters:
            continue
        name = workload.layers[workload.inputs[index][0]].name
        gamma, beta, mean, variance = (
            parameters[f"{layer.name}.{part}"].astype(np.float64) for part in NORM_PARTS
        )
        factor = gamma / np.sqrt(variance + EPSILON)
        weight = parameters[f"{name}.weight"]
        bias = parameters.get(f"{name}.bias", np.zeros(len(factor)))
        spread = factor.reshape(-1, *(1,) * (weight.ndim - 1))
        folded[f"{name}.weight"] = (weight * spread).astype(np.float32)
        folded[f"{name}.bias"] = (beta + (bias - mean) * factor).astype(np.float32)
    return folded


_OWN: Final = ("weight", "bias")


def check_parameters(workload: Workload, parameters: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise UserError, with every problem, where ``parameters`` do not fit ``workload``."""
    shapes = parameter_shapes(workload)
    for index, layer in enumerate(workload.layers):
        if isinstance(layer, BatchNorm) and f"{layer.name}.gamma" not in parameters:
            for part in NORM_PARTS:
                del shapes[f"{layer.name}.{part}"]
            name = workload.layers[workload.inputs[index][0]].name
            shapes[f"{name}.bias"] = workload.shapes[index][:1]
    file = f"parameters of {workload.name}"
    missing = [key for key in shapes if key not in parameters]
    problems = [Problem(file, key, "missing", f"an array of shape {shapes[key]}") for key in missing]
    for key, value in parameters.items():
        if key not in shapes:
            problems.append(Problem(file, key, "unknown", "a layer of the network and one of its numbers"))
        elif value.shape != shapes[key]:
            problems.append(Problem(file, key, f"shape {value.shape}", f"must be {shapes[key]}"))
        elif not np.all(np.isfinite(value)):
            problems.append(Problem(file, key, "NaN or infinite values", "must be finite"))
    if problems:
        raise UserError(problems)
