"""One sample: which axis of an input is the batch, and the inputs without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from dse.workload.model import limits
from dse.workload.model.graph import INPUT_PREFIX, ModelInput
from dse.workload.torch.axes import Axes
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.operators.convolutions import CONVOLUTIONS
from dse.workload.torch.operators.recurrent import RECURRENT
from dse.workload.torch.program import Call, Ref
from dse.workload.torch.structure import Malformed
from dse.workload.torch.symbols import size
from dse.workload.torch.tensors import Meta
from dse.workload.torch.values import Tensor


def batch_axes(
    inputs: Sequence[str], calls: Sequence[Call], tables: Mapping[str, Meta]
) -> dict[str, int | None]:
    """Return the batch axis of each input: the first, unless its reader says that there is none or another.

    A recurrent layer without ``batch_first`` has it second; a convolution over n axes that reads n + 1 axes,
    and an input that gets its batch by ``unsqueeze``, have none. Neither has a vector.
    """
    recurrent = [call for call in calls if call.operator in RECURRENT and not call.flag("batch_first")]
    stepwise = {ref for call in recurrent for ref in call.refs()}
    readers: dict[str, list[Call]] = {name: [] for name in inputs}
    for call in calls:
        for ref in call.refs():
            if ref in readers:
                readers[ref].append(call)
    found: dict[str, int | None] = {}
    for name in inputs:
        if name not in tables:
            raise Malformed(f"the input {name[:60]!r} has no shape")
        votes = [_batch_axis(call, name, tables, stepwise) for call in readers[name]]
        found[name] = votes[0] if votes else 0
        if len(tables[name].sizes) < 2:
            found[name] = None
    return found


def _batch_axis(call: Call, name: str, tables: Mapping[str, Meta], stepwise: Set[Ref]) -> int | None:
    rank = len(tables[name].sizes)
    weight = tables.get(str(call.get("weight")))
    if call.operator in RECURRENT and rank == 3:
        return 0 if call.flag("batch_first") else 1
    if call.operator in CONVOLUTIONS and weight is not None and rank == len(weight.sizes) - 1:
        return None
    if call.operator == "aten.unsqueeze":
        axis = call.get("dim")
        sequence = rank == 2 and axis == 1 and not stepwise.isdisjoint(call.outputs)
        return None if axis in (0, -rank - 1) or sequence else 0
    return 0


def batch_size(inputs: Sequence[str], tables: Mapping[str, Meta], batch: Mapping[str, int | None]) -> int:
    """Return how many samples the inputs hold in the file; raises Malformed where they differ."""
    found = set()
    for name in inputs:
        axis = batch[name]
        entry = tables[name].sizes[axis] if axis is not None and axis < len(tables[name].sizes) else None
        if isinstance(entry, dict) and "as_int" in entry:
            found.add(size(entry, {}, name[:60]))
    if len(found) > 1 or any(count < 1 for count in found):
        raise Malformed(f"inputs of different batches: {sorted(found)}")
    return found.pop() if found else 1


def add_inputs(c: Conversion, inputs: Sequence[str], axes: Axes) -> None:
    """Add the inputs of the model, with a batch of one."""
    for name in inputs:
        shape, batch = c.declared[name], axes.batch[name]
        if shape is None or not shape or min(shape) < 1:
            raise Malformed(f"the input {name[:60]!r} has no shape")
        if batch is not None and shape[batch] != 1:
            shape = (*shape[:batch], 1, *shape[batch + 1 :])
        if batch is not None and c.batch_size != 1:
            c.notes[f"the batch of {c.batch_size} became 1"] += 1
        own = limits.clean_name(name, c.inputs)
        tensor = Tensor(INPUT_PREFIX + own, shape, batch)
        c.inputs[own] = ModelInput(own, tensor.own)
        c.values[name] = tensor
    if axes.dynamic_batch:
        c.notes["the dynamic batch became 1"] += 1
