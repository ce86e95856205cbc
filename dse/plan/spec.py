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
from dse.workload import Workload

# Bytes of (weight, bias or affine parameter, activation, error, gradient accumulator and optimiser state)
# by learning dtype. int8 keeps int32 biases and runs its backward pass in fp32, as the public engine of
# arXiv 2206.15472 does; fp16 keeps everything in fp16, as PULP-TrainLib does (arXiv 2305.19167).
WIDTHS: Final = {"fp32": (4, 4, 4, 4, 4), "fp16": (2, 2, 2, 2, 2), "int8": (1, 4, 1, 4, 4)}

BIAS_BYTES: Final = 4  # int32 beside int8 weights, fp32 beside fp32 weights
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
    weight_bytes: IntArray
    bias_bytes: IntArray
    act_bytes: IntArray
    grad_bytes: IntArray
    acc_bytes: IntArray
    bn_mode: IntArray
    samples: IntArray  # per mini-batch
    new_samples: IntArray  # of them, new
    replay_samples: IntArray  # of them, replayed
    micro: IntArray
    latent_bits: IntArray  # width at which the learning stage's inputs are held between passes
    keeps_stored_input: BoolArray  # saved input of the first learning unit stays at latent_bits
    accumulators: BoolArray  # every gradient lives through the mini-batch
    update_late: BoolArray  # the update of a unit follows its input gradient at once
    gradient_buffer: BoolArray  # a gradient exists as a buffer (not fused into the update)
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


def base_spec(workload: Workload, plans: PlanBatch) -> StepSpec:
    """Return plain training of the plan's learning stage: what holds before any technique edits it."""
    count = len(plans)
    zeros, ones = np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    no, yes = np.zeros(count, dtype=bool), np.ones(count, dtype=bool)
    widths = np.array([WIDTHS[name] for name in WIDTHS])[plans.learning_dtype]
    cut_layers = np.array([unit.cut_layer for unit in workload.units] + [-1])
    batch = plans.new_per_batch + plans.replays_per_batch
    return StepSpec(
        cut_layer=cut_layers[plans.cut],
        first_unit=np.minimum(plans.cut + 1, len(workload.units) - 1),
        backprop=yes,
        weight_ratio=np.ones((count, len(workload.units))),
        bias_learns=np.ones((count, len(workload.units)), dtype=bool),
        frozen_bytes=plans.frozen_bits // 8,
        weight_bytes=widths[:, 0], bias_bytes=widths[:, 1], act_bytes=widths[:, 2],
        grad_bytes=widths[:, 3], acc_bytes=widths[:, 4],
        bn_mode=plans.bn_mode,
        samples=batch, new_samples=plans.new_per_batch, replay_samples=plans.replays_per_batch, micro=ones,
        latent_bits=8 * widths[:, 2], keeps_stored_input=no,
        accumulators=batch > 1, update_late=no, gradient_buffer=yes,
        state_per_parameter=zeros,
        frozen_new=no, frozen_replays=no,
        head_state_bytes=zeros, head_workspace_bytes=zeros,
        head_sample_macs=zeros, head_sample_elements=zeros, head_event_macs=zeros,
        head_sample_bytes=zeros, head_event_state_bytes=zeros, head_event_workspace_bytes=zeros,
    )  # fmt: skip


def mode_is(spec: StepSpec, name: str) -> BoolArray:
    """Return where the batch-norm mode is ``name``."""
    result: BoolArray = spec.bn_mode == BN_MODES.index(name)
    return result
