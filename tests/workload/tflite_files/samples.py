"""Small graphs for the tests of the TFLite reader, and how they are read."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.workload.model import Model, Node
from dse.workload.tflite import read_tflite
from tests.workload.exporters.tflite_builder import Scheme, TfliteBuilder

CONV = {"Padding": 0, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
"""Options of a convolution: SAME, stride 1."""

POOL = {"Padding": 1, "StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2}


def read_bytes(data: bytes, axes: Mapping[str, int] | None = None) -> Model:
    """Read the bytes of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(data)
        return read_tflite(path, axes or {})


def read(
    build: TfliteBuilder, inputs: Sequence[int], outputs: Sequence[int], axes: Mapping[str, int] | None = None
) -> Model:
    """Read a graph that was built."""
    return read_bytes(build.finish(inputs, outputs), axes)


def sole(
    kind: str, shape: Sequence[int], out: Sequence[int], options: str = "",
    constants: Sequence[NDArray[Any]] = (), *, before: int = 0, **fields: Any,
) -> Model:  # fmt: skip
    """Read a graph of one operator; ``before`` of its constants come in front of the activation."""
    build = TfliteBuilder()
    source = build.tensor("x", shape)
    given = [build.constant(f"c{i}", array) for i, array in enumerate(constants)]
    target = build.tensor("y", out)
    build.operator(kind, [*given[:before], source, *given[before:]], target, options, **fields)
    return read(build, [source], [target])


def only(model: Model) -> Node:
    """The one node of a model without faults."""
    assert not model.faults
    (node,) = model.nodes
    return node


