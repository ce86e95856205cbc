"""The names and shapes of a network's parameters.

Names are ``<layer>.weight`` and ``.bias`` of convolutions and linear layers, and ``<layer>.gamma``,
``.beta``, ``.mean`` and ``.variance`` of batch norms. Layers that run forward only have none here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem
from dse.workload.base import Shape
from dse.workload.convolutions import BatchNorm, Convolution, Linear
from dse.workload.graph import Workload
from dse.workload.numbers import Numbers

Parameters = dict[str, NDArray[np.float32]]

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


def number_problems(
    workload: Workload, numbers: Mapping[str, NDArray[np.float32]], file: str
) -> list[Problem]:
    """Return what is wrong with ``numbers`` that training of ``workload`` is to start from.

    Layers may have none, but none may have a part of them.
    """
    shapes = parameter_shapes(workload)
    problems = []
    for name, array in numbers.items():
        if name not in shapes:
            problems.append(
                Problem(file, name, "unknown", "a layer of the network and one of its parameters")
            )
        elif array.shape != shapes[name]:
            problems.append(Problem(file, name, f"shape {array.shape}", f"must be {shapes[name]}"))
        elif not np.all(np.isfinite(array)):
            problems.append(Problem(file, name, "NaN or infinite values", "must be finite"))
        elif name.endswith(".variance") and array.size and array.min() < 0:
            problems.append(Problem(file, name, f"{array.min():g}", "a variance is at least 0"))
    begun = {name.rpartition(".")[0] for name in numbers}
    for name in shapes:
        if name.rpartition(".")[0] in begun and name not in numbers:
            problems.append(Problem(file, name, "missing", "all parameters of a layer, or none"))
    return problems


def layers_without_numbers(workload: Workload) -> tuple[str, ...]:
    """Return the layers with parameters that training would draw, where the network has numbers at all."""
    if not workload.numbers:
        return ()
    missing = [name.rpartition(".")[0] for name in parameter_shapes(workload) if name not in workload.numbers]
    return tuple(dict.fromkeys(missing))


def with_numbers(workload: Workload, found: Mapping[str, NDArray[np.float32]], source: str) -> Workload:
    """Return ``workload`` with those of ``found`` that fit, layer by layer; ``source`` says where from.

    A layer for which a number is missing, of another shape or not finite keeps none: it is drawn.
    """
    shapes = parameter_shapes(workload)
    by_layer: dict[str, list[str]] = {}
    for name in shapes:
        by_layer.setdefault(name.rpartition(".")[0], []).append(name)
    kept = {
        name: found[name]
        for names in by_layer.values()
        if all(name in found and found[name].shape == shapes[name] for name in names)
        and all(np.all(np.isfinite(found[name])) for name in names)
        for name in names
    }
    return replace(workload, numbers=Numbers(kept, source if kept else ""))
