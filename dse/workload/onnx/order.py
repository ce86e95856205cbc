"""The order of nodes: producers first, one producer for each tensor, no cycles, nothing that nobody reads."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from dse.errors import Problem, UserError
from dse.workload.model.limits import clean_name
from dse.workload.onnx.document import FileNode

MOST_NAMED = 10


def ordered(file: str, nodes: Sequence[FileNode], given: Iterable[str]) -> list[FileNode]:
    """Return the nodes with producers before readers, otherwise in the order of the file.

    ``given`` are tensors that no node produces (inputs, initialisers). Raises UserError for a tensor with two
    producers, and for a cycle, which it names.
    """
    producers = _producers(file, nodes, given)
    waiting = {
        place: {producers[name] for name in (*node.inputs, *node.captured) if name in producers}
        for place, node in enumerate(nodes)
    }
    readers: dict[int, list[int]] = {}
    for place, sources in waiting.items():
        for source in sources:
            readers.setdefault(source, []).append(place)
    ready = [place for place, sources in waiting.items() if not sources]
    order: list[FileNode] = []
    while ready:
        done = heapq.heappop(ready)
        order.append(nodes[done])
        for place in readers.get(done, ()):
            waiting[place].discard(done)
            if not waiting[place]:
                heapq.heappush(ready, place)
    if len(order) < len(nodes):
        _refuse_cycle(file, nodes, {place: sources for place, sources in waiting.items() if sources})
    return order


def _producers(file: str, nodes: Sequence[FileNode], given: Iterable[str]) -> dict[str, int]:
    held, found = set(given), dict[str, int]()
    problems: list[Problem] = []
    for place, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in held or name in found:
                other = nodes[found[name]].title if name in found else "an input or a constant"
                wrong = f"tensor {clean_name(name)!r} is made by {node.title} and is {other}"
                problems.append(Problem(file, "graph", wrong, "a tensor has one producer"))
            found[name] = place
    if problems:
        raise UserError(problems[:MOST_NAMED])
    return found


def _refuse_cycle(file: str, nodes: Sequence[FileNode], waiting: dict[int, set[int]]) -> None:
    """Name one cycle by walking backwards from a node that never became ready."""
    path, places = [next(iter(waiting))], {next(iter(waiting)): 0}
    while (before := min(waiting[path[-1]])) not in places:
        places[before] = len(path)
        path.append(before)
    loop = [before, *reversed(path[places[before] :])]
    names = [clean_name(nodes[place].name or next(filter(None, nodes[place].outputs), "")) for place in loop]
    shown = names if len(names) <= MOST_NAMED else [*names[:MOST_NAMED], f"... ({len(names) - 1} nodes)"]
    raise UserError(
        Problem(file, "graph", f"a cycle: {' -> '.join(shown)}", "a node reads what comes before it")
    )


def needed(nodes: Sequence[FileNode], outputs: Iterable[str]) -> list[FileNode]:
    """Return the ordered ``nodes`` that the outputs depend on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.isdisjoint(filter(None, node.outputs)):
            continue
        kept.append(node)
        wanted.update((*node.inputs, *node.captured))
    return kept[::-1]
