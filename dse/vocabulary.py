"""The words that workload, plan and hardware share.

A word that is not listed here is refused wherever it appears: nothing unknown ever costs zero.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

OPERATORS: Final = ("conv2d", "conv1d", "depthwise", "pointwise", "linear")
"""Operators that are counted in MACs and priced by a rate."""

ELEMENT_OPERATIONS: Final = (
    "relu", "relu6", "hard_swish", "batch_norm", "add", "concat", "avg_pool", "max_pool",
    "softmax_loss", "quantise", "dequantise", "unpack", "update_sgd", "update_momentum",
    "update_adam", "update_lars",
)  # fmt: skip
"""Operations that are counted in elements and priced in cycles per element.

``update_*`` counts parameters; ``unpack`` counts elements stored at a width that is not whole bytes.
"""

FORWARD_OPERATORS: Final = ("matmul", "lstm", "gru", "rnn", "conv_transpose")
"""Operators that run forward only; counted in MACs and priced by a forward rate, as ``custom:NAME`` is."""

FORWARD_ELEMENT_OPERATIONS: Final = (
    "copy", "softmax", "sigmoid", "tanh", "hard_sigmoid", "swish", "gelu", "elu", "leaky_relu", "prelu",
    "clip", "exp", "log", "sqrt", "power", "abs", "negate", "multiply", "subtract", "divide", "minimum",
    "maximum", "layer_norm", "group_norm", "reduce", "resize", "affine",
)  # fmt: skip
"""Operations of the forward pass alone, counted in elements: the larger of what goes in and what comes out.

``copy`` moves elements (transpose, slice, pad, gather, tile); ``softmax`` is the one inside a network;
``affine`` is a batch norm that no layer before it takes in: a factor and a sum per channel.
"""

CUSTOM_PREFIX: Final = "custom:"
"""Before the name of an operation that is known by name alone."""

_CUSTOM: Final = re.compile(r"custom:[A-Za-z0-9_.:/+-]{1,80}")

PASSES: Final = ("fwd", "bwd_input", "bwd_weight", "update")

INT8_ERROR_PASSES: Final = {"bwd_input": "bwd_input_int8", "bwd_weight": "bwd_weight_int8"}
"""Backward passes on int8 errors, by the pass whose work they do; kernels for fp32 errors are others."""

DTYPES: Final = ("fp32", "fp16", "int8")

DTYPE_BYTES: Final = {"fp32": 4, "fp16": 2, "int8": 1}

WORKSPACE_FORMULAS: Final = ("none", "im2col_two_columns", "im2col_full", "weights_transposed")
"""Buffers that the kernels of a library need besides their tensors."""

REPLAY_BITS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)


class Role(StrEnum):
    """What a stretch of memory is for. Each role is placed on one level."""

    FROZEN_WEIGHTS = "frozen weights"
    LEARNING_WEIGHTS = "learning weights"
    INFERENCE_COPY = "inference copy"
    PERSISTENT_COPY = "persistent copy"
    GRADIENTS = "gradients"
    OPTIMISER_STATE = "optimiser state"
    SAVED_ACTIVATIONS = "saved activations"
    TRANSIENT_ACTIVATIONS = "transient activations"
    WORKSPACE = "workspace"
    NEW_SAMPLES = "new samples"
    REPLAY_SAMPLES = "replay samples"
    LABELS = "labels"
    INPUT_FRAME = "input frame"
    HEAD_STATE = "head state"


class Evidence(StrEnum):
    """How a number in a board profile is known, strongest first."""

    MEASURED = "measured"
    DATASHEET = "datasheet"
    LITERATURE = "literature"
    DERIVED = "derived"
    ASSUMED = "assumed"


class ReferenceEvidence(StrEnum):
    """How a published figure came about."""

    SILICON = "silicon"
    SIMULATOR = "simulator"
    ARITHMETIC = "arithmetic"
    IDENTITY = "identity"


class Saved(StrEnum):
    """What the forward pass of a layer must leave behind for its backward pass."""

    NOTHING = "nothing"
    INPUT = "input"  # hard-swish: needed whenever a gradient passes
    INPUT_FOR_WEIGHTS = "input for weights"  # conv, linear: needed by the weight gradient only
    MASK = "mask"  # ReLU, ReLU6: one bit per element
    INDEX = "index"  # max pooling: one byte per output element
    NORM = "norm"  # batch norm: depends on its mode
    PROBABILITIES = "probabilities"  # softmax with cross-entropy


def is_custom(word: str) -> bool:
    """Return whether ``word`` names an operation of another origin, ``custom:NAME``."""
    return _CUSTOM.fullmatch(word) is not None
