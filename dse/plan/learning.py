"""What learns, and where errors must pass for it: what follows from graph and policy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dse.plan.decisions import BoolArray, IntArray
from dse.plan.spec import WIDTHS, StepSpec, kept_channels, mode_is
from dse.vocabulary import DTYPES, Saved
from dse.workload import Workload


@dataclass(frozen=True)
class Learning:
    """Masks and counts for P plans, L layers, U units."""

    workload: Workload
    spec: StepSpec
    kept_channels: IntArray  # (P, U) input channels whose weights learn
    trained_weights: IntArray  # (P, U)
    trained_affine: IntArray  # (P, U) biases, or scales and shifts of a batch norm
    affine_parameters: IntArray  # (P, U) the same, learning or not
    frozen_statistics: IntArray  # (P, U) running mean and variance that stay as they are
    running_statistics: IntArray  # (P, U) those that every mini-batch updates
    error_needed: BoolArray  # (L, P) the error of the layer's output is needed
    error_passes: BoolArray  # (L, P) the error passes on to the layer's input
    norm_learns: BoolArray  # (L, P) the affine part of this batch norm learns
    dtype: IntArray  # (P,) learning dtype code

    @property
    def parameters(self) -> IntArray:
        """Parameters that learn, (P, U)."""
        return self.trained_weights + self.trained_affine

    def runs(self, layer: int) -> BoolArray:
        """Return where ``layer`` belongs to the learning stage."""
        result: BoolArray = (layer > self.spec.cut_layer) & self.spec.backprop
        return result

    def weights_learn(self, unit: int) -> BoolArray:
        """Return where some weights of ``unit`` learn."""
        result: BoolArray = self.kept_channels[:, unit] > 0
        return result

    def backward_runs(self, layer: int) -> tuple[BoolArray, BoolArray, BoolArray]:
        """Return where each step of the backward pass of ``layer`` runs (``Clock.backward``), (P,) each."""
        unit, late = self.unit_at(layer), self.spec.update_late
        learns = self.norm_learns[layer] & self.runs(layer)
        early = np.asarray(learns)  # the gradient of a norm, before its input gradient
        if unit is not None:
            folded = mode_is(self.spec, "folded") | (self.workload.units[unit].norm_channels == 0)
            learns = (self.trained_weights[:, unit] > 0) | ((self.trained_affine[:, unit] > 0) & folded)
            early = learns & ~late
        return early, self.error_passes[layer], np.asarray(learns & late)

    def unit_dtype(self, unit: int) -> IntArray:
        """Return the code of the dtype that kernels of ``unit`` compute in, (P,)."""
        if unit < len(self.workload.units) - 1:
            return self.dtype
        return np.where(self.spec.fp32_classifier, DTYPES.index("fp32"), self.dtype)

    def unit_at(self, layer: int) -> int | None:
        """Return the unit whose conv or linear layer is ``layer``."""
        unit = int(self.workload.unit_of_layer[layer])
        return unit if unit >= 0 and self.workload.units[unit].layer == layer else None


def learning_of(workload: Workload, spec: StepSpec) -> Learning:
    """Work out what learns and where errors pass, from the graph and the plan's policy."""
    units = workload.units
    first_layer = np.array([unit.layer for unit in units])
    runs = (first_layer[None, :] > spec.cut_layer[:, None]) & spec.backprop[:, None]
    channels = np.array([unit.in_channels for unit in units])
    weights = np.array([unit.weight_params for unit in units])
    kept = kept_channels(workload, spec.weight_ratio) * runs
    affine, frozen, running = _affine(workload, spec)
    learns = runs & spec.bias_learns
    needed, passes, norm = _errors(workload, spec, (kept > 0), learns & (affine > 0))
    return Learning(
        workload, spec, kept, weights * kept // channels, affine * learns, affine, frozen, running * runs,
        needed, passes, norm, _dtype(spec),
    )  # fmt: skip


def _dtype(spec: StepSpec) -> IntArray:
    widths = [WIDTHS[name][2] for name in WIDTHS]
    return np.array([widths.index(int(width)) for width in spec.act_bytes], dtype=np.int64)


def _affine(workload: Workload, spec: StepSpec) -> tuple[IntArray, IntArray, IntArray]:
    """Biases, fixed and running statistics per unit (P, U).

    A folded norm leaves one bias per channel, any other a scale and a shift.
    """
    folded = mode_is(spec, "folded")[:, None]
    bias = np.array([unit.bias_params for unit in workload.units])[None, :]
    norm = np.array([unit.norm_channels for unit in workload.units])[None, :]
    affine = np.where(folded | (norm == 0), bias, 2 * norm)
    frozen = np.where(mode_is(spec, "frozen_stats")[:, None], 2 * norm, 0)
    running = np.where(mode_is(spec, "batch_stats")[:, None], 2 * norm, 0)
    return affine, frozen, running


def _errors(
    workload: Workload, spec: StepSpec, weights: BoolArray, affine: BoolArray
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Walk the graph: an error is needed where something at or before it learns."""
    count = len(workload.layers)
    needed = np.zeros((count, len(spec)), dtype=bool)
    passes, norm = np.zeros_like(needed), np.zeros_like(needed)
    unfolded = ~mode_is(spec, "folded")
    for index, layer in enumerate(workload.layers):
        unit = int(workload.unit_of_layer[index])
        own = np.zeros(len(spec), dtype=bool)
        if unit >= 0 and workload.units[unit].layer == index:
            own = weights[:, unit] | (
                affine[:, unit] & (~unfolded | (workload.units[unit].norm_channels == 0))
            )
        elif layer.saves == Saved.NORM and unit >= 0:
            norm[index] = own = affine[:, unit] & unfolded
        for producer in workload.inputs[index]:
            if producer >= 0:
                passes[index] |= needed[producer]
        needed[index] = (own | passes[index]) & (index > spec.cut_layer)
    return needed, passes, norm
