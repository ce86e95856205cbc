"""The training step in the making: what each technique edits.

A ``StepSpec`` says, for P plans, which layers run, what learns, in which widths things are held and how
long gradients live. The base spec is plain training of the whole network, one sample at a time, with the
update at the end; every technique is a pure edit of it. ``schedule`` and ``step`` read the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.plan.decisions import BN_MODES, BoolArray, FloatArray, IntArray, PlanBatch
from dse.plan.structure import Structure, structures
from dse.workload import Workload

# Bytes of (weight, bias or affine parameter, activation, error, gradient accumulator, word of optimiser
# state) by learning dtype. int8 keeps int32 biases and runs its backward pass in fp32, as the public engine
# of arXiv 2206.15472 does, unless the plan says otherwise (``techniques.int8_training``); fp16 keeps
# everything in fp16, as PULP-TrainLib does (arXiv 2305.19167). No int8 scale is counted.
WIDTHS: Final = {"fp32": (4, 4, 4, 4, 4, 4), "fp16": (2, 2, 2, 2, 2, 2), "int8": (1, 4, 1, 4, 4, 4)}
FP32_BYTES: Final = 4

SUM_BYTES: Final = 4  # int32 or fp32: what products of narrow numbers are summed up in
INT8_BYTES: Final = 1
BIAS_BYTES: Final = 4  # int32 beside int8 weights, fp32 beside fp32 weights
SCALE_BYTES: Final = 4  # fp32, one per tensor that is held at saved bits
FRAME_BYTES: Final = 1  # one byte per element of a captured input (8-bit camera or sensor samples)


@dataclass(frozen=True)
class StepSpec:
    """What one mini-batch does, for P plans. Shapes (P,) unless noted; L layers, U units."""

    cut_layer: IntArray  # layers up to and including this index are frozen; -1: none
    first_unit: IntArray  # lowest unit that the learning stage executes
    backprop: BoolArray  # whether the learning stage runs forward and backward
    weight_ratio: FloatArray  # (P, U), 0 = not trained
    bias_learns: BoolArray  # (P, U)
    frozen_bytes: IntArray  # per weight and activation of the frozen stage
    weight_bytes: IntArray  # (P, U)
    bias_bytes: IntArray
    act_bytes: IntArray  # of every unit's output but that of an fp32 classifier: see ``output_bytes``
    grad_bytes: IntArray  # of its error: see ``error_bytes``
    acc_bytes: IntArray  # (P, U) of a gradient, accumulated or waiting for the update
    state_bytes: IntArray  # of a word of optimiser state
    int8_errors: BoolArray  # errors are held in int8, one scale per tensor
    fp32_classifier: BoolArray  # the last unit computes in fp32 on the narrow input that it gets
    bn_mode: IntArray
    samples: IntArray  # per mini-batch
    new_samples: IntArray  # of them, new
    replay_samples: IntArray  # of them, replayed
    micro: IntArray
    latent_bits: IntArray  # width at which the learning stage's inputs are held between passes
    keeps_stored_input: BoolArray  # saved input of the first learning unit stays at latent_bits
    structure: Structure  # what all P plans share: who works in place, what runs again, what runs by patches
    saved_bits: IntArray  # width at which saved activations are held; 32: as computed
    im2col: IntArray  # code: by the library, none, or one sample unfolded whole
    accumulators: BoolArray  # every gradient lives through the mini-batch
    update_late: BoolArray  # the update of a unit follows its input gradient at once
    gradient_buffer: BoolArray  # a gradient exists as a buffer (not fused into the update)
    optimiser: IntArray
    state_per_parameter: IntArray  # optimiser state words
    frozen_new: BoolArray  # the frozen stage runs on new samples inside the mini-batch
    frozen_replays: BoolArray  # the frozen stage runs on replays inside the mini-batch
    head_state_bytes: IntArray
    head_workspace_bytes: IntArray
    head_sample_macs: IntArray  # extra MACs of the head per new sample
    head_sample_elements: IntArray  # extra element operations (additions) per new sample
    head_event_macs: IntArray  # extra MACs of the head once per event
    head_sample_bytes: IntArray  # head state that a new sample reads, and writes
    head_event_state_bytes: IntArray  # head state that the end of an event reads, and writes
    head_event_workspace_bytes: IntArray  # workspace that the end of an event reads, and writes

    def __len__(self) -> int:
        return len(self.cut_layer)

    @property
    def frozen_in_batch(self) -> BoolArray:
        """Whether the frozen stage runs while the mini-batch is open."""
        return self.frozen_new | self.frozen_replays

    def output_bytes(self, unit: int) -> IntArray:
        """Bytes per element of what ``unit`` puts out in the learning stage, (P,).

        In int8 the logits stay the 32-bit sums that they are: new classes would move their range.
        """
        narrow = (self.act_bytes == INT8_BYTES) & (unit == self.weight_ratio.shape[1] - 1)
        return np.where(narrow, SUM_BYTES, self.act_bytes)

    def error_bytes(self, unit: int) -> IntArray:
        """Bytes per element of the error of what ``unit`` puts out, (P,)."""
        if unit < self.weight_ratio.shape[1] - 1:
            return self.grad_bytes
        return np.where(self.fp32_classifier, FP32_BYTES, self.grad_bytes)

    def packs_saved(self) -> BoolArray:
        """Where saved activations are held in fewer bits than they were computed in, (P,)."""
        return np.asarray(self.saved_bits < 8 * self.act_bytes)

    def packed_bytes(self, elements: IntArray) -> IntArray:
        """Bytes of ``elements`` (P,) saved activations at the saved bits, with the scale of the tensor."""
        return np.asarray(-(-elements * self.saved_bits // 8) + SCALE_BYTES * (elements > 0))

    def operand_bytes(self, unit: int) -> IntArray:
        """Bytes per element at which a weight gradient of ``unit`` reads the unit's input, (P,)."""
        return np.asarray(np.maximum(self.act_bytes, self.error_bytes(unit)))


