"""The numbers of a plan's three stages (frozen, learning, inference), fp32 or int8, made from a seed.

Integers are those of the same random network: ranges of activations come from a few random images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.execution.arithmetic import Arithmetic, Array, FloatArray, IntArray
from dse.execution.fp32 import Fp32
from dse.execution.int8.constants import Constants
from dse.execution.int8.grid import Grid
from dse.execution.int8.learning import frozen, inference, learning
from dse.execution.int8.prepare import (
    Prepared,
    for_inference,
    prepared_forward,
    prepared_learning,
    real_numbers,
)
from dse.execution.int8.rounding import seeded
from dse.execution.optimisers import Optimiser
from dse.execution.packing import EXACT_BITS, Levels
from dse.execution.parameters import Given
from dse.execution.step import Stages
from dse.execution.trial.parameters import drawn_channels, drawn_parameters, drawn_state
from dse.plan.decisions import TrainingPlan
from dse.workload import Workload

FRAMES: Final = Levels(bits=8, scale=1 / 64, offset=-2.0)
"""What a captured byte stands for: -2 to 2, about that of normalised images."""

KNOWN: Final = 2
"""Random images that ranges are taken from."""

RATE: Final = 0.01
MOMENTUM: Final = 0.9

_NOTHING: Final = Prepared(Constants({}, {}))


@dataclass(frozen=True)
class Numbers:
    """Parameters, and what they mean, of one plan.

    ``channels`` by unit: the input channels that learn; ``latents`` (n, *cut shape) those of random images;
    ``levels`` the grid on which latents are stored.
    """

    workload: Workload
    plan: TrainingPlan
    seed: int
    below: Prepared
    above: Prepared
    whole: Prepared
    channels: Mapping[int, IntArray]
    latents: FloatArray
    levels: Levels

    @property
    def given(self) -> Given:
        """Parameters as a step is given them."""
        own = dict(self.above.numbers)
        state = drawn_state(self.plan.optimiser, own, self.seed)
        saved = {key: -value for key, value in own.items()}  # something else, or an exchange would not show
        return Given(own, dict(self.below.numbers), dict(self.whole.numbers), state, saved)

    def stages(self) -> Stages:
        """Return the arithmetics of a step that begins: they keep scales between operations."""
        own = self._frozen(self.below) or Fp32(self.workload)
        return Stages(self._learning(), own, self._inference())

    def _learning(self) -> Arithmetic:
        plan, optimiser = self.plan, Optimiser(self.plan.optimiser, RATE, MOMENTUM)
        if plan.learning_dtype != "int8":
            return Fp32(self.workload, plan.bn_mode, optimiser)
        return learning(self.workload, plan, self.above.constants, optimiser, seeded(self.seed, 1))

    def _frozen(self, below: Prepared) -> Arithmetic | None:
        return frozen(self.workload, self.plan, below.constants) if self.plan.frozen_bits == 8 else None

    def _inference(self) -> Arithmetic:
        plan = self.plan
        if plan.frozen_bits == 8:
            return inference(self.workload, plan, self.whole.constants)
        return Fp32(self.workload, plan.bn_mode if plan.learning_dtype != "int8" else "folded")


def drawn_numbers(workload: Workload, plan: TrainingPlan, seed: int) -> Numbers:
    """Draw parameters for ``plan``, in its canonical form, and quantise what it holds as integers."""
    folded = drawn_parameters(workload, seed, folded=True)
    channels = drawn_channels(workload, plan, seed)
    draw = np.random.default_rng([seed, 6])
    known = draw.integers(0, 256, (KNOWN, *workload.input_shape)).astype(np.uint8)
    images = FRAMES.decoded(known.reshape(-1), known.shape)
    below, latents, source = _below(workload, plan, folded, images)
    above = _above(workload, plan, folded, latents, source, channels, seed)
    whole = _whole(workload, plan, folded, images, below, above)
    levels = _levels(plan, latents)
    return Numbers(workload, plan, seed, below, above, whole, channels, latents, levels)


def _below(
    workload: Workload, plan: TrainingPlan, folded: Mapping[str, FloatArray], images: FloatArray
) -> tuple[Prepared, FloatArray, Grid | None]:
    """Return the frozen stage, the latents of ``images``, and their grid where there is one."""
    edge = workload.cut_layer(plan.cut)
    if edge < 0:
        return _NOTHING, images, None
    if plan.frozen_bits != 8:
        ready = Prepared(Constants({}, {}), dict(folded))
        return ready, run_on(Fp32(workload), folded, images, edge), None
    ready = prepared_forward(workload, range(edge + 1), folded, images)
    own = frozen(workload, plan, ready.constants)
    return ready, run_on(own, ready.numbers, images, edge), ready.constants.grids[edge]


def _above(
    workload: Workload, plan: TrainingPlan, folded: Mapping[str, FloatArray], latents: FloatArray,
    source: Grid | None, channels: Mapping[int, IntArray], seed: int,
) -> Prepared:  # fmt: skip
    if plan.learning_dtype != "int8":
        own = drawn_parameters(workload, seed, folded=plan.bn_mode == "folded")
        return Prepared(Constants({}, {}), dict(own))
    by_layer = {workload.units[index].layer: chosen for index, chosen in channels.items()}
    return prepared_learning(workload, plan, folded, latents, source, by_layer)


def _whole(
    workload: Workload, plan: TrainingPlan, folded: Mapping[str, FloatArray], images: FloatArray,
    below: Prepared, above: Prepared,
) -> Prepared:  # fmt: skip
    """Return what an inference reads of its own: copies in another width than the learning stage's."""
    narrow = plan.learning_dtype == "int8"
    if plan.frozen_bits == 8:
        return (
            for_inference(workload, plan, below, above)
            if narrow
            else prepared_forward(workload, range(len(workload.layers)), folded, images)
        )
    return Prepared(Constants({}, {}), dict(real_numbers(workload, above))) if narrow else _NOTHING


def run_on(arithmetic: Arithmetic, numbers: Mapping[str, Array], images: FloatArray, last: int) -> FloatArray:
    """Run the layers up to ``last`` on real values (n, ...); return the real values of what it writes."""
    workload: Workload = arithmetic.workload  # type: ignore[attr-defined]
    values = {-1: arithmetic.entered(images)}
    for layer in range(last + 1):
        keys = {part: f"{workload.layers[layer].name}.{part}" for part in ("weight", "bias")}
        own = {part: numbers[key] for part, key in keys.items() if key in numbers}
        inputs = [values[producer] for producer in workload.inputs[layer]]
        values[layer] = arithmetic.forward(layer, inputs, own, keep=False).output
    return arithmetic.real(last, values[last])


def _levels(plan: TrainingPlan, latents: FloatArray) -> Levels:
    """Return the grid of stored latents that reaches to the largest of ``latents``."""
    bits = plan.replay_bits if plan.cut >= 0 else EXACT_BITS
    signed = bool(latents.min() < 0)
    most = 2 ** (bits - signed) - 1 if bits < EXACT_BITS else 1
    largest = float(np.abs(latents).max()) or 1.0  # a network may put out nothing but zeros
    return Levels(bits, largest / max(most, 1), signed, plan.rounding)
