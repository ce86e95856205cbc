"""The learning stage in integers: real latents in, real logits out, everything between on grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, nn

from dse.errors import Problem, UserError
from dse.training.int8.functions import Back, LookedUp, Rounded, Weighted
from dse.training.int8.kernels import WeightedKernel
from dse.training.int8.levels import Levels, Narrowed
from dse.training.integer import UNROUNDED, Place, closed
from dse.training.integer_stage import groups, place_of
from dse.training.keeping import Keeper, Keepers
from dse.training.network import Network, prepared
from dse.training.operators import Operation, pool_window, window_count
from dse.training.program import Program
from dse.training.quantise import Grid
from dse.training.stored import STORED, Keeping
from dse.training.stored_functions import Averaged
from dse.workload.graph import NETWORK_INPUT
from dse.workload.layers import Relu

Step = Callable[..., Levels]


class IntegerNetwork(nn.Module):
    """Runs the layers of ``module`` in integers; ``kernels`` hold the layers with weights, by their index.

    ``grids`` as ``calibrated`` gives them. ``narrow`` samples share a scale where errors are rounded to int8
    between layers; 0 leaves errors in fp32. ``keepers`` say in which width the inputs of hard swish wait for
    the backward pass; kernels have keepers of their own.

    Raises UserError for networks whose logits do not follow from the last unit alone.
    """

    def __init__(
        self,
        module: Network,
        grids: Mapping[int, Grid],
        kernels: Mapping[int, WeightedKernel],
        narrow: int = 0,
        keepers: Keepers | None = None,
    ) -> None:
        super().__init__()
        self._keepers = keepers or Keepers()
        self.module, self.grids, self.kernels, self._narrow = module, dict(grids), dict(kernels), narrow
        self.workload, self.span = module.workload, module.span
        self._last = self.workload.units[-1].layer
        self._program = self._compile()

    # --- what ``infer`` asks of a module ---

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the last layer's output."""
        return self.module.output_shape

    @property
    def most_elements(self) -> int:
        """Elements of the largest tensor of one sample."""
        return self.module.most_elements

    def forward(self, x: Tensor) -> Tensor:
        """Real latents (B, *shape of what comes in) -> real logits (B, *shape of the last layer)."""
        result: Tensor = self._program.run(self.entered(x))
        return result.squeeze(2) if len(self.output_shape) == 2 else result

    def entered(self, x: Tensor) -> Any:
        """Put latents on the grid of what comes in."""
        grid = self.grids[NETWORK_INPUT]
        return Levels(grid.integers(prepared(x)), grid)

    def trace(self, x: Tensor) -> dict[int, Tensor]:
        """Return q of every layer's output before the logits, by layer, -1 being what comes in."""
        with torch.no_grad():
            values: list[Any] = self._program.trace(self.entered(x))
        slots = {index: slot for index, slot in self._program.slots.items() if index < self._last}
        return {index: values[slot].q for index, slot in slots.items()}

    # --- building ---

    def _compile(self) -> Program:
        program = Program(self.span.start)
        for head, own in groups(self.workload, self.span).items():
            behind = head > self._last
            program.add(
                head, self._behind(head) if behind else self._step(head, own), self.workload.inputs[head]
            )
            for index in own[1:]:
                if head == self._last and isinstance(self.workload.layers[index], Relu):
                    program.add(index, self._real(index), self.workload.inputs[index])
                else:
                    program.alias(index, head)
        program.close(self.span.stop - 1)
        return program

    def _step(self, head: int, own: list[int]) -> Any:
        """Return the operation of one group of layers, up to the last unit."""
        place = place_of(self.workload, self.grids, {}, own)
        kernel = self.kernels.get(head)
        if head == self._last:
            assert kernel is not None
            return self._logits(kernel)
        if kernel is not None:
            return self._bounded(_weighted(kernel, place))
        if place.layer.kind == "hard_swish":
            keeper = self._keepers.of_layer(self.workload, self.span.start, head)
            return self._bounded(_hard_swish(place, keeper))
        if place.layer.kind not in _STEPS:
            found = f"a {place.layer.kind} that the learning stage has to pass"
            allowed = f"layers with weights, hard_swish, {', '.join(_STEPS)}"
            raise UserError(
                Problem(self.workload.name, f"layers.{place.layer.name}", f"{found} in int8", allowed)
            )
        return self._bounded(_STEPS[place.layer.kind](place))

    def _bounded(self, step: Step) -> Any:
        """Let the error of a step's output be rounded before the step gets it."""
        if not self._narrow:
            return step

        def run(*inputs: Levels) -> Levels:
            found = step(*inputs)
            return Levels(_apply(Narrowed, found.q, self._narrow), found.grid)

        return run

    def _logits(self, kernel: WeightedKernel) -> Any:
        def run(levels: Levels) -> Tensor:
            found = _run_weighted(kernel, levels)
            return _apply(Narrowed, found, self._narrow) if self._narrow and kernel.exact else found

        return run

    def _behind(self, head: int) -> Operation:
        """Return the operation of a layer behind the last unit, on real values."""
        beside = [index for index in self.workload.inputs[head] if index < self._last]
        if beside:
            layer = self.workload.layers[head].name
            found = f"{layer} joins logits with what lies before them"
            raise UserError(Problem(self.workload.name, f"layers.{layer}", found, "logits of the last unit"))
        return self._real(head)

    def _real(self, index: int) -> Operation:
        shape = self.workload.shape_of(self.workload.inputs[index][0])
        operation = STORED[self.workload.layers[index].kind](self.workload.layers[index], shape, {}, True)
        if isinstance(operation, Keeping):
            operation.keeper = self._keepers.inner
        return operation


