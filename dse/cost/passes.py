"""Seconds of single passes: what a stopwatch around an inference, a layer or a kernel would show.

The same tables as those of a training step, for one sample: an inference is the frozen stage over the whole
network; a backward pass or an update is that of a step in which everything learns, from the input, with
plain SGD. Nothing is priced here that a plan does not pay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from dse.cost.context import Context
from dse.cost.latency import frozen_time, step_time
from dse.cost.memory import Placement
from dse.cost.model import describe
from dse.hardware import HardwareProfile
from dse.plan.decisions import FloatArray, PlanBatch, TrainingPlan
from dse.plan.step import TrainingStep
from dse.vocabulary import INT8_ERROR_PASSES, PASSES

_BITS: Final = {"int8": 8, "fp32": 32}
_ERRORS: Final = {name: pass_ for pass_, name in INT8_ERROR_PASSES.items()}


@dataclass(frozen=True)
class PassWork:
    """One pass of one sample through a network; ``macs`` (U,) are those of each unit in it."""

    context: Context
    step: TrainingStep
    placement: Placement
    column: int
    inference: bool
    macs: FloatArray

    def unit_seconds(self, board: HardwareProfile) -> FloatArray:
        """Seconds of each unit (U,) with the numbers of ``board`` at its first operating point.

        ``board`` has the levels of the board that the pass was described for. Raises Unpriced.
        """
        context = replace(self.context, board=board)
        if self.inference:
            return np.asarray(frozen_time(context, self.step, self.placement).unit_seconds[0, 0])
        time = step_time(context, self.step, self.placement)
        return np.asarray(time.seconds[0, 0, :-1, self.column])


def pass_work(context: Context, pass_: str, dtype: str) -> PassWork:
    """Describe one pass of one sample.

    Parameters
    ----------
    context: network and board; ``kernels`` chooses the library.
    pass_: ``fwd`` (batch norm folded), ``bwd_input``, ``bwd_weight``, the same on int8 errors, or ``update``.
    dtype: what the pass computes in.

    Raises IllegalPlan where no training step has such a pass.

    """
    units = context.workload.units
    if pass_ == "fwd" and dtype in _BITS:
        plan = _plan(cut=len(units) - 1, frozen_bits=_BITS[dtype])
        step, placement = _described(context, plan)
        everywhere = replace(
            step, frozen_units=np.ones_like(step.frozen_units), frozen_layers=np.ones_like(step.frozen_layers)
        )
        macs = np.array([unit.macs * step.frozen_repeat[unit.layer] for unit in units], dtype=float)
        return PassWork(context, everywhere, placement, 0, True, macs)
    errors = {"backward_dtype": "int8"} if pass_ in _ERRORS else {}
    step, placement = _described(context, _plan(cut=-1, learning_dtype=dtype, **errors))
    column = PASSES.index(_ERRORS.get(pass_, pass_))
    macs = step.macs[0, :, column] if column < step.macs.shape[2] else np.zeros(len(units))
    return PassWork(context, step, placement, column, False, np.asarray(macs, dtype=float))


def _plan(**decisions: Any) -> TrainingPlan:
    return TrainingPlan(
        replay="none", new_per_batch=1, replays_per_batch=0, images_per_event=1, persist_every=0, **decisions
    )


def _described(context: Context, plan: TrainingPlan) -> tuple[TrainingStep, Placement]:
    return describe(context, PlanBatch.from_plans(context.workload, [plan]))
