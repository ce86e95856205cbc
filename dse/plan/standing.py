"""What stands in memory throughout: parameters, their copies, optimiser state, head state, samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.plan.spec import BIAS_BYTES
from dse.plan.step import TrainingStep, side_bytes
from dse.plan.timeline import Content, Holds
from dse.vocabulary import Role


@dataclass(frozen=True)
class Standing:
    """One stretch that is alive throughout; ``place`` is a unit, or -1."""

    holds: Holds
    place: int
    role: Role
    name: str
    reason: str
    size_bytes: int
    content: Content = Content.STANDING


SAMPLES: Final = {
    Holds.NEW_SAMPLES: (Role.NEW_SAMPLES, "new samples", "trained on in every epoch of the event"),
    Holds.REPLAYS: (Role.REPLAY_SAMPLES, "replays", "drawn from in every mini-batch"),
    Holds.NEW_LABELS: (Role.LABELS, "labels of new samples", "one per sample"),
    Holds.REPLAY_LABELS: (Role.LABELS, "labels of replays", "one per sample"),
}


def standing_buffers(step: TrainingStep, row: int, samples: Mapping[Holds, int]) -> Iterator[Standing]:
    """Yield what plan ``row`` keeps throughout, leaving out what is empty."""
    for unit in range(len(step.workload.units)):
        for item in (*_parameters(step, row, unit), *_copies(step, row, unit)):
            if item.size_bytes:
                yield item
    yield from _sides(step, row)
    head = int(step.spec.head_state_bytes[row])
    if head:
        yield Standing(Holds.HEAD, -1, Role.HEAD_STATE, "head state", "what the head has learned", head)
        yield Standing(
            Holds.PERSISTENT_HEAD, -1, Role.PERSISTENT_COPY, "head state", "survives a loss of power", head
        )
    for holds, size in samples.items():
        if size:
            yield Standing(holds, -1, *SAMPLES[holds], size)


def _sides(step: TrainingStep, row: int) -> Iterator[Standing]:
    """Weights of forward-only layers that are no unit, under the unit that they follow."""
    workload = step.workload
    for layer in np.flatnonzero(workload.side_weights + workload.side_biases).tolist():
        unit = max(int(workload.unit_of_layer[layer]), 0)
        size = int(side_bytes(workload, step.spec)[row, layer])
        yield Standing(
            Holds.FROZEN_WEIGHT, unit, Role.FROZEN_WEIGHTS, workload.layers[layer].name,
            "constants of a layer that runs forward only", size,
        )  # fmt: skip


def _parameters(step: TrainingStep, row: int, index: int) -> Iterator[Standing]:
    """Weights and affine parameters of one unit: those that learn, and those that do not."""
    spec, learning, unit = step.spec, step.learning, step.workload.units[index]
    weight_width, bias_width = int(spec.weight_bytes[row, index]), int(spec.bias_bytes[row])
    trained, affine = int(learning.trained_weights[row, index]), int(learning.trained_affine[row, index])
    running = int(learning.running_statistics[row, index])
    state = (trained + affine) * int(spec.state_per_parameter[row] * spec.state_bytes[row])
    fixed = (unit.weight_params - trained) * weight_width
    fixed_affine = int(learning.affine_parameters[row, index]) - affine
    fixed_affine = (fixed_affine + int(learning.frozen_statistics[row, index])) * bias_width
    if step.frozen_units[row, index]:
        fixed, fixed_affine = unit.weight_params * int(spec.frozen_bytes[row]), unit.bias_params * BIAS_BYTES
    elif not spec.backprop[row]:
        fixed = fixed_affine = 0
    learns, stays = Role.LEARNING_WEIGHTS, Role.FROZEN_WEIGHTS
    name = unit.name
    yield Standing(Holds.LEARNING_WEIGHT, index, learns, name, "weights that learn", trained * weight_width)
    size = (affine + running) * bias_width
    yield Standing(Holds.LEARNING_AFFINE, index, learns, name, "biases, scales, shifts that learn", size)
    yield Standing(Holds.FROZEN_WEIGHT, index, stays, name, "weights that do not learn", fixed)
    yield Standing(
        Holds.FROZEN_AFFINE, index, stays, name, "affine parameters that do not learn", fixed_affine
    )
    yield Standing(Holds.STATE, index, Role.OPTIMISER_STATE, name, "state of the optimiser", state)


def _copies(step: TrainingStep, row: int, index: int) -> Iterator[Standing]:
    """What a unit's parameters are kept as besides: for inference in another width, and without power."""
    spec, learning, unit = step.spec, step.learning, step.workload.units[index]
    weight_width, bias_width = int(spec.weight_bytes[row, index]), int(spec.bias_bytes[row])
    apart = not step.frozen_units[row, index] and spec.backprop[row]
    width = int(spec.frozen_bytes[row])
    copied = apart and weight_width != width
    inference, kept = Role.INFERENCE_COPY, Role.PERSISTENT_COPY
    reason, safe = "inference runs in another width", "survives a loss of power"
    size = unit.weight_params * width * copied
    yield Standing(Holds.COPY_WEIGHT, index, inference, unit.name, reason, size)
    size = unit.bias_params * BIAS_BYTES * copied
    yield Standing(Holds.COPY_AFFINE, index, inference, unit.name, reason, size)
    trained = int(learning.trained_weights[row, index]) * weight_width
    yield Standing(Holds.PERSISTENT_WEIGHT, index, kept, unit.name, safe, trained)
    affine = int(learning.trained_affine[row, index] + learning.running_statistics[row, index]) * bias_width
    yield Standing(Holds.PERSISTENT_AFFINE, index, kept, unit.name, safe, affine)
