"""Gradients in their buffers, and the optimiser's step on what learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dse.execution.arithmetic import Arithmetic, Array
from dse.execution.buffers import Buffers
from dse.execution.layout import Layout
from dse.execution.parameters import Parameters
from dse.plan.operations import Holds

GRADIENTS = (Holds.GRADIENT, Holds.NORM_GRADIENT)


@dataclass
class Updating:
    """Holds gradients and updates parameters; see ``Arithmetic``."""

    layout: Layout
    buffers: Buffers
    arithmetic: Arithmetic
    parameters: Parameters

    def gather(self, holds: Holds, unit: int, gradients: Mapping[str, Array], *, first: bool) -> None:
        """Write gradients of a micro-batch, or add them to those of earlier ones."""
        pieces, dtype = self.layout.pieces(holds, unit), self.arithmetic.dtype(holds, unit)
        for key, gradient in gradients.items():
            held = None if first else self.buffers.piece(holds, unit, pieces, key, dtype)
            shape = next(piece.shape for piece in pieces if piece.key == key)
            found = self.arithmetic.accumulated(key, held, gradient.reshape(shape))
            self.buffers.put_piece(holds, unit, pieces, key, found, dtype)

    def update_held(self, holds: Holds, unit: int) -> None:
        """Update what the gradients in a buffer belong to."""
        pieces, dtype = self.layout.pieces(holds, unit), self.arithmetic.dtype(holds, unit)
        for piece in pieces:
            self._update(unit, piece.key, self.buffers.piece(holds, unit, pieces, piece.key, dtype))

    def update_at_once(self, unit: int, gradients: Mapping[str, Array]) -> None:
        """Update a unit by gradients that exist for this operation alone.

        They have a buffer unless the plan updates in place: then each number lives in a register.
        """
        if self.layout.spec.gradient_buffer[0]:
            self.gather(Holds.GRADIENT, unit, gradients, first=True)
            self.update_held(Holds.GRADIENT, unit)
            return
        for key, gradient in gradients.items():
            self._update(unit, key, gradient.reshape(self.parameters.learning(unit, key).shape))

    def update_all(self) -> None:
        """Update every unit whose gradients have waited for the end of the mini-batch."""
        for unit in self.layout.workload.units:
            for holds in GRADIENTS:
                if self.layout.pieces(holds, unit.index) and self._waits(holds, unit.index):
                    self.buffers.require(holds, unit.index)
                    self.update_held(holds, unit.index)

    def _waits(self, holds: Holds, unit: int) -> bool:
        return not self.layout.spec.update_late[0] and not self.layout.is_frozen(unit)

    def _update(self, unit: int, key: str, gradient: Array) -> None:
        values, state = self.parameters.learning(unit, key), self.parameters.state(unit, key)
        found = self.arithmetic.update(key, values, gradient, state)
        self.parameters.learned(unit, key, np.asarray(found))
        self.parameters.put_words(unit, key, state)
