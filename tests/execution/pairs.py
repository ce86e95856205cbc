"""Random pairs of a network and a plan of every kind that is executed, each with a map of one arena."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from dse.cost.arena import ArenaBuffer, place, violations
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import Kind
from dse.plan.policy import UpdatePolicy
from dse.plan.step import training_step
from dse.plan.techniques import plan_problems
from dse.plan.written import step_schedule
from dse.workload import load_network
from dse.workload.units import single_tensor_cuts
from tests.execution.cases import sample_bytes, workspaces
from tests.execution.mutations import wanted

DATA = Path(__file__).resolve().parent.parent / "plan" / "data"
SMALL = tuple(
    str(DATA / f"{name}.toml")
    for name in ("branches", "tcn", "lenet", "residual", "two-linear", "twice", "uneven")
)
ZOO = (
    "ds-cnn", "resnet8@width=0.5", "autoencoder", "har-cnn-1d", "mobilenet-v1@width=0.25,resolution=32",
    "mcunet-5fps@resolution=32", "mobilenet-v2-w0.35@resolution=32", "proxylessnas-w0.3@resolution=32",
)  # fmt: skip

INT8 = {
    ("conv2d", "fwd", "int8"): "im2col_two_columns", ("conv2d", "bwd_weight", "int8"): "im2col_full",
    ("depthwise", "fwd", "int8"): "im2col_two_columns", ("linear", "bwd_input", "int8"): "weights_transposed",
}  # fmt: skip


@cache
def network(name):
    return load_network(name)


@dataclass(frozen=True)
class Pair:
    """A network with a legal plan; ``zoo``: one that ships with the package."""

    workload: object
    plan: TrainingPlan
    zoo: bool
    seed: int

    @cached_property
    def schedule(self):
        table = workspaces(self.workload) | INT8 if self.seed % 2 else {}
        step = training_step(self.workload, PlanBatch.from_plans(self.workload, [self.plan]), table)
        samples = sample_bytes(self.workload, self.plan)
        return step_schedule(step, self.plan, alignment=(4, 8, 16)[self.seed % 3], samples=samples)

    @cached_property
    def memory_map(self):
        """Offsets by ``dse.cost.arena``, in one arena."""
        items = [
            ArenaBuffer(one.id, one.start, one.end, one.size_bytes, one.alignment)
            for one in self.schedule.buffers
        ]
        arena = place(items, effort=2000)
        entries = tuple(Placed(one, "ram", arena.offsets[one.id]) for one in self.schedule.buffers)
        return MemoryMap(self.schedule, entries, {"ram": arena.size_bytes})

    @property
    def kinds(self):
        """What the pair is an example of."""
        plan, batch = self.plan, self.plan.new_per_batch + self.plan.replays_per_batch
        found = {
            "zoo": self.zoo,
            "residual": any(layer.kind == "add" for layer in self.workload.layers),
            "int8": plan.learning_dtype == "int8",
            "int8 frozen stage": plan.frozen_bits == 8,
            "recompute": any(op.kind == Kind.RECOMPUTE for op in self.schedule.operations),
            "micro-batch": plan.micro_batch < batch,
            "head": plan.head != "sgd",
            "saved bits": plan.saved_bits < 32,
            "patches": plan.patches != "none",
            "some channels": "." in str(getattr(plan.policy, "ratio", "")),
        }
        return {name for name, is_one in found.items() if is_one}


def random_pair(seed):
    """Draw a pair by ``seed``: two in three from the zoo, a quarter with heads or recompute."""
    draw = np.random.default_rng([seed, 23])
    pick = lambda *words: words[draw.integers(len(words))]  # noqa: E731
    zoo = draw.random() < 2 / 3
    workload = network(pick(*(ZOO if zoo else SMALL)))
    for _ in range(1000):
        plan = _drawn(workload, draw, pick).canonical(workload)
        if _is_executed(workload, plan) and not plan_problems(workload, plan, "plan"):
            return Pair(workload, plan, bool(zoo), seed)
    raise AssertionError(f"no legal plan for {workload.name}")


def _drawn(workload, draw, pick):
    cut = int(pick(-1, *workload.legal_cuts))
    new, old = int(draw.integers(1, 4)), int(draw.integers(0, 4))
    replay = pick("none", "latent", "raw") if cut >= 0 else pick("none", "raw")
    batch = new + (old if replay != "none" else 0)
    update = pick("accumulate", "accumulate", "accumulate", "immediate", "in_place")
    head = pick("ncm", "slda", "cwr", "tinyol") if draw.random() < 0.12 else "sgd"
    plan = TrainingPlan(
        cut=cut, head=head, replay=replay, n_replays=0 if replay == "none" else 5,
        replays_per_batch=old, new_per_batch=new, images_per_event=8, epochs=2,
        replay_bits=8 if replay == "raw" else int(pick(1, 3, 6, 7, 8, 16, 32)),
        rounding=pick("nearest", "floor"), policy=_policy(workload, cut, draw, pick),
        frozen_bits=int(pick(8, 32)), update=update,
        micro_batch=batch if update != "accumulate" else int(draw.integers(1, batch + 1)),
        bn_mode=pick("folded", "frozen_stats", "batch_stats", "group"),
        optimiser=pick("sgd", "momentum", "adam", "lars"),
        new_samples=pick("cache_latent", "cache_latent", "cache_raw", "recompute"),
        first_input=pick("stored", "dequantised"), in_place=pick("elementwise", "none", "depthwise"),
        checkpoints=_checkpoints(workload, cut, draw, pick), saved_bits=int(pick(32, 32, 32, 8, 4, 2)),
        patches=pick("none", "none", "2x2 to 0", "3x3 to 1", "2x2 to 2"),
    )  # fmt: skip
    return _in_int8(plan, pick) if draw.random() < 0.4 else plan


def _in_int8(plan, pick):
    return replace(
        plan, learning_dtype="int8", bn_mode="folded", backward_dtype=pick("fp32", "int8"),
        accumulator_dtype=pick("fp32", "int8"), classifier_dtype=pick("learning", "fp32"),
        gradient_scaling=pick("none", "qas"), weight_rounding=pick("nearest", "stochastic"),
    )  # fmt: skip


def _checkpoints(workload, cut, draw, pick):
    places = [unit for unit in single_tensor_cuts(workload) if unit > cut]
    if not places or draw.random() < 0.5:
        return "none"
    splits = sorted({int(pick(*places)) for _ in range(2)})
    return pick("every 1", "every 2", f"units {' '.join(map(str, splits))}")


def _policy(workload, cut, draw, pick):
    last = len(workload.units) - 1
    first = min(cut + 1, last)
    kind = pick("all", "all", "bias", "last-2", "table", "table")
    if kind != "table":
        return kind
    ratios = {}
    for _ in range(3):
        unit = workload.units[int(draw.integers(first, last + 1))]
        ratios[unit.index] = float(draw.integers(1, unit.in_channels + 1)) / unit.in_channels
    ratios[last] = float(pick(1.0, 1.0, 0.5))
    return UpdatePolicy.parse({"ratio": ratios, "bias": [*draw.integers(first, last + 1, 3).tolist(), last]})


def _is_executed(workload, plan):
    """Group norms need channels in whole groups, and no convolution with a bias of its own in front."""
    if plan.bn_mode != "group":
        return True
    edge = workload.cut_layer(plan.cut)
    above = [unit for unit in workload.units if unit.layer > edge and unit.norm_channels]
    own = [workload.layers[unit.layer].bias for unit in above]
    return not any(own) and all(unit.out_channels % min(32, unit.out_channels) == 0 for unit in above)


def faults(memory_map):
    """What the independent checker finds wrong with a map."""
    return [
        fault
        for level, size in memory_map.arena_bytes.items()
        for fault in violations(
            [
                (one.buffer.id, one.buffer.start, one.buffer.end, one.buffer.size_bytes,
                 one.buffer.alignment, one.offset)
                for one in memory_map.entries if one.level == level
            ],
            size,
        )
    ]  # fmt: skip


def reads_after_end(schedule, mutated):
    """Buffers of ``schedule`` whose value is wanted behind their end in ``mutated``."""
    ends = {buffer.id: buffer.end for buffer in mutated.buffers}
    return [buffer.id for buffer in schedule.buffers if wanted(buffer, schedule)[1] > ends[buffer.id]]
