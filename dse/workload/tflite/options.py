"""Which options of which operator are read; everything else in them does not change shapes or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_ACTIVATION: Final = "FusedActivationFunction"
_STRIDES: Final = ("Padding", "StrideH", "StrideW")
_DILATION: Final = ("DilationHFactor", "DilationWFactor")


def _fields(*names: str) -> dict[str, bool]:
    """Name -> whether it is a vector, which is written with brackets."""
    return {name.removesuffix("[]"): name.endswith("[]") for name in names}


_POOL: Final = ("Pool2DOptions", _fields(*_STRIDES, "FilterHeight", "FilterWidth", _ACTIVATION))
_REDUCE: Final = ("ReducerOptions", _fields("KeepDims"))

OPTIONS: Final[Mapping[str, tuple[str, Mapping[str, bool]]]] = {
    "CONV_2D": ("Conv2DOptions", _fields(*_STRIDES, *_DILATION, _ACTIVATION)),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _fields(*_STRIDES, *_DILATION, _ACTIVATION)),
    "TRANSPOSE_CONV": ("TransposeConvOptions", _fields(*_STRIDES, _ACTIVATION)),
    "FULLY_CONNECTED": ("FullyConnectedOptions", _fields(_ACTIVATION, "WeightsFormat", "KeepNumDims")),
    "BATCH_MATMUL": ("BatchMatMulOptions", _fields("AdjX", "AdjY")),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "MEAN": _REDUCE,
    "SUM": _REDUCE,
    "REDUCE_MAX": _REDUCE,
    "REDUCE_MIN": _REDUCE,
    "REDUCE_PROD": _REDUCE,
    "ADD": ("AddOptions", _fields(_ACTIVATION)),
    "MUL": ("MulOptions", _fields(_ACTIVATION)),
    "SUB": ("SubOptions", _fields(_ACTIVATION)),
    "DIV": ("DivOptions", _fields(_ACTIVATION)),
    "CONCATENATION": ("ConcatenationOptions", _fields("Axis", _ACTIVATION)),
    "RESHAPE": ("ReshapeOptions", _fields("NewShape[]")),
    "SQUEEZE": ("SqueezeOptions", _fields("SqueezeDims[]")),
    "SOFTMAX": ("SoftmaxOptions", _fields("Beta")),
    "LEAKY_RELU": ("LeakyReluOptions", _fields("Alpha")),
    "GELU": ("GeluOptions", _fields("Approximate")),
    "MIRROR_PAD": ("MirrorPadOptions", _fields("Mode")),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        _fields("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
    "SPLIT": ("SplitOptions", _fields("NumSplits")),
    "SPLIT_V": ("SplitVOptions", _fields("NumSplits")),
    "PACK": ("PackOptions", _fields("ValuesCount", "Axis")),
    "UNPACK": ("UnpackOptions", _fields("Num", "Axis")),
    "GATHER": ("GatherOptions", _fields("Axis", "BatchDims")),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", _fields("BlockSize")),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", _fields("BlockSize")),
    "VAR_HANDLE": ("VarHandleOptions", _fields("SharedName")),
    "CAST": ("CastOptions", _fields("InDataType", "OutDataType")),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (
        "UnidirectionalSequenceLSTMOptions",
        _fields(_ACTIVATION, "CellClip", "ProjClip", "TimeMajor", "DiagonalRecurrentTensors"),
    ),
    "UNIDIRECTIONAL_SEQUENCE_RNN": ("SequenceRNNOptions", _fields("TimeMajor", _ACTIVATION)),
}
"""Operator -> the table of its options in the schema, and the fields that are read."""
