"""Random parameters of any network, optimiser state in mid-event, and the state of heads.

Nothing is neutral, so that a number that is lost or exchanged shows: biases and statistics differ from 0 and
1, second moments are far enough from zero to divide by, and classes have been seen before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dse.execution.arithmetic import Array, FloatArray, IntArray
from dse.execution.layout import SCALES, STATISTICS
from dse.execution.optimisers import STATE_WORDS
from dse.execution.weighted import Weighted
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.spec import kept_channels
from dse.workload import Unit, Workload
from dse.workload.convolutions import BatchNorm, Convolution

GAIN = 1.0
"""Variance of a sum of products whose inputs have variance 1.

Every rectifier then halves what passes: neither activations nor errors grow with depth, whatever the network.
"""


def drawn_parameters(
    workload: Workload, seed: int, *, folded: bool, gain: float = GAIN
) -> dict[str, FloatArray]:
    """Draw parameters by name, ``<layer>.<part>``: weights by fan-in, biases, norms unless ``folded``."""
    draw, found = np.random.default_rng([seed, 1]), dict[str, Array]()
    units = {unit.layer: unit for unit in workload.units}
    for index, layer in enumerate(workload.layers):
        if index in units:
            found |= _unit(workload, units[index], folded, gain, draw)
        elif isinstance(layer, BatchNorm) and not folded:
            found |= _norm(layer.name, workload.shapes[index][0], draw)
    return {key: value.astype(np.float32) for key, value in found.items()}


def _unit(
    workload: Workload, unit: Unit, folded: bool, gain: float, draw: np.random.Generator
) -> dict[str, Array]:
    shape = weight_shape(workload, unit)
    spread = np.sqrt(gain / np.prod(shape[1:]))
    found = {f"{unit.name}.weight": draw.standard_normal(shape) * spread}
    inputs = workload.shape_of(workload.inputs[unit.layer][0])
    if workload.layers[unit.layer].bias_params(inputs) or (folded and unit.norm_channels):
        found[f"{unit.name}.bias"] = draw.normal(0.05, 0.2, unit.out_channels)
    return found


def _norm(name: str, channels: int, draw: np.random.Generator) -> dict[str, Array]:
    values = (
        draw.uniform(0.5, 1.5, channels), draw.normal(0.1, 0.2, channels),
        draw.normal(0, 0.2, channels), draw.uniform(0.5, 1.5, channels),
    )  # fmt: skip
    keys = (f"{name}.{part}" for part in (*SCALES, *STATISTICS))
    return dict(zip(keys, values, strict=True))


def weight_shape(workload: Workload, unit: Unit) -> tuple[int, ...]:
    """Return the shape of a unit's weights: (out, in per group, kernel...)."""
    layer, inputs = workload.layers[unit.layer], workload.shape_of(workload.inputs[unit.layer][0])
    if isinstance(layer, Convolution):
        out, groups, kernel = layer.geometry(inputs)
        return (out, inputs[0] // groups, *kernel)
    return (unit.out_channels, Weighted.of(layer, inputs).inside)


def drawn_state(
    optimiser: str, parameters: Mapping[str, Array], seed: int
) -> dict[str, tuple[FloatArray, ...]]:
    """Draw the words of optimiser state of every tensor in ``parameters``, each in the tensor's shape."""
    draw, found = np.random.default_rng([seed, 4]), dict[str, tuple[FloatArray, ...]]()
    for key, value in parameters.items():
        first = draw.normal(0, 0.1, value.shape).astype(np.float32)
        second = draw.uniform(0.5, 1.5, value.shape).astype(np.float32)
        found[key] = (first, second)[: STATE_WORDS[optimiser]]
    return found


def drawn_channels(workload: Workload, plan: TrainingPlan, seed: int) -> dict[int, IntArray]:
    """Draw the input channels that learn, ascending, of each unit (by index) where some do and others do not.

    Where ``dse.training`` would choose by the weights, a trial takes any: memory is the same.
    """
    ratio = PlanBatch.from_plans(workload, [plan]).weight_ratio
    kept, draw = kept_channels(workload, ratio)[0], np.random.default_rng([seed, 2])
    edge = workload.cut_layer(plan.cut)
    return {
        unit.index: np.sort(draw.permutation(unit.in_channels)[: kept[unit.index]])
        for unit in workload.units
        if 0 < kept[unit.index] < unit.in_channels and unit.layer > edge
    }


def drawn_head(workload: Workload, head: str, seed: int) -> dict[str, Array]:
    """Draw the state of a head that has learned before, by name; empty where the head has none."""
    draw, last = np.random.default_rng([seed, 5]), workload.units[-1]
    classes, features = last.out_channels, last.input_elements
    counts = draw.integers(1, 9, classes)
    if head == "cwr":
        return {"bank": draw.normal(0, 0.1, (classes, features + 1)), "counts": counts}
    means = {"means": draw.normal(0, 1, (classes, features)), "counts": counts}
    if head != "slda":
        return means if head == "ncm" else {}
    some = draw.normal(0, 1, (features, 4))
    covariance = np.eye(features) + some @ some.T / 4
    weight, bias = draw.normal(0, 1, (classes, features)), draw.normal(0, 1, classes)
    return {**means, "covariance": covariance, "weight": weight, "bias": bias}
