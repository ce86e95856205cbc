"""The part of a plan that accuracy can depend on: what a training run executes, and nothing about the board.

One run answers for every clock, placement, order of updates and micro-batch that shares it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, Final

from dse.plan.decisions import AS_COMPUTED, INT8_NEUTRAL, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.plan.spec import kept_channels
from dse.vocabulary import DTYPE_BYTES
from dse.workload import Workload

LEARNING_CHOICES: Final = (
    "head", "replay", "cut", "policy", "frozen_bits", "replay_bits", "rounding", "learning_dtype", "bn_mode",
    "optimiser", "new_per_batch", "replays_per_batch", "new_samples", "first_input", "n_replays",
    "images_per_event", "epochs", "micro_batch", *INT8_NEUTRAL, "saved_bits",
)  # fmt: skip
"""Decisions that what is learned can depend on; from the micro-batch on, in some plans alone (``counts``)."""

UNLEARNED: Final[dict[str, Any]] = {
    "in_place": "elementwise", "checkpoints": "none", "im2col": "library", "patches": "none",
}  # fmt: skip
"""Decisions about lifespans that leave every number as it is, and the value that stands for them all."""

EXACT_BITS: Final = 32
FRAME_BITS: Final = 8


def quantises_new(plan: TrainingPlan) -> bool:
    """Return whether the latents of new samples pass the replay quantiser.

    They do where they are cached as latents between epochs, and where the learning stage's input is kept as
    stored; raw replays that are not cached as latents never exist at replay bits, nor does a network input.
    """
    if plan.cut < 0 or plan.replay_bits >= EXACT_BITS:
        return False
    if plan.new_samples == "cache_latent":
        return True
    return plan.replay != "raw" and plan.first_input == "stored"


def keeps_stored_input(plan: TrainingPlan) -> bool:
    """Return whether the saved input of the first learning unit stays at the width in which it is stored.

    That is the replay bits, or those of a captured frame; raw samples that pass the frozen stage inside the
    mini-batch never exist at replay bits.
    """
    if plan.first_input != "stored":
        return False
    if plan.cut < 0:
        return 8 * DTYPE_BYTES[plan.learning_dtype] > FRAME_BITS
    computed = plan.replay == "raw" and plan.new_samples != "cache_latent"
    return not computed and plan.replay_bits < 8 * DTYPE_BYTES[plan.learning_dtype]


def counts(plan: TrainingPlan, name: str) -> bool:
    """Return whether what ``plan`` learns can depend on its decision ``name``, one of ``LEARNING_CHOICES``.

    The width of saved activations counts where it is less than that in which they are computed; then, and in
    int8 learning, the micro-batch counts, because numbers in it share their scales.
    """
    narrow = plan.saved_bits < AS_COMPUTED
    if name == "saved_bits":
        return narrow
    if name == "micro_batch":
        return narrow or plan.learning_dtype == "int8"
    return name not in INT8_NEUTRAL or plan.learning_dtype == "int8"


def learning_plan(workload: Workload, plan: TrainingPlan) -> TrainingPlan:
    """Return the plan that every plan with the same training run shares.

    What a board decides, or what changes the order of the arithmetic alone, becomes neutral: micro-batches
    are the mini-batch, updates accumulate, weights are persisted each event, replays lie wherever they fit,
    nothing is run again, patch by patch, in place or by im2col. Where errors, accumulators or saved
    activations are narrow the micro-batch stays: their scales depend on it. With narrow saved activations it
    counts, too, whether the first input stays as stored instead.
    """
    plan = plan.canonical(workload)
    batch = plan.new_per_batch + plan.replays_per_batch
    narrow = plan.saved_bits < AS_COMPUTED
    by_micro_batch = narrow or "int8" in (plan.backward_dtype, plan.accumulator_dtype)
    new_samples = "cache_latent" if quantises_new(plan) else "recompute"
    bits, rounding = plan.replay_bits, plan.rounding
    if plan.replay == "none" and new_samples == "recompute":
        bits, rounding = EXACT_BITS, "nearest"  # nothing is held at replay bits
    return replace(
        plan,
        replay_level="auto",
        micro_batch=min(plan.micro_batch, batch) if by_micro_batch else batch,
        update="accumulate",
        persist_every=1,
        first_input="stored" if narrow and keeps_stored_input(plan) else "dequantised",
        new_samples=new_samples,
        replay_bits=bits,
        rounding=rounding if bits < EXACT_BITS else "nearest",
        frozen_bits=plan.frozen_bits if plan.cut >= 0 else EXACT_BITS,
        **UNLEARNED,
    )


def learning_content(workload: Workload, plan: TrainingPlan) -> dict[str, object]:
    """Return the decisions of ``learning_plan`` as plain values, a policy by the units that it lets learn.

    Which channels are selected counts where some of a unit's are kept, but not all.
    """
    plan = learning_plan(workload, plan)
    policy = UpdatePolicy.parse(plan.policy)
    ratio, bias = policy.resolve(workload, plan.cut)
    content: dict[str, object] = {
        name: getattr(plan, name) for name in LEARNING_CHOICES if counts(plan, name)
    }
    content["policy"] = [ratio.tolist(), bias.tolist()]
    kept = kept_channels(workload, ratio)
    if ((kept > 0) & (kept < [unit.in_channels for unit in workload.units])).any():
        content["selection"] = policy.selection
    return content


def learning_key(workload: Workload, plan: TrainingPlan) -> str:
    """Return 16 hexadecimal digits that plans share exactly when they share ``learning_content``."""
    content = {"network": workload.training_hash, **learning_content(workload, plan)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
