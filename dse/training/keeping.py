"""In which width a forward pass keeps activations for the backward pass: as computed, or at 8, 4 or 2 bits.

What is computed is the same either way; only what the backward pass reads differs, and so do gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from dse.plan.decisions import AS_COMPUTED, TrainingPlan
from dse.plan.learning_key import keeps_stored_input
from dse.plan.saved_grid import WORD_BYTES, packed, saved_bytes, widened
from dse.plan.tensors import tensors_of
from dse.workload import Workload


class Keeper(Protocol):
    """Keeps tensors (B, ...) between the two passes, as tensors that autograd's own hooks count."""

    def keep(self, x: Tensor, *, shared: bool = False) -> tuple[Tensor, ...]:
        """Return what is kept of ``x``; where it is ``shared``, the same for all that ask for one tensor."""

    def read(self, kept: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Return the tensor of ``shape`` that ``kept`` stands for."""


class AsComputed:
    """Keeps tensors as they are."""

    def keep(self, x: Tensor, *, shared: bool = False) -> tuple[Tensor, ...]:
        """See ``Keeper``."""
        return (x,)

    def read(self, kept: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """See ``Keeper``."""
        return kept[0]


class AtBits:
    """Keeps tensors on grids of 2^``bits`` levels, one for each ``micro`` samples (0: for all at once).

    See ``dse.plan.saved_grid``: bytes, with a word of 4 bytes per micro-batch.
    """

    def __init__(self, bits: int, micro: int = 0) -> None:
        self.bits, self.micro = bits, micro
        self._known = WeakTensorKeyDictionary()

    def keep(self, x: Tensor, *, shared: bool = False) -> tuple[Tensor, ...]:
        """See ``Keeper``."""
        if not shared:
            return self._packed(x.detach())
        if x not in self._known:
            self._known[x] = self._packed(x.detach())
        kept: tuple[Tensor, ...] = self._known[x]
        return kept

    def _packed(self, x: Tensor) -> tuple[Tensor, ...]:
        flat = _by_sample(x).cpu().numpy()
        size = self._size(len(flat))
        rows = np.zeros((-(-len(flat) // size), size * flat.shape[1]), dtype=flat.dtype)
        rows.reshape(-1)[: flat.size] = flat.reshape(-1)  # zeros change no range: every grid includes 0
        data, words = packed(rows, self.bits)
        left = flat.size - (len(rows) - 1) * rows.shape[1]  # elements of the last micro-batch
        least = (len(rows) - 1) * data.shape[1] + saved_bytes(left, self.bits) - WORD_BYTES
        held = torch.from_numpy(data.reshape(-1)[:least].copy()), torch.from_numpy(words.view(np.int32))
        return tuple(each.to(x.device) for each in held)

    def read(self, kept: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """See ``Keeper``."""
        data, words = (each.cpu().numpy() for each in kept)
        count = shape.numel() // shape[0] * self._size(shape[0])
        row = saved_bytes(count, self.bits) - WORD_BYTES
        whole = np.zeros((len(words), row), dtype=np.uint8)
        whole.reshape(-1)[: len(data)] = data
        kind = np.float64 if dtype == torch.float64 else np.float32
        values = widened(whole, words.view(np.uint32), count, self.bits, kind).reshape(-1)[: shape.numel()]
        return _shaped(torch.from_numpy(values), shape).to(kept[0].device, dtype)

    def _size(self, samples: int) -> int:
        return min(self.micro or samples, samples)


def _by_sample(x: Tensor) -> Tensor:
    """(B, ...) -> (B, n), channels innermost, without a copy of what lies in that order."""
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).reshape(len(x), -1)


def _shaped(flat: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) != 4:
        return flat.view(shape)
    batch, channels, height, width = shape
    return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)


AS_IT_IS: Final = AsComputed()


@dataclass(frozen=True)
class Keepers:
    """What keeps the tensors of a learning stage, and what keeps the one that enters it."""

    inner: Keeper = AS_IT_IS
    latents: Keeper = AS_IT_IS

    @classmethod
    def of(cls, plan: TrainingPlan) -> Keepers:
        """Return those of ``plan``: latents that stay at replay bits are not narrowed a second time."""
        if plan.saved_bits >= AS_COMPUTED:
            return cls()
        narrow = AtBits(plan.saved_bits, plan.micro_batch)
        return cls(narrow, AS_IT_IS if keeps_stored_input(plan) else narrow)

    def of_layer(self, workload: Workload, first: int, index: int) -> Keeper:
        """Return what keeps the input of layer ``index`` in a stage that begins with layer ``first``."""
        source = workload.inputs[index][0]
        tensors, position = tensors_of(workload)
        enters = source < 0 or tensors[position[source]].root < first
        return self.latents if enters else self.inner
