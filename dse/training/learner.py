"""The learning stage: the layers above the cut, of which a plan's policy lets some parameters learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dse.errors import Problem, UserError
from dse.plan.decisions import AS_COMPUTED, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.training.executable import require_learnable
from dse.training.keeping import Keepers
from dse.training.learning_stage import Diverged, LearningStage
from dse.training.network import build_module, infer
from dse.training.optimiser import Optimiser
from dse.training.parameters import Parameters, fold
from dse.training.policy import LearningParameters
from dse.workload import Workload
from dse.workload.convolutions import BatchNorm

__all__ = ["Diverged", "Learner"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Learner(LearningStage):
    """Trains in floating point what a plan lets learn, mini-batch by mini-batch.

    Parameters
    ----------
    workload, parameters: the network and where learning starts; not folded unless ``plan`` folds.
    plan: its cut, policy, batch-norm mode, optimiser, micro-batch and saved bits are executed.
    rate, momentum, weight_decay, schedule: see ``Optimiser``; momentum counts for ``optimiser = "momentum"``.
    seed: draws the input channels of a random selection.
    as_written: run the plan's micro-batches one after the other. Otherwise a mini-batch runs at once, which
        is the same sum. Batch statistics alone would depend on the split; they take a whole mini-batch.
    dtype: of everything; plans learn in fp32, fp64 serves comparisons.
    stored: save for the backward pass exactly what the plan counts, instead of what PyTorch saves; None
        does so unless everything learns, where it takes longer, in the width in which it is computed. Inputs
        count as dequantised, in ``dtype``.

    Raises UserError where the plan holds a decision that is not executed, or that no device can execute (the
    classifier alone may be left frozen, which a run on new classes may not), or narrow saved activations that
    PyTorch is to save.

    """

    def __init__(
        self,
        workload: Workload,
        parameters: Mapping[str, FloatArray],
        plan: TrainingPlan,
        *,
        rate: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        schedule: str = "linear",
        seed: int = 0,
        as_written: bool = False,
        dtype: torch.dtype = torch.float32,
        stored: bool | None = None,
    ) -> None:
        plan = plan.canonical(workload)
        require_learnable(workload, plan, integers=False)
        folded = plan.bn_mode == "folded"
        self._start: Parameters = fold(workload, parameters) if folded else dict(parameters)
        if not folded:
            _require_norms(workload, plan, self._start)
        self.module = build_module(
            workload,
            self._start,
            first_layer=workload.cut_layer(plan.cut) + 1,
            bn_mode="batch_stats" if plan.bn_mode == "batch_stats" else "frozen_stats",
            dtype=dtype,
            stored=_stored(plan, stored),
            keepers=Keepers.of(plan),
        )
        learning = LearningParameters(workload, plan, self.module, seed)
        sizes = tuple(piece.tensor.numel() for piece in learning.pieces)
        optimiser = Optimiser(
            plan.optimiser, learning.values, learning.gradient, learning.mask, rate, momentum, weight_decay,
            schedule, sizes,
        )  # fmt: skip
        by_batch = plan.bn_mode == "batch_stats"
        micro = plan.micro_batch if as_written and not by_batch else 0
        super().__init__(
            workload, plan, self.module, learning, optimiser, micro=micro, smallest=2 if by_batch else 1
        )

    def accumulate(
        self, latents: FloatArray | Tensor, labels: IntArray, seen_classes: Sequence[int]
    ) -> float:
        """Work out the gradients of one mini-batch, without an update; see ``step``."""
        self.module.train()
        return super().accumulate(latents, labels, seen_classes)

    # --- reading ---

    def logits(self, latents: FloatArray | Tensor) -> FloatArray:
        """Return the network's outputs, before softmax, for ``latents`` (n, *cut shape) -> (n, classes)."""
        self.module.eval()
        return infer(self.module, latents)

    def parameters(self) -> Parameters:
        """Return the whole network as it is now: what learned, and the rest as it was given (or folded)."""
        return {**self._start, **self.module.parameters_out()}


def _stored(plan: TrainingPlan, asked: bool | None) -> bool:
    """Whether own functions save: where PyTorch would save more than is needed, or in another width."""
    narrow = plan.saved_bits < AS_COMPUTED
    if narrow and asked is False:
        found = f"saved_bits {plan.saved_bits}, to be saved by PyTorch"
        raise UserError(Problem("training", "stored", found, "True or None: PyTorch saves what was computed"))
    less = UpdatePolicy.parse(plan.policy).name != UpdatePolicy().name
    return less or narrow if asked is None else asked


def _require_norms(workload: Workload, plan: TrainingPlan, parameters: Parameters) -> None:
    """Refuse folded parameters where batch norms of the learning stage are to be used."""
    above = range(workload.cut_layer(plan.cut) + 1, len(workload.layers))
    names = [workload.layers[index].name for index in above if isinstance(workload.layers[index], BatchNorm)]
    missing = [f"{name}.gamma" for name in names if f"{name}.gamma" not in parameters]
    if missing:
        allowed = f"{plan.bn_mode} needs batch norms that are not folded"
        raise UserError([Problem("parameters", key, "missing", allowed) for key in missing])
