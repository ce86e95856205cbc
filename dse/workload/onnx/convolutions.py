"""Rules for what slides a window: convolutions, transposed ones, pools; and for means over all positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dse.workload.base import Shape
from dse.workload.model.graph import Constant, Quantisation
from dse.workload.onnx import shapes
from dse.workload.onnx.operations import Answer, Call, Made, front
from dse.workload.onnx.shapes import Window
from dse.workload.onnx.tensors import Refused, Tensor, as_constant, sample_axis

BATCH, CHANNELS = 0, 1
"""Axes of what ONNX convolutions and pools read."""


def conv(call: Call) -> Made:
    """Conv, and FusedConv with an activation behind it."""
    weight = weight_of(call, 1)
    bias = call.constant(2)
    return convolution(call, call.tensor(0), weight, bias)


def convolution(
    call: Call, tensor: Tensor, weight: Tensor, bias: Tensor | None, quantisation: Quantisation | None = None
) -> Made:
    """Return a convolution; its weight is (out, in / groups, kernel...)."""
    shape, kernel = tensor.known, weight.known[2:]
    if len(shape) < 3 or len(weight.known) != len(shape):
        raise Refused(f"weights with {len(weight.known)} axes over an input with {len(shape)}")
    groups = call.integer("group", 1)
    out = weight.known[0]
    if groups < 1 or shape[CHANNELS] != weight.known[1] * groups or out % groups:
        said = f"{shape[CHANNELS]} channels, weights for {weight.known[1]} in each of {groups} groups"
        raise Refused(f"{said}, {out} outputs")
    found = sliding(call, shape[2:], kernel)
    constants = {"weight": as_constant(weight)} | with_bias(bias, out)
    return Made(
        "conv", (tensor,), shapes.checked((shape[BATCH], out, *found.positions)), BATCH,
        window_attributes(found) | {"groups": groups}, constants, CHANNELS, quantisation, tensor.dtype,
        fused_activation(call),
    )  # fmt: skip


def weight_of(call: Call, index: int) -> Tensor:
    """Weights of a node: a constant whose shape is known."""
    found = call.tensor(index)
    if not found.constant:
        raise Refused("its weights are computed while it runs")
    if not found.known:
        raise Refused("its weight is a single number")
    shapes.checked(found.known)
    return found


def with_bias(bias: Tensor | None, out: int) -> dict[str, Constant]:
    """Return the bias of ``out`` outputs by its word; raises Refused for another number of them."""
    if bias is None:
        return {}
    if bias.known != (out,):
        raise Refused(f"a bias of shape {list(bias.known)} for {out} outputs")
    return {"bias": as_constant(bias)}


def sliding(call: Call, sizes: Shape, kernel: Shape, round_up: bool = False) -> Window:
    """Return the window that the attributes describe."""
    given = call.integers("kernel_shape")
    if given is not None and given != kernel:
        raise Refused(f"kernel_shape {list(given)}, weights of {list(kernel)}")
    ones = (1,) * len(sizes)
    return shapes.window(
        sizes, kernel, call.integers("strides") or ones, call.integers("dilations") or ones,
        call.integers("pads") or (0,) * 2 * len(sizes), call.text("auto_pad", "NOTSET"), round_up,
    )  # fmt: skip


def window_attributes(found: Window) -> dict[str, Any]:
    """Attributes of a window by their words in a model."""
    return {
        "kernel": found.kernel, "stride": found.stride, "dilation": found.dilation, "pads": found.pads,
    }  # fmt: skip


FUSED: Mapping[str, str] = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "LeakyRelu": "leaky_relu", "Clip": "clip",
    "HardSigmoid": "hard_sigmoid", "HardSwish": "hard_swish", "Gelu": "gelu",
}  # fmt: skip


def fused_activation(call: Call) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Return the activation that a fused operator names."""
    name = call.text("activation", "")
    if not name:
        return ()
    word = FUSED.get(name)
    if word is None:
        raise Refused(f"its activation {name!r} is not known")
    numbers = call.node.attributes.get("activation_params")
    values = numbers if isinstance(numbers, tuple) and len(numbers) >= 2 else (0.0, 6.0)
    if word != "clip":
        return ((word, {}),)
    low, high = float(values[0]), float(values[1])
    return (("relu6", {}) if (low, high) == (0.0, 6.0) else ("clip", {"low": low, "high": high}),)


