"""Every operator that is known, by domain and name, with its rule and the word it has in a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dse.workload.onnx.affine import dequantise, dynamic_quantise, qonnx_quant, quantise
from dse.workload.onnx.convolutions import average_pool, conv, conv_transpose, max_pool, norm_pool
from dse.workload.onnx.document import FileNode
from dse.workload.onnx.elements import (
    BROADCAST,
    ELEMENT_RULES,
    SAME_SHAPE,
    biased_gelu,
    compared,
    fast_gelu,
    gelu,
    layer_norm,
)
from dse.workload.onnx.movements import MOVEMENT_RULES
from dse.workload.onnx.operations import Answer, Call, Rule, like
from dse.workload.onnx.products import einsum, gemm, matmul
from dse.workload.onnx.quantised import MICROSOFT_QUANTISED, QUANTISED
from dse.workload.onnx.recurrent import recurrent

MICROSOFT: Final = "com.microsoft"

OWN: Final[Mapping[str, Rule]] = {
    "Conv": conv, "ConvTranspose": conv_transpose, "AveragePool": average_pool, "MaxPool": max_pool,
    "LpPool": norm_pool, "Gemm": gemm, "MatMul": matmul, "Einsum": einsum, "LSTM": recurrent,
    "GRU": recurrent, "RNN": recurrent,
    "QuantizeLinear": quantise, "DequantizeLinear": dequantise, "DynamicQuantizeLinear": dynamic_quantise,
    **QUANTISED, **ELEMENT_RULES, **MOVEMENT_RULES,
}  # fmt: skip
"""ONNX's own operators."""

CONTRIBUTED: Final[Mapping[str, Rule]] = {
    "FusedConv": conv, "FusedGemm": gemm, "FusedMatMul": matmul, "Gelu": gelu, "FastGelu": fast_gelu,
    "BiasGelu": biased_gelu, "QuantizeLinear": quantise, "DequantizeLinear": dequantise,
    "LayerNormalization": layer_norm, **MICROSOFT_QUANTISED,
}  # fmt: skip
"""Operators of com.microsoft."""

ANY_DOMAIN: Final[Mapping[str, Rule]] = {"Quant": qonnx_quant}


def _same_shape(call: Call) -> Answer:
    return like(call, "unknown")


@dataclass(frozen=True)
class Found:
    """A rule, and whether it gives the operation a word of its own."""

    rule: Rule
    has_word: bool


def find(node: FileNode) -> Found | None:
    """Return the rule of a node; None for operators that are not known."""
    table = {"": OWN, MICROSOFT: CONTRIBUTED}.get(node.domain, {})
    rule = table.get(node.op) or ANY_DOMAIN.get(node.op)
    if rule is not None:
        return Found(rule, True)
    if node.domain == "" and node.op in BROADCAST:
        return Found(compared, False)
    return Found(_same_shape, False) if node.op in SAME_SHAPE else None


WORDS: Final[Mapping[str, str]] = {
    "Conv": "conv", "QLinearConv": "conv", "ConvInteger": "conv", "FusedConv": "conv",
    "ConvTranspose": "conv_transpose", "Gemm": "linear", "QGemm": "linear", "MatMul": "matmul",
    "QLinearMatMul": "matmul", "MatMulInteger": "matmul", "AveragePool": "avg_pool", "MaxPool": "max_pool",
    "BatchNormalization": "batch_norm", "Relu": "relu", "Add": "add", "Mul": "multiply", "Concat": "concat",
    "Reshape": "reshape", "Flatten": "reshape", "Transpose": "transpose", "Softmax": "softmax",
    "LSTM": "lstm", "GRU": "gru", "RNN": "rnn", "Sigmoid": "sigmoid", "Tanh": "tanh", "Resize": "resize",
    "Slice": "slice", "Gather": "gather", "Pad": "pad", "Sub": "subtract", "Div": "divide", "Clip": "clip",
}  # fmt: skip
"""Operators whose word is certain even where the shape of their input is not known."""
