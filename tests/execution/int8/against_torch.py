"""The same plan in two ways: an ``Int8Learner`` in torch, and the kernels in numpy with its constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dse.execution.int8.constants import Constants, Steps
from dse.execution.int8.grid import Grid
from dse.execution.int8.learning import Int8, learning
from dse.execution.int8.reference import Step
from dse.execution.optimisers import STATE_WORDS, Optimiser
from dse.plan.decisions import TrainingPlan
from dse.workload import Workload


def constants_of(learner) -> Constants:
    """Copy grids, steps and chosen channels of a learner."""
    workload = learner.workload
    grids = {index: Grid(grid.scale, grid.low, grid.high) for index, grid in learner.grids.items()}
    steps = {
        workload.units[unit].layer: Steps(
            own.scale, own.bias_scale, own.factor, own.bias_factor, whole=own.whole
        )
        for unit, own in learner._numbers.items()
    }
    channels = {
        layer: kernel.channels.numpy()
        for layer, kernel in learner.kernels.items()
        if kernel.channels is not None
    }
    return Constants(grids, steps, channels)


def numbers_of(learner) -> dict[str, np.ndarray]:
    """Integers of the learning stage as they are now; fp32 numbers of an fp32 classifier."""
    found, last = dict(learner.integers()), learner.workload.units[-1]
    for unit, own in learner._numbers.items():
        if not own.whole:
            for part in ("weight", "bias"):
                key = f"{learner.workload.units[unit].name}.{part}"
                if key in learner._start:
                    found[key] = learner.parameters()[key]
    assert any(key.startswith(f"{last.name}.") for key in found)
    return found


@dataclass
class Mine:
    """This package's side of a comparison."""

    workload: Workload
    plan: TrainingPlan
    constants: Constants
    numbers: dict[str, np.ndarray]
    state: dict[str, list[np.ndarray]]

    def arithmetic(self, rate, step=1, momentum=0.9, weight_decay=0.0, draws=None) -> Int8:
        optimiser = Optimiser(self.plan.optimiser, rate, momentum, weight_decay, step)
        return learning(self.workload, self.plan, self.constants, optimiser, draws)

    def step(self, x, labels, seen, rate, handed_on=None, **options) -> Step:
        arithmetic = self.arithmetic(rate, **options)
        step = Step(
            self.workload, self.plan, arithmetic, self.numbers, self.constants.channels, handed_on or {},
            self.state,
        )  # fmt: skip
        step.run(arithmetic.entered(x), labels, seen)
        return step


def mine_of(learner) -> Mine:
    """Start where the learner stands, with fresh optimiser state."""
    plan, numbers, constants = learner.plan, numbers_of(learner), constants_of(learner)
    state = {}
    for piece in learner.learning.pieces:
        size = piece.count
        state[piece.key] = [np.zeros(size, np.float32) for _ in range(STATE_WORDS[plan.optimiser])]
    mine = Mine(learner.workload, plan, constants, numbers, state)
    _shape_states(mine)
    return mine


def _shape_states(mine) -> None:
    """Give state the layout of what learns of each tensor."""
    arithmetic = mine.arithmetic(0.1, draws=lambda key, shape: np.zeros(shape))
    for key, words in mine.state.items():
        name, part = key.rsplit(".", 1)
        layer = arithmetic._layers[name]
        channels = mine.constants.channels.get(layer)
        shape = mine.numbers[key].shape
        if part == "weight" and channels is not None:
            shape = arithmetic._weighted[layer].chosen(mine.numbers[key], channels).shape
        mine.state[key] = [word.reshape(shape) for word in words]
