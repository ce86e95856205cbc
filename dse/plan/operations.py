"""One plan's step, written out: the operations that are executed, and every buffer with its lifespan.

``dse.plan.schedule`` writes the step down for many plans at once, with every operation that any plan could
have and sizes of zero for what a plan lacks. Here is the vocabulary of one plan's row of it: operations that
the plan does not execute are gone, lifespans count the ones that are left, what is alive throughout (weights,
optimiser state, samples) has buffers of its own, and names say what each buffer holds, so that a memory map
can be made of it, checked and executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from dse.plan.decisions import IntArray, TrainingPlan
from dse.plan.timeline import Content
from dse.vocabulary import Role
from dse.workload import Workload


class Phase(StrEnum):
    """How often an operation runs."""

    FROZEN = "frozen"  # once per image that passes the frozen stage
    LEARNING = "learning"  # once per micro-batch
    UPDATE = "update"  # once per mini-batch
    INFERENCE = "inference"  # once per inference, between learning events


class Kind(StrEnum):
    """What an operation does."""

    FROZEN = "frozen fwd"
    STORE = "store latent"
    LOAD = "load micro-batch"
    FORWARD = "fwd"
    LOSS = "loss"
    RECOMPUTE = "recompute fwd"  # of a checkpoint segment, again before its backward pass
    BWD_WEIGHT = "bwd_weight"
    BWD_INPUT = "bwd_input"
    BWD_UPDATE = "bwd_weight+update"  # the weight gradient behind the input gradient, with the unit's update
    UPDATE = "update"
    INFER = "infer"


class Holds(StrEnum):
    """What a buffer holds; with ``StepBuffer.place`` (a layer, unit or -1) and a moment it is unique."""

    # written by the frozen stage, one image at a time; place: layer that writes it
    FRAME = "input frame"  # -1; also the frame of an inference
    FROZEN = "frozen activation"  # root layer
    # the learning stage, one micro-batch at a time (batch first, then the layer's shape)
    LATENTS = "latents"  # -1, in the activation dtype
    STORED = "stored latents"  # reader layer: its kept channels, packed at replay bits
    ACTIVATION = "activation"  # root layer
    PACKED = "packed activation"  # root layer (-1: latents), or reader layer for a slice: at saved bits
    SLICE = "slice"  # reader layer: its kept input channels in the activation dtype
    OPERAND = "operand"  # reader layer: its kept input channels widened for the weight gradient
    MASK = "mask"  # layer: one bit per element, packed
    SAVED_INPUT = "saved input"  # layer (hard-swish)
    INDEX = "index"  # layer (max pooling)
    NORM = "norm"  # layer: input, and statistics behind it
    CLAMP = "clamp mask"  # root layer, int8
    SUMS = "error sums"  # root layer, int8 errors
    WIDE_INPUT = "widened classifier input"  # reader layer
    ERROR = "error"  # root layer: error of the tensor that this layer writes
    # one unit
    GRADIENT = "gradient"  # unit: of its learning weights, then of its learning affine parameters
    WORKSPACE = "workspace"  # layer, or -1 for a head
    # inference
    INFERRED = "inferred activation"  # root layer
    # alive throughout; place: unit unless said otherwise
    LEARNING_WEIGHT = "learning weight"  # those that learn
    LEARNING_AFFINE = "learning affine"  # biases, scales, shifts that learn; running statistics behind them
    FROZEN_WEIGHT = "frozen weight"  # those that do not
    FROZEN_AFFINE = "frozen affine"
    STATE = "optimiser state"
    COPY_WEIGHT = "inference copy of weights"
    COPY_AFFINE = "inference copy of biases"
    PERSISTENT_WEIGHT = "persistent copy of weights"
    PERSISTENT_AFFINE = "persistent copy of affine parameters"
    HEAD = "head state"  # -1
    PERSISTENT_HEAD = "persistent copy of head state"  # -1
    NEW_SAMPLES = "new samples"  # -1
    REPLAYS = "replays"  # -1
    LABELS = "labels"  # -1


@dataclass(frozen=True)
class Operation:
    """One operation; ``layer`` is -1 where it belongs to none."""

    number: int
    kind: Kind
    phase: Phase
    layer: int
    name: str


@dataclass(frozen=True)
class StepBuffer:
    """A stretch of memory, alive from operation ``start`` to ``end`` inclusive.

    ``reads`` are operations that read it; ``start`` writes it. ``id`` is unique within a schedule.
    """

    id: str
    holds: Holds
    place: int
    role: Role
    content: Content
    name: str
    reason: str
    start: int
    end: int
    size_bytes: int
    alignment: int
    reads: tuple[int, ...]


@dataclass(frozen=True)
class StepSchedule:
    """Operations in order, and the buffers over them."""

    workload: Workload
    plan: TrainingPlan
    operations: tuple[Operation, ...]
    buffers: tuple[StepBuffer, ...]
    handed_on: Mapping[int, int] = field(default_factory=dict)
    """Tensor whose error takes a buffer over -> the addition under whose root that buffer stands."""

    @cached_property
    def live_bytes(self) -> IntArray:
        """Live bytes [B] of all buffers during each operation, (T,)."""
        change = np.zeros(len(self.operations) + 1, dtype=np.int64)
        for buffer in self.buffers:
            change[buffer.start] += buffer.size_bytes
            change[buffer.end + 1] -= buffer.size_bytes
        live: IntArray = np.cumsum(change)[:-1]
        return live
