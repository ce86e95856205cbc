"""What the integers of a stage mean: grids of activations, and steps of weights and biases.

These numbers are compiled into a device's kernels and change in no step; no plan counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.execution.int8.grid import BIAS_LIMIT, WEIGHT_LIMIT, Grid, WideArray, multiplier

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Steps:
    """What one step of the integers of a layer with weights is worth; (out,) each.

    ``weight`` and ``bias`` are real values. ``sums`` takes a step of the integer sums, and ``offset`` one of
    a bias, to a step of the output's grid, or to real values where logits come out. Where ``whole`` is
    False, weights and biases are fp32 numbers (an fp32 classifier).
    """

    weight: WideArray
    bias: WideArray
    sums: WideArray
    offset: WideArray
    whole: bool = True

    @classmethod
    def real(cls, channels: int, source: Grid) -> Steps:
        """Return the steps of an fp32 classifier that reads ``source``."""
        ones = np.ones(channels)
        return cls(ones, ones, ones * source.scale, ones, whole=False)


@dataclass(frozen=True)
class Constants:
    """Constants of the layers of one stage.

    ``grids``: layer -> the grid of its output, as it is behind what runs without rounding in between (a batch
    norm, a rectifier); -1 is what enters the stage. ``steps``: layer with weights -> its steps. ``channels``:
    layer -> the input channels whose weights learn, ascending, where not all of them do.
    """

    grids: Mapping[int, Grid]
    steps: Mapping[int, Steps]
    channels: Mapping[int, IntArray] = field(default_factory=dict)


def quantised(
    weight: NDArray[Any], bias: NDArray[Any] | None, source: Grid, target: Grid | None
) -> tuple[NDArray[np.int8], NDArray[np.int32], Steps]:
    """Quantise weights (out, ...) symmetrically, each output channel by its largest, and biases (out,).

    ``target`` is the grid of the output, None where logits come out. A channel of tiny weights beside a large
    bias gets a coarser step, so that its bias fits. Per-channel weights: arXiv 1806.08342, Sec. 3.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    offsets = np.zeros(len(rows)) if bias is None else bias.astype(np.float64)
    step = np.abs(rows).max(axis=1) / WEIGHT_LIMIT
    step = np.maximum(step, np.abs(offsets) / (source.scale * BIAS_LIMIT))
    step[step == 0] = 1.0
    step = step.astype(np.float32).astype(np.float64)
    q = np.clip(np.rint(rows / step[:, None]), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
    sums = source.scale * step
    factor = sums if target is None else multiplier(sums / target.scale)
    whole = np.rint(offsets / sums).astype(np.int32)
    return q.reshape(weight.shape), whole, Steps(step, sums, factor, factor)
