"""A graph of nodes that is rewritten in place: who reads whom stays true while nodes are replaced."""

from __future__ import annotations

from dataclasses import replace

from dse.workload.base import Shape
from dse.workload.model.graph import INPUT_PREFIX, Node


class Graph:
    """Nodes by name in their order, their readers, and the outputs that keep them alive."""

    def __init__(self, nodes: dict[str, Node], outputs: list[str]) -> None:
        self.nodes, self.outputs = nodes, outputs
        self._readers: dict[str, dict[str, None]] = {}
        for node in nodes.values():
            self._link(node)

    def _link(self, node: Node) -> None:
        for name in node.inputs:
            self._readers.setdefault(name, {})[node.name] = None

    def _unlink(self, node: Node) -> None:
        for name in node.inputs:
            self._readers.get(name, {}).pop(node.name, None)

    def shape_of(self, name: str) -> Shape | None:
        """Shape of what a node gives; None for inputs of the model and where it is not known."""
        return self.nodes[name].shape if name in self.nodes else None

    def operation_of(self, name: str) -> str:
        """Operation of a node; empty for inputs of the model."""
        return "" if name.startswith(INPUT_PREFIX) else self.nodes[name].operation

    def only_input(self, node: Node) -> Node | None:
        """Return the one node that ``node`` reads; None where it reads several or an input of the model."""
        return self.nodes.get(node.inputs[0]) if len(node.inputs) == 1 else None

    def only_reader(self, node: Node) -> Node | None:
        """Return the one node that reads ``node``; None where there are several or it is an output."""
        return self.nodes[next(iter(self._readers[node.name]))] if self.read_once(node) else None

    def read_once(self, node: Node) -> bool:
        """Whether one node alone reads ``node``, which is no output."""
        return len(self._readers.get(node.name, {})) == 1 and node.name not in self.outputs

    def put(self, node: Node) -> None:
        """Replace the node of the same name; what nobody reads any more goes."""
        former = self.nodes[node.name]
        self._unlink(former)
        self.nodes[node.name] = node
        self._link(node)
        for name in former.inputs:
            self._drop_unread(name)

    def bypass(self, node: Node, source: str | None = None) -> None:
        """Remove a node; its readers and the outputs take ``source``, its first input unless given."""
        source = node.inputs[0] if source is None else source
        for name in list(self._readers.get(node.name, {})):
            reader = self.nodes[name]
            inputs = tuple(source if entry == node.name else entry for entry in reader.inputs)
            self._unlink(reader)
            self.nodes[name] = replace(reader, inputs=inputs)
            self._link(self.nodes[name])
        if source not in self.outputs:
            self.outputs[:] = [source if name == node.name else name for name in self.outputs]
        else:
            self.outputs[:] = [name for name in self.outputs if name != node.name]
        self._drop_unread(node.name)

    def _drop_unread(self, name: str) -> None:
        pending = [name]
        while pending:
            node = self.nodes.get(pending.pop())
            if node is None or self._readers.get(node.name) or node.name in self.outputs:
                continue
            del self.nodes[node.name]
            self._unlink(node)
            pending += node.inputs

    def prune(self) -> list[Node]:
        """Remove every node that no output needs; return them."""
        before = dict(self.nodes)
        for name in reversed(list(self.nodes)):
            if name in self.nodes:
                self._drop_unread(name)
        return [node for name, node in before.items() if name not in self.nodes]