def ramp(*shape: int) -> NDArray[np.float32]:
    """Numbers 0, 1, 2, ... in the order of the file."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def ints(*numbers: int) -> NDArray[np.int32]:
    """Whole numbers as a constant tensor holds them."""
    return np.array(numbers, dtype=np.int32)


def by_name(model: Model) -> dict[str, Node]:
    """Nodes by name."""
    return {node.name: node for node in model.nodes}


def sampler() -> bytes:
    """Return a file with many kinds of operators and options, for damage to meet each of them."""
    build = TfliteBuilder()
    image, deep = _images(build)
    lstm = _series(build, _gated(build, deep))
    return build.finish([image], [_classes(build, lstm)], more_subgraphs=("other",))


def _images(build: TfliteBuilder) -> tuple[int, int]:
    """Int8 and float16 convolutions."""
    image = build.tensor("image", (1, 8, 8, 4), "int8", scheme=Scheme((0.1,), (3,)), signature=(-1, 8, 8, 4))
    padded = build.tensor("padded", (1, 10, 10, 4), "int8", scheme=Scheme((0.1,), (3,)))
    build.operator("PAD", [image, build.constant("pads", ints(0, 0, 1, 1, 1, 1, 0, 0).reshape(4, 2))], padded)
    weight = build.constant(
        "weight", ramp(6, 3, 3, 4).astype(np.int8), Scheme((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0,) * 6)
    )
    bias = build.constant("bias", np.arange(6, dtype=np.int32), Scheme((0.01,) * 6, (0,) * 6))
    conv = build.tensor("conv", (1, 8, 8, 6), "int8", scheme=Scheme((0.2,), (-128,)))
    build.operator("CONV_2D", [padded, weight, bias], conv, "Conv2DOptions", **CONV | {"Padding": 1},
                   FusedActivationFunction=3)  # fmt: skip
    real = build.operator("DEQUANTIZE", [conv], build.tensor("real", (1, 8, 8, 6)), "DequantizeOptions")
    half = build.constant("half", ramp(1, 3, 3, 6).astype(np.float16))
    filters = build.operator("DEQUANTIZE", [half], build.tensor("filters", (1, 3, 3, 6)), "DequantizeOptions")
    deep = build.tensor("deep", (1, 4, 4, 6))
    build.operator(
        "DEPTHWISE_CONV_2D",
        [real, filters, -1],
        deep,
        "DepthwiseConv2DOptions",
        **CONV | {"StrideH": 2, "StrideW": 2},
        DepthMultiplier=1,
        FusedActivationFunction=1,
    )
    return image, deep


def _gated(build: TfliteBuilder, deep: int) -> int:
    """Parts, joined again, and a pool."""
    parts = [build.tensor(f"part{i}", (1, 4, 4, 2)) for i in range(3)]
    build.operator("SPLIT", [build.ints("axis", (3,)), deep], parts, "SplitOptions", NumSplits=3)
    joined = build.operator("CONCATENATION", [parts[2], parts[0]], build.tensor("joined", (1, 4, 4, 4)),
                            "ConcatenationOptions", Axis=-1)  # fmt: skip
    gate = build.operator("LOGISTIC", [joined], build.tensor("gate", (1, 4, 4, 4)))
    swish = build.operator("MUL", [joined, gate], build.tensor("swish", (1, 4, 4, 4)), "MulOptions")
    pooled = build.operator(
        "MAX_POOL_2D", [swish], build.tensor("pooled", (1, 2, 2, 4)), "Pool2DOptions", **POOL
    )
    return pooled


def _series(build: TfliteBuilder, pooled: int) -> int:
    """A reshape to a computed shape, and an LSTM."""
    size = build.operator("SHAPE", [pooled], build.tensor("size", (4,), "int32"), "ShapeOptions")
    first = build.operator(
        "STRIDED_SLICE", [size, build.ints("b", (0,)), build.ints("e", (1,)), build.ints("s", (1,))],
        build.tensor("first", (), "int32"), "StridedSliceOptions", ShrinkAxisMask=1,
    )  # fmt: skip
    four = build.constant("four", np.array(4, dtype=np.int32))
    wanted = build.operator("PACK", [first, four, four], build.tensor("wanted", (3,), "int32"), "PackOptions",
                            ValuesCount=3)  # fmt: skip
    series = build.operator("RESHAPE", [pooled, wanted], build.tensor("series", (1, 4, 4)), "ReshapeOptions")
    gates = [build.constant(f"w{i}", ramp(5, 4)) for i in range(4)]
    recurrent = [build.constant(f"r{i}", ramp(5, 5)) for i in range(4)]
    biases = [build.constant(f"b{i}", ramp(5)) for i in range(4)]
    states = [build.tensor(f"state{i}", (1, 5), variable=True) for i in range(2)]
    lstm = build.tensor("lstm", (1, 4, 5))
    build.operator(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", [series, *gates, *recurrent, -1, -1, -1, *biases, -1, -1, *states],
        lstm, "UnidirectionalSequenceLSTMOptions", FusedActivationFunction=4,
    )  # fmt: skip
    return lstm


def _classes(build: TfliteBuilder, lstm: int) -> int:
    """A matrix product, an operator of nobody's, and a classifier."""
    turned = build.operator("TRANSPOSE", [lstm, build.ints("order", (0, 2, 1))],
                            build.tensor("turned", (1, 5, 4)), "TransposeOptions")  # fmt: skip
    product = build.operator(
        "BATCH_MATMUL", [lstm, turned], build.tensor("product", (1, 4, 4)), "BatchMatMulOptions"
    )
    custom = build.operator("CUSTOM:Own", [product], build.tensor("custom", (1, 4, 4)))
    mean = build.operator("MEAN", [custom, build.ints("axes", (1,))], build.tensor("mean", (1, 4)),
                          "ReducerOptions", KeepDims=False)  # fmt: skip
    dense = build.operator("FULLY_CONNECTED", [mean, build.constant("dense", ramp(3, 4)), -1],
                           build.tensor("dense/out", (1, 3)), "FullyConnectedOptions")  # fmt: skip
    return build.operator("SOFTMAX", [dense], build.tensor("softmax", (1, 3)), "SoftmaxOptions", Beta=1.0)
