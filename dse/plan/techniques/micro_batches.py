"""Micro-batches: forward and backward over m samples at a time; gradients accumulate in between."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dse.plan.decisions import BN_MODES, BoolArray, PlanBatch
from dse.plan.spec import StepSpec
from dse.workload import Workload

CHOICES = ("micro_batch", "bn_mode", "new_per_batch", "replays_per_batch")


def illegal(workload: Workload, plans: PlanBatch) -> dict[str, BoolArray]:
    """Refuse micro-batches larger than the mini-batch, and batch statistics over a part of it."""
    batch = plans.new_per_batch + plans.replays_per_batch
    statistics = plans.bn_mode == BN_MODES.index("batch_stats")
    return {
        "a micro-batch of no samples": plans.micro_batch < 1,
        "a micro-batch larger than the mini-batch": plans.micro_batch > batch,
        "batch statistics need the whole mini-batch at once (micro_batch = mini-batch)": statistics
        & (plans.micro_batch < batch),
        "batch statistics of a single sample": statistics & (batch == 1),
    }


def edit(spec: StepSpec, workload: Workload, plans: PlanBatch) -> StepSpec:
    """Run m samples at a time; a smaller m needs an accumulator for every learning weight."""
    return replace(spec, micro=plans.micro_batch, accumulators=np.asarray(plans.micro_batch < spec.samples))
