"""Which part of a model becomes the network: its output, the input that reaches it, and what lies between."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from dse.errors import Problem, UnknownName, UserError
from dse.workload.base import Shape, shape_text
from dse.workload.model.crop import without_crops
from dse.workload.model.graph import INPUT_PREFIX, STATE_PREFIX, UNKNOWN, Model, ModelInput, Node
from dse.workload.model.options import ImportOptions

FOLLOWING: Final = ("sigmoid", "tanh", "hard_sigmoid", "clip", "exp", "log")
"""Functions of outputs that a loss or whoever reads the outputs applies."""

_READING: Final = ("argmax", "argmin", "logsoftmax", "topk", "topkv2", "zipmap")
"""Operations, as files call them without ``_`` and domain, that read classes off the outputs."""

_MOST_NAMES: Final = 6
_MOST_READERS: Final = 64


@dataclass(frozen=True)
class Choice:
    """Nodes in order, the input that they begin with, the node that they end with."""

    nodes: tuple[Node, ...]
    input: ModelInput
    output: str
    notes: tuple[str, ...]


def choose(model: Model, options: ImportOptions) -> Choice:
    """Choose what becomes the network; raises UserError where the file leaves that open."""
    by_name = {node.name: node for node in model.nodes}
    asked = _output(model, options.output, by_name)
    output, dropped = _without_followers(asked, by_name)
    notes = [f"left out at the end: {_named(dropped)}; the loss is taken before it"] if dropped else []
    kept = _reaching(output, by_name)
    nodes = tuple(node for node in model.nodes if node.name in kept)
    if len(nodes) + len(dropped) < len(model.nodes):
        rest = [node for node in model.nodes if node.name not in kept and node not in dropped]
        notes.append(f"left out, not on the way to {output}: {_named(rest)}")
    merged, more = without_pads(nodes, (output,), _shapes(model))
    merged, less = without_crops(merged, (output,))
    return Choice(merged, _input(model, kept), output, (*notes, *more, *less))


def _output(model: Model, asked: str | None, by_name: Mapping[str, Node]) -> str:
    if asked is not None:
        if asked not in by_name:
            raise UnknownName("node", asked, by_name, file=model.file, key="output")
        return asked
    found = list(dict.fromkeys(name for name in model.outputs if name in by_name))
    if len(found) != 1:
        what = f"{len(found)} outputs: {names(found)}" if found else "no output that is computed"
        raise UserError(Problem(model.file, "output", what, "choose one by output=NAME"))
    return found[0]


def names(found: Sequence[str]) -> str:
    """List names for people, the last of many."""
    more = "..., " if len(found) > _MOST_NAMES else ""
    return more + ", ".join(found[-_MOST_NAMES:])


def _named(nodes: Sequence[Node]) -> str:
    listed = names([f"{node.name} ({node.source_operation})" for node in nodes])
    return listed if len(nodes) <= _MOST_NAMES else f"{len(nodes)} operations: {listed}"


def _without_followers(output: str, by_name: Mapping[str, Node]) -> tuple[str, list[Node]]:
    """Return the last node that belongs to the network, and those behind it that only read its outputs."""
    dropped: list[Node] = []
    behind: list[Node] = []
    name = output
    while (node := by_name.get(name)) is not None and len(node.inputs) == 1 and node.inputs[0] in by_name:
        if node.operation == "reshape":
            behind.append(node)
        elif _follows(node):
            dropped += [*behind, node]
            behind, output = [], node.inputs[0]
        else:
            break
        name = node.inputs[0]
    return output, dropped


def _follows(node: Node) -> bool:
    if node.operation in FOLLOWING:
        return True
    if node.operation == "softmax":
        return bool(node.attributes.get("beta", 1) != 1)
    kind = node.attributes.get("kind", "") if node.operation == "reduce" else node.source_operation
    plain = re.split(r"[.:/]", str(kind))[-1].replace("_", "").lower()
    return bool(node.operation in (UNKNOWN, "reduce") and plain in _READING)


def _reaching(output: str, by_name: Mapping[str, Node]) -> set[str]:
    """Names of all nodes and inputs on the way to ``output``."""
    kept, waiting = {output}, [output]
    while waiting:
        node = by_name.get(waiting.pop())
        for name in node.inputs if node is not None else ():
            if name not in kept:
                kept.add(name)
                waiting.append(name)
    return kept


def _input(model: Model, kept: Iterable[str]) -> ModelInput:
    reaching = set(kept)
    found = [item for item in model.inputs if INPUT_PREFIX + item.name in reaching]
    if len(found) != 1:
        what = f"{len(found)} inputs: {names([item.name for item in found])}" if found else "no input"
        states = sum(item.name.startswith(STATE_PREFIX) for item in found)
        rule = "a network has one; choose a part of the model by output=NAME"
        if states and states + 1 == len(found):
            what += ", kept from call to call"
            rule = "it streams: export it for a whole input at once"
        raise UserError(Problem(model.file, "inputs", what, rule))
    return found[0]


def _shapes(model: Model) -> dict[str, Shape | None]:
    given = {INPUT_PREFIX + item.name: item.shape for item in model.inputs}
    return given | {node.name: node.shape for node in model.nodes}


# --- padding that a convolution can do itself ---


def without_pads(
    nodes: Sequence[Node], outputs: Iterable[str], shapes: Mapping[str, Shape | None]
) -> tuple[tuple[Node, ...], list[str]]:
    """Return nodes of which those that pad by zeros, for convolutions alone, went into these; and notes."""
    found, kept, notes = {node.name: node for node in nodes}, set(outputs), []
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node.name)
    for node in reversed(nodes):
        behind = readers.get(node.name, [])
        if node.operation != "pad" or node.name in kept or not 0 < len(behind) <= _MOST_READERS:
            continue
        merged = [_padded(found[name], node, shapes) for name in behind]
        if all(merged):
            found |= {conv.name: conv for conv in merged if conv is not None}
            del found[node.name]
            readers.setdefault(node.inputs[0], []).extend(behind)
            readers[node.inputs[0]].remove(node.name)
            notes.append(f"{node.name} pads by zeros: now the padding of {names(behind)}")
    return tuple(found.values()), notes


def _padded(conv: Node, pad: Node, shapes: Mapping[str, Shape | None]) -> Node | None:
    """Return a convolution that pads by itself what ``pad`` adds to its input; None where it cannot."""
    axis, pads = conv.channel_axis, _zeros(pad)
    own: Any = conv.attributes.get("pads")
    if conv.operation != "conv" or pads is None or axis is None or not 0 <= axis < len(pads):
        return None
    around = (*pads[:axis], *pads[axis + 1 :])
    own = own if own is not None else ((0, 0),) * len(around)
    if any(pads[axis]) or len(own) != len(around) or shapes.get(pad.inputs[0]) is None:
        return None
    summed = tuple((a + c, b + d) for (a, b), (c, d) in zip(own, around, strict=True))
    return replace(conv, inputs=pad.inputs, attributes={**conv.attributes, "pads": summed})


def _zeros(pad: Node) -> tuple[tuple[int, int], ...] | None:
    """Return (before, after) per axis of a node that pads by zeros; None for any other."""
    said, pads = pad.attributes, pad.attributes.get("pads")
    if said.get("mode", "constant") != "constant" or said.get("value", 0.0) != 0 or len(pad.inputs) != 1:
        return None
    if pads is None or any(len(pair) != 2 or min(pair) < 0 for pair in pads):
        return None
    return tuple((int(before), int(after)) for before, after in pads)


def vector_nodes(nodes: Sequence[Node]) -> list[str]:
    """Return the nodes whose output is a vector: one axis at most is longer than 1."""
    return [
        node.name for node in nodes if node.shape and sum(size > 1 for size in node.shape) <= 1
    ]  # fmt: skip


def no_vector(model: Model, nodes: Sequence[Node], output: str, shape: Shape) -> Problem:
    """Return the problem of a model whose output is no vector, with the nodes that give one."""
    found = names(vector_nodes(nodes))
    rule = f"by output=NAME one that does: {found}" if found else "no node of it gives one"
    return Problem(model.file, output, f"gives {shape_text(shape)}; a network gives a vector", rule)
