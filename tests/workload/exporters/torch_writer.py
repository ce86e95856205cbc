"""Writes networks as plain ``torch.nn`` modules and real archives of ``torch.export``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dse.workload import Layer, Shape, Workload
from dse.workload.convolutions import Depthwise, Pointwise

Parameters = Mapping[str, NDArray[np.float32]]

PLAIN: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "hard_swish": nn.Hardswish, "flatten": nn.Flatten,
}  # fmt: skip
NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 1: nn.BatchNorm1d}
CONVS = {1: nn.Conv1d, 2: nn.Conv2d}
MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
AVG_POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d}
GLOBAL_POOLS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}


def plain(name: str) -> str:
    """Return a layer's name as a name of a module, which may hold no dots."""
    return name.replace(".", ":")


class Pooled(nn.Module):
    """A global average pool that gives a vector."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.pool = GLOBAL_POOLS[axes](1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.pool(x), 1)


class Net(nn.Module):
    """The layers of a workload under their own names, wired as it says."""

    def __init__(self, workload: Workload, parameters: Parameters) -> None:
        super().__init__()
        self.workload = workload
        for index, layer in enumerate(workload.layers):
            made = module_of(layer, workload.shape_of(workload.inputs[index][0]), workload.shapes[index])
            if made is not None:
                self.add_module(plain(layer.name), made)
        self.load(parameters)

    def load(self, parameters: Parameters) -> None:
        words = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
        own = self.state_dict()
        for key, value in parameters.items():
            name, part = key.rsplit(".", 1)
            name = plain(name)
            path = f"{name}.{words.get(part, part)}"
            path = path if path in own else path.replace(name, f"{name}.1")
            own[path].copy_(torch.from_numpy(np.asarray(value).copy()).reshape(own[path].shape))

    def forward(self, x: Tensor) -> Tensor:
        values: list[Tensor] = []
        for layer, producers in zip(self.workload.layers, self.workload.inputs, strict=True):
            inputs = [x if place < 0 else values[place] for place in producers]
            values.append(self.apply_layer(layer, inputs))
        return values[-1]

    def apply_layer(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        if layer.kind == "add":
            return sum(inputs[1:], inputs[0])
        if layer.kind == "concat":
            return torch.cat(inputs, 1)
        return self._modules[plain(layer.name)](*inputs)


def module_of(layer: Layer, shape: Shape, out: Shape) -> nn.Module | None:
    """Return the module that computes ``layer`` for inputs of ``shape``."""
    if layer.kind in PLAIN:
        return PLAIN[layer.kind]()
    if layer.kind in ("add", "concat"):
        return None
    if layer.kind == "softmax":
        return nn.Softmax(-1)
    if layer.kind == "batch_norm":
        return NORMS[len(shape)](shape[0])
    if layer.kind == "global_avg_pool":
        return Pooled(len(shape) - 1)
    if layer.kind == "linear":
        return nn.Linear(shape[0], out[0], bias=bool(layer.bias_params(shape)))
    return windowed(layer, shape, out)


def windowed(layer: Any, shape: Shape, out: Shape) -> nn.Module:
    """Return a convolution or a pool; pads that differ at both ends stand in a module before it."""
    rank, bias = len(shape) - 1, bool(layer.bias_params(shape))
    if isinstance(layer, Pointwise):
        return CONVS[rank](shape[0], out[0], 1, bias=bias)
    axes = layer.axes(shape)
    kernel, stride = tuple(axis.kernel for axis in axes), tuple(axis.stride for axis in axes)
    pads = [(axis.before, axis.after) for axis in axes]
    even = all(before == after for before, after in pads)
    own = tuple(before for before, _ in pads) if even else (0,) * rank
    if layer.kind in ("max_pool", "avg_pool"):
        assert even, "a pool whose pads differ has no counterpart in torch.nn"
        pool = MAX_POOLS if layer.kind == "max_pool" else AVG_POOLS
        return pool[rank](kernel, stride, own)
    groups = shape[0] if isinstance(layer, Depthwise) else layer.geometry(shape)[1]
    dilation = tuple(axis.dilation for axis in axes)
    conv = CONVS[rank](shape[0], out[0], kernel, stride, own, dilation, groups, bias=bias)
    if even:
        return conv
    flat = [number for pair in reversed(pads) for number in pair]
    return nn.Sequential(nn.ConstantPad1d(flat, 0.0) if rank == 1 else nn.ZeroPad2d(flat), conv)


def exported(module: nn.Module, *example: Tensor, **options: Any) -> torch.export.ExportedProgram:
    """Export a module in evaluation mode, without torch's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(module.eval(), example, **options)


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a program in the core operators of ATen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions()


def archive_of(program: torch.export.ExportedProgram) -> bytes:
    """Return the bytes of the archive that ``torch.export.save`` writes."""
    stream = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, stream)
    return stream.getvalue()
