"""What a plan is priced against: a network, a board, a duty cycle, and the rules of counting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dse.cost.accounting import DEFAULT, Accounting
from dse.errors import UserError
from dse.hardware import HardwareProfile
from dse.plan.decisions import FloatArray
from dse.plan.workspace import WorkspaceTable
from dse.vocabulary import DTYPES, OPERATORS
from dse.workload import Workload


@dataclass(frozen=True)
class Duty:
    """How often the device learns and infers, and what capturing one sample costs.

    ``capture_s`` [s] and ``capture_j`` [J] are per captured sample; ``horizon_events`` is the number of
    events over which replay writes are averaged.
    """

    events_per_day: float = 1.0
    inferences_per_day: float = 0.0
    capture_s: float = 0.0
    capture_j: float = 0.0
    horizon_events: int = 1000


@dataclass(frozen=True)
class Context:
    """One network on one board under one duty cycle.

    ``kernels`` overrides the board's default kernel library by dtype.
    """

    workload: Workload
    board: HardwareProfile
    duty: Duty = field(default_factory=Duty)
    accounting: Accounting = DEFAULT
    kernels: Mapping[str, str] = field(default_factory=dict)

    def library(self, dtype: str) -> str:
        """Return the kernel library in use for ``dtype``; raises Unpriced where there is none."""
        return self.board.library_for(dtype, self.kernels.get(dtype))

    @cached_property
    def workspace(self) -> WorkspaceTable:
        """The workspace formula of every kernel that the libraries in use provide."""
        libraries = self.board.kernels | dict(self.kernels)
        return {
            (operator, pass_, dtype): self.board.workspace(libraries[dtype], operator, pass_)
            for operator in OPERATORS
            for pass_ in ("fwd", "bwd_input", "bwd_weight")
            for dtype in DTYPES
            if dtype in libraries
        }

    @cached_property
    def clocks_hz(self) -> FloatArray:
        """Clock of every operating point [Hz]."""
        return np.array([point.clock_hz.value for point in self.board.operating_points])

    @cached_property
    def capacity_bytes(self) -> FloatArray:
        """Usable bytes per level: size less reserve, shape (K,)."""
        return np.array([level.usable_bytes for level in self.board.levels])

    @cached_property
    def ram_levels(self) -> tuple[int, ...]:
        """Levels that can hold what a step works on, in the order of the board file."""
        levels = enumerate(self.board.levels)
        return tuple(
            k
            for k, level in levels
            if level.access != "tile" and (level.volatile or level.technology == "fram")
        )

    @cached_property
    def nonvolatile_levels(self) -> tuple[int, ...]:
        """Levels that keep their contents without power."""
        return tuple(
            k for k, level in enumerate(self.board.levels) if not level.volatile and level.access != "tile"
        )

    @cached_property
    def retainable_levels(self) -> tuple[int, ...]:
        """Volatile levels that some sleep state, or the part itself, keeps alive."""
        retained = {name for state in self.board.sleep_states for name in state.retains}
        return tuple(
            k
            for k in self.ram_levels
            if self.board.levels[k].volatile
            and (self.board.levels[k].name in retained or self.board.levels[k].retention_power_w is not None)
        )

    @cached_property
    def keeping_levels(self) -> tuple[int, ...]:
        """Levels that can hold what must survive sleep: non-volatile first, then retained RAM."""
        return self.nonvolatile_levels + self.retainable_levels

    def require_ram(self) -> None:
        """Refuse a board that has nowhere to work."""
        if not self.ram_levels:
            raise UserError(f"{self.board.label}: no memory level that a training step could work in")
