"""One step with everything that it needs, ready to be executed in any memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from dse.execution.arithmetic import Array, FloatArray
from dse.execution.memory import Memory
from dse.execution.packing import ByteArray
from dse.execution.step import Executor, Inputs, Result
from dse.execution.trial.numbers import FRAMES, Numbers, drawn_numbers
from dse.execution.trial.parameters import drawn_head
from dse.execution.trial.stores import DrawnSamples, drawn_samples
from dse.execution.trial.work import captures
from dse.plan.operations import Holds, StepBuffer, StepSchedule
from dse.workload.forward_only import require_executed


@dataclass(frozen=True)
class Outcome:
    """Everything that a mini-batch and an inference leave."""

    result: Result
    logits: FloatArray

    def named(self) -> Iterator[tuple[str, Array]]:
        """Yield every tensor with its name, in a fixed order."""
        yield "loss", np.array([self.result.loss])
        yield from self.result.parameters.items()
        for key, words in self.result.state.items():
            yield from ((f"optimiser state {word} of {key}", values) for word, values in enumerate(words))
        yield from ((f"head {key}", values) for key, values in self.result.head.items())
        yield "logits", self.logits


class Watched:
    """A memory that tells of every operation that ends in it; see ``Memory``."""

    def __init__(self, memory: Memory, tell: Callable[[], None]) -> None:
        self._memory, self._tell = memory, tell

    def start(self) -> None:
        """See ``Memory``."""
        self._memory.start()

    def begin(self, operation: int) -> list[StepBuffer]:
        """See ``Memory``."""
        return self._memory.begin(operation)

    def finish(self, operation: int, stays: Collection[str] = ()) -> None:
        """See ``Memory``."""
        self._memory.finish(operation, stays)
        self._tell()

    def rest(self) -> None:
        """See ``Memory``."""
        self._memory.rest()

    def find(self, holds: Holds, place: int) -> StepBuffer | None:
        """See ``Memory``."""
        return self._memory.find(holds, place)

    def contents(self, buffer: StepBuffer) -> ByteArray:
        """See ``Memory``."""
        return self._memory.contents(buffer)

    def is_untouched(self, buffer: StepBuffer) -> bool:
        """See ``Memory``."""
        return self._memory.is_untouched(buffer)


@dataclass(frozen=True)
class Step:
    """A plan with random numbers; ``run`` may be called many times."""

    numbers: Numbers
    samples: DrawnSamples
    inputs: Inputs
    frame: ByteArray

    def run(self, schedule: StepSchedule, memory: Memory) -> Outcome:
        """Execute a captured image, a mini-batch and an inference; raises what ``Executor`` raises.

        ``schedule`` may differ in lifespans and sizes from the one that the step was prepared for.
        """
        schedule = replace(schedule, plan=self.numbers.plan)
        executor = Executor(schedule, memory, self.numbers.stages(), self.inputs)
        self.samples.fill(executor.buffers)
        if captures(schedule):  # into the mini-batch, so that what the frozen stage leaves is learned from
            executor.capture(self.frame, int(self.samples.new.rows[0]))
        result = executor.learn()
        return Outcome(result, executor.infer(self.frame))


def prepared_step(schedule: StepSchedule, seed: int, *, labels_held: bool = True) -> Step:
    """Draw everything that the mini-batch of ``schedule`` needs; ``labels_held``: see ``Samples``.

    Raises UserError where that cannot be.
    """
    workload, plan = schedule.workload, schedule.plan
    require_executed(workload, "execution")
    numbers = drawn_numbers(workload, plan, seed)
    samples = drawn_samples(schedule, numbers, seed, labels_held=labels_held)
    frame = np.random.default_rng([seed, 7]).integers(0, 256, workload.input_shape).astype(np.uint8)
    inputs = Inputs(
        numbers.given, samples.samples, samples.seen, numbers.channels, numbers.levels, FRAMES,
        drawn_head(workload, plan.head, seed), ends_event=True,
    )  # fmt: skip
    return Step(numbers, samples, inputs, frame)
