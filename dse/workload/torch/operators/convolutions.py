"""Convolutions in all of torch's spellings: they become ``conv`` or ``conv_transpose``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dse.workload.base import Shape
from dse.workload.model.graph import Constant
from dse.workload.torch.conversion import Conversion, layer_name
from dse.workload.torch.operators.base import Converter, Pads, positions, spread, steps, whole
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Malformed
from dse.workload.torch.values import Value


def convolution(c: Conversion, call: Call) -> Value:
    """Return what a convolution gives, its padding resolved into pads before and behind each axis."""
    if call.flag("transposed") or "conv_transpose" in call.operator:
        return transposed(c, call)
    x, weight, bias = c.tensor(call, "input"), c.constant(call, "weight"), c.optional(call, "bias")
    axes = len(weight.shape) - 2
    batch, own = positions(x, axes)
    kernel = spread(weight.shape[2:], axes, "a kernel", 1)
    stride = spread(call.integers("stride", (1,)), axes, "a stride", 1)
    dilation = spread(call.integers("dilation", (1,)), axes, "a dilation", 1)
    groups = call.integer("groups", 1)
    _check(own, weight, bias, groups)
    pads = _pads(call, axes, kernel, dilation)
    out = tuple(
        steps(*sizes) for sizes in zip(own[1:], pads, kernel, stride, dilation, strict=True)
    )  # fmt: skip
    attributes = {
        "kernel": kernel,
        "stride": stride,
        "dilation": dilation,
        "pads": pads,
        "groups": groups,
    }
    shape = whole((weight.shape[0], *out), batch)
    return c.add(
        call, "conv", [x], shape, batch, name=layer_name(call, weight), attributes=attributes,
        constants=_held(weight, bias), channel_axis=0,
    )  # fmt: skip


def transposed(c: Conversion, call: Call) -> Value:
    """Return what a transposed convolution gives."""
    x, weight, bias = c.tensor(call, "input"), c.constant(call, "weight"), c.optional(call, "bias")
    axes = len(weight.shape) - 2
    batch, own = positions(x, axes)
    kernel = spread(weight.shape[2:], axes, "a kernel", 1)
    stride = spread(call.integers("stride", (1,)), axes, "a stride", 1)
    dilation = spread(call.integers("dilation", (1,)), axes, "a dilation", 1)
    padding = spread(call.integers("padding", (0,)), axes, "a padding", 0)
    extra = spread(call.integers("output_padding", (0,)), axes, "an output padding", 0)
    groups = call.integer("groups", 1)
    if groups < 1 or own[0] != weight.shape[0] or own[0] % groups:
        raise Malformed(f"weights of {list(weight.shape)} do not fit an input of {list(own)}")
    spans = zip(own[1:], stride, padding, dilation, kernel, extra, strict=True)
    out = tuple(
        (size - 1) * by - 2 * pad + apart * (width - 1) + more + 1
        for size, by, pad, apart, width, more in spans
    )
    attributes = {
        "kernel": kernel, "stride": stride, "dilation": dilation, "groups": groups,
        "pads": tuple((pad, pad) for pad in padding), "output_padding": extra,
    }  # fmt: skip
    shape = whole((weight.shape[1] * groups, *out), batch)
    return c.add(
        call, "conv_transpose", [x], shape, batch, name=layer_name(call, weight), attributes=attributes,
        constants=_held(weight, bias), channel_axis=0,
    )  # fmt: skip


def _held(weight: Constant, bias: Constant | None) -> dict[str, Constant]:
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


def _check(own: Shape, weight: Constant, bias: Constant | None, groups: int) -> None:
    out, per_group = weight.shape[:2]
    if groups < 1 or out % groups or own[0] != per_group * groups:
        raise Malformed(
            f"weights of {list(weight.shape)} in {groups} groups do not fit an input of {list(own)}"
        )
    if bias is not None and bias.shape != (out,):
        raise Malformed(f"a bias of {list(bias.shape)} for {out} channels")


def _pads(call: Call, axes: int, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> Pads:
    padding = call.get("padding", (0,))
    if padding == "same":  # torch refuses a stride here; the odd position is added behind
        total = [apart * (width - 1) for apart, width in zip(dilation, kernel, strict=True)]
        return tuple((entry // 2, entry - entry // 2) for entry in total)
    if padding == "valid":
        return ((0, 0),) * axes
    numbers = spread(call.integers("padding", (0,)), axes, "a padding", 0)
    return tuple((pad, pad) for pad in numbers)


CONVOLUTIONS: Final[Mapping[str, Converter]] = dict.fromkeys(
    (
        "aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution", "aten._convolution",
        "aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d",
    ),
    convolution,
)  # fmt: skip
