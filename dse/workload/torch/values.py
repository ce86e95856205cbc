"""What values of torch's graph have become: constants, or tensors that depend on the input."""

from __future__ import annotations

from dataclasses import dataclass

from dse.workload.base import Shape
from dse.workload.model.graph import Constant
from dse.workload.torch.structure import Malformed, Unsupported


@dataclass(frozen=True)
class Tensor:
    """A value that depends on the input: who makes it, its whole shape, and which axis is the batch (of 1).

    ``batch`` is None where a reshape has merged the batch into another axis: as it is 1, nothing is lost.
    """

    producer: str
    shape: Shape
    batch: int | None

    @property
    def own(self) -> Shape:
        """The shape without the batch axis."""
        return without(self.shape, self.batch)

    def axis(self, whole: int) -> int:
        """Return an axis of the whole shape (negative: from the end) as an axis of the own shape."""
        place = self.whole(whole)
        if place == self.batch:
            raise Unsupported("works along the batch")
        return place - (self.batch is not None and self.batch < place)

    def whole(self, axis: int) -> int:
        """Return a possibly negative axis of the whole shape, checked."""
        rank = len(self.shape)
        if not -rank <= axis < rank:
            raise Malformed(f"axis {axis} of a tensor of {rank} axes")
        return axis % rank


@dataclass(frozen=True)
class Shapeless(Tensor):
    """A value of unknown shape: readers of it are unknown in turn, but the graph stays connected."""


Value = Tensor | Constant


def without(shape: Shape, axis: int | None) -> Shape:
    """Return ``shape`` without one axis; all of it where that is None."""
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]


class Values:
    """Values by name; names of one object share a place, so that writing in place reaches them all."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._held: list[Value] = []
        self._place_of: dict[int, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> Value:
        return self._held[self._places[name]]

    def get(self, name: str) -> Value | None:
        """Return what ``name`` stands for; None where nothing made it."""
        return self[name] if name in self._places else None

    def __setitem__(self, name: str, value: Value) -> None:
        place = self._place_of.setdefault(id(value), len(self._held))
        if place == len(self._held):
            self._held.append(value)
        self._places[name] = place

    def overwrite(self, name: str, result: str) -> None:
        """Let every name of the value of ``name`` stand for that of ``result``: it was written in place."""
        place, value = self._places[name], self[result]
        self._place_of.pop(id(self._held[place]), None)  # the object may go, and another take its identity
        self._held[place] = value
        self._place_of[id(value)] = self._places[result] = place
