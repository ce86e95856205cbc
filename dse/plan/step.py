"""The training step in numbers: MACs, elements and bytes per layer and pass, for P plans at once.

No chip is involved. Activation traffic follows from the schedule: a buffer is written once and read by
each operation that names it, once per micro-batch. Weights are read once per micro-batch and pass; an
accumulator is read and written once per micro-batch; the update reads a gradient and reads and writes
weights and optimiser state once per mini-batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.plan.again import runs_again
from dse.plan.decisions import BoolArray, FloatArray, IntArray, PlanBatch
from dse.plan.learning import Learning, learning_of
from dse.plan.patches import regions_of
from dse.plan.schedule import build_schedule
from dse.plan.spec import BIAS_BYTES, StepSpec
from dse.plan.techniques import build_spec
from dse.plan.tensors import tensors_of
from dse.plan.timeline import BACKWARD, Holds, Kind, Schedule
from dse.plan.workspace import WorkspaceTable
from dse.vocabulary import PASSES, Role
from dse.workload import Workload

READ: Final = 0
WRITE: Final = 1

Traffic = dict[Role, FloatArray]
"""Role -> bytes (P, U + 1, passes, 2): read and written; the last row loads latents and takes the loss."""


@dataclass(frozen=True)
class TrainingStep:
    """One mini-batch of P plans; U units, L layers. ``frozen_*`` is per image, the rest per mini-batch."""

    workload: Workload
    spec: StepSpec
    learning: Learning
    schedule: Schedule
    macs: FloatArray  # (P, U, 3): fwd, bwd_input, bwd_weight
    calls: FloatArray  # (P, U, 3)
    layer_fwd: FloatArray  # (P, L) samples that pass forward through each layer
    layer_bwd: FloatArray  # (P, L) samples whose error passes back through each layer
    traffic: Traffic
    frozen_units: BoolArray  # (P, U) units of the frozen stage
    frozen_layers: BoolArray  # (P, L)
    frozen_repeat: (
        FloatArray  # (L,) how often each layer computes an element of the frozen stage, in the mean
    )
    frozen_activation_bytes: FloatArray  # (P, U, 2) activations read, written per image
    latent_elements: IntArray  # (P,) per sample
    latent_bytes: IntArray  # (P,) per stored sample
    static_bytes: dict[Role, IntArray]  # alive throughout
    copy_parameters: IntArray  # (P,) parameters that are quantised into the inference copy after an event
    copy_bytes: IntArray  # (P,) bytes of the inference copy that an event rewrites

    def __len__(self) -> int:
        return len(self.spec)


def training_step(
    workload: Workload,
    plans: PlanBatch,
    workspace: WorkspaceTable | None = None,
    cores: int = 1,
    *,
    lowest_unit_bwd_input: bool = False,
) -> TrainingStep:
    """Describe one mini-batch of each plan.

    Parameters
    ----------
    plans
        P legal plans (``techniques.illegal`` says what is not).
    workspace, cores
        Formulas of the kernel libraries, and the cores that share a kernel.
    lowest_unit_bwd_input
        Also count an input gradient for the lowest learning unit, as arXiv 2110.10486 does; nothing
        reads it.

    """
    spec = build_spec(workload, plans)
    learning = learning_of(workload, spec)
    schedule = build_schedule(workload, spec, workspace, cores)
    again = runs_again(workload, spec, learning)
    active = _active(workload, spec, learning, again, lowest_unit_bwd_input)
    scale = spec.samples / spec.micro
    layers = np.arange(len(workload.layers))
    runs = (layers > spec.cut_layer[:, None]) & spec.backprop[:, None]
    elements = _latent_elements(workload, spec)
    frozen_units = np.array([unit.layer for unit in workload.units]) <= spec.cut_layer[:, None]
    copied = _copied(workload, spec, learning)
    return TrainingStep(
        workload, spec, learning, schedule,
        macs=_macs(workload, spec, active),
        calls=np.ceil(scale)[:, None, None] * np.ceil(active),
        layer_fwd=spec.samples[:, None] * (runs + again.T.astype(float)),
        layer_bwd=spec.samples[:, None] * learning.error_passes.T.astype(float),
        traffic=_traffic(schedule, spec, learning, again, active, scale),
        frozen_units=frozen_units,
        frozen_layers=layers <= spec.cut_layer[:, None],
        frozen_repeat=_frozen_repeat(workload, spec),
        frozen_activation_bytes=_frozen_activation_bytes(schedule, spec),
        latent_elements=elements,
        latent_bytes=-(-elements * spec.latent_bits // 8),
        static_bytes=_static_bytes(workload, spec, learning, frozen_units),
        copy_parameters=copied[0],
        copy_bytes=copied[1],
    )  # fmt: skip


def _latent_elements(workload: Workload, spec: StepSpec) -> IntArray:
    inputs = int(np.prod(workload.input_shape))
    result: IntArray = np.append(workload.out_elements, inputs)[spec.cut_layer]
    return result


def _frozen_repeat(workload: Workload, spec: StepSpec) -> FloatArray:
    """How often the frozen stage and inference compute each layer, (L,): patches overlap."""
    result = np.ones(len(workload.layers))
    patches = spec.structure.patches
    if patches is not None:
        for layer in range(workload.units[patches.unit].cut_layer + 1):
            result[layer] = regions_of(workload, patches).repeat(layer)
    return result


def _active(
    workload: Workload, spec: StepSpec, learning: Learning, again: BoolArray, lowest: bool
) -> FloatArray:
    """How often each unit's MACs are executed by a pass, in parts where some channels learn: (P, U, 3)."""
    first = np.array([unit.layer for unit in workload.units])
    runs = ((first > spec.cut_layer[:, None]) & spec.backprop[:, None]) + again[first].T.astype(np.int64)
    passes = learning.error_passes[first].T
    if lowest:
        learns = learning.parameters > 0
        index = np.argmax(learns, axis=1)
        passes = passes | ((np.arange(len(first)) == index[:, None]) & learns)
    channels = np.array([unit.in_channels for unit in workload.units])
    return np.stack([runs, passes, learning.kept_channels / channels], axis=2).astype(float)


