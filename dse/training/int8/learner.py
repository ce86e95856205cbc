"""The learning stage in 8-bit integers, with the interface of ``dse.training.learner.Learner``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dse.errors import Problem
from dse.plan.decisions import TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.spec import kept_channels
from dse.training.executable import require_learnable
from dse.training.int8.accumulator import NarrowAccumulator
from dse.training.int8.kernels import Numbers, WeightedKernel, laid
from dse.training.int8.network import IntegerNetwork
from dse.training.int8.state import IntegerState
from dse.training.integer_stage import calibrated, groups, place_of, require_samples
from dse.training.keeping import Keepers
from dse.training.learning_stage import Diverged, FloatArray, IntArray, LearningStage
from dse.training.network import Network, build_module, device, infer
from dse.training.optimiser import Optimiser
from dse.training.parameters import Parameters, fold
from dse.training.policy import LearningParameters, chosen_channels
from dse.training.quantise import Grid
from dse.training.stored import gradients_of
from dse.workload import Workload

STREAM = 37
"""Tells the draws of stochastic rounding from others of the same seed."""


class Int8Learner(LearningStage):
    """Trains what a plan lets learn in int8, mini-batch by mini-batch; there is no fp32 copy of the weights.

    Parameters
    ----------
    workload, parameters: the network and where learning starts; folded here, then quantised.
    plan: its cut, policy, optimiser, micro-batch, saved bits and the decisions of int8 learning are executed.
    calibration: latents (n, *cut shape) of known samples, whose ranges the grids of activations span. Grids
        and the scales of weights stay as they are from then on.
    source: the grid of the latents, where the frozen stage has one; None takes their range.
    rate, momentum, weight_decay, schedule: see ``Optimiser``, which acts on the integers: weight decay is
        a share of the integer.
    seed: draws the input channels of a random selection, and stochastic rounding.
    as_written: run the plan's micro-batches one after the other; int8 accumulators always do.

    Errors between layers in int8 have one scale per tensor and micro-batch, whether or not micro-batches are
    run one by one. Raises UserError where the plan is none for int8, or holds a decision that is not executed
    or that no device can execute (the classifier alone may be frozen), and for calibration samples that do
    not fit or are not finite.

    """

    def __init__(
        self,
        workload: Workload,
        parameters: Mapping[str, FloatArray],
        plan: TrainingPlan,
        calibration: FloatArray,
        *,
        rate: float,
        source: Grid | None = None,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        schedule: str = "linear",
        seed: int = 0,
        as_written: bool = False,
    ) -> None:
        plan = plan.canonical(workload)
        require_learnable(workload, plan, integers=True)
        require_samples(calibration, workload.cut_shape(plan.cut))
        self._start: Parameters = fold(workload, parameters)
        cut_layer = workload.cut_layer(plan.cut)
        layers = build_module(workload, self._start, first_layer=cut_layer + 1)
        learning = LearningParameters(workload, plan, layers, seed)
        self.grids = calibrated(layers, calibration, source)
        self._numbers = _numbers(layers, self.grids, self._start, plan)
        channels = _channels(layers, plan, seed)  # by real weights: before integers take their place
        self.state = IntegerState(learning, self._numbers)
        keepers = Keepers.of(plan)
        self.kernels = _kernels(layers, self.grids, self._numbers, self.state, channels, keepers)
        narrow = plan.micro_batch if plan.backward_dtype == "int8" else 0
        self.module = IntegerNetwork(layers, self.grids, self.kernels, narrow, keepers)
        self._gradient = torch.zeros_like(learning.gradient)
        self._scaling = self.state.scaling(plan.gradient_scaling)
        optimiser = Optimiser(
            plan.optimiser, self.state.values, self._gradient, learning.mask, rate, momentum, weight_decay,
            schedule, tuple(piece.tensor.numel() for piece in learning.pieces),
        )  # fmt: skip
        held = plan.accumulator_dtype == "int8"
        micro = plan.micro_batch if as_written or held else 0
        super().__init__(workload, plan, self.module, learning, optimiser, micro=micro)
        self._held = NarrowAccumulator(self.state.channels()[: self.state.integers]) if held else None
        self._draw: torch.Generator | None = None
        if plan.weight_rounding == "stochastic":
            number = int(np.random.SeedSequence([seed, STREAM]).generate_state(1)[0])
            self._draw = torch.Generator(device()).manual_seed(number)

    # --- learning ---

    def step(self, latents: FloatArray | Tensor, labels: IntArray, seen_classes: Sequence[int]) -> float:
        """Learn one mini-batch and write the integers back; see ``LearningStage.step``."""
        loss = self.accumulate(latents, labels, seen_classes)
        torch.mul(self.learning.gradient, self._scaling, out=self._gradient)
        if not bool(torch.isfinite(self._gradient).all()):  # integers would hide it: they are clamped
            found = f"gradients are not finite at rate {self.optimiser.rate:g}"
            raise Diverged(Problem("training", "rate", found, "a lower rate"))
        self.optimiser.step()
        self.state.write_back(self._draw)
        for kernel in self.kernels.values():
            kernel.changed()
        return loss

    def accumulate(
        self, latents: FloatArray | Tensor, labels: IntArray, seen_classes: Sequence[int]
    ) -> float:
        """Work out the gradients by real values of one mini-batch, without an update; see ``step``."""
        if self._held is None:
            return super().accumulate(latents, labels, seen_classes)
        self._held.clear()
        loss = super().accumulate(latents, labels, seen_classes)
        self._narrow_part().copy_(self._held.values())
        return loss

    def _gather(self) -> None:
        """Move the gradients of one micro-batch to where they are held; an fp32 classifier's stay."""
        if self._held is not None:
            self._held.add(self._narrow_part())
            self._narrow_part().zero_()

    def _narrow_part(self) -> Tensor:
        return self.learning.gradient[: self.state.integers]

    # --- reading ---

    def logits(self, latents: FloatArray | Tensor) -> FloatArray:
        """Return the network's outputs, before softmax, for ``latents`` (n, *cut shape) -> (n, classes)."""
        self.module.eval()
        return infer(self.module, latents)

    def integers(self) -> dict[str, NDArray[np.int8 | np.int32]]:
        """Return weights (int8) and biases (int32) of the learning stage, under the parameters' names.

        An fp32 classifier has none.
        """
        found: dict[str, NDArray[np.int8 | np.int32]] = {}
        for unit in self.workload.units:
            own = self._numbers.get(unit.index)
            if own is None or not own.whole:
                continue
            for part, dtype in (("weight", np.int8), ("bias", np.int32)):
                key = f"{unit.name}.{part}"
                if key in self._start:
                    found[key] = self._whole(key, getattr(own, part)).astype(dtype)
        return found

    def parameters(self) -> Parameters:
        """Return the whole network as it is now, folded: real values of the integers, the rest as given."""
        found = dict(self._start)
        for unit in self.workload.units:
            own = self._numbers.get(unit.index)
            for part, scale in () if own is None else (("weight", own.scale), ("bias", own.bias_scale)):
                key = f"{unit.name}.{part}"
                if key in found:
                    q = self._whole(key, getattr(own, part))
                    found[key] = (q * scale.reshape(-1, *(1,) * (q.ndim - 1))).astype(np.float32)
        return found

    def _whole(self, key: str, start: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return the numbers of one tensor as they are now, in its own shape; ``start`` if none learns."""
        for piece in self.learning.pieces:
            if piece.key == key:
                q = self.state.of(self.state.values, piece).cpu().numpy()
                return np.asarray(q.reshape(self._start[key].shape), dtype=np.float64)
        return start.astype(np.float64)


def _numbers(
    module: Network, grids: Mapping[int, Grid], parameters: Parameters, plan: TrainingPlan
) -> dict[int, Numbers]:
    """Quantise every unit of the learning stage: unit -> its integers."""
    workload = module.workload
    found, own = {}, groups(workload, module.span)
    for unit in workload.units:
        if unit.layer in module.span:
            place = place_of(workload, grids, parameters, own[unit.layer])
            last = unit.index == len(workload.units) - 1
            fp32 = last and plan.classifier_dtype == "fp32"
            found[unit.index] = Numbers.of(place, logits=last, fp32=fp32)
    return found


def _channels(module: Network, plan: TrainingPlan, seed: int) -> dict[int, Tensor | None]:
    """Return the input channels whose weights learn, by unit of the learning stage; None: all, or none."""
    workload, policy = module.workload, UpdatePolicy.parse(plan.policy)
    kept = kept_channels(workload, policy.resolve(workload, plan.cut)[0])
    return {
        unit.index: chosen_channels(
            workload, unit, module.parameter(f"{unit.name}.weight"), int(kept[unit.index]), policy.selection,
            seed,
        )
        for unit in workload.units
        if unit.layer in module.span and kept[unit.index]
    }  # fmt: skip


def _kernels(
    module: Network,
    grids: Mapping[int, Grid],
    numbers: Mapping[int, Numbers],
    state: IntegerState,
    channels: Mapping[int, Tensor | None],
    keepers: Keepers,
) -> dict[int, WeightedKernel]:
    """Make the kernel of every unit; those of what learns read the vectors of ``state``."""
    workload, found = module.workload, {}
    pieces = {piece.key: piece for piece in state.learning.pieces}
    for index, own in numbers.items():
        unit = workload.units[index]
        members = groups(workload, module.span)[unit.layer]
        place = place_of(workload, grids, {}, members)
        weight, bias = (pieces.get(f"{unit.name}.{part}") for part in ("weight", "bias"))
        parameter = module.parameter(f"{unit.name}.weight")
        if weight is None:
            with torch.no_grad():
                parameter.copy_(laid(own.weight))
        found[unit.layer] = WeightedKernel(
            place=place,
            weight=parameter,
            bias=None if own.bias is None else module.parameter(f"{unit.name}.bias"),
            real=own.real() if weight is None else state.of(state.real, weight),
            offset=own.offset() if bias is None else state.of(state.offset, bias),
            factor=torch.from_numpy(own.factor).to(device()),
            gradients=gradients_of(place.layer, place.shape, parameter),
            channels=channels.get(index),
            limits=None if index == len(workload.units) - 1 else place.limits,
            exact=own.whole,
            keeper=keepers.of_layer(workload, module.span.start, unit.layer),
        )
    return found
