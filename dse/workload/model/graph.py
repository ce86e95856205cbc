"""A model file as a graph of known operations: the form that every importer gives.

Shapes are those of the file without the batch axis, in the file's own order of axes; ``channel_axis`` says
which of them holds the channels. Weights are in one order whatever the format: (out, in per group, kernel...)
for convolutions, (out, in) for linear layers. Nothing here is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.workload.base import Shape

INPUT_PREFIX: Final = "input:"
"""Inputs of the model stand as producers under this prefix and their own name."""

STATE_PREFIX: Final = "state:"
"""Inputs that a model itself keeps from one call to the next have names that begin with this."""

LAYER_OPERATIONS: Final = (
    "conv", "linear", "batch_norm", "relu", "relu6", "hard_swish", "max_pool", "avg_pool", "global_avg_pool",
    "add", "concat", "softmax", "reshape",
)  # fmt: skip
"""Operations that may become layers which learn; whether one does depends on its attributes."""

COUNTED_OPERATIONS: Final = ("matmul", "lstm", "gru", "rnn", "conv_transpose")
"""Operations with MACs that are executed forward only."""

ELEMENT_OPERATIONS: Final = (
    "sigmoid", "tanh", "hard_sigmoid", "swish", "gelu", "elu", "leaky_relu", "prelu", "clip", "exp", "log",
    "sqrt", "power", "abs", "negate", "multiply", "subtract", "divide", "minimum", "maximum", "layer_norm",
    "group_norm", "reduce", "resize",
)  # fmt: skip
"""Operations without MACs that compute on every element, forward only."""

MOVING_OPERATIONS: Final = ("transpose", "pad", "slice", "gather", "tile")
"""Operations that copy elements from place to place.

A ``slice`` says by ``begin`` and ``steps``, one number per axis of its input, where its elements lie; how
many there are follows from its shape, which may lack axes of which one index is taken.
"""

UNKNOWN: Final = "unknown"
"""What an operation is called that nothing here knows; ``source_operation`` says what the file calls it."""

OPERATIONS: Final = (
    *LAYER_OPERATIONS, *COUNTED_OPERATIONS, *ELEMENT_OPERATIONS, *MOVING_OPERATIONS, UNKNOWN
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Quantisation:
    """Affine quantisation: real = scale (q - zero_point), one pair per tensor or per index of ``axis``.

    ``scale`` (n,) and ``zero_point`` (n,) with n = 1 where ``axis`` is None; ``axis`` counts in the order of
    the array that it belongs to (``Constant.values``, or the node's shape).
    """

    bits: int
    signed: bool
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    axis: int | None = None


@dataclass(frozen=True, eq=False)
class Constant:
    """Numbers that the file holds: real values (dequantised), and how they are stored.

    ``values`` are float32; None where the file has the shape alone, or the numbers cannot be read.
    ``stored_bytes`` is what they take in the file's own type, without scales.
    """

    name: str
    shape: Shape
    stored_type: str
    stored_bytes: int
    values: NDArray[np.float32] | None = None
    quantisation: Quantisation | None = None

    @property
    def elements(self) -> int:
        """How many numbers there are."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation with one output.

    ``inputs`` names nodes, or inputs of the model behind ``INPUT_PREFIX``; constants are apart. ``shape`` is
    None where it cannot be known. ``channel_axis`` is the axis of ``shape`` that holds channels, where the
    operation itself decides it (a convolution, a linear layer), else None.
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    shape: Shape | None
    source_operation: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Constant] = field(default_factory=dict)
    quantisation: Quantisation | None = None
    channel_axis: int | None = None


@dataclass(frozen=True, eq=False)
class ModelInput:
    """An input of the model: its name and its shape without the batch axis (None: not known)."""

    name: str
    shape: Shape | None
    quantisation: Quantisation | None = None
    channel_axis: int | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """What a model file says, as far as it can be read.

    ``nodes`` are in an order in which producers come first. ``outputs`` names nodes. ``notes`` are facts for
    the reader (what was dropped or fixed); ``faults`` say what could not be read and why, one line each.
    """

    name: str
    file: str
    format: str
    producer: str
    inputs: tuple[ModelInput, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    file_bytes: int
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def is_same(constant: Constant, other: Constant) -> bool:
    """Whether two constants of one name are one tensor of the file; formats let several have a name."""
    if constant is other:
        return True
    if (constant.shape, constant.stored_bytes) != (other.shape, other.stored_bytes):
        return False
    if constant.values is None or other.values is None:
        return constant.values is other.values
    return np.array_equal(constant.values, other.values, equal_nan=True)