def _macs(workload: Workload, spec: StepSpec, active: FloatArray) -> FloatArray:
    macs = np.array([unit.macs for unit in workload.units], dtype=float)
    result = active * macs[None, :, None] * spec.samples[:, None, None]
    result[:, -1, 0] += spec.head_sample_macs * spec.new_samples
    return np.asarray(result)


def _traffic(
    schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray, active: FloatArray,
    scale: FloatArray,
) -> Traffic:  # fmt: skip
    shape = (len(spec), len(schedule.workload.units) + 1, len(PASSES), 2)
    roles = (
        Role.SAVED_ACTIVATIONS, Role.TRANSIENT_ACTIVATIONS, Role.LEARNING_WEIGHTS, Role.FROZEN_WEIGHTS,
        Role.GRADIENTS, Role.OPTIMISER_STATE, Role.HEAD_STATE,
    )  # fmt: skip
    traffic = {role: np.zeros(shape) for role in roles}
    places, clock = _places(schedule), schedule.clock
    for buffer in schedule.buffers:
        if buffer.role not in (Role.SAVED_ACTIVATIONS, Role.TRANSIENT_ACTIVATIONS):
            continue
        written = max(buffer.start, clock.load) if buffer.holds == Holds.LATENTS else buffer.start
        if not clock.load <= written <= clock.update:
            continue  # the frozen stage is counted per image, and so is inference
        moved = buffer.size * scale
        traffic[buffer.role][:, *places[written], WRITE] += moved
        for op in buffer.reads:
            executes = _executes(schedule, spec, learning, again, op)
            traffic[buffer.role][:, *places[op], READ] += moved * executes
    _parameter_traffic(traffic, schedule.workload, spec, learning, active, np.ceil(scale))
    for direction in (READ, WRITE):
        touched = spec.head_sample_bytes * spec.new_samples
        traffic[Role.HEAD_STATE][:, len(schedule.workload.units) - 1, 3, direction] += touched
    return traffic


