"""The step in memory where no buffer can touch another, which an arena's results must equal bit for bit."""

from __future__ import annotations

from dse.execution.memory import Arena, Separate
from dse.execution.step import Executor, Inputs, Result, Stages
from dse.plan.memory_map import MemoryMap
from dse.plan.operations import StepSchedule


def plain_step(schedule: StepSchedule, stages: Stages, inputs: Inputs) -> Result:
    """Execute one mini-batch with every buffer in an array of its own."""
    return Executor(schedule, Separate(schedule), stages, inputs).learn()


def arena_step(memory_map: MemoryMap, stages: Stages, inputs: Inputs) -> Result:
    """Execute one mini-batch in the arenas of ``memory_map``. Raises ``MemoryViolation`` where it fails."""
    return Executor(memory_map.schedule, Arena(memory_map), stages, inputs).learn()
