"""Parameters in the arena: put there when a step begins, read by kernels, updated, and given back by name.

A convolution with a bias of its own in front of a norm that is not folded has no place for that bias: it is
the same to subtract it from the norm's running mean, which is done here, and undone when numbers are given
back. With statistics of a batch it cancels. Weights of which only some input channels learn lie in two
buffers, channel by channel: (channels, output channels per group, kernel elements).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from dse.errors import Problem, UserError
from dse.execution.arithmetic import Arithmetic, Array, Parts
from dse.execution.buffers import Buffers
from dse.execution.layout import Layout, Piece
from dse.plan.operations import Holds
from dse.workload import Unit

Named = Mapping[str, Array]

LEARNING: Final = (Holds.LEARNING_WEIGHT, Holds.LEARNING_AFFINE)
PERSISTENT: Final = (Holds.PERSISTENT_WEIGHT, Holds.PERSISTENT_AFFINE)
FROZEN: Final = (Holds.FROZEN_WEIGHT, Holds.FROZEN_AFFINE)
COPIES: Final = (Holds.COPY_WEIGHT, Holds.COPY_AFFINE)


@dataclass(frozen=True)
class Given:
    """Parameters by name, ``<layer>.<part>``, in the types of the arithmetics that use them.

    ``learning``: of the units above the cut; ``frozen``: of those below, batch norms folded; ``copies``: of
    the inference copies of the units above; ``state``: words of optimiser state per learning tensor, as large
    as the tensor or as what learns of it, zeros unless given; ``persistent``: what was last saved of the
    learning parameters, these themselves unless given.
    """

    learning: Named
    frozen: Named = field(default_factory=dict)
    copies: Named = field(default_factory=dict)
    state: Mapping[str, Sequence[Array]] = field(default_factory=dict)
    persistent: Named = field(default_factory=dict)


class Parameters:
    """The parameters of ``layout`` in ``buffers``; ``frozen`` and ``learning`` know the types of numbers."""

    def __init__(
        self, layout: Layout, buffers: Buffers, learning: Arithmetic, frozen: Arithmetic, given: Given
    ) -> None:
        self.layout, self.buffers, self.given = layout, buffers, given
        self._learning, self._frozen = learning, frozen
        self._absorbed = dict(self._biases())

    def dtype(self, holds: Holds, unit: int) -> np.dtype[Any]:
        """Type of the numbers in a unit's buffer."""
        apart = holds in COPIES or (holds in FROZEN and self.layout.is_frozen(unit))
        return (self._frozen if apart else self._learning).dtype(holds, unit)

    # --- into the arena and out of it ---

    def put(self) -> None:
        """Write every parameter that stands throughout; the plan says which, not the schedule."""
        for unit in range(len(self.layout.workload.units)):
            for holds in (*LEARNING, *PERSISTENT, *FROZEN, *COPIES):
                if self.layout.stands(holds, unit):
                    for piece in self.layout.pieces(holds, unit):
                        self._put(holds, unit, piece.key, self._given(holds, unit, piece))
            if self.layout.stands(Holds.STATE, unit):
                self._put_state(unit)

    def _given(self, holds: Holds, index: int, piece: Piece) -> Array:
        unit = self.layout.workload.units[index]
        source = self.given.copies if holds in COPIES else self.given.learning
        source = self.given.frozen if holds in FROZEN and self.layout.is_frozen(index) else source
        source = self.given.persistent if holds in PERSISTENT and self.given.persistent else source
        if piece.key not in source:
            allowed = f"an array of {piece.count} numbers for {holds.value}"
            raise UserError(Problem("execution", f"parameters.{piece.key}", "missing", allowed))
        values = np.asarray(source[piece.key])
        if piece.key in self._absorbed and holds not in COPIES:
            values = values - self._absorbed[piece.key]
        channels = self.layout.chosen(index)
        if channels is None or not piece.key.endswith(".weight") or holds in COPIES:
            return values
        if holds == Holds.FROZEN_WEIGHT:
            channels = np.setdiff1d(np.arange(unit.in_channels), channels)
        return self.layout.weighted(unit).chosen(values, channels)

    def _biases(self) -> Iterator[tuple[str, Array]]:
        """Means of norms that absorb a convolution's own bias: name of the mean -> the bias."""
        for unit in self.layout.workload.units:
            norm, bias = self.layout.norm_of(unit), self.given.learning.get(f"{unit.name}.bias")
            if norm and bias is not None:
                if self.layout.schedule.plan.bn_mode == "group":
                    found = "a bias of its own in front of a group norm, which no plan counts"
                    raise UserError(Problem("network", f"layers.{unit.name}.bias", found, "bias = false"))
                yield f"{norm}.mean", np.asarray(bias)

    def _put_state(self, index: int) -> None:
        pieces, dtype = self.layout.pieces(Holds.STATE, index), self.dtype(Holds.STATE, index)
        words = int(self.layout.spec.state_per_parameter[0])
        for word in range(words):
            for piece in pieces:
                given = self.given.state.get(piece.key)
                values = np.zeros(piece.shape, dtype) if given is None else np.asarray(given[word])
                values = values if values.size == piece.count else self._part(index, values)
                self.buffers.put_piece(Holds.STATE, index, pieces, piece.key, values, dtype, word)

    def _part(self, index: int, values: Array) -> Array:
        """Return the part of numbers in the shape of a unit's weights that belongs to what learns."""
        channels, unit = self.layout.chosen(index), self.layout.workload.units[index]
        return values if channels is None else self.layout.weighted(unit).chosen(values, channels)

    def _put(self, holds: Holds, index: int, key: str, values: Array) -> None:
        dtype = self.dtype(holds, index)
        self.buffers.put_piece(holds, index, self.layout.pieces(holds, index), key, values, dtype)

    def _get(self, holds: Holds, index: int, key: str) -> Array:
        return self.buffers.piece(
            holds, index, self.layout.pieces(holds, index), key, self.dtype(holds, index)
        )

    def taken(self) -> dict[str, Array]:
        """Return all parameters of the learning stage as the arena holds them, under their names."""
        found = dict(self.given.learning)
        for unit in self.layout.workload.units:
            if self.layout.is_frozen(unit.index) or not self.layout.spec.backprop[0]:
                continue
            found[f"{unit.name}.weight"] = self._weight(unit)
            for key in self._affine_keys(unit):
                value = self._affine(unit, key)
                found[key] = value + self._absorbed[key] if key in self._absorbed else value
        return found

    def state_taken(self) -> dict[str, tuple[Array, ...]]:
        """Return the words of optimiser state of every learning tensor."""
        return {
            piece.key: self.state(unit, piece.key)
            for unit in range(len(self.layout.workload.units))
            if self.layout.stands(Holds.STATE, unit)
            for piece in self.layout.pieces(Holds.STATE, unit)
        }

    # --- what kernels read ---

    def own(self, layer: int, *, inference: bool = False) -> Parts:
        """Return the numbers of ``layer`` by part; of the inference copy where there is one."""
        workload = self.layout.workload
        if int(workload.unit_of_layer[layer]) < 0:
            return {}
        unit, name = self.layout.owner(layer), workload.layers[layer].name
        copied = inference and self.layout.is_copied(unit.index)
        if unit.layer != layer:
            if copied or name != self.layout.norm_of(unit):
                return {}
            return {key.rsplit(".", 1)[1]: self._affine(unit, key) for key in self._affine_keys(unit)}
        if copied:
            return self._copy(unit)
        found = {"weight": self._weight(unit)}
        if not self.layout.norm_of(unit) and unit.bias_params:
            found["bias"] = self._affine(unit, f"{unit.name}.bias")
        return found

    def _copy(self, unit: Unit) -> Parts:
        found = {"weight": self._get(Holds.COPY_WEIGHT, unit.index, f"{unit.name}.weight")}
        if unit.bias_params:
            found["bias"] = self._get(Holds.COPY_AFFINE, unit.index, f"{unit.name}.bias")
        return found

    def _weight(self, unit: Unit) -> Array:
        key, channels = f"{unit.name}.weight", self.layout.chosen(unit.index)
        if channels is None:
            learns = self.layout.weights(unit)[0] is not None and not self.layout.is_frozen(unit.index)
            return self._get(Holds.LEARNING_WEIGHT if learns else Holds.FROZEN_WEIGHT, unit.index, key)
        parts = (self._get(holds, unit.index, key) for holds in (Holds.LEARNING_WEIGHT, Holds.FROZEN_WEIGHT))
        learning, frozen = parts
        return self.layout.weighted(unit).joined(learning, frozen, channels, self.layout.weight_shape(unit))

    def _affine_keys(self, unit: Unit) -> list[str]:
        return [piece.key for piece in (*self.layout.affine(unit), *self.layout.statistics(unit))]

    def _affine(self, unit: Unit, key: str) -> Array:
        pieces = self.layout.pieces(Holds.LEARNING_AFFINE, unit.index)
        learns = any(piece.key == key for piece in pieces)
        return self._get(Holds.LEARNING_AFFINE if learns else Holds.FROZEN_AFFINE, unit.index, key)

    def follow(self, layer: int, statistics: Parts) -> None:
        """Write running statistics that a norm's forward pass changed."""
        unit, name = self.layout.owner(layer), self.layout.workload.layers[layer].name
        for part, values in statistics.items():
            self._put(Holds.LEARNING_AFFINE, unit.index, f"{name}.{part}", values)

    # --- what the update reads and writes ---

    def learning(self, index: int, key: str) -> Array:
        """Return the learning numbers of ``key`` as their buffer holds them."""
        return self._get(self._buffer(key), index, key)

    def learned(self, index: int, key: str, values: Array) -> None:
        """Write the learning numbers of ``key``."""
        self._put(self._buffer(key), index, key, values)

    def state(self, index: int, key: str) -> tuple[Array, ...]:
        """Return the words of optimiser state of ``key``."""
        pieces, dtype = self.layout.pieces(Holds.STATE, index), self.dtype(Holds.STATE, index)
        words = range(int(self.layout.spec.state_per_parameter[0]))
        return tuple(self.buffers.piece(Holds.STATE, index, pieces, key, dtype, word) for word in words)

    def put_words(self, index: int, key: str, state: Sequence[Array]) -> None:
        """Write the words of optimiser state of ``key``."""
        pieces, dtype = self.layout.pieces(Holds.STATE, index), self.dtype(Holds.STATE, index)
        for word, values in enumerate(state):
            self.buffers.put_piece(Holds.STATE, index, pieces, key, values, dtype, word)

    @staticmethod
    def _buffer(key: str) -> Holds:
        return Holds.LEARNING_WEIGHT if key.endswith(".weight") else Holds.LEARNING_AFFINE
