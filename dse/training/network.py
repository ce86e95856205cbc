"""Networks of the zoo, and your own, as PyTorch modules: any graph of known layer kinds, whole or in part.

A module runs the layers from one to another. It takes samples (B, C, H, W), (B, C, L) or (B, F), and gives
what the last layer gives, before a final softmax (the loss applies it).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dse.errors import Problem, UserError
from dse.plan.tensors import tensors_of
from dse.training.geometry import lifted_weight
from dse.training.keeping import Keepers
from dse.training.operators import OPERATORS, Norm, Operation
from dse.training.parameters import (
    Parameters,
    check_parameters,
    fold,
    initial_parameters,
    parameter_shapes,
)
from dse.training.program import Program
from dse.training.stored import STORED, Keeping, StoredWeights
from dse.workload import Workload
from dse.workload.forward_only import require_executed
from dse.workload.layers import Softmax

__all__ = ["Network", "Parameters", "build_module", "device", "fold", "initial_parameters"]

STATISTICS: Final = ("mean", "variance")
CHUNK_ELEMENTS: Final = 2**20
"""Elements of the largest tensor of a batch in inference: 4 MiB of fp32."""

BN_TRAINING: Final = ("frozen_stats", "batch_stats")


@cache
def device() -> torch.device:
    """Return the GPU where there is one, else the processor.

    On a GPU, convolutions are made repeatable and full precision: no choice of algorithm by timing, no TF32.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda")


