"""Plans with everything that a step needs, drawn at random, and simple placements."""

from __future__ import annotations

import numpy as np

from dse.execution.fp32 import Fp32
from dse.execution.optimisers import Optimiser
from dse.execution.packing import Levels
from dse.execution.parameters import Given
from dse.execution.samples import Samples
from dse.execution.step import Inputs, Stages
from dse.execution.trial.parameters import drawn_channels, drawn_parameters, drawn_state
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import Holds
from dse.plan.step import training_step
from dse.plan.techniques import plan_problems
from dse.plan.written import step_schedule
from dse.workload import load_network

RATE, MOMENTUM = 0.05, 0.9

FEW = {
    "replay": "latent", "n_replays": 6, "new_per_batch": 2, "replays_per_batch": 2, "micro_batch": 2,
    "frozen_bits": 32,
}  # fmt: skip


def plan_of(network, **decisions):
    """A plan of few samples in fp32."""
    return TrainingPlan(**(FEW | decisions)).canonical(network)


def workspaces(network):
    """Every formula somewhere."""
    return {
        ("conv2d", "fwd", "fp32"): "im2col_two_columns",
        ("conv2d", "bwd_weight", "fp32"): "im2col_full",
        ("conv1d", "fwd", "fp32"): "im2col_two_columns",
        ("depthwise", "fwd", "fp32"): "im2col_two_columns",
        ("pointwise", "bwd_input", "fp32"): "weights_transposed",
        ("linear", "bwd_input", "fp32"): "weights_transposed",
    }


def sample_bytes(network, plan, cached=None):
    """Bytes of the sample stores: rows of whole bytes, a scale, a byte per label of what is stored."""
    cut = int(np.prod(network.shape_of(network.cut_layer(plan.cut))))
    frame = int(np.prod(network.input_shape))
    latent = -(-cut * plan.replay_bits // 8)
    new = {"cache_latent": frame if plan.cut < 0 else latent, "cache_raw": frame}.get(plan.new_samples, 0)
    old = frame if plan.replay == "raw" or plan.cut < 0 else latent
    count, width = plan.n_replays, 1 if network.classes <= 256 else 2
    cached = cached or plan.new_per_batch + 1
    return {
        Holds.NEW_SAMPLES: cached * new, Holds.NEW_LABELS: cached * width if new else 0,
        Holds.REPLAYS: count * old + 4 if count else 0, Holds.REPLAY_LABELS: count * width,
    }  # fmt: skip


def schedule_of(network, plan, *, with_workspaces=True, alignment=4, cached=None):
    problems = plan_problems(network, plan, "plan")
    assert not problems, problems
    table = workspaces(network) if with_workspaces else {}
    step = training_step(network, PlanBatch.from_plans(network, [plan]), table)
    return step_schedule(step, plan, alignment=alignment, samples=sample_bytes(network, plan, cached))


# --- data ---


GAIN = 2.0
"""Activations keep their variance through rectifiers, and so do errors: small ones would not show."""


def inputs_of(network, plan, seed=0, *, unseen=1):
    """Everything that a step is given."""
    draw = np.random.default_rng([seed, 3])
    frames = Levels(8, 1 / 64, signed=False, offset=-2.0)
    latents = Levels(plan.replay_bits if plan.cut >= 0 else 8, 4 / (2 ** min(plan.replay_bits, 8) - 1))
    cut_shape = network.shape_of(network.cut_layer(plan.cut))
    seen = tuple(range(max(2, network.classes - unseen)))

    def stored(count, raw):
        if raw or plan.cut < 0:
            return draw.integers(0, 256, (count, *network.input_shape)).astype(np.uint8)
        return np.abs(draw.standard_normal((count, *cut_shape))).astype(np.float32)

    count = plan.new_per_batch + 1
    samples = Samples(
        new=stored(
            count if plan.new_samples != "recompute" else plan.new_per_batch,
            plan.new_samples != "cache_latent",
        ),
        new_labels=draw.integers(0, len(seen), count),
        replays=stored(plan.n_replays, plan.replay == "raw"),
        replay_labels=draw.integers(0, len(seen), plan.n_replays),
        rows=np.arange(plan.new_per_batch)[::-1].copy(),
        replay_rows=draw.permutation(plan.n_replays)[: plan.replays_per_batch],
    )
    folded = drawn_parameters(network, seed, folded=True, gain=GAIN)
    own = drawn_parameters(network, seed, folded=plan.bn_mode == "folded", gain=GAIN)
    saved = drawn_parameters(network, seed + 1, folded=plan.bn_mode == "folded", gain=GAIN)
    return Inputs(
        Given(own, folded, state=drawn_state(plan.optimiser, own, seed), persistent=saved), samples, seen,
        drawn_channels(network, plan, seed), levels=latents, frames=frames,
    )  # fmt: skip


def stages_of(network, plan):
    optimiser = Optimiser(plan.optimiser, RATE, MOMENTUM)
    return Stages(Fp32(network, plan.bn_mode, optimiser), Fp32(network), Fp32(network, plan.bn_mode))


# --- placements ---


def one_after_another(schedule, level="ram"):
    """No two buffers share a byte; a gap behind each."""
    entries, offset = [], 8
    for buffer in schedule.buffers:
        entries.append(Placed(buffer, level, offset))
        offset += -(-(buffer.size_bytes + 8) // buffer.alignment) * buffer.alignment
    return MemoryMap(schedule, tuple(entries), {level: offset})


def first_fit(schedule, level="ram"):
    """Largest first, each at the lowest offset where it meets no buffer that lives at the same time."""
    entries = []
    for buffer in sorted(schedule.buffers, key=lambda one: -one.size_bytes):
        taken = sorted(
            (entry.offset, entry.offset + entry.buffer.size_bytes) for entry in entries
            if entry.buffer.start <= buffer.end and buffer.start <= entry.buffer.end
        )  # fmt: skip
        offset = 0
        for first, last in taken:
            if offset + buffer.size_bytes <= first:
                break
            offset = max(offset, -(-last // buffer.alignment) * buffer.alignment)
        entries.append(Placed(buffer, level, offset))
    size = max(entry.offset + entry.buffer.size_bytes for entry in entries)
    return MemoryMap(schedule, tuple(entries), {level: size})


def network_of(name):
    return load_network(name)
