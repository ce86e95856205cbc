"""From fp32 parameters and known samples to the integers of a plan: grids, steps, weights and biases.

Ranges of activations are the least and largest values that the samples cause in fp32. Grids and steps stay as
they are from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dse.execution.arithmetic import FloatArray, IntArray
from dse.execution.fp32 import Fp32
from dse.execution.int8.constants import Constants, Steps, quantised
from dse.execution.int8.grid import Grid
from dse.execution.int8.groups import KEEPS_GRID, Groups
from dse.plan.decisions import TrainingPlan
from dse.workload import Workload
from dse.workload.graph import NETWORK_INPUT

Parameters = Mapping[str, FloatArray]
"""fp32 weights and biases under ``<layer>.<part>``, batch norms folded."""

Numbers = dict[str, NDArray[np.int8 | np.int32 | np.float32]]


@dataclass(frozen=True)
class Prepared:
    """The integers of one stage, and what they mean."""

    constants: Constants
    numbers: Numbers = field(default_factory=dict)


def prepared_learning(
    workload: Workload,
    plan: TrainingPlan,
    parameters: Parameters,
    latents: FloatArray,
    source: Grid | None = None,
    channels: Mapping[int, IntArray] | None = None,
) -> Prepared:
    """Quantise the learning stage of ``plan``.

    ``latents`` (n, *cut shape) are known samples; ``source`` their grid where the frozen stage has one.
    ``channels``: layer -> input channels whose weights learn, where not all of them do. An fp32 classifier
    keeps its numbers.
    """
    span = range(workload.cut_layer(plan.cut) + 1, len(workload.layers))
    grids = grids_of(workload, span, parameters, latents, source)
    logits, fp32 = workload.units[-1].layer, plan.classifier_dtype == "fp32"
    steps, numbers = integers_of(workload, span, grids, parameters, {logits}, {logits} if fp32 else ())
    return Prepared(Constants(grids, steps, channels or {}), numbers)


def prepared_forward(
    workload: Workload, span: range, parameters: Parameters, samples: FloatArray
) -> Prepared:
    """Quantise layers that only run forward, the frozen stage or a whole network; logits stay real values.

    ``samples`` (n, *shape of what enters) are known ones.
    """
    grids = grids_of(workload, span, parameters, samples)
    logits = {workload.units[-1].layer} & set(span)
    steps, numbers = integers_of(workload, span, grids, parameters, logits, ())
    return Prepared(Constants(grids, steps), numbers)


def grids_of(
    workload: Workload,
    span: range,
    parameters: Parameters,
    samples: FloatArray,
    source: Grid | None = None,
) -> dict[int, Grid]:
    """Return a grid per tensor of ``span``: over its range where values are rounded, else that of its input.

    What enters stands under -1.
    """
    members = Groups.of(workload, span).members
    ranges = _ranges(workload, span, parameters, samples)
    grids = {NETWORK_INPUT: source or Grid.over(*ranges[NETWORK_INPUT])}
    for head, own in members.items():
        before = workload.inputs[head][0]
        keeps = workload.layers[head].kind in KEEPS_GRID
        grid = grids[before if before in span else NETWORK_INPUT] if keeps else Grid.over(*ranges[own[-1]])
        grids |= dict.fromkeys(own, grid)
    return grids


def _ranges(
    workload: Workload, span: range, parameters: Parameters, samples: FloatArray
) -> dict[int, tuple[float, float]]:
    """Return the least and the largest value of each tensor in fp32, -1 being what enters."""
    real = Fp32(workload)
    values = {NETWORK_INPUT: samples.astype(np.float32)}
    for layer in span:
        inputs = [values[p if p in span else NETWORK_INPUT] for p in workload.inputs[layer]]
        keys = {part: f"{workload.layers[layer].name}.{part}" for part in ("weight", "bias")}
        own = {part: parameters[key] for part, key in keys.items() if key in parameters}
        values[layer] = real.forward(layer, inputs, own, keep=False).output
    return {layer: (float(x.min()), float(x.max())) for layer, x in values.items()}


def integers_of(
    workload: Workload,
    span: range,
    grids: Mapping[int, Grid],
    parameters: Parameters,
    logits: Iterable[int],
    fp32: Iterable[int],
) -> tuple[dict[int, Steps], Numbers]:
    """Quantise the weights of ``span``; layers in ``fp32`` keep theirs, those in ``logits`` sum up."""
    steps: dict[int, Steps] = {}
    numbers: Numbers = {}
    for unit in workload.units:
        layer = unit.layer
        if layer not in span:
            continue
        before = workload.inputs[layer][0]
        source = grids[before if before in span else NETWORK_INPUT]
        target = None if layer in logits else grids[layer]
        weight, bias = parameters[f"{unit.name}.weight"], parameters.get(f"{unit.name}.bias")
        q, whole, steps[layer] = quantised(weight, bias, source, target)
        if layer in fp32:
            steps[layer] = Steps.real(len(weight), source)
        numbers[f"{unit.name}.weight"] = weight if layer in fp32 else q
        if bias is not None:
            numbers[f"{unit.name}.bias"] = bias if layer in fp32 else whole
    return steps, numbers


def for_inference(workload: Workload, plan: TrainingPlan, frozen: Prepared, learning: Prepared) -> Prepared:
    """Return constants and numbers of an inference by the two stages of ``plan``, both in int8.

    Logits stay real values, and an fp32 classifier is quantised. ``frozen`` is not read where nothing is
    frozen. Raises ValueError where the frozen stage ends on another grid than the learning stage begins with.
    """
    edge, unit = workload.cut_layer(plan.cut), workload.units[-1]
    below = frozen.constants if edge != NETWORK_INPUT else Constants(learning.constants.grids, {})
    enters = below.grids[edge]
    if learning.constants.grids[NETWORK_INPUT] != enters:
        raise ValueError(f"the frozen stage leaves {enters}, and another grid enters the learning stage")
    grids = {**learning.constants.grids, **below.grids}
    steps, numbers = {**below.steps, **learning.constants.steps}, {**frozen.numbers, **learning.numbers}
    if steps[unit.layer].whole:
        return Prepared(Constants(grids, steps), numbers)
    source = grids[workload.inputs[unit.layer][0]]
    weight, bias = numbers[f"{unit.name}.weight"], numbers.get(f"{unit.name}.bias")
    q, whole, steps[unit.layer] = quantised(weight, bias, source, None)
    numbers |= {f"{unit.name}.weight": q} | ({} if bias is None else {f"{unit.name}.bias": whole})
    return Prepared(Constants(grids, steps), numbers)


def real_numbers(workload: Workload, prepared: Prepared) -> dict[str, FloatArray]:
    """Return the real values of integers, fp32, as an inference in fp32 reads them."""
    names = {unit.layer: unit.name for unit in workload.units}
    found: dict[str, FloatArray] = {}
    for layer, steps in prepared.constants.steps.items():
        for part, step in (("weight", steps.weight), ("bias", steps.bias)):
            key = f"{names[layer]}.{part}"
            if key in prepared.numbers:
                q = prepared.numbers[key]
                found[key] = (q * step.reshape(-1, *(1,) * (q.ndim - 1))).astype(np.float32)
    return found