def _executes(schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray, op: int) -> BoolArray:
    """Return where the operation ``op`` of the learning stage is executed at all, (P,)."""
    kind, layer = schedule.clock.sequence[op]
    if kind == Kind.RECOMPUTE:
        return np.asarray(again[layer])
    if kind in BACKWARD:
        return learning.backward_runs(layer)[BACKWARD.index(kind)]
    return np.ones(len(spec), dtype=bool)


def _places(schedule: Schedule) -> dict[int, tuple[int, int]]:
    """Operation -> (unit row, pass): which unit's time an operation of the step belongs to."""
    clock, workload = schedule.clock, schedule.workload
    rest = len(workload.units)
    passes = {Kind.FORWARD: 0, Kind.RECOMPUTE: 0, Kind.BWD_WEIGHT: 2, Kind.BWD_INPUT: 1, Kind.BWD_UPDATE: 2}
    places = {clock.load: (rest, 0), clock.loss: (rest, 0), clock.update: (rest, 3)}
    for op, (kind, layer) in enumerate(clock.sequence):
        if kind in passes:
            places[op] = (max(int(workload.unit_of_layer[layer]), 0), passes[kind])
    return places


def _parameter_traffic(
    traffic: Traffic,
    workload: Workload,
    spec: StepSpec,
    learning: Learning,
    active: FloatArray,
    batches: FloatArray,
) -> None:
    """Add what weights, accumulators and optimiser state move: (P, U) each."""
    weights = np.array([unit.weight_params for unit in workload.units])
    trained = learning.trained_weights * spec.weight_bytes
    untrained = (weights - learning.trained_weights) * spec.weight_bytes
    affine = learning.trained_affine * spec.bias_bytes[:, None]
    running = learning.running_statistics * spec.bias_bytes[:, None]
    fixed = (
        learning.affine_parameters - learning.trained_affine + learning.frozen_statistics
    ) * spec.bias_bytes[:, None]
    runs, passes = active[:, :, 0] * batches[:, None], active[:, :, 1] * batches[:, None]
    units = slice(0, len(workload.units))
    traffic[Role.LEARNING_WEIGHTS][:, units, 0, READ] += runs * (trained + affine)
    traffic[Role.LEARNING_WEIGHTS][:, units, 1, READ] += passes * trained
    traffic[Role.FROZEN_WEIGHTS][:, units, 0, READ] += runs * (untrained + fixed)
    traffic[Role.FROZEN_WEIGHTS][:, units, 1, READ] += passes * untrained
    gradient = learning.parameters * spec.acc_bytes
    held = gradient * spec.gradient_buffer[:, None]
    accumulates = spec.accumulators[:, None] * batches[:, None]
    traffic[Role.GRADIENTS][:, units, 2, READ] += gradient * accumulates
    traffic[Role.GRADIENTS][:, units, 2, WRITE] += np.where(
        spec.accumulators[:, None], gradient * accumulates, held
    )
    traffic[Role.GRADIENTS][:, units, 3, READ] += held
    state = learning.parameters * (spec.state_per_parameter * spec.state_bytes)[:, None]
    for direction in (READ, WRITE):
        traffic[Role.LEARNING_WEIGHTS][:, units, 3, direction] += trained + affine
        traffic[Role.LEARNING_WEIGHTS][:, units, 0, direction] += runs * running
        traffic[Role.OPTIMISER_STATE][:, units, 3, direction] += state


