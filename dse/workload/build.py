"""From a list of layers to a checked ``Workload``: order, shapes, units, cuts.

Every check notes its problems and goes on where it can, so that one run reports all mistakes of a network.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dse.errors import Problem, UserError, allowed_names
from dse.vocabulary import Saved
from dse.workload.base import Layer, Shape, elements, shape_text
from dse.workload.graph import NETWORK_INPUT, Workload
from dse.workload.units import cut_problems, output_problems, single_tensor_cuts, with_units

INPUT: Final = "input"
"""The name under which layers read the network input."""

_NUMBER_OF_INPUTS: Final = {
    True: (2, "two or more different ones"),
    False: (1, "exactly one"),
    None: (1, "one or more different ones"),
}
"""``Layer.many_inputs`` -> the least number of inputs, and what to say of it."""

EVERY: Final = "every"
"""Stands for the cuts of a network of which each one that is legal is offered."""

LARGEST: Final = 2**40
"""Elements, weights and MACs of one layer stay below this, so that sums are exact in 64 bits."""


@dataclass
class Assembly:
    """Layers on their way to a workload, with the problems found so far."""

    file: str
    layers: list[Layer]
    input_shape: Shape | None
    keys: dict[str, str] = field(default_factory=dict)  # layer name -> key path, for messages
    unread: set[str] = field(default_factory=set)  # names whose own entry is faulty: known, but without shape
    problems: list[Problem] = field(default_factory=list)

    def fault(self, layer: Layer, key: str, found: str, allowed: str) -> None:
        """Note a problem of ``layer``."""
        trail = self.keys.get(layer.name, f"layers.{layer.name}")
        self.problems.append(Problem(self.file, f"{trail}.{key}" if key else trail, found, allowed))

    # --- edges ---

    def check_edges(self) -> None:
        """Note inputs that name nothing, and numbers of inputs that the kind does not take."""
        known = {INPUT, *(layer.name for layer in self.layers), *self.unread}
        for layer in self.layers:
            for name in layer.inputs:
                if name not in known:
                    self.fault(layer, "inputs", f"unknown layer {name!r}", _nearest(name, sorted(known)))
            least, wanted = _NUMBER_OF_INPUTS[layer.many_inputs]
            distinct = len(set(layer.inputs))
            single = layer.many_inputs is False
            if distinct != len(layer.inputs) or distinct < least or (single and distinct > 1):
                self.fault(layer, "inputs", f"{list(layer.inputs)}", f"{layer.kind} reads {wanted}")

    def ordered(self) -> tuple[Layer, ...]:
        """Layers with producers before readers, otherwise in the order of the file; a cycle is a problem."""
        waiting, readers = self._neighbours()
        place = {layer.name: index for index, layer in enumerate(self.layers)}
        ready = [place[name] for name, producers in waiting.items() if not producers]
        heapq.heapify(ready)
        order: list[Layer] = []
        while ready:
            done = self.layers[heapq.heappop(ready)]
            order.append(done)
            for name in readers[done.name]:
                waiting[name].discard(done.name)
                if not waiting[name]:
                    heapq.heappush(ready, place[name])
        if len(order) < len(self.layers):
            self._cycle({name: producers for name, producers in waiting.items() if producers})
        return tuple(order)

    def _neighbours(self) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
        """Layers that each layer reads, and layers that read it."""
        readers: dict[str, list[str]] = {layer.name: [] for layer in self.layers}
        producers = {layer.name: {name for name in layer.inputs if name in readers} for layer in self.layers}
        for reader, names in producers.items():
            for name in names:
                readers[name].append(reader)
        return producers, readers

    def _cycle(self, waiting: Mapping[str, set[str]]) -> None:
        """Note one cycle by walking backwards from a layer that never became ready."""
        path = [next(iter(waiting))]
        while (before := min(waiting[path[-1]])) not in path:
            path.append(before)
        loop = [before, *reversed(path[path.index(before) :])]
        rule = "a layer reads only what comes before it"
        self.problems.append(Problem(self.file, "layers", f"a cycle: {' -> '.join(loop)}", rule))

    # --- shapes ---

    def shapes(self, order: Sequence[Layer]) -> dict[str, Shape]:
        """Output shape of every layer for which one exists; what follows an impossible one is left out."""
        known: dict[str, Shape] = {} if self.input_shape is None else {INPUT: self.input_shape}
        for layer in order:
            if layer.inputs and all(name in known for name in layer.inputs):
                shape = self._shape(layer, tuple(known[name] for name in layer.inputs))
                if shape is not None:
                    known[layer.name] = shape
        return known

    def _shape(self, layer: Layer, inputs: tuple[Shape, ...]) -> Shape | None:
        try:
            shape = layer.output_shape(*inputs)
        except ValueError as error:
            self.fault(layer, "", str(error), f"its input is {' and '.join(map(shape_text, inputs))}")
            return None
        sizes = (elements(shape), layer.weight_params(*inputs), layer.macs(*inputs)["fwd"])
        if max(sizes) >= LARGEST:
            found = f"{max(sizes)} elements, weights or MACs"
            self.fault(layer, "", found, f"one layer has fewer than {LARGEST}")
            return None
        return shape

    def check_norms(self, order: Sequence[Layer]) -> None:
        """Note each batch norm that cannot be folded into the conv or linear before it."""
        by_name = {layer.name: layer for layer in order}
        _, readers = self._neighbours()
        for layer in order:
            if layer.saves != Saved.NORM or not layer.inputs or layer.inputs[0] in self.unread:
                continue
            before = by_name.get(layer.inputs[0])
            if before is None or before.operator is None or len(readers[before.name]) > 1:
                rule = "batch_norm follows a conv or linear directly, as its only reader"
                self.fault(layer, "inputs", f"reads {layer.inputs[0]}", rule)


def _nearest(name: str, known: Sequence[str]) -> str:
    """Name the nearest known layer; all of them would be too many."""
    hint = allowed_names(name, known).partition("allowed:")[0]
    return f"{hint}allowed: input or the name of a layer"


def build_workload(
    assembly: Assembly,
    *,
    name: str,
    title: str,
    source: str,
    outputs: int | None,
    legal_cuts: Sequence[int] | str | None,
) -> Workload:
    """Check ``assembly`` as a whole and return the workload.

    Parameters
    ----------
    assembly: the layers, with the problems noted while reading them.
    name, title, source: of the network; ``source`` says where its topology is published.
    outputs: numbers that the last layer must give (classes); None if that is faulty already.
    legal_cuts: unit indices that users may cut at, or ``EVERY``; None if that is faulty already.

    Raises UserError with every problem.

    """
    assembly.check_edges()
    order = assembly.ordered()
    shapes = assembly.shapes(order)
    assembly.check_norms(order)
    if assembly.problems or outputs is None or legal_cuts is None or assembly.input_shape is None:
        raise UserError(assembly.problems)
    place = {INPUT: NETWORK_INPUT} | {layer.name: index for index, layer in enumerate(order)}
    bare = Workload(
        name=name, title=title, source=source, input_shape=assembly.input_shape, classes=outputs,
        layers=order, units=(), shapes=tuple(shapes[layer.name] for layer in order),
        inputs=tuple(tuple(place[source] for source in layer.inputs) for layer in order), legal_cuts=(),
    )  # fmt: skip
    workload = with_units(bare)
    cuts = single_tensor_cuts(workload) if isinstance(legal_cuts, str) else legal_cuts
    problems = output_problems(assembly.file, workload) or cut_problems(assembly.file, workload, cuts)
    if problems:
        raise UserError(problems)
    return replace(workload, legal_cuts=tuple(sorted(cuts)))
