"""Tensors of a graph as the converters of operators see them: names, shapes, constants, whole numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.workload.base import Shape
from dse.workload.model import Constant, Quantisation
from dse.workload.model.graph import INPUT_PREFIX
from dse.workload.model.limits import MOST_ELEMENTS, MOST_VALUES, clean_name
from dse.workload.tflite.flat import Graph, Tensor
from dse.workload.tflite.stored import (
    Unreadable,
    element_type,
    quantisation,
    raw_values,
    real_values,
    stored_bytes,
)

MOST_FAULTS: Final = 50
"""Lines of faults; what comes after is counted."""

LONGEST_FAULT: Final = 400
"""Characters of one fault."""

MOST_WHOLE_NUMBERS: Final = 256
"""Entries of a tensor that says a shape, axes or pads."""


@dataclass(frozen=True)
class Value:
    """A computed tensor: who computes it, and its shape with all axes of the file.

    ``batched`` says whether the first axis is the batch, which is 1; ``full`` is None where it is not known.
    """

    producer: str
    full: Shape | None
    batched: bool

    @property
    def shape(self) -> Shape | None:
        """Shape without the batch axis."""
        return self.full[1:] if self.full is not None and self.batched else self.full


class Names:
    """Hands out printable names, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: Counter[str] = Counter()

    def new(self, text: str) -> str:
        """Return ``text`` cleaned and, where it is taken, numbered.

        >>> names = Names()
        >>> names.new("a"), names.new("a"), names.new("a~2")
        ('a', 'a~2', 'a~2~2')
        """
        base = name = clean_name(text)
        while name in self._taken:
            self._next[base] += 1
            name = f"{base}~{self._next[base] + 1}"
        self._taken.add(name)
        return name

    def free(self, name: str) -> None:
        """Make a name available again."""
        self._taken.discard(name)


class Report:
    """Notes and faults, each once, and faults only as many as people read."""

    def __init__(self) -> None:
        self.notes: dict[str, None] = {}
        self.counted: Counter[str] = Counter()
        self._faults: dict[str, None] = {}
        self._more = 0

    def note(self, text: str) -> None:
        """Add a fact for the reader."""
        self.notes[text] = None

    def count(self, text: str) -> None:
        """Add a fact that is said once with how often it holds."""
        self.counted[text] += 1

    def fault(self, text: str) -> None:
        """Add what could not be read."""
        text = text if len(text) <= LONGEST_FAULT else f"{text[:LONGEST_FAULT]} ..."
        if len(self._faults) < MOST_FAULTS:
            self._faults[text] = None
        elif text not in self._faults:
            self._more += 1

    def all_notes(self) -> tuple[str, ...]:
        """Return every note as a line."""
        return (*self.notes, *(f"{text}: {number}" for text, number in self.counted.items()))

    def all_faults(self) -> tuple[str, ...]:
        """Return every fault as a line."""
        return (*self._faults, *([f"and {self._more} more faults"] if self._more else []))


class Tensors:
    """The tensors of one graph: which are computed, which are constant, and what is known of them."""

    def __init__(self, graph: Graph, file: str) -> None:
        self.graph, self.file = graph, file
        self.names, self.report = Names(), Report()
        self.values: dict[int, Value] = {}
        self.derived: dict[int, Constant] = {}
        self.evaluated: dict[int, NDArray[np.int64]] = {}
        self.batch = 1
        self._constants: dict[int, Constant] = {}
        self._numbers = 0

    # --- shapes ---

    def stored_full(self, index: int) -> Shape | None:
        """Shape that the file gives, its batch fixed to 1; None where it is dynamic or none."""
        tensor = self.graph.tensors[index]
        if not tensor.signature or min(tensor.shape) < 1 or min(tensor.signature[1:], default=1) < 0:
            return None
        first = tensor.signature[0]
        shape = (1 if first < 0 or first == self.batch else first, *tensor.shape[1:])
        return shape if prod(shape) <= MOST_ELEMENTS else None

    def scheme(self, index: int, *, batched: bool) -> Quantisation | None:
        """Quantisation of a computed tensor; what is wrong with it is a fault."""
        tensor = self.graph.tensors[index]
        try:
            found = quantisation(tensor, tensor.shape)
        except Unreadable as error:
            self.report.fault(str(error))
            return None
        if found is None or found.axis is None or not batched:
            return found
        return replace(found, axis=found.axis - 1) if found.axis else None

    # --- constants ---

    def is_constant(self, index: int) -> bool:
        """Whether a tensor is no result of an operator and no input."""
        return index not in self.values

    def constant(self, index: int) -> Constant:
        """Return a constant tensor; without numbers where the file has none that can be read."""
        if index in self.derived:
            return self.derived[index]
        if index not in self._constants:
            self._constants[index] = self._constant(self.graph.tensors[index])
        return self._constants[index]

    def _constant(self, tensor: Tensor) -> Constant:
        if tensor.index in self.evaluated:
            numbers = self.evaluated[tensor.index]
            name = clean_name(tensor.name or f"tensor {tensor.index}")
            return Constant(name, numbers.shape, "int32", 0, numbers.astype(np.float32))
        elements = prod(tensor.shape)
        if elements > MOST_ELEMENTS:
            raise Unreadable(f"tensor {tensor.index} claims {elements} elements")
        kind = element_type(tensor)
        size = stored_bytes(elements, kind.bits) if tensor.data is None else len(tensor.data)
        name = clean_name(tensor.name or f"tensor {tensor.index}")
        bare = Constant(name, tensor.shape, kind.word, size)
        if tensor.data is None:
            self.report.count("constant tensors without numbers in the file, which interpreters refuse")
            return bare
        try:
            return self._filled(bare, tensor)
        except Unreadable as error:
            self.report.fault(str(error))
            return bare

    def _filled(self, bare: Constant, tensor: Tensor) -> Constant:
        if tensor.sparse is not None:
            self.report.count("constants stored sparsely, read with their zeros")
            self.charge(bare.elements)
        stored = raw_values(tensor)  # a view: nothing is copied before the numbers are counted
        if tensor.sparse is None:
            self.charge(bare.elements)
        scheme = quantisation(tensor, tensor.shape)
        values = real_values(stored, scheme)
        if not np.all(np.isfinite(values)):
            raise Unreadable(f"tensor {tensor.index} has NaN or infinite numbers")
        return replace(bare, values=values, quantisation=scheme)

    def charge(self, elements: int) -> None:
        """Count numbers that take memory; raises UserError where there are too many."""
        self._numbers += elements
        if self._numbers > MOST_VALUES:
            found = f"its constants hold more than {MOST_VALUES} numbers"
            raise UserError(Problem(self.file, "", found, "a model for a microcontroller holds fewer"))

    # --- whole numbers that say shapes, axes and pads ---

    def whole_numbers(self, index: int) -> NDArray[np.int64]:
        """Return the whole numbers of a tensor that is constant, or computed from shapes alone.

        Raises Unreadable where they depend on what flows through the network.
        """
        if index in self.evaluated:
            return self.evaluated[index]
        tensor = self.graph.tensors[index]
        if not self.is_constant(index) or tensor.data is None or not element_type(tensor).whole:
            raise Unreadable(f"tensor {index} has to be constant whole numbers")
        if prod(tensor.shape) > MOST_WHOLE_NUMBERS:
            raise Unreadable(f"tensor {index} has more than {MOST_WHOLE_NUMBERS} entries")
        return raw_values(tensor).astype(np.int64)


