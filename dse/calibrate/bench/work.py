"""What a plan runs: which unit multiplies how often in which pass and dtype, and how long its vectors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dse.cost.cycles import MAC_PASSES, kernels_of
from dse.vocabulary import INT8_ERROR_PASSES
from dse.workload import Workload

Kernel = tuple[str, str, str]
"""Operator, pass and dtype, as a rate is looked up."""

_RARE: Final = 1e-9
"""Weight of a forward pass that only inference runs, beside what a learning event runs."""


@dataclass(frozen=True)
class Work:
    """MACs of an event by kernel and unit; elements of a stored latent and its bits; parameters that learn.

    ``elements`` maps an element operation to the layer that has most elements of it.
    """

    workload: Workload
    macs: Mapping[Kernel, Mapping[int, float]]
    latent_elements: int
    latent_bits: int
    parameters: int
    learning: tuple[Kernel, ...]
    """Kernels of the learning stage, most MACs first."""
    forward: tuple[Kernel, ...]
    """Kernels of the frozen stage and of inference, most MACs first."""

    def unit_of(self, kernel: Kernel) -> int | None:
        """Return the unit with most MACs under ``kernel``; None where no unit has its operator."""
        own = self.macs.get(kernel, {})
        if own:
            return max(own, key=lambda unit: (own[unit], -unit))
        units = [unit for unit in self.workload.units if unit.operator == kernel[0]]
        return max(units, key=lambda unit: (unit.macs, -unit.index)).index if units else None

    def layer_of(self, operation: str) -> int | None:
        """Return the layer with most elements of ``operation``; None where no layer is one."""
        layers = self.workload.layers
        own = [index for index, layer in enumerate(layers) if layer.element_operation == operation]
        return max(own, key=lambda index: (int(self.workload.out_elements[index]), -index), default=None)


def work_of(workload: Workload, steps: Sequence[Any], frozen_bits: int, minibatches: float) -> Work:
    """Return what one plan runs.

    Parameters
    ----------
    workload: the network.
    steps: the one description that ``dse.cost.model.describe_steps`` gives of the plan.
    frozen_bits: width of the frozen stage, 8 or 32.
    minibatches: of one learning event.

    """
    step = steps[0]
    learning: dict[Kernel, dict[int, float]] = {}
    for kernels in kernels_of(step):
        for unit, place in kernels.executed(step):
            dtype, pass_ = kernels.unit_dtype(unit), MAC_PASSES[place]
            if kernels.int8_errors and dtype == "int8":
                pass_ = INT8_ERROR_PASSES.get(pass_, pass_)
            own = learning.setdefault((workload.units[unit].operator, pass_, dtype), {})
            own[unit] = own.get(unit, 0.0) + float(step.macs[0, unit, place]) * minibatches
    forward: dict[Kernel, dict[int, float]] = {}
    dtype = "int8" if frozen_bits == 8 else "fp32"
    for each in workload.units:
        weight = 1.0 if step.frozen_units[0, each.index] else _RARE
        forward.setdefault((each.operator, "fwd", dtype), {})[each.index] = each.macs * weight
    return Work(
        workload=workload, macs=_joined(forward, learning),
        latent_elements=int(step.latent_elements[0]), latent_bits=int(step.spec.latent_bits[0]),
        parameters=int(max(step.learning.parameters[0].max(), 1)),
        learning=_ranked(learning), forward=_ranked(forward),
    )  # fmt: skip


def _joined(*tables: Mapping[Kernel, Mapping[int, float]]) -> dict[Kernel, dict[int, float]]:
    found: dict[Kernel, dict[int, float]] = {}
    for table in tables:
        for kernel, units in table.items():
            own = found.setdefault(kernel, {})
            for unit, macs in units.items():
                own[unit] = own.get(unit, 0.0) + macs
    return found


def _ranked(table: Mapping[Kernel, Mapping[int, float]]) -> tuple[Kernel, ...]:
    return tuple(sorted(table, key=lambda kernel: (-sum(table[kernel].values()), kernel)))
