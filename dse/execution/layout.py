"""Which buffer of a plan's step holds a layer's tensor or a unit's parameters, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.execution.weighted import Weighted
from dse.plan.again import clamp_saved
from dse.plan.decisions import PlanBatch
from dse.plan.learning import Learning, learning_of
from dse.plan.operations import Holds, Kind, StepBuffer, StepSchedule
from dse.plan.spec import StepSpec
from dse.plan.techniques import build_spec
from dse.plan.tensors import VIEWS, Tensor, input_readers, tensors_of
from dse.plan.timeline import BACKWARD
from dse.vocabulary import Role
from dse.workload import Shape, Unit, Workload
from dse.workload.convolutions import BatchNorm, Convolution

IntArray = NDArray[np.int64]
Home = tuple[Holds, int]

SCALES: Final = ("gamma", "beta")
STATISTICS: Final = ("mean", "variance")


@dataclass(frozen=True)
class Piece:
    """A tensor of parameters within a buffer: its name, and its shape as the buffer holds it."""

    key: str
    shape: Shape

    @property
    def count(self) -> int:
        """Numbers in it."""
        return prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Names of what the buffers of ``schedule`` hold.

    ``channels`` are the input channels whose weights learn, ascending, of every unit where some do and others
    do not. Raises UserError where they do not fit the plan.
    """

    schedule: StepSchedule
    channels: Mapping[int, IntArray]

    def __post_init__(self) -> None:
        problems = []
        for unit in self.workload.units:
            kept, given = self.kept(unit.index), self.channels.get(unit.index)
            if 0 < kept < unit.in_channels and (given is None or len(np.unique(given)) != kept):
                found = "none given" if given is None else f"{len(given)} given"
                problems.append(Problem("execution", f"channels of {unit.name}", found, f"{kept} channels"))
        if problems:
            raise UserError(problems)

    # --- the plan ---

    @property
    def workload(self) -> Workload:
        """The network."""
        return self.schedule.workload

    @cached_property
    def spec(self) -> StepSpec:
        """What the plan does, as its only row."""
        return build_spec(self.workload, PlanBatch.from_plans(self.workload, [self.schedule.plan]))

    @cached_property
    def learning(self) -> Learning:
        """What learns, and where errors pass."""
        return learning_of(self.workload, self.spec)

    @cached_property
    def cut_layer(self) -> int:
        """Last frozen layer; -1 where there is none."""
        return int(self.spec.cut_layer[0])

    @property
    def micro(self) -> int:
        """Samples of a whole micro-batch."""
        return int(self.spec.micro[0])

    @cached_property
    def saved_bits(self) -> int:
        """Bits at which saved activations are packed; 0 where they stay as they were computed."""
        return int(self.spec.saved_bits[0]) if self.spec.packs_saved()[0] else 0

    @property
    def latent_bits(self) -> int:
        """Bits at which the inputs of the learning stage are stored."""
        return int(self.spec.latent_bits[0])

    def kept(self, unit: int) -> int:
        """Input channels of ``unit`` whose weights learn."""
        return int(self.learning.kept_channels[0, unit])

    def widens(self, layer: int) -> bool:
        """Whether the weight gradient of a unit's ``layer`` reads a widened copy of what was saved."""
        spec, unit = self.spec, self.owner(layer).index
        stored = bool(spec.keeps_stored_input[0]) and self.reads_latents(layer)
        wide = int(spec.operand_bytes(unit)[0]) > int(spec.act_bytes[0])
        return stored or bool(self.saved_bits) or wide

    def reads_latents(self, layer: int) -> bool:
        """Whether the first input of ``layer`` are the latents."""
        producer = self.producer(layer)
        return producer < 0 or self.home(producer)[0] == Holds.LATENTS

    @cached_property
    def latents_return(self) -> bool:
        """Whether a segment that reads the latents runs again: what is stored of them then stays whole."""
        again = {item.layer for item in self.schedule.operations if item.kind == Kind.RECOMPUTE}
        if self.cut_layer < 0:
            return not again.isdisjoint(input_readers(self.workload))
        tensors, position = tensors_of(self.workload)
        return not again.isdisjoint(tensors[position[self.cut_layer]].readers)

    def saved_input(self, layer: int) -> Home:
        """Buffer in which the input of ``layer`` waits for its weight gradient."""
        if self.reads_latents(layer) and bool(self.spec.keeps_stored_input[0]):
            return Holds.STORED, -1 if self.latents_return else layer
        if self.chosen(self.owner(layer).index) is not None:
            return Holds.SLICE, layer
        producer = self.producer(layer)
        holds, place = (Holds.LATENTS, -1) if producer < 0 else self.home(producer)
        return (Holds.PACKED, place) if self.saved_bits else (holds, place)

    def cuts_error(self, layer: int, kind: Kind) -> bool:
        """Whether this operation of the backward pass has to let the error of ``layer`` pass its clamp."""
        runs = [bool(one[0]) for one in self.learning.backward_runs(layer)]
        first = BACKWARD[runs.index(True)] if any(runs) else None
        return kind == first and bool(clamp_saved(self.workload, self.spec, self.learning, layer)[0])

    def widens_classifier(self, layer: int) -> bool:
        """Whether the forward pass of ``layer`` reads a widened copy of its input."""
        return bool(self.spec.fp32_classifier[0]) and layer == self.workload.units[-1].layer

    def sums_up(self, layer: int) -> bool:
        """Whether the input gradient of ``layer`` is summed up in a wide buffer of its own."""
        return bool(self.spec.int8_errors[0]) and self.unit_at(layer) is not None

    def chosen(self, unit: int) -> IntArray | None:
        """Those channels; None where all of them, or none, learn."""
        return self.channels[unit] if 0 < self.kept(unit) < self.workload.units[unit].in_channels else None

    def affine_learns(self, unit: int) -> bool:
        """Whether biases, or scales and shifts, of ``unit`` learn."""
        return bool(self.learning.trained_affine[0, unit])

    def is_frozen(self, unit: int) -> bool:
        """Whether ``unit`` belongs to the frozen stage."""
        return self.workload.units[unit].layer <= self.cut_layer

    def is_copied(self, unit: int) -> bool:
        """Whether inference has a copy of its own of a learning ``unit``: where it runs in another width."""
        width, other = int(self.spec.weight_bytes[0, unit]), int(self.spec.frozen_bytes[0])
        return bool(self.spec.backprop[0]) and not self.is_frozen(unit) and width != other

    @cached_property
    def persists(self) -> bool:
        """Whether there is a copy that survives a loss of power: the placement's choice, for all or none."""
        return any(buffer.role == Role.PERSISTENT_COPY for buffer in self.schedule.buffers)

    def stands(self, holds: Holds, unit: int) -> bool:
        """Whether a buffer of the parameters of ``unit`` has to stand throughout."""
        if not self.pieces(holds, unit):
            return False
        if self.is_frozen(unit):
            return holds in (Holds.FROZEN_WEIGHT, Holds.FROZEN_AFFINE)
        if holds in (Holds.COPY_WEIGHT, Holds.COPY_AFFINE):
            return self.is_copied(unit)
        if holds in (Holds.PERSISTENT_WEIGHT, Holds.PERSISTENT_AFFINE) and not self.persists:
            return False
        if holds == Holds.STATE and not int(self.spec.state_per_parameter[0]):
            return False
        return bool(self.spec.backprop[0])

    @cached_property
    def beginning(self) -> dict[int, tuple[StepBuffer, ...]]:
        """Packed tensors and slices, by the operation that fills them."""
        found: dict[int, tuple[StepBuffer, ...]] = {}
        for buffer in self.schedule.buffers:
            if buffer.holds in (Holds.PACKED, Holds.SLICE):
                found[buffer.start] = (*found.get(buffer.start, ()), buffer)
        return found

    # --- tensors ---

    @cached_property
    def _learning_tensors(self) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return tensors_of(self.workload, self.spec.structure.learning_in_place)

    @cached_property
    def _frozen_tensors(self) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return tensors_of(self.workload, self.spec.structure.in_place)

    def tensor(self, layer: int) -> Tensor:
        """Tensor of the learning stage that ``layer`` writes."""
        tensors, position = self._learning_tensors
        return tensors[position[layer]]

    def home(self, layer: int) -> Home:
        """Buffer of what ``layer`` writes in the learning stage; what comes before it are the latents."""
        root = self.tensor(layer).root if layer > self.cut_layer else self.cut_layer
        return (Holds.ACTIVATION, root) if root > self.cut_layer else (Holds.LATENTS, -1)

    def is_view(self, layer: int) -> bool:
        """Whether ``layer`` moves nothing: a tensor flattened where it is, or what the loss takes over."""
        kind, producer = self.workload.layers[layer], self.producer(layer)
        if not kind.in_place or kind.element_operation not in VIEWS or layer <= self.cut_layer:
            return False
        return producer >= 0 and self.home(producer) == self.home(layer)

    def error_home(self, layer: int) -> int:
        """Place of the buffer with the error of what ``layer`` writes."""
        root = self.tensor(layer).root
        return self.schedule.handed_on.get(root, root)

    def frozen_root(self, layer: int) -> int:
        """Root of the tensor that ``layer`` writes in the frozen stage and in inference."""
        tensors, position = self._frozen_tensors
        return tensors[position[layer]].root

    def error_needed(self, layer: int) -> bool:
        """Whether the error of what ``layer`` writes is asked for."""
        return layer > self.cut_layer and bool(self.learning.error_needed[layer, 0])

    # --- units ---

    def unit_at(self, layer: int) -> Unit | None:
        """Return the unit whose conv or linear layer is ``layer``."""
        index = self.learning.unit_at(layer)
        return None if index is None else self.workload.units[index]

    def owner(self, layer: int) -> Unit:
        """Return the unit that ``layer`` belongs to."""
        return self.workload.units[int(self.workload.unit_of_layer[layer])]

    def norm_of(self, unit: Unit) -> str:
        """Name of the norm behind ``unit`` where it has numbers of its own; empty where there is none."""
        if self.schedule.plan.bn_mode == "folded" or self.is_frozen(unit.index):
            return ""
        layers = (self.workload.layers[layer] for layer in unit.followers)
        return next((layer.name for layer in layers if isinstance(layer, BatchNorm)), "")

    def weighted(self, unit: Unit) -> Weighted:
        """Geometry of the unit's weights."""
        return Weighted.of(
            self.workload.layers[unit.layer], self.workload.shape_of(self.producer(unit.layer))
        )

    def producer(self, layer: int) -> int:
        """Layer that makes the first input of ``layer``."""
        return self.workload.inputs[layer][0]

    def weight_shape(self, unit: Unit) -> Shape:
        """Shape of the unit's weights: (out, in per group, kernel...)."""
        layer, inputs = self.workload.layers[unit.layer], self.workload.shape_of(self.producer(unit.layer))
        if isinstance(layer, Convolution):
            out, groups, kernel = layer.geometry(inputs)
            return (out, inputs[0] // groups, *kernel)
        return (unit.out_channels, inputs[0])

    # --- pieces of buffers ---

    def weights(self, unit: Unit) -> tuple[Piece | None, Piece | None]:
        """Weights of ``unit`` that learn, and those that do not."""
        key, shape = f"{unit.name}.weight", self.weight_shape(unit)
        kept = self.kept(unit.index)
        if kept in (0, unit.in_channels):
            whole = Piece(key, shape)
            return (whole, None) if kept else (None, whole)
        geometry = self.weighted(unit)
        inner = (geometry.outside, geometry.window.elements)
        return Piece(key, (kept, *inner)), Piece(key, (unit.in_channels - kept, *inner))

    def affine(self, unit: Unit) -> tuple[Piece, ...]:
        """Bias of ``unit``, or scale and shift of its norm."""
        norm = self.norm_of(unit)
        if norm:
            return tuple(Piece(f"{norm}.{part}", (unit.out_channels,)) for part in SCALES)
        return (Piece(f"{unit.name}.bias", (unit.out_channels,)),) if unit.bias_params else ()

    def statistics(self, unit: Unit) -> tuple[Piece, ...]:
        """Running mean and variance of the norm of ``unit``, where the plan has them."""
        norm, mode = self.norm_of(unit), self.schedule.plan.bn_mode
        if not norm or mode == "group":
            return ()
        return tuple(Piece(f"{norm}.{part}", (unit.out_channels,)) for part in STATISTICS)

    def pieces(self, holds: Holds, index: int) -> tuple[Piece, ...]:
        """Pieces of a unit's buffer, in their order."""
        unit = self.workload.units[index]
        learning, frozen = self.weights(unit)
        learns, running = self.affine_learns(index), self.schedule.plan.bn_mode == "batch_stats"
        affine, statistics = self.affine(unit), self.statistics(unit)
        if holds in (Holds.LEARNING_WEIGHT, Holds.PERSISTENT_WEIGHT):
            return () if learning is None else (learning,)
        if holds == Holds.FROZEN_WEIGHT:
            return () if frozen is None else (frozen,)
        if holds in (Holds.LEARNING_AFFINE, Holds.PERSISTENT_AFFINE):
            return (*(affine if learns else ()), *(statistics if running else ()))
        if holds == Holds.FROZEN_AFFINE:
            return (*(() if learns else affine), *(() if running else statistics))
        if holds == Holds.COPY_WEIGHT:
            return (Piece(f"{unit.name}.weight", self.weight_shape(unit)),)
        if holds == Holds.COPY_AFFINE:
            return (Piece(f"{unit.name}.bias", (unit.out_channels,)),) if unit.bias_params else ()
        if holds == Holds.NORM_GRADIENT:
            return affine if learns and self.norm_of(unit) else ()
        own = affine if learns and (holds == Holds.STATE or not self.norm_of(unit)) else ()
        return (*self.pieces(Holds.LEARNING_WEIGHT, index), *own)
