"""The numbers of a network by name (``dse.workload.parameters``): where training starts, batch norms folded.

A batch norm whose numbers are missing has been folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.workload import Workload
from dse.workload.convolutions import BatchNorm
from dse.workload.parameters import (
    NORM_PARTS,
    Parameters,
    number_problems,
    parameter_shapes,
    weight_shape,
)

__all__ = [
    "EPSILON",
    "NORM_PARTS",
    "Parameters",
    "check_parameters",
    "fold",
    "initial_parameters",
    "parameter_shapes",
    "starting_parameters",
    "weight_shape",
]

EPSILON: Final = 1e-5
"""Added to the variance of a batch norm."""


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


def starting_parameters(workload: Workload, seed: int) -> Parameters:
    """Return what training starts from: the network's own numbers, and drawn ones for layers without any.

    Raises UserError where its numbers do not fit the network.
    """
    problems = number_problems(workload, workload.numbers, f"numbers of {workload.name}")
    if problems:
        raise UserError(problems)
    return {**initial_parameters(workload, seed), **workload.numbers}


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