def settle_inputs(tensors: Tensors, axes: Mapping[str, int]) -> tuple[tuple[str, Shape, int], ...]:
    """Make the inputs of the graph known: their names, shapes without batch and tensor indices.

    ``axes`` gives sizes of dynamic axes as ``inputname.axisnumber``, counted as in the file, batch 0. Raises
    UserError with every axis that is missing, and every entry that no input has.
    """
    asked = dict(axes)
    problems: list[Problem] = []
    found = [_settle(tensors, index, asked, problems) for index in dict.fromkeys(tensors.graph.inputs)]
    dynamic = ", ".join(sorted(set(axes) - set(asked))) or "none is dynamic besides the batch"
    for key in asked:
        problems.append(
            Problem(tensors.file, f"axis {key}", "no dynamic axis of the model", f"dynamic: {dynamic}")
        )
    if problems:
        raise UserError(problems)
    return tuple(found)


def _settle(
    tensors: Tensors, index: int, asked: dict[str, int], problems: list[Problem]
) -> tuple[str, Shape, int]:
    tensor = tensors.graph.tensors[index]
    name = tensors.names.new(tensor.name or f"input {index}")
    batched = len(tensor.shape) > 1 and not _counts_time_first(tensors, index)
    sizes = list(tensor.shape)
    if batched:
        _fix_batch(tensors, tensor, name)
        sizes[0] = 1
    else:
        tensors.report.note(f"input {name} is taken as a sample without a batch axis")
    for axis in range(batched, len(sizes)):
        if tensor.signature[axis] < 0:
            sizes[axis] = _asked(f"{name}.{axis}", asked, tensors.file, problems)
    if min(sizes, default=1) < 1 or prod(sizes) > MOST_ELEMENTS:
        problems.append(Problem(tensors.file, name, f"shape {list(tensor.shape)}", "an input holds numbers"))
    full = tuple(sizes)
    tensors.values[index] = Value(f"{INPUT_PREFIX}{name}", full, batched)
    return name, full[1:] if batched else full, index


def _counts_time_first(tensors: Tensors, index: int) -> bool:
    """Whether a recurrent layer says that the first axis of an input is time."""
    readers = (item for item in tensors.graph.operators if item.inputs[:1] == (index,))
    return any((reader.options or {}).get("TimeMajor", False) for reader in readers)


def _fix_batch(tensors: Tensors, tensor: Tensor, name: str) -> None:
    if tensor.signature[0] < 0:
        tensors.report.note(f"input {name}: the dynamic batch is fixed to 1")
    elif tensor.shape[0] > 1:
        tensors.report.note(f"input {name}: the batch of {tensor.shape[0]} is fixed to 1")
        tensors.batch = tensor.shape[0]


def _asked(key: str, asked: dict[str, int], file: str, problems: list[Problem]) -> int:
    """Take the size of a dynamic axis out of ``asked``."""
    size = asked.pop(key, None)
    if size is None:
        allowed = f"give its size: axis {key} (name of the input, then the number of its axis, batch is 0)"
        problems.append(Problem(file, f"axis {key}", "dynamic in the file", allowed))
        return 1
    if type(size) is not int or not 1 <= size <= MOST_ELEMENTS:
        problems.append(Problem(file, f"axis {key}", repr(size), "must be a whole number from 1"))
        return 1
    return size