def kept_channels(workload: Workload, ratio: FloatArray) -> IntArray:
    """Input channels whose weights learn at ``ratio`` (..., U): floor(ratio x channels)."""
    channels = np.array([unit.in_channels for unit in workload.units])
    kept: IntArray = np.floor(ratio * channels + 1e-9).astype(np.int64)
    return kept


def base_spec(workload: Workload, plans: PlanBatch) -> StepSpec:
    """Return plain training of the plan's learning stage: what holds before any technique edits it."""
    count = len(plans)
    zeros, ones = np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    no, yes = np.zeros(count, dtype=bool), np.ones(count, dtype=bool)
    widths = np.array([WIDTHS[name] for name in WIDTHS])[plans.learning_dtype]
    cut_layers = np.array([unit.cut_layer for unit in workload.units] + [-1])
    batch = plans.new_per_batch + plans.replays_per_batch
    units = np.ones((1, len(workload.units)), dtype=np.int64)
    return StepSpec(
        cut_layer=cut_layers[plans.cut],
        first_unit=np.minimum(plans.cut + 1, len(workload.units) - 1),
        backprop=yes,
        weight_ratio=np.ones((count, len(workload.units))),
        bias_learns=np.ones((count, len(workload.units)), dtype=bool),
        frozen_bytes=plans.frozen_bits // 8,
        weight_bytes=widths[:, :1] * units, bias_bytes=widths[:, 1], act_bytes=widths[:, 2],
        grad_bytes=widths[:, 3], acc_bytes=widths[:, 4:5] * units, state_bytes=widths[:, 5],
        int8_errors=no, fp32_classifier=no,
        bn_mode=plans.bn_mode,
        samples=batch, new_samples=plans.new_per_batch, replay_samples=plans.replays_per_batch, micro=ones,
        latent_bits=8 * widths[:, 2], keeps_stored_input=no,
        structure=_structure(workload, plans), saved_bits=plans.saved_bits, im2col=plans.im2col,
        accumulators=batch > 1, update_late=no, gradient_buffer=yes,
        optimiser=zeros, state_per_parameter=zeros,
        frozen_new=no, frozen_replays=no,
        head_state_bytes=zeros, head_workspace_bytes=zeros,
        head_sample_macs=zeros, head_sample_elements=zeros, head_event_macs=zeros,
        head_sample_bytes=zeros, head_event_state_bytes=zeros, head_event_workspace_bytes=zeros,
    )  # fmt: skip


def _structure(workload: Workload, plans: PlanBatch) -> Structure:
    """Return what ``plans`` share; raises ValueError where they do not share a schedule."""
    found = [structure for structure, _ in structures(workload, plans)]
    if len(found) != 1:
        raise ValueError(f"plans of {len(found)} schedules in one batch; ``structures`` sorts them")
    return found[0]


def mode_is(spec: StepSpec, name: str) -> BoolArray:
    """Return where the batch-norm mode is ``name``."""
    result: BoolArray = spec.bn_mode == BN_MODES.index(name)
    return result
