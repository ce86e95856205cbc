"""What the learning stage is fed with: nothing but new samples, raw replays, or quantised latent replays.

Source: arXiv 2110.10486, Sec. III; new samples for later epochs are cached, kept raw, or computed again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dse.plan.decisions import NEW_SAMPLES, REPLAYS, BoolArray, PlanBatch
from dse.plan.spec import StepSpec
from dse.vocabulary import REPLAY_BITS
from dse.workload import Workload

CHOICES = (
    "cut", "replay", "n_replays", "replay_bits", "rounding", "replay_level", "replays_per_batch",
    "new_samples", "first_input", "frozen_bits",
)  # fmt: skip


def cut_reason(workload: Workload) -> str:
    """Say why a plan cannot have a cut that is none of ``workload.cuts``."""
    reason = "the network cannot be cut there: more than one tensor crosses"
    if not workload.forward_only:
        return reason
    return f"{reason}, or {workload.last_forward_only} behind the cut runs forward only"


def illegal(workload: Workload, plans: PlanBatch) -> dict[str, BoolArray]:
    """Refuse buffers and mini-batches that cannot exist."""
    none = plans.replay == REPLAYS.index("none")
    raw = plans.replay == REPLAYS.index("raw")
    at_input = plans.cut == -1
    return {
        cut_reason(workload): ~np.isin(plans.cut, workload.cuts),
        "replays per mini-batch without a replay buffer": none & (plans.replays_per_batch > 0),
        "a replay buffer of no samples (use replay = none)": ~none & (plans.n_replays < 1),
        "more replays per mini-batch than the buffer holds": ~none
        & (plans.replays_per_batch > plans.n_replays),
        "a mini-batch without new samples": plans.new_per_batch < 1,
        "negative replays per mini-batch": plans.replays_per_batch < 0,
        "fewer images per event than one mini-batch needs": plans.images_per_event < plans.new_per_batch,
        "less than one epoch": plans.epochs < 1,
        "negative persistence interval": plans.persist_every < 0,
        "replay bits other than 1-8, 16, 32": ~np.isin(plans.replay_bits, REPLAY_BITS),
        "frozen bits other than 8 or 32": ~np.isin(plans.frozen_bits, (8, 32)),
        "raw replays are stored as captured, at 8 bits": raw & (plans.replay_bits != 8),
        "a latent at the network input is a raw sample (use replay = raw)": at_input
        & (plans.replay == REPLAYS.index("latent")),
    }


def edit(spec: StepSpec, workload: Workload, plans: PlanBatch) -> StepSpec:
    """Hold the inputs of the learning stage at replay bits and say when the frozen stage runs."""
    raw = plans.replay == REPLAYS.index("raw")
    cached = plans.new_samples == NEW_SAMPLES.index("cache_latent")
    frozen = plans.cut >= 0
    # Latents are held at the replay bits; a frame at the network input is held as captured.
    bits = np.where(frozen, plans.replay_bits, 8)
    # Raw samples pass the frozen stage inside the mini-batch and never exist at replay bits.
    bits = np.where(frozen & raw & ~cached, 8 * spec.act_bytes, bits)
    return replace(
        spec,
        latent_bits=bits,
        keeps_stored_input=(plans.first_input == 0) & (bits < 8 * spec.act_bytes),
        frozen_new=frozen & ~cached,
        frozen_replays=frozen & raw & (plans.replays_per_batch > 0),
    )
