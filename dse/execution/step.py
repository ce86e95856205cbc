"""The executor: one mini-batch of a plan, in the memory that a map plans, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.execution.arithmetic import Arithmetic, Array, FloatArray, IntArray
from dse.execution.buffers import Buffers
from dse.execution.heads import HeadState
from dse.execution.image_pass import ImagePass, waiting
from dse.execution.layout import Layout
from dse.execution.learning_pass import LearningPass, MicroBatch
from dse.execution.memory import Memory
from dse.execution.packing import ByteArray, Levels
from dse.execution.parameters import Given, Parameters
from dse.execution.samples import Samples, Source, Stores
from dse.execution.saving import Saving
from dse.execution.updating import Updating
from dse.plan.operations import Holds, Kind, Phase, StepSchedule
from dse.workload.forward_only import executed_problems

EXECUTED_DTYPES = ("fp32", "int8")


@dataclass(frozen=True)
class Stages:
    """Who computes: the learning stage, and the frozen stage and inference, which share their numbers."""

    learning: Arithmetic
    frozen: Arithmetic
    inference: Arithmetic


@dataclass(frozen=True)
class Inputs:
    """Everything that a step is given.

    ``parameters`` by name; ``samples`` of the event; ``seen``: classes that the loss compares; ``channels``:
    input channels that learn, of units where not all do; ``levels``: the grid of latents at replay bits;
    ``frames``: that of captured bytes; ``head``: tensors of the head's state; ``ends_event``: whether CWR*
    consolidates behind this mini-batch.
    """

    parameters: Given
    samples: Samples
    seen: Sequence[int]
    channels: Mapping[int, IntArray] = field(default_factory=dict)
    levels: Levels = field(default_factory=Levels)
    frames: Levels = field(default_factory=lambda: Levels(bits=8))
    head: Mapping[str, Array] = field(default_factory=dict)
    ends_event: bool = False


@dataclass(frozen=True)
class Result:
    """What a step leaves: the mean loss of its mini-batch, parameters, optimiser and head state by name."""

    loss: float
    parameters: dict[str, Array]
    state: dict[str, tuple[Array, ...]]
    head: dict[str, Array]


class Executor:
    """Executes the step of ``schedule`` in ``memory``.

    Raises UserError for what cannot be executed (learning in fp16) and for inputs that do not fit the plan;
    ``memory.MemoryViolation`` where the memory map does not carry the step.
    """

    def __init__(self, schedule: StepSchedule, memory: Memory, stages: Stages, inputs: Inputs) -> None:
        _require_executable(schedule, inputs)
        self.schedule, self.memory, self.inputs = schedule, memory, inputs
        self.layout = Layout(schedule, inputs.channels)
        self.buffers = Buffers(memory)
        learning = stages.learning
        self.parameters = Parameters(self.layout, self.buffers, learning, stages.frozen, inputs.parameters)
        entering = inputs.levels if self.layout.cut_layer >= 0 else inputs.frames
        self.saving = Saving(self.layout, self.buffers, learning, entering)
        self.stores = Stores(
            self.layout, self.buffers, learning, self.saving, inputs.levels, inputs.frames, inputs.samples
        )
        self.updating = Updating(self.layout, self.buffers, learning, self.parameters)
        self.head = HeadState(self.layout, self.buffers, inputs.head)
        self.images = {
            phase: ImagePass(self.layout, self.buffers, own, self.parameters, inputs.frames, phase)
            for phase, own in ((Phase.FROZEN, stages.frozen), (Phase.INFERENCE, stages.inference))
        }
        self._learning = learning
        self._of = {phase: [item for item in schedule.operations if item.phase == phase] for phase in Phase}
        self._begin()

    def _begin(self) -> None:
        """Put everything that stands throughout into the memory."""
        self.memory.start()
        self.buffers.moment = "before the first operation"
        with np.errstate(all="ignore"):
            self.parameters.put()
            self.stores.put()
            self.head.put()

    # --- the mini-batch ---

    def learn(self) -> Result:
        """Execute the mini-batch: micro-batch by micro-batch, then the update."""
        with np.errstate(all="ignore"):
            batch = self.stores.batch()
            loss = 0.0
            for first in range(0, len(batch), self.layout.micro):
                loss += self._micro_batch(batch[first : first + self.layout.micro], len(batch), first == 0)
            for operation in self._of[Phase.UPDATE]:
                self.buffers.start(operation)
                self._update(batch)
                self.buffers.end(operation)
            self.buffers.check_standing(self.schedule.buffers)
            return Result(loss, self.parameters.taken(), self.parameters.state_taken(), self.head.taken())

    def _micro_batch(self, sources: Sequence[Source], total: int, first: bool) -> float:
        self._frozen(sources)
        labels = np.array([source.label for source in sources], dtype=np.int64)
        run = LearningPass(
            self.layout, self.buffers, self._learning, self.parameters, self.saving, self.updating,
            self.inputs.seen, MicroBatch(len(sources), labels, total, first),
        )  # fmt: skip
        for operation in self._of[Phase.LEARNING]:
            self.buffers.start(operation)
            if operation.kind == Kind.LOAD:
                self.stores.load(operation, sources)
                run.save_beginning(operation.number)
            else:
                run.run(operation)
            self.buffers.end(operation)
        return run.loss

    def _frozen(self, sources: Sequence[Source]) -> None:
        """Pass the images of a micro-batch through the frozen stage, where that happens inside of it."""
        if not self.layout.spec.frozen_in_batch[0]:
            return
        frames = [(place, source) for place, source in enumerate(sources) if source.is_frame]
        for place, source in frames:
            self.images[Phase.FROZEN].run(self.stores.frame(source))
            self._store(partial(self._put_latent, place))
        if not frames:  # stored latents alone: the frozen stage has nothing to do
            waiting(self._of[Phase.FROZEN], self.buffers)

    def _put_latent(self, place: int) -> None:
        self.stores.put_latent(place, self._latent())

    def _latent(self) -> FloatArray:
        """Return the real latent of the image that has passed the frozen stage, (*cut shape)."""
        edge, own = self.layout.cut_layer, self.images[Phase.FROZEN]
        return np.asarray(own.arithmetic.real(edge, own.value(edge))[0])

    def _store(self, put: Callable[[], None]) -> None:
        operation = next(item for item in self._of[Phase.FROZEN] if item.kind == Kind.STORE)
        self.buffers.start(operation)
        put()
        self.buffers.end(operation)

    def _update(self, batch: Sequence[Source]) -> None:
        if self.layout.spec.backprop[0]:
            self.updating.update_all()
            if self.head.kind == "cwr" and self.inputs.ends_event:
                unit = self.layout.workload.units[-1]
                weight, bias = (
                    self.parameters.learning(unit.index, f"{unit.name}.{part}") for part in ("weight", "bias")
                )
                self.head.consolidate(weight, bias, self.stores.event_labels())
            return
        shape = (len(batch), self.layout.workload.units[-1].input_elements)
        dtype = self._learning.dtype(Holds.LATENTS, -1)
        features = self.buffers.read(Holds.LATENTS, -1, dtype, shape)
        self.head.learn(features, np.array([source.label for source in batch], dtype=np.int64))

    # --- before and after ---

    def capture(self, frame: ByteArray, row: int) -> None:
        """Store an image (*input shape, uint8) as new sample ``row``: its latent, or the frame at cut -1.

        Raises UserError where the plan keeps new samples in another way.
        """
        if self.layout.spec.frozen_new[0]:
            kept = self.schedule.plan.new_samples
            raise UserError(Problem("execution", "capture", f"new_samples = {kept}", "cache_latent"))
        with np.errstate(all="ignore"):
            own, has_frozen = self.images[Phase.FROZEN], self.layout.cut_layer >= 0
            if has_frozen:
                own.run(frame)
            self._store(lambda: self._captured(own, frame, row, has_frozen))
        self.memory.rest()  # buffers of a mini-batch that span the frozen stage have begun, and hold nothing

    def _captured(self, own: ImagePass, frame: ByteArray, row: int, has_frozen: bool) -> None:
        if not has_frozen:
            own.put_frame(frame)
            frame = self.buffers.bytes_of(Holds.FRAME, -1)
        self.stores.put_row(Holds.NEW_SAMPLES, row, self._latent() if has_frozen else frame)

    def infer(self, frame: ByteArray) -> FloatArray:
        """Run the whole network on one image (*input shape, uint8); return logits, or scores of a head."""
        with np.errstate(all="ignore"):
            own = self.images[Phase.INFERENCE]
            own.run(frame, self.head if self.head.pieces else None)
            self.buffers.check_standing(self.schedule.buffers)
            return own.result


def _require_executable(schedule: StepSchedule, inputs: Inputs) -> None:
    plan, problems = schedule.plan, executed_problems(schedule.workload, "execution")
    if plan.learning_dtype not in EXECUTED_DTYPES:
        allowed = f"one of {', '.join(EXECUTED_DTYPES)}: fp16 is priced, but not executed"
        problems.append(Problem("plan", "learning_dtype", repr(plan.learning_dtype), allowed))
    labels: NDArray[np.int64] = np.concatenate([inputs.samples.new_labels, inputs.samples.replay_labels])
    missing = sorted(set(labels.tolist()) - set(inputs.seen))
    if missing and plan.head in ("sgd", "cwr", "tinyol"):
        found = f"labels {', '.join(map(str, missing))}"
        allowed = f"classes seen: {', '.join(map(str, inputs.seen))}"
        problems.append(Problem("samples", "labels", found, allowed))
    if problems:
        raise UserError(problems)
