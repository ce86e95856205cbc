"""What runs forward a second time: the layers of checkpoint segments whose values the backward pass needs."""

from __future__ import annotations

import numpy as np

from dse.plan.decisions import BoolArray
from dse.plan.learning import Learning
from dse.plan.spec import INT8_BYTES, StepSpec, mode_is
from dse.plan.tensors import owner_of, tensors_of
from dse.vocabulary import Saved
from dse.workload import Workload


def runs_again(workload: Workload, spec: StepSpec, learning: Learning) -> BoolArray:
    """Return the layers that run forward again, (L, P): what saves something, and what leads up to it."""
    needed = np.zeros((len(workload.layers), len(spec)), dtype=bool)
    for first, last in spec.structure.segments:
        for layer in range(first, last + 1):
            needed[layer] |= _saves(workload, spec, learning, layer)
            unit = learning.unit_at(layer)
            if unit is not None:
                for producer in workload.inputs[layer]:
                    if producer >= first:
                        needed[producer] |= learning.weights_learn(unit) & learning.runs(layer)
        for layer in range(last, first - 1, -1):
            for producer in workload.inputs[layer]:
                if producer >= first:
                    needed[producer] |= needed[layer]
    return needed


def _saves(workload: Workload, spec: StepSpec, learning: Learning, layer: int) -> BoolArray:
    """Return where the forward pass of ``layer`` leaves something behind that is no input of a unit."""
    kind, passes = workload.layers[layer].saves, learning.error_passes[layer]
    clamps = clamp_saved(workload, spec, learning, layer)
    if kind in (Saved.MASK, Saved.INPUT, Saved.INDEX):
        return np.asarray(passes | clamps)
    if kind == Saved.NORM:
        return norm_saved(spec, learning, layer) | clamps
    return clamps


def norm_saved(spec: StepSpec, learning: Learning, layer: int) -> BoolArray:
    """Return where a batch norm saves its input: by its mode, and by whether its affine part learns."""
    affine, passes = learning.norm_learns[layer], learning.error_passes[layer]
    statistics = mode_is(spec, "batch_stats") | mode_is(spec, "group")
    needed = (mode_is(spec, "frozen_stats") & affine) | (statistics & (affine | passes))
    return np.asarray(needed & learning.runs(layer))


def clamp_saved(workload: Workload, spec: StepSpec, learning: Learning, layer: int) -> BoolArray:
    """Return where the requantised output of ``layer`` keeps a clamp mask of its own."""
    tensors, position = tensors_of(workload, spec.structure.learning_in_place)
    tensor, kind = tensors[position[layer]], workload.layers[layer]
    clamps = tensor.root == layer and (kind.operator is not None or kind.element_operation == "add")
    if not clamps or any(workload.layers[member].saves == Saved.MASK for member in tensor.members):
        return np.zeros(len(spec), dtype=bool)
    narrow = spec.output_bytes(owner_of(workload, tensor)) == INT8_BYTES
    return np.asarray(narrow & learning.error_needed[layer])
