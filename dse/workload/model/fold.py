"""The numbers of one conv or linear layer, with what the file multiplies and adds per channel behind it.

Factors and sums per channel go into the weights, or into the batch norm behind them where there is one:
y = s (w x + b) + t. Everything is computed in float64 and rounded to float32 once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.workload.base import Shape
from dse.workload.model.graph import Constant
from dse.workload.model.layout import Layout

Array = NDArray[np.float64]

EPSILON: Final = 1e-5
"""What training adds to the variance of every batch norm."""

NORM: Final = ("gamma", "beta", "mean", "variance")


@dataclass
class Norm:
    """A batch norm with the planner's epsilon: gamma (x - mean) / sqrt(variance + 1e-5) + beta, all (C,)."""

    layer: str
    gamma: Array
    beta: Array
    mean: Array
    variance: Array


def norm_of(layer: str, parts: Mapping[str, Array], epsilon: float) -> Norm:
    """Return a batch norm of another ``epsilon`` with the planner's own.

    The variance takes up the difference; where that would make it negative it becomes 0, and gamma takes up
    the rest.
    """
    wanted = parts["variance"] + epsilon
    variance = np.maximum(wanted - EPSILON, 0.0)
    rest = parts["gamma"] * np.sqrt(EPSILON) / np.sqrt(wanted)
    gamma = np.where(wanted >= EPSILON, parts["gamma"], rest)
    return Norm(layer, gamma, parts["beta"], parts["mean"], variance)


def affine_of(parts: Mapping[str, Array], epsilon: float) -> tuple[Array, Array]:
    """Return the factor and the sum per channel that a batch norm by running statistics is."""
    factor = parts["gamma"] / np.sqrt(parts["variance"] + epsilon)
    return factor, parts["beta"] - parts["mean"] * factor


@dataclass
class Weights:
    """The numbers of one layer on their way from the file to training.

    ``shape`` is that of the weights in training, (out, in per group, kernel...) or (out, in); ``columns``
    says how the file orders what a linear layer reads. ``known`` is False where the file lacks numbers.
    """

    layer: str
    shape: Shape
    weight: Constant
    bias: Constant | None = None
    columns: Layout | None = None
    factor: Array | None = None
    shift: Array | None = None
    norm: Norm | None = None
    normed: str = ""  # the batch norm behind it, numbers or not
    known: bool = True
    layers: list[str] = field(default_factory=list)

    @property
    def has_shift(self) -> bool:
        """Whether the layer has biases."""
        return self.bias is not None or self.shift is not None

    def scale(self, factor: Array | None, shift: Array | None) -> None:
        """Take in y = factor x + shift, each (C,), None being 1 and 0."""
        if self.normed:
            self._scale_norm(factor, shift)
            return
        if factor is not None:
            self.factor = factor if self.factor is None else self.factor * factor
            self.shift = None if self.shift is None else self.shift * factor
        if shift is not None:
            self.shift = shift if self.shift is None else self.shift + shift

    def _scale_norm(self, factor: Array | None, shift: Array | None) -> None:
        if self.norm is None:
            return
        if factor is not None:
            self.norm.gamma = self.norm.gamma * factor
            self.norm.beta = self.norm.beta * factor
        if shift is not None:
            self.norm.beta = self.norm.beta + shift

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the parameters by name; none where the file lacks a part of them."""
        parts = (self.weight, self.bias) if self.bias is not None else (self.weight,)
        if not self.known or any(part.values is None for part in parts):
            return {}
        found = {f"{self.layer}.weight": self._weight()}
        if self.has_shift:
            found[f"{self.layer}.bias"] = self._bias()
        if self.norm is not None:
            found |= {f"{self.normed}.{part}": getattr(self.norm, part) for part in NORM}
        return {name: np.asarray(array, dtype=np.float32) for name, array in found.items()}

    def _weight(self) -> NDArray[np.float32] | Array:
        """Return the weights in the order of training, scaled."""
        assert self.weight.values is not None
        weight = self.weight.values.reshape(self.shape)
        if self.columns is not None and not self.columns.is_plain:
            weight = weight[:, self.columns.index()]
        if self.factor is None:
            return weight
        return weight.astype(np.float64) * self.factor.reshape(-1, *(1,) * (weight.ndim - 1))

    def _bias(self) -> Array:
        """Return b' = s b + t."""
        bias = np.zeros(self.shape[0])
        if self.bias is not None and self.bias.values is not None:
            bias = self.bias.values.astype(np.float64).reshape(-1)
        scaled = bias if self.factor is None else bias * self.factor
        return scaled if self.shift is None else scaled + self.shift