# --- one step per kind of layer ---


def _apply(function: Any, *arguments: Any) -> Tensor:
    found: Tensor = function.apply(*arguments)
    return found


def _run_weighted(kernel: WeightedKernel, levels: Levels) -> Tensor:
    return _apply(Weighted, levels.q, kernel.weight, kernel.bias, levels, kernel)


def _weighted(kernel: WeightedKernel, place: Place) -> Step:
    return lambda levels: Levels(_run_weighted(kernel, levels), place.target)


def _rounded(back: Back) -> Callable[[Place], Step]:
    def build(place: Place) -> Step:
        unrounded, limits = UNROUNDED[place.layer.kind](place), place.limits
        masked = bool(place.rectified) or place.layer.kind == "add"

        def run(*inputs: Levels) -> Levels:
            values = [each.q for each in inputs]
            return Levels(_apply(Rounded, unrounded, back, limits, masked, *values), place.target)

        return run

    return build


def _average(place: Place) -> Step:
    layer: Any = place.layer
    plain, window = closed(place), pool_window(layer, place.shape)
    count = window_count(layer, place.shape)
    return lambda levels: Levels(_apply(Averaged, levels.q, plain, count, window), place.target)


def _hard_swish(place: Place, keeper: Keeper) -> Step:
    unrounded, back = UNROUNDED["hard_swish"](place), torch.ops.aten.hardswish_backward
    return lambda levels: Levels(
        _apply(LookedUp, levels.q, unrounded, back, place.limits, levels.grid, keeper), place.target
    )


def _passed(place: Place) -> Step:
    operation = STORED[place.layer.kind](place.layer, place.shape, {}, True)
    return lambda levels: Levels(operation(levels.q), place.target)


def _spread(error: Tensor, shapes: list[torch.Size]) -> tuple[Tensor]:
    """Share the error of an average over all positions out over them."""
    (shape,) = shapes
    return ((error / prod(shape[2:])).view(*shape[:2], 1, 1).expand(shape),)


_STEPS: Final[dict[str, Callable[[Place], Step]]] = {
    "add": _rounded(lambda error, shapes: (error,) * len(shapes)),
    "concat": _rounded(lambda error, shapes: torch.split(error, [shape[1] for shape in shapes], 1)),
    "relu": _rounded(lambda error, shapes: (error,)),
    "relu6": _rounded(lambda error, shapes: (error,)),
    "global_avg_pool": _rounded(_spread),
    "avg_pool": _average,
    "max_pool": _passed,
    "flatten": _passed,
}
"""Layer kind -> how its step is made; layers with weights have kernels, hard swish a keeper."""
