"""A list of nodes that is rewritten: who reads whom is kept while nodes are replaced and removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dse.workload.model import Node


class Rewriting:
    """Nodes by name in their order, producers first."""

    def __init__(self, nodes: Iterable[Node], outputs: Iterable[str]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.readers = Counter(name for node in self.nodes.values() for name in node.inputs)
        self.readers.update(outputs)

    def source(self, node: Node, place: int = 0) -> Node | None:
        """Node that input ``place`` reads; None for inputs of the model."""
        return self.nodes.get(node.inputs[place]) if place < len(node.inputs) else None

    def inner(self, node: Node, operation: str, place: int = 0) -> Node | None:
        """Node of ``operation`` at input ``place`` that nothing but ``node`` reads."""
        found = self.source(node, place)
        if found is None or found.operation != operation or self.readers[found.name] != 1:
            return None
        return found

    def replace(self, node: Node, *removed: Node) -> None:
        """Put ``node`` where one of its name stands, and take away nodes that only it would read."""
        for old in (self.nodes[node.name], *removed):
            self.readers.subtract(old.inputs)
        self.readers.update(node.inputs)
        self.nodes[node.name] = node
        for old in removed:
            del self.nodes[old.name]
