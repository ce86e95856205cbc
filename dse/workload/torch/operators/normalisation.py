"""Batch, layer, group and instance norms in all of torch's spellings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Final

import numpy as np

from dse.workload.model.graph import Constant
from dse.workload.torch.conversion import Conversion, layer_name
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Malformed
from dse.workload.torch.values import Tensor, Value

TRAINING: Final = "batch norms exported in training mode: read with their running statistics"


def batch_norm(c: Conversion, call: Call) -> Value:
    """Return a batch norm with its running statistics, whichever mode it was exported in."""
    x = c.tensor(call, "input")
    axis = x.axis(1 if x.batch == 0 or len(x.shape) > 3 else 0)
    channels = x.own[axis]
    mean, variance = c.constant(call, "running_mean"), c.constant(call, "running_var")
    constants = {
        "gamma": c.optional(call, "weight") or _filled("gamma", channels, 1.0),
        "beta": c.optional(call, "bias") or _filled("beta", channels, 0.0),
        "mean": mean,
        "variance": variance,
    }
    if any(constant.shape != (channels,) for constant in constants.values()):
        raise Malformed(f"statistics that do not fit {channels} channels")
    if call.flag("training") or call.operator.endswith(("_legit", "_legit_functional")):
        c.notes[TRAINING] += 1
    attributes = {"epsilon": call.real("eps", 1e-5)}
    name = layer_name(call, constants["gamma"])
    return c.add(
        call, "batch_norm", [x], x.shape, x.batch, name=name, attributes=attributes, constants=constants,
        channel_axis=axis,
    )  # fmt: skip


def layer_norm(c: Conversion, call: Call) -> Value:
    """Return a layer norm; ``axis`` is the first of the axes that are normalised together."""
    x = c.tensor(call, "input")
    normalised = call.integers("normalized_shape")
    if not normalised or normalised != x.shape[-len(normalised) :]:
        raise Malformed(f"normalises {list(normalised)!s:.60} of an input of {list(x.shape)}")
    attributes = {"axis": x.axis(-len(normalised)), "epsilon": call.real("eps", 1e-5)}
    return _affine(c, call, "layer_norm", x, attributes, prod(normalised))


def group_norm(c: Conversion, call: Call) -> Value:
    """Return a group norm; an instance norm has as many groups as channels."""
    x = c.tensor(call, "input")
    channels = x.own[x.axis(1)]
    groups = call.get("num_groups", call.get("group", channels))
    attributes = {"groups": groups, "epsilon": call.real("eps", 1e-5)}
    return _affine(c, call, "group_norm", x, attributes, channels)


def _affine(
    c: Conversion, call: Call, operation: str, x: Tensor, attributes: Mapping[str, object], count: int
) -> Tensor:
    held = {"gamma": c.optional(call, "weight"), "beta": c.optional(call, "bias")}
    constants = {part: constant for part, constant in held.items() if constant is not None}
    if any(constant.elements != count for constant in constants.values()):
        raise Malformed(f"scales that do not fit {count} numbers")
    name = layer_name(call, constants["gamma"]) if "gamma" in constants else call.module
    return c.add(
        call, operation, [x], x.shape, x.batch, name=name, attributes=attributes, constants=constants,
        channel_axis=0 if operation == "group_norm" else None,
    )  # fmt: skip


def _filled(part: str, channels: int, value: float) -> Constant:
    values = np.full(channels, value, dtype=np.float32)
    return Constant(part, (channels,), "generated", 0, values)


def _instance_norm(c: Conversion, call: Call) -> Value | Sequence[Value]:
    return group_norm(c, call) if call.flag("use_input_stats", True) else batch_norm(c, call)


NORMALISATION: Final[Mapping[str, Converter]] = {
    **dict.fromkeys(
        (
            "aten.batch_norm", "aten.native_batch_norm", "aten.cudnn_batch_norm",
            "aten._native_batch_norm_legit", "aten._native_batch_norm_legit_functional",
            "aten._native_batch_norm_legit_no_training", "aten._batch_norm_no_update",
            "aten._batch_norm_with_update_functional", "aten._batch_norm_with_update",
        ),
        batch_norm,
    ),
    **dict.fromkeys(("aten.layer_norm", "aten.native_layer_norm"), layer_norm),
    **dict.fromkeys(("aten.group_norm", "aten.native_group_norm"), group_norm),
    "aten.instance_norm": _instance_norm,
}  # fmt: skip
