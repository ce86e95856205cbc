"""Groups the layers of a network into units, and checks what depends on them: its output and its cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dse.errors import Problem
from dse.vocabulary import Saved
from dse.workload.base import elements, shape_text
from dse.workload.convolutions import Convolution
from dse.workload.graph import Unit, Workload


def with_units(workload: Workload) -> Workload:
    """Return ``workload`` with its units."""
    members: dict[int, list[int]] = {}
    for index, owner in enumerate(_owners(workload)):
        members.setdefault(owner, []).append(index)
    members.pop(-1, None)  # what stands before the first unit
    units = [_unit(workload, number, *own) for number, own in sorted(members.items())]
    if units:
        units[-1] = replace(units[-1], cut_layer=workload.inputs[units[-1].layer][0])
    return replace(workload, units=tuple(units))


def _owners(workload: Workload) -> list[int]:
    """Unit of each layer: its own, or the latest among those that it reads (-1: none yet)."""
    owner: list[int] = []
    count = 0
    for layer, producers in zip(workload.layers, workload.inputs, strict=True):
        if layer.operator is not None:
            owner.append(count)
            count += 1
        else:
            owner.append(max(owner[producer] if producer >= 0 else -1 for producer in producers))
    return owner


def _unit(workload: Workload, number: int, index: int, *followers: int) -> Unit:
    layer, layers = workload.layers[index], workload.layers
    shapes = [workload.shape_of(producer) for producer in workload.inputs[index]]
    normed = any(layers[other].saves == Saved.NORM for other in followers)
    output = workload.shapes[index]
    bias = layer.bias_params(*shapes)
    return Unit(
        index=number,
        name=layer.name,
        layer=index,
        followers=followers,
        operator=layer.operator_on(*shapes) or "",
        macs=layer.macs(*shapes)["fwd"],
        weight_params=layer.weight_params(*shapes),
        bias_params=output[0] if normed else bias,
        norm_channels=output[0] if normed else 0,
        in_channels=shapes[0][0],
        out_channels=output[0],
        input_elements=elements(shapes[0]),
        output_elements=elements(output),
        kernel=layer.geometry(*shapes)[2] if isinstance(layer, Convolution) else (1,),
        cut_layer=_cut_layer(workload, index, followers),
    )


def _cut_layer(workload: Workload, index: int, followers: Sequence[int]) -> int:
    """Last follower before the first that pools, flattens or ends the network."""
    for follower in followers:
        if workload.layers[follower].ends_unit:
            break
        index = follower
    return index


def single_tensor_cuts(workload: Workload) -> tuple[int, ...]:
    """Units at which exactly one tensor crosses, and it is the one that a cut there stores.

    What lies behind a cut learns: no layer that runs forward only does.
    """
    lowest = max(workload.forward_only, default=-1)
    return tuple(
        unit.index
        for unit in workload.units
        if unit.cut_layer >= lowest and workload.crossing(unit.index) == (unit.cut_layer,)
    )


def output_problems(file: str, workload: Workload) -> list[Problem]:
    """Problems of the network's end: no unit, dead ends, an output of another size than promised."""
    if not workload.units:
        return [Problem(file, "layers", "no conv and no linear layer", "a network has something to train")]
    read = {producer for producers in workload.inputs for producer in producers}
    ends = [index for index in range(len(workload.layers)) if index not in read]
    if len(ends) > 1:
        names = ", ".join(workload.layers[index].name for index in ends)
        return [Problem(file, "layers", f"{len(ends)} outputs: {names}", "a network has one output")]
    if workload.forward_only and workload.units[-1].cut_layer < workload.forward_only[-1]:
        found = f"{workload.last_forward_only} runs forward only, and nothing behind it can learn"
        rule = "a conv or linear layer behind it; leave out what follows that"
        return [Problem(file, "layers", found, rule)]
    shape = workload.shapes[ends[0]]
    if shape != (workload.classes,):
        found = f"the last layer, {workload.layers[ends[0]].name}, gives {shape_text(shape)}"
        return [Problem(file, "layers", found, f"the file promises a vector of {workload.classes}")]
    return []


def cut_problems(file: str, workload: Workload, cuts: Sequence[int]) -> list[Problem]:
    """Problems of the listed cuts; each names the units at which a cut is legal."""
    legal = single_tensor_cuts(workload)
    allowed = f"a single tensor crosses at units {', '.join(map(str, legal)) or 'none'}"
    problems = []
    for cut in dict.fromkeys(cuts):
        if cut not in legal:
            problems.append(Problem(file, "legal_cuts", workload.refusal(cut), allowed))
        if cuts.count(cut) > 1:
            found = f"{cut} stands {cuts.count(cut)} times"
            problems.append(Problem(file, "legal_cuts", found, "once is enough"))
    if not cuts:
        problems.append(Problem(file, "legal_cuts", "an empty list", allowed))
    return problems
