"""The words of a schedule: operations in their order, buffers with lifespans, live bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np

from dse.plan.decisions import FloatArray, IntArray
from dse.vocabulary import Role
from dse.workload import Workload

DYNAMIC_ROLES: Final = (
    Role.GRADIENTS, Role.SAVED_ACTIVATIONS, Role.TRANSIENT_ACTIVATIONS, Role.WORKSPACE, Role.INPUT_FRAME,
)  # fmt: skip
"""Roles whose bytes come and go within the step; all others are alive throughout."""


class Content(StrEnum):
    """What a buffer of the step holds, finer than its role."""

    ACTIVATION = "activation"
    SAVED_INPUT = "saved input"  # of a unit, for its weight gradient
    MASK = "mask"
    SAVED_OTHER = "other saved values"  # inputs of hard-swish, indices of maxima, statistics
    ERROR = "error"
    OPERAND = "widened operand"  # an input or an error in a wider format, while one operation runs
    GRADIENT = "gradient"
    WORKSPACE = "workspace"
    STANDING = "alive throughout"  # parameters, state, samples


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
    """What a buffer holds; with its place (a layer, unit or -1) and a moment it is unique."""

    # written by the frozen stage, one image at a time; place: layer that writes it
    FRAME = "input frame"  # -1; also the frame of an inference
    FROZEN = "frozen activation"  # root layer
    # the learning stage, one micro-batch at a time (batch first, then the layer's shape)
    LATENTS = "latents"  # -1, in the activation dtype
    STORED = "stored latents"  # packed at replay bits; reader layer: its kept channels, -1: whole
    ACTIVATION = "activation"  # root layer
    PACKED = "packed activation"  # root layer (-1: latents): at saved bits, its scale behind it
    SLICE = "slice"  # reader layer: its kept input channels in the activation dtype, or packed as above
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
    GRADIENT = "gradient"  # unit: of its learning weights, then of its learning biases
    NORM_GRADIENT = "gradient of a norm"  # unit: of its norm's scales, then of its shifts
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
    REPLAY_LABELS = "labels of replays"  # -1
    NEW_LABELS = "labels of new samples"  # -1


_OF_ROLE: Final = {
    Role.SAVED_ACTIVATIONS: Content.SAVED_INPUT,
    Role.TRANSIENT_ACTIVATIONS: Content.ACTIVATION,
    Role.INPUT_FRAME: Content.ACTIVATION,
    Role.GRADIENTS: Content.GRADIENT,
    Role.WORKSPACE: Content.WORKSPACE,
}
"""What a buffer of a role holds unless said otherwise."""


@dataclass(frozen=True)
class Buffer:
    """A stretch of memory: alive from operation ``start`` to ``end`` inclusive; ``size`` [B], shape (P,).

    It is written once, by ``start``, and read by the operations ``reads``. ``holds`` and ``place`` (a layer,
    a unit or -1) say what of the step it is.
    """

    role: Role
    name: str
    reason: str
    start: int
    end: int
    size: IntArray
    reads: tuple[int, ...]
    content: Content
    holds: Holds
    place: int


@dataclass(frozen=True)
class Clock:
    """Positions of the operations of a network with L layers, whose ``segments`` run forward twice.

    A segment (first, last layer) is run again right before the backward pass of its last layer.
    """

    layers: int
    segments: tuple[tuple[int, int], ...] = ()

    @cached_property
    def sequence(self) -> tuple[tuple[Kind, int], ...]:
        """Every operation in order: what it does, and its layer (-1: none)."""
        every = range(self.layers)
        again = {last: range(first, last + 1) for first, last in self.segments}
        found = [(Kind.FROZEN, layer) for layer in every]
        found += [(Kind.STORE, -1), (Kind.LOAD, -1)]
        found += [(Kind.FORWARD, layer) for layer in every]
        found.append((Kind.LOSS, -1))
        for layer in reversed(every):
            found += [(Kind.RECOMPUTE, member) for member in again.get(layer, ())]
            found += [(kind, layer) for kind in BACKWARD]
        found.append((Kind.UPDATE, -1))
        return (*found, *((Kind.INFER, layer) for layer in every))

    @cached_property
    def _position(self) -> dict[tuple[Kind, int], int]:
        return {operation: number for number, operation in enumerate(self.sequence)}

    @property
    def count(self) -> int:
        """Number of operations."""
        return len(self.sequence)

    def frozen(self, layer: int) -> int:
        """Frozen forward of ``layer``, one image."""
        return layer

    @property
    def store(self) -> int:
        """The latent is quantised and stored."""
        return self.layers

    @property
    def load(self) -> int:
        """A micro-batch is gathered and dequantised."""
        return self.layers + 1

    def forward(self, layer: int) -> int:
        """Learning forward of ``layer``, one micro-batch."""
        return self.layers + 2 + layer

    @property
    def loss(self) -> int:
        """Softmax and cross-entropy; probabilities overwrite the logits."""
        return 2 * self.layers + 2

    def again(self, layer: int) -> int | None:
        """Second forward of ``layer``, where a segment runs again; None elsewhere."""
        return self._position.get((Kind.RECOMPUTE, layer))

    def last_forward(self, layer: int) -> int:
        """The forward of ``layer`` that its backward pass follows: the second one where there are two."""
        again = self.again(layer)
        return self.forward(layer) if again is None else again

    def backward(self, layer: int, step: int) -> int:
        """Step 0: weight gradient; 1: input gradient; 2: weight gradient with its update."""
        return self._position[BACKWARD[step], layer]

    @cached_property
    def update(self) -> int:
        """The optimiser runs over what accumulated."""
        return self._position[Kind.UPDATE, -1]

    def infer(self, layer: int) -> int:
        """Forward of ``layer`` in an inference, between learning events."""
        return self.update + 1 + layer

    def names(self, workload: Workload) -> tuple[str, ...]:
        """Return a name per operation, in order."""
        return tuple(operation_name(workload, kind, layer) for kind, layer in self.sequence)


BACKWARD: Final = (Kind.BWD_WEIGHT, Kind.BWD_INPUT, Kind.BWD_UPDATE)
"""Steps of a layer's backward pass, in order."""