class Network(nn.Module):
    """Layers ``first`` to ``last`` of a workload; what they read from before ``first`` must be one tensor.

    ``tensors`` holds parameters and statistics by name. Batch norms whose numbers are missing are folded.
    In training, batch norms use what ``train_mode`` said; after ``eval()`` always the running statistics.
    With ``stored`` the operations save for their backward pass what ``dse.plan.schedule`` plans, in the
    widths of ``keepers``, else what PyTorch saves.
    """

    def __init__(
        self,
        workload: Workload,
        parameters: Mapping[str, NDArray[np.float32]],
        first: int,
        last: int,
        dtype: torch.dtype = torch.float32,
        *,
        stored: bool = False,
        keepers: Keepers | None = None,
    ) -> None:
        super().__init__()
        if any(workload.layers[index].forward_only for index in range(first, last + 1)):
            require_executed(workload, "training")
        check_parameters(workload, parameters)
        self.workload, self.dtype, self.stored = workload, dtype, stored
        self._keepers = keepers or Keepers()
        self.span = range(first, last + 1)
        self.tensors: dict[str, Tensor] = {}
        self._adopt(parameters)
        self._norms: list[Norm] = []
        self._weighted: dict[int, StoredWeights] = {}
        self._program = self._compile()
        self._batch_statistics = False

    def _adopt(self, parameters: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over the numbers of the layers that run here."""
        names = {self.workload.layers[index].name for index in self.span}
        for key, value in parameters.items():
            name, part = key.rsplit(".", 1)
            if name not in names:
                continue
            tensor = torch.tensor(value, dtype=self.dtype, device=device())
            tensor = tensor.view(lifted_weight(tuple(tensor.shape)))
            if tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            place = f"p{len(self.tensors)}"  # PyTorch takes no dots in names
            if part in STATISTICS:
                self.register_buffer(place, tensor)
            else:
                self.register_parameter(place, nn.Parameter(tensor))
            self.tensors[key] = getattr(self, place)

    def _compile(self) -> Program:
        """Order the operations; a folded batch norm is none."""
        program = Program(self.span.start)
        for index in self.span:
            operation, producers = self._operation(index), self.workload.inputs[index]
            if isinstance(operation, StoredWeights):
                self._weighted[index] = operation
            if isinstance(operation, Norm):
                if operation.folded:
                    program.alias(index, producers[0])
                    continue
                self._norms.append(operation)
            program.add(index, operation, producers)
        program.close(self.span.stop - 1)
        return program

    def _operation(self, index: int) -> Operation:
        layer = self.workload.layers[index]
        own = {}
        for key, tensor in self.tensors.items():
            name, part = key.rsplit(".", 1)
            if name == layer.name:
                own[part] = tensor
        shape = self.workload.shape_of(self.workload.inputs[index][0])
        if not self.stored:
            return OPERATORS[layer.kind](layer, shape, own)
        tensors, position = tensors_of(self.workload)
        operation = STORED[layer.kind](layer, shape, own, tensors[position[index]].root != index)
        if isinstance(operation, Keeping):
            operation.keeper = self._keepers.of_layer(self.workload, self.span.start, index)
        return operation

    # --- running ---

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape of what comes in) -> (B, *shape of the last layer)."""
        x = prepared(x, self.dtype)
        if self.stored and x.untyped_storage().nbytes() > x.nbytes:
            x = x.clone()  # what is saved of a micro-batch must not keep the mini-batch
        result = self._program.run(x)
        return result.squeeze(2) if len(self.output_shape) == 2 else result

    def observe(self, x: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
        """Return the outputs of ``layers``, -1 being what comes in, for samples ``x`` (B, *shape)."""
        values = self._program.trace(prepared(x, self.dtype))
        return {index: values[self._program.slots[index]] for index in layers}

    def parameter(self, key: str) -> nn.Parameter:
        """Return one parameter by its name."""
        found = self.tensors[key]
        assert isinstance(found, nn.Parameter)
        return found

    def learn_channels(self, layer: int, channels: Tensor) -> None:
        """Let the weights of ``layer`` learn for these input channels (c,) alone; for ``stored`` networks.

        Others get a gradient of zero, and nothing of the input's other channels is saved.
        """
        self._weighted[layer].channels = channels

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the last layer's output."""
        return self.workload.shape_of(self.span.stop - 1)

    @property
    def most_elements(self) -> int:
        """Elements of the largest tensor of one sample."""
        return max(int(self.workload.out_elements[index]) for index in self.span)

    def train_mode(self, bn_mode: str) -> Network:
        """Switch to training, with batch norms by ``frozen_stats`` or ``batch_stats``; return the module."""
        if bn_mode not in BN_TRAINING:
            raise UserError(Problem("network", "bn_mode", repr(bn_mode), f"one of {', '.join(BN_TRAINING)}"))
        self._batch_statistics = bn_mode == "batch_stats"
        self.train()
        return self

    def train(self, mode: bool = True) -> Network:
        """Switch training on or off (PyTorch's own switch)."""
        super().train(mode)
        for norm in self._norms:
            norm.by_batch = mode and self._batch_statistics
        return self

    def parameters_out(self) -> Parameters:
        """Return parameters and statistics as they are now, under their names and in their own shapes."""
        shapes = parameter_shapes(self.workload)
        return {
            key: tensor.detach().cpu().contiguous().numpy().reshape(shapes.get(key, (-1,))).copy()
            for key, tensor in self.tensors.items()
        }


def prepared(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bring samples to the device and into the operations' form, type and memory order."""
    x = x.to(device(), dtype)
    if x.ndim == 3:
        x = x.unsqueeze(2)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


class Inferring(Protocol):
    """What ``infer`` runs: a ``Network``, or what stands in for one."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the result."""

    @property
    def most_elements(self) -> int:
        """Elements of the largest tensor of one sample."""

    def __call__(self, x: Tensor) -> Tensor:
        """Run samples (B, ...)."""

    def eval(self) -> Any:
        """Switch to evaluation."""


def build_module(
    workload: Workload,
    parameters: Mapping[str, NDArray[np.float32]],
    *,
    first_layer: int = 0,
    last_layer: int | None = None,
    bn_mode: str = "frozen_stats",
    dtype: torch.dtype = torch.float32,
    stored: bool = False,
    keepers: Keepers | None = None,
) -> Network:
    """Return the layers from ``first_layer`` on as a module; its output are logits, before a final softmax.

    Parameters
    ----------
    workload: the network.
    parameters: as ``initial_parameters`` or ``fold`` give them, for the whole network.
    first_layer: index of the first layer that runs; what crosses into it must be one tensor.
    last_layer: index of the last; None runs to the end.
    bn_mode: what batch norms use in training, ``frozen_stats`` or ``batch_stats``; see ``train_mode``.
    dtype: of everything; fp64 serves comparisons.
    stored: save for the backward pass what ``dse.plan.schedule`` plans; else what PyTorch saves.
    keepers: the widths of what is saved by plan; as computed unless given.

    Raises UserError where the parameters do not fit, or where more than one tensor crosses.

    """
    last = len(workload.layers) - 1 if last_layer is None else last_layer
    if last_layer is None and isinstance(workload.layers[last], Softmax):
        last -= 1
    span = range(first_layer, last + 1)
    crossing = {source for index in span for source in workload.inputs[index] if source < first_layer}
    if len(crossing) > 1:
        names = ", ".join(
            "input" if source < 0 else workload.layers[source].name for source in sorted(crossing)
        )
        found = f"{len(crossing)} tensors cross before layer {first_layer}: {names}"
        raise UserError(Problem(workload.name, "layers", found, "cut where one tensor crosses"))
    network = Network(workload, parameters, first_layer, last, dtype, stored=stored, keepers=keepers)
    return network.train_mode(bn_mode)


def infer(module: Inferring, x: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
    """Return what ``module`` gives for ``x`` (n, *shape) in evaluation: (n, *output shape).

    Samples run in batches of a size that keeps the largest tensor in the caches.
    """
    module.eval()
    result = np.empty((len(x), *module.output_shape), dtype=np.float32)
    with torch.inference_mode():
        for part in chunks(len(x), module.most_elements):
            result[part] = module(tensor_of(x[part])).cpu().numpy()
    return result


def tensor_of(x: NDArray[Any] | Tensor) -> Tensor:
    """Return an array as a tensor that shares its memory where that may be written to."""
    if isinstance(x, Tensor):
        return x
    x = np.ascontiguousarray(x)
    return torch.from_numpy(x if x.flags.writeable else x.copy())


def chunks(samples: int, elements: int) -> Iterator[slice]:
    """Yield slices over ``samples``, so that a tensor of ``elements`` per sample stays in the caches."""
    most = CHUNK_ELEMENTS * (1 if device().type == "cpu" else 256)
    size = max(1, min(samples, most // max(elements, 1)))
    return (slice(first, first + size) for first in range(0, samples, size))
