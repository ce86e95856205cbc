"""From a model as its file describes it to a network of the planner with the file's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.workload.base import elements, shape_text
from dse.workload.build import EVERY, INPUT, Assembly, build_workload
from dse.workload.forward_only import VIEW, ForwardOnly
from dse.workload.graph import Workload
from dse.workload.model import elements as element
from dse.workload.model import moving, weighted
from dse.workload.model.choice import Choice, choose, no_vector
from dse.workload.model.emission import NO_SHAPE, Emission, Value, shape_of
from dse.workload.model.fold import Weights
from dse.workload.model.graph import ELEMENT_OPERATIONS, Constant, Model, Node, Quantisation, is_same
from dse.workload.model.head import with_classes
from dse.workload.model.options import ImportOptions, Lowered
from dse.workload.parameters import parameter_shapes

Single = Callable[[Emission, Node, Value], Value]
Several = Callable[[Emission, Node, Sequence[Value]], Value]

SINGLE: Final[Mapping[str, Single]] = {
    **dict.fromkeys(ELEMENT_OPERATIONS, element.activation),
    **dict.fromkeys(element.ACTIVATIONS, element.activation),
    "conv": weighted.conv,
    "linear": weighted.linear,
    "batch_norm": weighted.batch_norm,
    "conv_transpose": weighted.conv_transpose,
    "max_pool": element.pool,
    "avg_pool": element.pool,
    "global_avg_pool": element.global_pool,
    "reduce": element.reduce,
    "softmax": element.softmax,
    "reshape": moving.reshape,
    "transpose": moving.transpose,
    "pad": moving.pad,
    "resize": moving.resize,
}
"""Operations on one tensor."""

SEVERAL: Final[Mapping[str, Several]] = {
    **dict.fromkeys(("add", "multiply", "subtract", "divide", "minimum", "maximum", "power"), element.binary),
    **dict.fromkeys(("slice", "gather", "tile"), moving.copied),
    **dict.fromkeys(("lstm", "gru", "rnn"), element.recurrent),
    "matmul": element.matmul,
    "concat": moving.concat,
}
"""Operations on one tensor or more; what is in neither table is unknown."""


def lower(model: Model, options: ImportOptions | None = None) -> Lowered:
    """Return the network that a model file describes, with its numbers in the names and shapes of training.

    Parameters
    ----------
    model: what an importer read.
    options: what is chosen, changed or folded; the model as it is unless given.

    Raises UserError with everything that keeps the model from being a network.

    """
    options = options or ImportOptions()
    choice = choose(model, options)
    if options.classes is not None:
        nodes, notes = with_classes(choice.nodes, choice.output, options.classes, model.file)
        choice = replace(choice, nodes=nodes, notes=(*choice.notes, *notes))
    emission = Emission(model, choice.nodes, options.batch_norm, (choice.output,))
    emission.take_input(choice.input, INPUT)
    emit(emission)
    classes = _end(emission, choice)
    if emission.problems or classes is None:
        raise UserError(_all_problems(emission, model))
    workload = _built(model, emission, classes)
    parameters = parameters_of(workload, emission)
    notes = (*model.notes, *choice.notes, *emission.notes, *_summary(emission))
    return Lowered(workload, parameters, _quantisation(emission), notes)


def _all_problems(emission: Emission, model: Model) -> list[Problem]:
    """Return the problems of the lowering and the faults of the file, each thing once."""
    said = "\n".join(model.faults)
    own = [one for one in emission.problems if not (one.found.endswith(NO_SHAPE) and repr(one.key) in said)]
    return [*own, *(Problem(model.file, "", fault, "") for fault in model.faults)]


@np.errstate(all="ignore")  # numbers that overflow or are none are refused by name, at the end
def emit(emission: Emission) -> None:
    """Make the layers of every node whose inputs are known; what cannot be made is noted with its reason."""
    for node in emission.nodes:
        values = [emission.values[name] for name in node.inputs if name in emission.values]
        if len(values) < len(node.inputs):
            continue  # named where it began
        try:
            value = _made(emission, node, values)
            shape = shape_of(node)
            if not shape_fits(value, shape):
                found = f"its inputs give {shape_text(value.shape)}"
                raise ValueError(f"{found}, the file says {shape_text(shape) or 'a single number'}")
        except ValueError as error:
            emission.fault(node.name, f"{node.source_operation}: {error}")
            continue
        emission.values[node.name] = value
        _note_output(emission, node, value)
    _settle_biases(emission)


def _made(emission: Emission, node: Node, values: Sequence[Value]) -> Value:
    shape_of(node)
    if node.operation in SEVERAL and values:
        return SEVERAL[node.operation](emission, node, values)
    if node.operation in SINGLE and len(values) == 1:
        return SINGLE[node.operation](emission, node, values[0])
    if node.operation in SINGLE or not values:
        raise ValueError(f"{node.operation} reads {len(values)} tensors")
    return moving.unknown(emission, node, values)


def shape_fits(value: Value, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has as many numbers as the file says, at least one."""
    return elements(value.shape) == elements(shape) > 0


