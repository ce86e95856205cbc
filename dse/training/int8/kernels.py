"""Layers with weights in integers: what their sums are made of, and how they become values again."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dse.training.geometry import lifted_weight
from dse.training.integer import Place
from dse.training.keeping import AS_IT_IS, Keeper
from dse.training.network import device
from dse.training.operators import OPERATORS, Operation
from dse.training.quantise import EXACT_IN_FP32, WEIGHT_LIMIT, Grid, IntegerWeights, moved
from dse.training.stored_gradients import Gradients


@dataclass
class Numbers:
    """The integers of one layer, and what one step of each means.

    ``weight`` (out, ...) int8 and ``bias`` (out,) int32, or fp32 both in an fp32 classifier. ``scale`` and
    ``bias_scale`` (out,) are the real value of one step. ``factor`` and ``bias_factor`` (out,) take a step of
    the sums, and of a bias, to a step of the output's grid, or to real values where logits come out.
    """

    weight: NDArray[Any]
    bias: NDArray[Any] | None
    scale: NDArray[np.float64]
    bias_scale: NDArray[np.float64]
    factor: NDArray[np.float64]
    bias_factor: NDArray[np.float64]
    whole: bool = True
    """Whether weights and biases are integers."""

    @classmethod
    def of(cls, place: Place, *, logits: bool, fp32: bool) -> Numbers:
        """Quantise the layer at ``place``; an fp32 classifier keeps its numbers."""
        weight, bias, source = place.tensors["weight"], place.tensors.get("bias"), place.sources[0]
        if fp32:
            ones = np.ones(len(weight))
            return cls(weight, bias, ones, ones, ones * source.scale, ones, whole=False)
        own = IntegerWeights.of(weight, bias, source, place.target)
        sums = source.scale * own.scale
        factor = sums if logits else own.factor
        return cls(own.weight, None if bias is None else own.bias, own.scale, sums, factor, factor)

    def real(self) -> Tensor:
        """Return the real weights as kernels take them."""
        q = self.weight.astype(np.float64)
        return laid(q * self.scale.reshape(-1, *(1,) * (q.ndim - 1)))

    def offset(self) -> Tensor:
        """Return what biases add to each output channel, (out,) fp64, in steps of the output's grid."""
        bias = np.zeros(len(self.scale)) if self.bias is None else self.bias.astype(np.float64)
        return torch.from_numpy(bias * self.bias_factor).to(device())


@dataclass
class WeightedKernel:
    """One layer with weights, as ``functions.Weighted`` runs it.

    ``weight`` and ``bias`` hold the integers in fp32, ``real`` the real values of the weights, ``offset``
    (out,) the biases times their factor, fp64. All are read anew at each call, so that others may change
    them, and say so by ``changed``.
    """

    place: Place
    weight: nn.Parameter
    bias: nn.Parameter | None
    real: Tensor
    offset: Tensor
    factor: Tensor
    gradients: Gradients
    channels: Tensor | None
    limits: tuple[int, int] | None
    exact: bool = True
    """Whether sums are of integers, and have to be exact; not in an fp32 classifier."""
    keeper: Keeper = AS_IT_IS
    _operations: dict[torch.dtype, tuple[Tensor, Operation]] = field(default_factory=dict)

    @property
    def source(self) -> Grid:
        """The grid of the input."""
        return self.place.sources[0]

    def __post_init__(self) -> None:
        self._most = max(-self.source.low, self.source.high)
        self._across = (1, -1) if len(self.place.shape) == 1 else (1, -1, 1, 1)
        self._dtype = torch.float32
        self.factor = self.factor.view(self._across)
        self.changed()

    def changed(self) -> None:
        """Take note that the weights are others now: choose the type in which their sums are exact."""
        if not self.exact:
            return
        if device().type != "cpu":
            self._dtype = torch.float64  # kernels of a GPU may round
        elif self._most * WEIGHT_LIMIT * prod(self.weight.shape[1:]) >= EXACT_IN_FP32:
            largest = (
                float(self.weight.detach().flatten(1).abs().sum(1, dtype=torch.float64).max()) * self._most
            )
            self._dtype = torch.float32 if largest < EXACT_IN_FP32 else torch.float64

    def unrounded(self, q: Tensor) -> Tensor:
        """Return sums and bias, in steps of the output's grid (real values for logits), fp64."""
        weight, operation = self._operation(self._dtype)
        if weight.dtype != self.weight.dtype:
            weight.copy_(self.weight)
        return moved(operation(q.to(self._dtype)), self.factor).add_(self.offset.view(self._across))

    def _operation(self, dtype: torch.dtype) -> tuple[Tensor, Operation]:
        """Return the operation in ``dtype`` and the weights that it reads."""
        if dtype not in self._operations:
            with torch.inference_mode(False):  # made while predicting, it is read while learning as well
                weight = self.weight.detach().to(dtype)  # itself where it has this type
            operation = OPERATORS[self.place.layer.kind](
                self.place.layer, self.place.shape, {"weight": weight}
            )
            self._operations[dtype] = weight, operation
        return self._operations[dtype]


def laid(values: NDArray[Any]) -> Tensor:
    """Return weights as the operations take them: fp32, lifted, channels innermost."""
    tensor = torch.tensor(values.astype(np.float32), device=device())
    tensor = tensor.view(lifted_weight(tuple(tensor.shape)))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
