"""Sizes of the inputs: the batch fixed, other open axes asked for by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dse.errors import Problem, UserError, allowed_names
from dse.workload.base import Shape
from dse.workload.model.limits import MOST_ELEMENTS, clean_name
from dse.workload.onnx.document import Claim, FileGraph, FileNode

_BATCH_WORDS: Final = ("n", "b", "bs", "none", "?")

_RECURRENT: Final = ("LSTM", "GRU", "RNN")

_AXES_STAY: Final = (
    "Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear", "Relu", "Tanh", "Sigmoid", "Add",
    "Mul", "MatMul", "LayerNormalization",
)  # fmt: skip


@dataclass
class Sizes:
    """Input name -> shape and batch axis; ``names`` gives the size of each open axis by its name."""

    shapes: dict[str, Shape | None] = field(default_factory=dict)
    batches: dict[str, int | None] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    batch_size: int = 1
    notes: list[str] = field(default_factory=list)


def axis_name(claim: Claim, axis: int) -> str | None:
    """Name of an open axis: the file's own, else the input's name and the place; None for a fixed axis."""
    size = (claim.dims or ())[axis]
    if isinstance(size, int):
        return None
    return clean_name(size) if size else f"{clean_name(claim.name)}_{axis}"


def resolve(file: str, graph: FileGraph, inputs: Sequence[Claim], axes: Mapping[str, int]) -> Sizes:
    """Return the sizes of all inputs; raises UserError with every axis that is open, and every unknown name.

    ``axes`` gives sizes of open axes by name. The batch axis of an input is the one whose name says so, the
    one that recurrent layers read as such, else the first; one sample is counted whatever it holds.
    """
    sizes = Sizes()
    readers = _Readers(graph)
    batches = {claim.name: _batch_axis(readers, claim, axes) for claim in inputs}
    problems = _unknown(file, inputs, batches, axes)
    axes = {name: size if type(size) is int else 1 for name, size in axes.items()}
    sizes.batch_size = _batch_size(inputs, batches, axes)
    for claim in inputs:
        batch = batches[claim.name]
        if batch is not None and (claim.dims or ())[batch] not in (sizes.batch_size, *_open(claim, batch)):
            batch = None  # another input fixed the batch; this axis holds something else
        sizes.batches[claim.name] = batch
        sizes.shapes[claim.name] = _shape(file, claim, batch, axes, sizes, problems)
    if problems:
        raise UserError(problems)
    sizes.notes += _notes(inputs, sizes)
    return sizes


def _open(claim: Claim, axis: int) -> tuple[int | str | None, ...]:
    return (claim.dims or ())[axis : axis + 1] if axis_name(claim, axis) else ()


def _shape(file: str, claim: Claim, batch: int | None, axes: Mapping[str, int], sizes: Sizes,
           problems: list[Problem]) -> Shape | None:  # fmt: skip
    if claim.dims is None:
        return None
    found: list[int] = []
    for axis, size in enumerate(claim.dims):
        name = axis_name(claim, axis)
        if name is None:
            found.append(size if isinstance(size, int) else 0)
            continue
        value = sizes.batch_size if axis == batch else axes.get(name)
        if value is None:
            where = f"axis {axis} of input {clean_name(claim.name)!r} has no size in the file"
            problems.append(Problem(file, f"axis.{name}", where, f"give it, as axis.{name}=N"))
        found.append(value or 1)
        sizes.names.setdefault(size if isinstance(size, str) else name, value or 1)
    if any(not 0 < size < MOST_ELEMENTS for size in found):
        problems.append(
            Problem(file, f"input {clean_name(claim.name)}", f"shape {found}", "sizes that a tensor has")
        )
    return tuple(found)


def _unknown(
    file: str, inputs: Sequence[Claim], batches: Mapping[str, int | None], axes: Mapping[str, int]
) -> list[Problem]:
    known = list(dict.fromkeys(name for claim in inputs for name in _names(claim)))
    problems = []
    for name, size in axes.items():
        if name not in known:
            problems.append(Problem(file, f"axis.{name}", "no such axis", allowed_names(name, known)))
        elif type(size) is not int or not 0 < size < 2**31:
            problems.append(Problem(file, f"axis.{name}", f"size {size!r}", "a whole number from 1"))
    return problems


def _names(claim: Claim) -> Iterator[str]:
    for axis in range(len(claim.dims or ())):
        name = axis_name(claim, axis)
        if name is not None:
            yield name


def _batch_size(inputs: Sequence[Claim], batches: Mapping[str, int | None], axes: Mapping[str, int]) -> int:
    """Samples in the batch: what the file fixes, or the user gives; one where nobody says."""
    for claim in inputs:
        batch = batches[claim.name]
        if batch is not None and claim.dims is not None:
            name = axis_name(claim, batch)
            size = claim.dims[batch] if name is None else axes.get(name, 1)
            return size if isinstance(size, int) and size > 0 else 1
    return 1


def _batch_axis(readers: _Readers, claim: Claim, axes: Mapping[str, int]) -> int | None:
    dims = claim.dims or ()
    named = [axis for axis, size in enumerate(dims) if isinstance(size, str) and _says_batch(size)]
    if named:
        return named[0]
    found = readers.batch(claim.name)
    if found is not None and found < len(dims):
        return found
    # A vector has no batch unless it is left open; an axis that the user gives a size is none either.
    if len(dims) < 2 and not (dims and axis_name(claim, 0)):
        return None
    return None if axis_name(claim, 0) in axes else 0


def _says_batch(name: str) -> bool:
    return "batch" in name.lower() or name.lower() in _BATCH_WORDS


@dataclass
class _Readers:
    """Who reads a tensor; follows it a few steps, within a budget for the whole file."""

    graph: FileGraph
    left: int = 10_000
    by_name: dict[str, list[FileNode]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(node.op in _RECURRENT for node in self.graph.nodes):
            for node in self.graph.nodes:
                for name in dict.fromkeys(node.inputs[:7]):
                    self.by_name.setdefault(name, []).append(node)

    def batch(self, name: str, depth: int = 4) -> int | None:
        """Batch axis that a recurrent layer gives to a tensor which reaches it with its axes in place."""
        for node in self.by_name.get(name, ()):
            self.left -= 1
            place = node.inputs.index(name)
            if node.op in _RECURRENT and place in (0, 5, 6):
                return int(not node.attributes.get("layout", 0))
            if place or not depth or self.left < 0 or node.op not in (*_AXES_STAY, "Transpose"):
                continue
            found = self.batch(node.outputs[0], depth - 1) if node.outputs else None
            order = node.attributes.get("perm")
            if (
                found is not None
                and node.op == "Transpose"
                and isinstance(order, tuple)
                and found < len(order)
            ):
                found = order[found] if isinstance(order[found], int) else None
            if found is not None and found >= 0:
                return found
        return None


def _notes(inputs: Sequence[Claim], sizes: Sizes) -> Iterator[str]:
    for claim in inputs:
        batch = sizes.batches[claim.name]
        size = None if batch is None else (claim.dims or ())[batch]
        if batch is None or size == 1:
            continue
        where = f"axis {batch} of input {clean_name(claim.name)!r}"
        if isinstance(size, int):
            yield f"{where} holds {size} and is taken as the batch; one sample is counted"
        else:
            said = f"({clean_name(size)}) " if size else ""
            yield f"{where} {said}is the batch; fixed to 1"
