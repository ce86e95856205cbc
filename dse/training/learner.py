"""The learning stage: the layers above the cut, of which a plan's policy lets some parameters learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from dse.errors import Problem, UserError
from dse.plan.decisions import TrainingPlan
from dse.training.executable import unexecuted
from dse.training.network import build_module, device, infer, tensor_of
from dse.training.optimiser import Optimiser
from dse.training.parameters import Parameters, fold
from dse.training.policy import LearningParameters
from dse.workload import Workload
from dse.workload.convolutions import BatchNorm

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Diverged(UserError):
    """The loss is no longer a number: the rate is too high for this plan."""


class Learner:
    """Trains what a plan lets learn, mini-batch by mini-batch.

    Parameters
    ----------
    workload, parameters: the network and where learning starts; not folded unless ``plan`` folds.
    plan: its cut, policy, batch-norm mode, optimiser and micro-batch are executed.
    rate, momentum, weight_decay, schedule: see ``Optimiser``; momentum counts for ``optimiser = "momentum"``.
    seed: taken for what is drawn at random; nothing is so far.
    as_written: run the plan's micro-batches one after the other. Otherwise a mini-batch runs at once, which
        is the same sum. Batch statistics alone would depend on the split; they take a whole mini-batch.
    dtype: of everything; plans learn in fp32, fp64 serves comparisons.

    Raises UserError where the plan holds a decision that is not executed, or the cut is not legal.

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
    ) -> None:
        plan = plan.canonical(workload)
        problems = unexecuted(plan)
        if problems:
            raise UserError(problems)
        workload.require_cut(plan.cut)
        self.workload, self.plan, self.seed = workload, plan, seed
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
        )
        self.learning = LearningParameters(workload, plan, self.module)
        flat = self.learning
        self.optimiser = Optimiser(
            plan.optimiser, flat.values, flat.gradient, flat.mask, rate, momentum, weight_decay, schedule
        )
        self._smallest = 2 if plan.bn_mode == "batch_stats" else 1
        self._micro = plan.micro_batch if as_written and plan.bn_mode != "batch_stats" else 0
        self._penalties: dict[tuple[int, ...], Tensor | None] = {}

    # --- learning ---

    def start_event(self, total_steps: int) -> None:
        """Begin a learning event of ``total_steps`` mini-batches with fresh optimiser state."""
        self.optimiser.start(total_steps)

    def step(self, latents: FloatArray | Tensor, labels: IntArray, seen_classes: Sequence[int]) -> float:
        """Learn one mini-batch and return its loss: mean softmax cross-entropy over the classes seen.

        ``latents`` (B, *cut shape), ``labels`` (B,) among ``seen_classes``. Raises UserError for a label of
        another class or an impossible batch, Diverged for a loss that is not finite.
        """
        loss = self.accumulate(latents, labels, seen_classes)
        self.optimiser.step()
        return loss

    def accumulate(
        self, latents: FloatArray | Tensor, labels: IntArray, seen_classes: Sequence[int]
    ) -> float:
        """Work out the gradients of one mini-batch, without an update; see ``step``."""
        seen = tuple(seen_classes)
        self._check(len(latents), labels, seen)
        x, y, penalty = tensor_of(latents), tensor_of(labels).to(device(), torch.int64), self._penalty(seen)
        self.learning.gradient.zero_()
        self.module.train()
        total, size = 0.0, self._micro or len(x)
        for first in range(0, len(x), size):
            logits = self.module(x[first : first + size])
            logits = logits if penalty is None else logits + penalty
            loss = F.cross_entropy(logits, y[first : first + size], reduction="sum") / len(x)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if not math.isfinite(total):
            found = f"the loss is {total} at rate {self.optimiser.rate:g}"
            raise Diverged(Problem("training", "rate", found, "a lower rate"))
        return total

    def _check(self, size: int, labels: IntArray, seen: tuple[int, ...]) -> None:
        """Refuse a batch that is too small, and labels that the loss leaves out."""
        if size != len(labels) or size < self._smallest:
            found = f"{size} samples with {len(labels)} labels"
            allowed = f"one label each, and {self._smallest} or more for {self.plan.bn_mode}"
            raise UserError(Problem("training", "mini-batch", found, allowed))
        missing = set(labels.tolist()) - set(seen)
        if missing:
            found = f"labels {', '.join(map(str, sorted(missing)))}"
            raise UserError(
                Problem("training", "labels", found, f"classes seen: {', '.join(map(str, seen))}")
            )

    def _penalty(self, seen: tuple[int, ...]) -> Tensor | None:
        """Minus infinity for the classes that the loss leaves out, (classes,); None where there are none."""
        if seen not in self._penalties:
            penalty = torch.full((self.workload.classes,), -torch.inf, device=device())
            penalty[list(seen)] = 0.0
            self._penalties[seen] = penalty if bool(torch.any(penalty < 0)) else None
        return self._penalties[seen]

    # --- reading ---

    def logits(self, latents: FloatArray | Tensor) -> FloatArray:
        """Return the network's outputs, before softmax, for ``latents`` (n, *cut shape) -> (n, classes)."""
        self.module.eval()
        return infer(self.module, latents)

    def gradients(self) -> Parameters:
        """Return the gradients of the last mini-batch, of what learns, in the shapes of the parameters."""
        return self.learning.gradients()

    def parameters(self) -> Parameters:
        """Return the whole network as it is now: what learned, and the rest as it was given (or folded)."""
        return {**self._start, **self.module.parameters_out()}


def _require_norms(workload: Workload, plan: TrainingPlan, parameters: Parameters) -> None:
    """Refuse folded parameters where batch norms of the learning stage are to be used."""
    above = range(workload.cut_layer(plan.cut) + 1, len(workload.layers))
    names = [workload.layers[index].name for index in above if isinstance(workload.layers[index], BatchNorm)]
    missing = [f"{name}.gamma" for name in names if f"{name}.gamma" not in parameters]
    if missing:
        allowed = f"{plan.bn_mode} needs batch norms that are not folded"
        raise UserError([Problem("parameters", key, "missing", allowed) for key in missing])
