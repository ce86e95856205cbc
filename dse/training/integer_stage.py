"""Part of a network in 8-bit integers: what is rounded, on which levels, and how it runs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dse.training.integer import INTEGER_OPERATORS, KEEPS_GRID, Place
from dse.training.network import Network, chunks, prepared, tensor_of
from dse.training.operators import Operation
from dse.training.parameters import Parameters
from dse.training.program import Program
from dse.training.quantise import Grid
from dse.workload import Workload
from dse.workload.convolutions import BatchNorm, Convolution, Linear
from dse.workload.graph import NETWORK_INPUT
from dse.workload.layers import Add, Concat, Relu

FloatArray = NDArray[np.float32]


class IntegerStage:
    """The layers of ``module``, whose batch norms are folded, in 8-bit integers.

    ``parameters`` are those of the module; ranges are the least and largest values that ``calibration``
    samples (n, *input shape) cause. ``grids`` holds the levels of every layer's output, -1 the input's.
    """

    def __init__(self, module: Network, parameters: Parameters, calibration: FloatArray) -> None:
        self._module, self._workload, self._parameters = module, module.workload, parameters
        self._groups = groups(self._workload, module.span)
        self.grids = self._calibrated(calibration)
        self._program = self._compile()

    def features(self, x: FloatArray) -> FloatArray:
        """Return the outputs (n, *output shape), fp32 values on the grid, for samples ``x``."""
        module, result = self._module, np.empty((len(x), *self._module.output_shape), dtype=np.float32)
        source, target = self.grids[NETWORK_INPUT], self.grids[module.span.stop - 1]
        with torch.inference_mode():
            for part in chunks(len(x), module.most_elements):
                q = self._program.run(source.integers(prepared(tensor_of(x[part]))))
                result[part] = target.values(q).reshape(-1, *module.output_shape).cpu().numpy()
        return result

    def _calibrated(self, samples: FloatArray) -> dict[int, Grid]:
        """Return a grid per tensor: over its range where values are rounded, else that of its input."""
        layers = self._workload.layers
        rounding = {head: own for head, own in self._groups.items() if layers[head].kind not in KEEPS_GRID}
        ranges = self._ranges(samples, [NETWORK_INPUT, *(own[-1] for own in rounding.values())])
        grids = {NETWORK_INPUT: Grid.over(*ranges[NETWORK_INPUT])}
        for head, own in self._groups.items():
            before = grids[self._workload.inputs[head][0]]
            grid = Grid.over(*ranges[own[-1]]) if head in rounding else before
            grids |= dict.fromkeys(own, grid)
        return grids

    def _ranges(self, samples: FloatArray, layers: list[int]) -> dict[int, tuple[float, float]]:
        """Return the least and the largest value of each layer's output."""
        found: dict[int, tuple[float, float]] = {}
        self._module.eval()
        with torch.inference_mode():
            for part in chunks(len(samples), self._module.most_elements):
                for index, tensor in self._module.observe(tensor_of(samples[part]), layers).items():
                    least, most = float(tensor.min()), float(tensor.max())
                    known = found.get(index, (least, most))
                    found[index] = (min(known[0], least), max(known[1], most))
        return found

    def _compile(self) -> Program:
        program = Program(0)
        for head, own in self._groups.items():
            program.add(head, self._operation(head, own), self._workload.inputs[head])
            for index in own[1:]:
                program.alias(index, head)
        program.close(self._module.span.stop - 1)
        return program

    def _operation(self, head: int, own: list[int]) -> Operation:
        layer, last = self._workload.layers[head], self._workload.layers[own[-1]]
        producers = self._workload.inputs[head]
        names = ("weight", "bias")
        place = Place(
            layer=layer,
            shape=self._workload.shape_of(producers[0]),
            sources=tuple(self.grids[producer] for producer in producers),
            target=self.grids[head],
            clamp=last.kind if len(own) > 1 and isinstance(last, Relu) else "",
            tensors={
                part: self._parameters[f"{layer.name}.{part}"]
                for part in names
                if f"{layer.name}.{part}" in self._parameters
            },
        )
        return INTEGER_OPERATORS[layer.kind](place)


def groups(workload: Workload, span: range) -> dict[int, list[int]]:
    """Group layers that run without rounding between them: first layer -> all of the group, in order.

    A convolution, linear layer, sum or concatenation takes along a batch norm and a rectifier that follow it
    as its only readers. ``span`` starts at layer 0; readers beyond its end do not count.
    """
    readers: dict[int, list[int]] = {index: [] for index in span}
    for index in span:
        for producer in workload.inputs[index]:
            if producer != NETWORK_INPUT:
                readers[producer].append(index)
    found: dict[int, list[int]] = {}
    taken: set[int] = set()
    for index in span:
        if index in taken:
            continue
        own = [index]
        while isinstance(workload.layers[index], _LEADS) and len(readers[own[-1]]) == 1:
            follower = workload.layers[readers[own[-1]][0]]
            if isinstance(workload.layers[own[-1]], Relu) or not isinstance(follower, BatchNorm | Relu):
                break
            own.append(readers[own[-1]][0])
        taken |= set(own)
        found[index] = own
    return found


_LEADS = (Convolution, Linear, Add, Concat)