def _frozen_activation_bytes(schedule: Schedule, spec: StepSpec) -> FloatArray:
    """Activation bytes that each unit of the frozen stage reads and writes per image: (P, U, 2)."""
    workload, clock = schedule.workload, schedule.clock
    moved = np.zeros((schedule.plans, len(workload.units), 2))
    owner = np.maximum(workload.unit_of_layer, 0)
    for buffer in schedule.buffers:
        if buffer.holds not in (Holds.FROZEN, Holds.FRAME) or buffer.start >= clock.store:
            continue
        size = buffer.size * _patch_factor(workload, spec, buffer.place)
        moved[:, owner[max(buffer.place, 0)], WRITE] += size
        for op in (op for op in buffer.reads if op < clock.layers):
            moved[:, owner[op], READ] += size
    return moved


def _patch_factor(workload: Workload, spec: StepSpec, layer: int) -> float:
    """What all patches together move of a tensor, as a multiple of the buffer that holds it for one."""
    patches = spec.structure.patches
    if patches is None:
        return 1.0
    edge = workload.units[patches.unit].cut_layer
    position = tensors_of(workload, spec.structure.in_place)[1]
    if layer > edge or (layer >= 0 and position[layer] == position[edge]):
        return 1.0
    regions = regions_of(workload, patches)
    held = int(np.prod(workload.input_shape)) if layer < 0 else regions.most_elements(layer)
    return float(np.prod(regions.shapes[layer])) * regions.repeat(layer) / held


def _static_bytes(
    workload: Workload, spec: StepSpec, learning: Learning, frozen_units: BoolArray
) -> dict[Role, IntArray]:
    weights = np.array([unit.weight_params for unit in workload.units])
    biases = np.array([unit.bias_params for unit in workload.units])
    frozen = (weights * spec.frozen_bytes[:, None] + biases * BIAS_BYTES) * frozen_units
    sides = side_bytes(workload, spec).sum(axis=1)
    runs = ~frozen_units & spec.backprop[:, None]
    fixed = (weights - learning.trained_weights) * spec.weight_bytes + (
        learning.affine_parameters - learning.trained_affine + learning.frozen_statistics
    ) * spec.bias_bytes[:, None]
    trained = (
        learning.trained_weights * spec.weight_bytes
        + (learning.trained_affine + learning.running_statistics) * spec.bias_bytes[:, None]
    )
    copied = runs & (spec.weight_bytes != spec.frozen_bytes[:, None])
    copy = (weights * spec.frozen_bytes[:, None] + biases * BIAS_BYTES) * copied
    return {
        Role.FROZEN_WEIGHTS: (frozen + fixed * runs).sum(axis=1) + sides,
        Role.LEARNING_WEIGHTS: trained.sum(axis=1),
        Role.INFERENCE_COPY: copy.sum(axis=1),
        Role.PERSISTENT_COPY: trained.sum(axis=1) + spec.head_state_bytes,
        Role.OPTIMISER_STATE: learning.parameters.sum(axis=1) * spec.state_per_parameter * spec.state_bytes,
        Role.HEAD_STATE: spec.head_state_bytes,
    }


def side_bytes(workload: Workload, spec: StepSpec) -> IntArray:
    """Return the bytes that forward-only layers which are no unit keep, (P, L): they are frozen always."""
    weights = workload.side_weights * spec.frozen_bytes[:, None]
    return np.asarray(weights + workload.side_biases * BIAS_BYTES)


def _copied(workload: Workload, spec: StepSpec, learning: Learning) -> tuple[IntArray, IntArray]:
    """Parameters of the inference copy that an event changes, and their bytes (P,)."""
    differs = (spec.weight_bytes != spec.frozen_bytes[:, None]) & spec.backprop[:, None]
    weights = np.array([unit.weight_params for unit in workload.units]) * (learning.kept_channels > 0)
    biases = np.array([unit.bias_params for unit in workload.units]) * (learning.parameters > 0)
    changed = weights * spec.frozen_bytes[:, None] + biases * BIAS_BYTES
    return ((weights + biases) * differs).sum(axis=1), (changed * differs).sum(axis=1)