def _note_output(emission: Emission, node: Node, value: Value) -> None:
    """Keep how the file quantises what a layer gives; per channel where the channels stay an axis."""
    found = node.quantisation
    if found is None or (node.name not in emission.made and node.name not in emission.folded):
        return
    if found.axis is None or found.axis == value.axis:
        axis = None if found.axis is None else 0
        emission.quantisation[f"{value.layer}.output"] = replace(found, axis=axis)


def _settle_biases(emission: Emission) -> None:
    for name, weights in emission.weights.items():
        if weights.layer == name:
            emission.layers[name] = replace(emission.layers[name], bias=weights.has_shift)  # type: ignore[call-arg]


def _end(emission: Emission, choice: Choice) -> int | None:
    """Return the length of the vector that the network ends with; None, noted, where there is none."""
    value = emission.values.get(choice.output)
    if value is None:
        return None
    if sum(size > 1 for size in value.file_shape) > 1:
        emission.problems.append(no_vector(emission.model, choice.nodes, choice.output, value.file_shape))
        return None
    end = emission.vector(value)
    if not end.layout.is_plain:
        emission.notes.append(
            f"{choice.output}: the outputs are in the order of channels first, not the file's"
        )
    return end.shape[0]


def _built(model: Model, emission: Emission, classes: int) -> Workload:
    layers = list(emission.layers.values())
    keys = {layer.name: layer.name for layer in layers}
    assembly = Assembly(model.file, layers, emission.shapes[INPUT], keys=keys)
    source = (
        f"imported from {PurePath(model.file).name}, {model.format}, producer {model.producer or 'unknown'}"
    )
    title = f"{model.name}, {shape_text(emission.shapes[INPUT])}, {classes} outputs"
    return build_workload(
        assembly, name=model.name, title=title, source=source, outputs=classes, legal_cuts=EVERY
    )


# --- numbers ---


@np.errstate(all="ignore")
def parameters_of(workload: Workload, emission: Emission) -> dict[str, NDArray[np.float32]]:
    """Return the file's numbers by parameter, checked; raises UserError for what cannot be trained."""
    found: dict[str, NDArray[np.float32]] = {}
    for weights in _records(emission):
        found |= weights.arrays()
    shapes, file = parameter_shapes(workload), emission.model.file
    problems = []
    for name, array in found.items():
        if shapes.get(name) != array.shape:
            rule = f"{shape_text(shapes[name])} are needed" if name in shapes else "no such parameter"
            problems.append(Problem(file, name, f"numbers of {shape_text(array.shape)}", rule))
        elif not np.isfinite(array).all():
            problems.append(Problem(file, name, "NaN or infinite values", "numbers must be finite"))
    if problems:
        raise UserError(problems)
    lacking = [name for name in shapes if name not in found]
    if lacking:
        listed = list(dict.fromkeys(name.rpartition(".")[0] for name in lacking))
        emission.notes.append(f"no numbers in the file for {', '.join(listed)}")
    return {name: np.ascontiguousarray(found[name]) for name in shapes if name in found}


def _records(emission: Emission) -> Iterable[Weights]:
    return (weights for name, weights in emission.weights.items() if weights.layer == name)


def _quantisation(emission: Emission) -> dict[str, Quantisation]:
    """Return the file's quantisation by layer; weights that were scaled have none any more."""
    found = dict(emission.quantisation)
    for weights in _records(emission):
        own = weights.weight.quantisation
        if own is not None and weights.factor is None and own.axis in (None, 0):
            found[f"{weights.layer}.weight"] = own
    return found


def _shared(emission: Emission) -> list[str]:
    """Say which layers share their weights in the file, and do not here."""
    owners: list[tuple[Constant, list[str]]] = []
    for weights in _records(emission):
        weight = weights.weight
        alike = (names for known, names in owners if weight.name == known.name and is_same(weight, known))
        names = next(alike, None) if weight.name else None
        if names is None:
            owners.append((weight, [weights.layer]))
        else:
            names.append(weights.layer)
    rule = "each holds its own here"
    return [f"{', '.join(names)} share their weights in the file; {rule}" for _, names in owners if names[1:]]


def _summary(emission: Emission) -> list[str]:
    """Say what was folded, and what runs forward only."""
    notes = _shared(emission)
    if emission.folded:
        notes.append(f"operations folded into the weights before them: {len(emission.folded)}")
    ahead: dict[str, int] = {}
    for layer in emission.layers.values():
        if isinstance(layer, ForwardOnly) and layer.operation != VIEW:
            ahead[layer.operation] = ahead.get(layer.operation, 0) + 1
    if ahead:
        listed = ", ".join(f"{count} {word}" for word, count in ahead.items())
        notes.append(f"forward only, with no cut before the last of them: {listed}")
    return notes
