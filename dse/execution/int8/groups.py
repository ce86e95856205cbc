"""Which layers of a stage run as one kernel: nothing is rounded between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dse.workload import Workload
from dse.workload.convolutions import BatchNorm, Convolution, Linear
from dse.workload.layers import Add, Concat, Relu

KEEPS_GRID: Final = ("max_pool", "avg_pool", "global_avg_pool", "flatten", "relu", "relu6")
"""Kinds whose output lies on the grid of their input."""

_LEADS: Final = (Convolution, Linear, Add, Concat)


@dataclass(frozen=True)
class Groups:
    """Layers of a span, grouped: ``members`` lists each group in order under its first layer, its head."""

    members: dict[int, list[int]]

    @classmethod
    def of(cls, workload: Workload, span: range) -> Groups:
        """Group the layers of ``span``.

        A convolution, linear layer, sum or concatenation takes along a batch norm and a rectifier that
        follow it as its only readers. Readers outside ``span`` do not count.
        """
        readers: dict[int, list[int]] = {index: [] for index in span}
        for index in span:
            for producer in workload.inputs[index]:
                if producer in readers:
                    readers[producer].append(index)
        found: dict[int, list[int]] = {}
        taken: set[int] = set()
        for index in span:
            if index not in taken:
                found[index] = _followed(workload, readers, index)
                taken |= set(found[index])
        return cls(found)

    def head(self, layer: int) -> int:
        """Return the head of the group of ``layer``."""
        return next(head for head, own in self.members.items() if layer in own)

    def rectifier(self, workload: Workload, head: int) -> tuple[int, str]:
        """Return the rectifier that the kernel of ``head`` ends with, or is: layer, kind; -1, "" if none."""
        last = self.members[head][-1]
        layer = workload.layers[last]
        return (last, layer.kind) if isinstance(layer, Relu) else (-1, "")


def _followed(workload: Workload, readers: dict[int, list[int]], head: int) -> list[int]:
    own = [head]
    while isinstance(workload.layers[head], _LEADS) and len(readers[own[-1]]) == 1:
        follower = workload.layers[readers[own[-1]][0]]
        if isinstance(workload.layers[own[-1]], Relu) or not isinstance(follower, BatchNorm | Relu):
            break
        own.append(readers[own[-1]][0])
    return own
