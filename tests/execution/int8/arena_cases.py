"""Int8 plans ready to be executed: a map, constants, samples; and the same step without any map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
from dse.execution.int8.reference import Step
from dse.execution.int8.rounding import seeded
from dse.execution.optimisers import STATE_WORDS, Optimiser
from dse.execution.packing import Levels
from dse.execution.parameters import Given
from dse.execution.samples import Samples
from dse.execution.step import Inputs, Stages
from dse.execution.weighted import Weighted
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.learning_key import quantises_new
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import StepSchedule
from dse.plan.policy import UpdatePolicy
from dse.plan.spec import kept_channels
from dse.plan.step import training_step
from dse.plan.written import step_schedule
from dse.workload import Workload
from tests.execution.cases import sample_bytes
from tests.execution.int8.small import folded_parameters

FRAMES = Levels(bits=8, scale=0.02, offset=-2.5)
"""What a captured byte stands for."""


@dataclass(frozen=True)
class Case:
    """One plan to execute; ``levels`` are those of latents at replay bits."""

    workload: Workload
    plan: TrainingPlan
    schedule: StepSchedule
    below: Prepared
    above: Prepared
    whole: Prepared
    samples: Samples
    levels: Levels
    optimiser: Optimiser

    @property
    def seen(self):
        return tuple(range(self.workload.classes))

    def stages(self):
        """Arithmetics with state of their own; fp32 where the frozen stage is."""
        draws = seeded(5, 1)
        above = learning(self.workload, self.plan, self.above.constants, self.optimiser, draws)
        if self.plan.frozen_bits != 8:
            return Stages(above, Fp32(self.workload), Fp32(self.workload))
        below = frozen(self.workload, self.plan, self.below.constants)
        return Stages(above, below, inference(self.workload, self.plan, self.whole.constants))

    def inputs(self):
        units = {unit.layer: unit.index for unit in self.workload.units}
        channels = {units[layer]: chosen for layer, chosen in self.above.constants.channels.items()}
        given = Given(dict(self.above.numbers), dict(self.below.numbers), dict(self.whole.numbers))
        return Inputs(given, self.samples, self.seen, channels, self.levels, FRAMES)

    def reference(self):
        """Learn the same mini-batch on the graph of the network alone."""
        stages, above = self.stages(), self.above
        stored = Levels(self.levels.bits, self.levels.scale, self.levels.signed)
        step = Step(
            self.workload, self.plan, stages.learning, dict(above.numbers), above.constants.channels,
            self.schedule.handed_on, self._state(), stored,
        )  # fmt: skip
        latents, labels = self._batch(stages)
        step.run(stages.learning.entered(latents), labels, self.seen)
        return step

    def _state(self):
        """Zeros in the layout of what learns."""
        found, words = {}, STATE_WORDS[self.plan.optimiser]
        for key, value in self.above.numbers.items():
            name, part = key.rsplit(".", 1)
            unit = next(unit for unit in self.workload.units if unit.name == name)
            channels = self.above.constants.channels.get(unit.layer)
            shape = value.shape
            if part == "weight" and channels is not None:
                inputs = self.workload.shape_of(self.workload.inputs[unit.layer][0])
                shape = Weighted.of(self.workload.layers[unit.layer], inputs).chosen(value, channels).shape
            found[key] = [np.zeros(shape, np.float32) for _ in range(words)]
        return found

    def _batch(self, stages):
        """Real latents of the mini-batch, and their labels."""
        plan, own = self.plan, self.samples
        new = self._latents(own.new[: plan.new_per_batch], plan.new_samples != "cache_latent", stages)
        old = self._latents(own.replays[: plan.replays_per_batch], plan.replay == "raw", stages)
        labels = [own.new_labels[: plan.new_per_batch], own.replay_labels[: plan.replays_per_batch]]
        return np.concatenate([part for part in (new, old) if len(part)]), np.concatenate(labels)

    def _latents(self, given, raw, stages):
        if not len(given):
            return given
        if self.plan.cut < 0:
            return np.stack([FRAMES.decoded(frame.reshape(-1), frame.shape) for frame in given])
        if not raw:
            return np.stack([self.levels.decoded(self.levels.encoded(x), x.shape) for x in given])
        passed = np.concatenate([self._passed(frame, stages.frozen) for frame in given])
        if not quantises_new(self.plan):
            return passed
        return np.stack([self.levels.decoded(self.levels.encoded(x), x.shape) for x in passed])

    def _passed(self, frame, own):
        """Real latent of one frame, (1, ...)."""
        edge = self.workload.cut_layer(self.plan.cut)
        x = FRAMES.decoded(frame.reshape(-1), (1, *frame.shape))
        return own.real(edge, run_on(own, self.below.numbers, x, edge)[edge])


def run_on(arithmetic, numbers, x, last=None):
    """Run the layers up to ``last`` (None: all) on real values (n, ...); returns what each wrote."""
    workload = arithmetic.workload
    values = {-1: arithmetic.entered(x)}
    for layer in range(len(workload.layers) if last is None else last + 1):
        keys = {part: f"{workload.layers[layer].name}.{part}" for part in ("weight", "bias")}
        own = {part: numbers[key] for part, key in keys.items() if key in numbers}
        inputs = [values[producer] for producer in workload.inputs[layer]]
        values[layer] = arithmetic.forward(layer, inputs, own, keep=False).output
    return values


def case_of(workload, plan, seed=0, rate=0.05):
    """Make everything that an execution of ``plan`` needs, from random numbers."""
    plan = plan.canonical(workload)
    draw = np.random.default_rng(seed)
    folded, channels = folded_parameters(workload, seed), _channels(workload, plan, draw)
    frames = draw.integers(0, 256, (6, *workload.input_shape)).astype(np.uint8)
    known = np.stack([FRAMES.decoded(frame.reshape(-1), frame.shape) for frame in frames])
    edge = workload.cut_layer(plan.cut)
    below, latents, source = _below(workload, plan, folded, known, edge)
    above = prepared_learning(workload, plan, folded, latents, source, channels)
    whole = _whole(workload, plan, below, above)
    bits = plan.replay_bits if plan.cut >= 0 else 32
    signed = bool(latents.min() < 0)
    most = 2 ** (bits - signed) - 1 if bits < 32 else 1
    levels = Levels(bits, float(np.abs(latents).max()) / max(most, 1), signed, plan.rounding)
    step = training_step(workload, PlanBatch.from_plans(workload, [plan]))
    schedule = step_schedule(step, plan, samples=sample_bytes(workload, plan, plan.new_per_batch))
    optimiser = Optimiser(plan.optimiser, rate if plan.optimiser != "lars" else 30 * rate)
    samples = _samples(workload, plan, draw, latents)
    return Case(workload, plan, schedule, below, above, whole, samples, levels, optimiser)


def _below(workload, plan, folded, known, edge):
    """The frozen stage, latents of known samples, and their grid."""
    if edge < 0:
        return Prepared(Constants({}, {})), known, None
    if plan.frozen_bits == 8:
        ready = prepared_forward(workload, range(edge + 1), folded, known)
        own, numbers = frozen(workload, plan, ready.constants), ready.numbers
    else:
        ready = Prepared(Constants({}, {}), dict(folded))
        own, numbers = Fp32(workload), folded
    values = run_on(own, numbers, known, edge)
    grid = ready.constants.grids.get(edge)
    return ready, own.real(edge, values[edge]), grid if isinstance(grid, Grid) else None


def _whole(workload, plan, below, above):
    """What an inference reads: integers, or real values where the frozen stage is fp32."""
    if plan.frozen_bits == 8:
        return for_inference(workload, plan, below, above)
    return Prepared(Constants({}, {}), {**below.numbers, **real_numbers(workload, above)})


def _channels(workload, plan, draw):
    ratio = UpdatePolicy.parse(plan.policy).resolve(workload, plan.cut)[0]
    kept = kept_channels(workload, ratio)
    return {
        unit.layer: np.sort(draw.permutation(unit.in_channels)[: kept[unit.index]])
        for unit in workload.units
        if unit.layer > workload.cut_layer(plan.cut) and 0 < kept[unit.index] < unit.in_channels
    }


def _samples(workload, plan, draw, latents):
    def some(count, raw):
        labels = draw.integers(0, workload.classes, count)
        if raw or plan.cut < 0:
            return draw.integers(0, 256, (count, *workload.input_shape)).astype(np.uint8), labels
        noise = draw.normal(0, 0.3, (count, *latents.shape[1:]))
        return (latents[np.arange(count) % len(latents)] * (1 + noise)).astype(np.float32), labels

    new, new_labels = some(plan.new_per_batch, plan.new_samples != "cache_latent")
    old, old_labels = some(plan.replays_per_batch, plan.replay == "raw")
    return Samples(new, new_labels, old, old_labels)


def placed(schedule):
    """Put every buffer at the first offset where no live one lies: a map that shares memory."""
    entries, done = [], []
    for buffer in sorted(schedule.buffers, key=lambda item: (-item.size_bytes, item.start)):
        at = 0
        for first, last, other in sorted(done, key=lambda item: item[0]):
            alive = other.start <= buffer.end and buffer.start <= other.end
            if alive and first < at + buffer.size_bytes:
                at = max(at, -(-last // buffer.alignment) * buffer.alignment)
        done.append((at, at + buffer.size_bytes, buffer))
        entries.append(Placed(buffer, "ram", at))
    return MemoryMap(schedule, tuple(entries), {"ram": max(last for _, last, _ in done)})
