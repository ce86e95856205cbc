"""From calls of torch's graph to nodes: constants are computed, known operators converted, others listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from dse.workload.base import Shape
from dse.workload.model import limits
from dse.workload.model.graph import UNKNOWN, Constant, Node
from dse.workload.torch import constants
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.operators import CONVERTERS
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Malformed, Unsupported
from dse.workload.torch.tensors import Meta
from dse.workload.torch.values import Shapeless, Tensor, Value

CONTRADICTIONS: Final = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, MemoryError)
"""What arguments that contradict each other lead to; each is reported as a fault of its call."""

IN_PLACE: Final = "is written in place, which the graph of values does not show"


def convert(c: Conversion, calls: Sequence[Call]) -> None:
    """Convert every call in its order; raises Malformed where one reads what nothing makes before it."""
    for call in calls:
        if not call.outputs:
            continue  # checks, and sizes: those are known from the symbols
        missing = [ref for ref in call.refs() if ref not in c.values]
        if missing:
            raise Malformed(f"{call.name[:60]} reads {missing[0][:60]!r}, which nothing makes before it")
        found = _converted(c, call)
        for name, value in zip(call.outputs, found, strict=False):
            c.values[name] = value
        for name in call.outputs[len(found) :]:
            c.values[name] = _unread(c, name, found)
        _rebind(c, call)


def _unread(c: Conversion, name: str, found: Sequence[Value]) -> Value:
    """Return what stands for an output that the converter does not give, such as the indices of a pool."""
    first = found[0]
    if isinstance(first, Tensor):
        return Shapeless(first.producer, (), None)
    return replace(first, shape=c.declared.get(name) or (), values=None, quantisation=None)


def _converted(c: Conversion, call: Call) -> Sequence[Value]:
    if all(isinstance(c.values[ref], Constant) for ref in call.refs()) and not _is_pair(call):
        return _constant(c, call)
    before = len(c.nodes)
    try:
        converter = CONVERTERS.get(call.operator) or CONVERTERS.get(call.operator.removesuffix("_"))
        if converter is None:
            raise Unsupported("")
        found = converter(c, call)
    except CONTRADICTIONS as error:
        while len(c.nodes) > before:
            c.nodes.popitem()
        _report(c, call, error)
        return _unknown(c, call)
    values = [found] if isinstance(found, Tensor | Constant) else list(found)
    _compare(c, call, values)
    return values


def _is_pair(call: Call) -> bool:
    return call.operator.startswith("quantized_decomposed.") and call.operator in CONVERTERS


def _report(c: Conversion, call: Call, error: Exception) -> None:
    where = limits.clean_name(f"{call.name} ({call.operator})")
    reason = limits.clean_name(str(error)) if str(error) else type(error).__name__
    if isinstance(error, Unsupported):
        if str(error):
            c.notes[f"{where}: {reason}"] += 1
    else:
        c.faults.append(f"{where}: {reason}")


def _constant(c: Conversion, call: Call) -> Sequence[Value]:
    """Return what a call makes of constants alone."""

    def read(name: str) -> Constant:
        found = c.of(name)
        if not isinstance(found, Constant):
            raise Malformed(f"{name[:60]} is no constant")
        return found

    declared = c.declared.get(call.outputs[0])
    try:
        if call.operator in constants.SPLITS and read(call.refs()[0]).values is not None:
            return constants.parts(call, read)
        found = constants.evaluate(call, read, declared)
        c.spend(found)
    except CONTRADICTIONS as error:
        _report(c, call, error)
        return [Constant(limits.clean_name(call.name), declared or (), "generated", 0, None)]
    if found.values is None and found.stored_bytes:
        c.notes[f"numbers computed by {limits.clean_name(call.operator)} are not known"] += 1
    return [found]


def _unknown(c: Conversion, call: Call) -> Sequence[Value]:
    """List a call that nothing here knows, with its constants and the shapes that the file states."""
    held = {f"operand_{place}": c.values[ref] for place, ref in enumerate(call.refs())}
    parameters = {name: value for name, value in held.items() if isinstance(value, Constant)}
    tensors = [value for value in held.values() if isinstance(value, Tensor)]
    found: list[Value] = []
    for place, output in enumerate(call.outputs):
        shape = c.declared.get(output)
        name = c.free_name(f"{call.name}.{place}" if place else call.name)
        batch = _batch(tensors, shape)
        own = None if shape is None else shape if batch is None else shape[:batch] + shape[batch + 1 :]
        producers = tuple(tensor.producer for tensor in tensors)
        source = limits.clean_name(call.operator)
        numbers = {key: value for key, value in call.arguments.items() if isinstance(value, int | float)}
        c.nodes[name] = Node(name, UNKNOWN, producers, own, source, numbers, {} if place else parameters)
        if shape is None:
            c.faults.append(f"{name}: its shape cannot be known")
            found.append(Shapeless(name, (), None))
        else:
            found.append(Tensor(name, shape, batch))
    return found


def _batch(tensors: Sequence[Tensor], shape: tuple[int, ...] | None) -> int | None:
    """Return the axis of ``shape`` that is the batch: where the first input has it, if it is 1 there."""
    for tensor in tensors:
        place = tensor.batch
        if shape is not None and place is not None and place < len(shape) and shape[place] == 1:
            return place
    return None


def _compare(c: Conversion, call: Call, values: Sequence[Value]) -> None:
    """Note a fault where the file states another shape than the operation gives."""
    for name, value in zip(call.outputs, values, strict=False):
        stated = c.declared.get(name)
        if stated is not None and value.shape != stated and c.batch_size == 1:
            where = limits.clean_name(f"{call.name} ({call.operator})")
            c.faults.append(f"{where}: gives {list(value.shape)}, the file states {list(stated)}")
            return


def _rebind(c: Conversion, call: Call) -> None:
    """Let later readers of what a call has overwritten read its result."""
    if not call.operator.endswith("_") or call.operator.endswith("__"):
        return
    target = call.refs()[:1]
    if not target:
        return
    if call.operator not in CONVERTERS and call.operator.removesuffix("_") not in CONVERTERS:
        if not isinstance(c.values[target[0]], Constant):
            c.faults.append(limits.clean_name(f"{call.name} ({call.operator})") + f": {IN_PLACE}")
        return
    c.values.overwrite(target[0], call.outputs[0])


def declared_shapes(
    tables: Mapping[str, Meta], symbols: Mapping[str, int], batch_size: int
) -> dict[str, Shape | None]:
    """Return the shapes that the file states as they are for one sample; None where a symbol has no value."""
    found: dict[str, Shape | None] = {}
    for name, table in tables.items():
        try:
            shape = table.shape(symbols)
        except Malformed:
            found[name] = None
            continue
        single = shape and batch_size > 1 and shape[0] == batch_size
        found[name] = (1, *shape[1:]) if single else shape
    return found