def conv_transpose(call: Call) -> Made:
    """ConvTranspose; its weight is (in, out / groups, kernel...)."""
    tensor, weight, bias = call.tensor(0), weight_of(call, 1), call.constant(2)
    shape, groups = tensor.known, call.integer("group", 1)
    if len(shape) < 3 or len(weight.known) != len(shape) or shape[CHANNELS] != weight.known[0]:
        raise Refused(f"weights of {list(weight.known)} over an input of {list(shape)}")
    if groups < 1 or weight.known[0] % groups:
        raise Refused(f"{groups} groups of {weight.known[0]} channels")
    ones, out = (1,) * (len(shape) - 2), weight.known[1] * groups
    found = shapes.transposed_window(
        shape[2:], weight.known[2:], call.integers("strides") or ones, call.integers("dilations") or ones,
        call.integers("pads") or (0,) * 2 * len(ones), call.integers("output_padding") or (0,) * len(ones),
        call.text("auto_pad", "NOTSET"), call.integers("output_shape"),
    )  # fmt: skip
    return Made(
        "conv_transpose", (tensor,), shapes.checked((shape[BATCH], out, *found.positions)), BATCH,
        window_attributes(found) | {"groups": groups}, {"weight": as_constant(weight)} | with_bias(bias, out),
        CHANNELS, dtype=tensor.dtype,
    )  # fmt: skip


# --- pools ---


def average_pool(call: Call) -> Made:
    """AveragePool, and QLinearAveragePool through its input."""
    return pool(call, "avg_pool", {"count_include_pad": bool(call.integer("count_include_pad", 0))})


def max_pool(call: Call) -> list[Answer]:
    """MaxPool; the indices of the winners, where they are asked for, are known by their shape alone."""
    made = pool(call, "max_pool", {})
    return [made, replace(made, operation="unknown", dtype="int64")]


def pool(call: Call, operation: str, more: Mapping[str, Any]) -> Made:
    """Return a pool over the positions of the first input."""
    tensor, kernel = call.tensor(0), call.integers("kernel_shape")
    shape, last = tensor.known, bool(call.integer("channels_last", 0))
    if kernel is None or len(shape) < 3:
        raise Refused(f"a kernel of {kernel} over an input with {len(shape)} axes")
    sizes = shape[1:-1] if last else shape[2:]
    found = sliding(call, sizes, kernel, bool(call.integer("ceil_mode", 0)))
    whole = (shape[0], *found.positions, shape[-1]) if last else (*shape[:2], *found.positions)
    return Made(
        operation, (tensor,), shapes.checked(whole), BATCH, window_attributes(found) | dict(more),
        channel_axis=len(shape) - 1 if last else CHANNELS, dtype=tensor.dtype,
    )  # fmt: skip


def norm_pool(call: Call) -> Made:
    """LpPool: its shape is that of a pool."""
    return pool(call, "unknown", {})


def global_average_pool(call: Call) -> Made:
    """GlobalAveragePool: the mean over all positions, which stay as axes of one."""
    shape, last = call.shape(), bool(call.integer("channels_last", 0))
    if len(shape) < 3:
        raise Refused(f"an input with {len(shape)} axes")
    return mean(call.tensor(0), tuple(range(1, len(shape) - 1) if last else range(2, len(shape))), True)


def global_max_pool(call: Call) -> Made:
    """GlobalMaxPool: the largest over all positions."""
    tensor = call.tensor(0)
    return reduction(tensor, "max", tuple(range(2, len(tensor.known))), True)


def mean(tensor: Tensor, axes: tuple[int, ...], keep: bool) -> Made:
    """Return a mean: a global pool where it leaves the channels alone, a reduction otherwise."""
    shape = tensor.known
    rank, batch = len(shape), tensor.batch
    left = [axis for axis in range(rank) if axis not in axes and axis != batch]
    made = reduction(tensor, "mean", axes, keep)
    ends = {axis for axis in range(rank) if axis != batch}
    if len(left) != 1 or not axes or batch in axes or left[0] not in (min(ends), max(ends)):
        return made
    where = sample_axis(left[0], batch)
    return replace(
        made, operation="global_avg_pool", attributes={"input_channel_axis": where},
        channel_axis=left[0] if keep else (0 if batch is None else int(batch == 0)),
    )  # fmt: skip


def reduction(tensor: Tensor, kind: str, axes: tuple[int, ...], keep: bool) -> Made:
    """Return a reduction over axes of a tensor."""
    shape = tensor.known
    gone = tuple(sorted({front(axis, len(shape)) for axis in axes}))
    if tensor.batch in gone and shape[tensor.batch] != 1:
        raise Refused("it reduces the batch")
    batch = tensor.batch
    if batch is not None:
        batch = (
            None if batch in gone and not keep else batch - sum(axis < batch for axis in gone) * (not keep)
        )
    within = tuple(sample_axis(axis, tensor.batch) for axis in gone if axis != tensor.batch)
    whole = shapes.reduced(shape, gone, keep)
    return Made(
        "reduce", (tensor,), whole, batch, {"kind": kind, "axes": within, "keep": keep}, dtype=tensor.dtype
    )