def operation_name(workload: Workload, kind: Kind, layer: int) -> str:
    """Return the name of an operation."""
    if layer < 0:
        return kind.value
    what = "frozen" if kind == Kind.FROZEN else kind.value
    return f"{what} {workload.layers[layer].name}"


@dataclass
class Schedule:
    """The buffers of P plans over the operations of one network."""

    workload: Workload
    plans: int
    clock: Clock
    buffers: list[Buffer] = field(default_factory=list)

    def add(
        self, role: Role, name: str, reason: str, start: int, end: int, size: IntArray,
        reads: tuple[int, ...] | None = None, content: Content | None = None, *, holds: Holds,
        place: int = -1,
    ) -> None:  # fmt: skip
        """Note a buffer, unless no plan has it; without ``reads`` it is read when its life ends."""
        size = np.asarray(size, dtype=np.int64)
        if size.any():
            read = (end,) if reads is None else reads
            kind = content or _OF_ROLE[role]
            self.buffers.append(Buffer(role, name, reason, start, end, size, read, kind, holds, place))

    def live_bytes(self) -> FloatArray:
        """Return live bytes [B] by dynamic role, operation and plan: shape (R, T, P)."""
        delta = np.zeros((len(DYNAMIC_ROLES), self.clock.count + 1, self.plans))
        for buffer in self.buffers:
            row = delta[DYNAMIC_ROLES.index(buffer.role)]
            row[buffer.start] += buffer.size
            row[buffer.end + 1] -= buffer.size
        np.cumsum(delta, axis=1, out=delta)
        return delta[:, :-1]
