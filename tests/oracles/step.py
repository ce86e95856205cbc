"""One mini-batch and one inference, walked object by object."""

from __future__ import annotations

from collections import defaultdict
from math import ceil, prod

from tests.oracles.facts import NaiveFacts
from tests.oracles.regions import patch_shapes
from tests.oracles.trace import Trace

LATENTS = ("latents", 1)
LATENTS_AGAIN = ("latents", 2)


class NaiveStep(NaiveFacts):
    """A backprop plan as it runs: every operation names what it writes and reads, nothing else lives.

    Operations are (kind, layer), as the schedule calls them; ``live`` are the bytes during each,
    ``peak_bytes`` the most of them, ``training_peak_bytes`` without inference. Static roles (weights,
    optimiser state) are in neither; kernels have no workspace but the channel plane of a depthwise
    convolution in place.
    """

    def __init__(self, workload, plan, ratio, bias) -> None:
        super().__init__(workload, plan, ratio, bias)
        self.trace = Trace()
        self.macs = defaultdict(int)
        self.errors: dict[int, object] = {}  # tensor -> buffer of its error
        self.handed_on: set[int] = set()  # additions whose error became that of an input
        self._image("frozen fwd", self.cut_layer)
        self._store()
        self._load()
        for layer in range(self.cut_layer + 1, self.top + 1):
            self._forward(layer)
        self._loss()
        for layer in range(self.top, self.cut_layer, -1):
            if layer in self.places:
                self._run_again(self.segment(layer))
            self._backward(layer)
        self._update()
        self._image("infer", self.top)
        live = self.trace.live()
        self.live = dict(zip(self.trace.operations, live, strict=True))
        self.peak_bytes = max(live)
        self.training_peak_bytes = max(size for (kind, _), size in self.live.items() if kind != "infer")
        self.static_bytes = sum(self.static_bytes_of(unit) for unit in self.learning_units())

    # -- one image through frozen layers -----------------------------------------------------

    def _image(self, kind: str, last: int) -> None:
        tensor, (edge, parts) = self.frozen_tensor, self._patches()
        for layer in range(last + 1):
            self.trace.begin((kind, layer))
            if kind != "infer" and self.inside():
                self._wait(latents=self.m > 1)
            if -1 in self.net.inputs[layer] or layer <= edge:
                self.trace.use((kind, "frame"), self.size(-1))
            touched = [p for p in self.net.inputs[layer] if p >= 0] + [layer]
            for root in {tensor[other] for other in touched + [edge] * (layer <= edge)}:
                part = parts if root in parts and root != tensor[edge] else self.net.shapes
                wide = kind == "infer" and root >= self.net.units[-1].layer  # logits are sums of 32 bits
                self.trace.use((kind, root), prod(part[root]) * (4 if wide else self.plan.frozen_bits // 8))
            if self.net.layers[layer].kind.startswith("depthwise") and tensor[layer] != layer:
                plane = self.size(layer) // self.net.shapes[layer][0]
                self.trace.use((kind, "plane", layer), plane * self.plan.frozen_bits // 8)

    def _patches(self) -> tuple[int, dict[int, tuple[int, ...]]]:
        """Last layer that runs patch by patch (-1: none), and the largest part of each tensor up to it."""
        if self.plan.patches == "none":
            return -1, {}
        grid, _, unit = self.plan.patches.split()
        edge = self.net.units[int(unit)].cut_layer
        return edge, patch_shapes(self.net, int(grid.split("x")[0]), edge)

    def _store(self) -> None:
        self.trace.begin(("store latent", -1))
        source = "frame" if self.cut_layer < 0 else self.frozen_tensor[self.cut_layer]
        self.trace.use(("frozen fwd", source), self.size(-1) if self.cut_layer < 0 else None)
        if self.inside():
            self._wait(latents=True)

    def _wait(self, *, latents: bool) -> None:
        """What the learning stage holds while images pass the frozen stage."""
        self._use_accumulators()
        if latents:
            self._use_latents(LATENTS)

    # -- buffers -----------------------------------------------------------------------------

    def _use_accumulators(self) -> None:
        if self.m < self.batch:
            units = self.learning_units()
            total = sum(self.unit_gradient(unit) + self.norm_gradient(unit) for unit in units)
            self.trace.use("accumulators", total)

    def _use_latents(self, name: object) -> None:
        self.trace.use(name, self.m * self.latent_elements() * self.a)

    def _use_error(self, layer: int) -> None:
        root = self.tensor[layer]
        name = self.errors.setdefault(root, ("error", root))
        self.trace.use(name, self.m * self.size(root) * self.err(root))

    def _use_slice(self, layer: int) -> None:
        count = self.kept_elements(layer)
        self.trace.use(
            ("slice", layer), self.packed_bytes(count) if self.packs() else self.m * count * self.a
        )

    def _use_stored(self, layer: int) -> None:
        """Read latents at the replay bits: one copy where they are read forward again, else what is kept."""
        if self._read_again():
            whole = ceil(self.latent_elements() * self.latent_bits() / 8)
            self.trace.use(("stored", "whole"), self.m * whole)
        else:
            kept = ceil(self.kept_elements(layer) * self.latent_bits() / 8)
            self.trace.use(("stored", layer), self.m * kept)

    def _read_again(self) -> bool:
        """Whether a layer that runs again reads the latents."""
        sources = [p for layer in self.again for p in self.net.inputs[layer]]
        return any(self._value(p) == LATENTS for p in sources)

    def _value(self, layer: int, segment: tuple[int, int] | None = None) -> object:
        """Name of the buffer of a layer's output, in the first run or while ``segment`` runs again."""
        root = self.tensor[layer] if layer >= 0 else -1
        if root <= self.cut_layer:
            return LATENTS_AGAIN if segment and self.stays() else LATENTS
        return (root, 2 if segment and segment[0] <= root else 1)

    def _operand(self, layer: int) -> object:
        """Name of the buffer that holds the input of a unit when it runs for the last time."""
        value = self._value(self.net.inputs[layer][0], self.segment(layer))
        return LATENTS if value == LATENTS_AGAIN else value

    def _stored(self, layer: int) -> bool:
        """Whether the weight gradient of a unit reads latents that stay at the replay bits."""
        return self.stays() and self._operand(layer) == LATENTS

    # -- a micro-batch forward ---------------------------------------------------------------

    def _load(self) -> None:
        self.trace.begin(("load micro-batch", -1))
        self._use_accumulators()
        self._use_latents(LATENTS)
        if self.stays() and self._read_again():
            self._use_stored(-1)
        for unit in self.learning_units():
            if self.kept(unit) and self._stored(unit.layer):
                self._use_stored(unit.layer)
        self._pack(LATENTS, self.latent_elements())
        self._take_slices(LATENTS)

    def _forward(self, layer: int, segment: tuple[int, int] | None = None) -> None:
        """Run a layer; what its backward pass needs is saved in the last run only."""
        self.trace.begin(("recompute fwd" if segment else "fwd", layer))
        value = self._value(layer, segment)
        if value in (LATENTS, LATENTS_AGAIN):
            return  # flattened latents: the same numbers in the same place
        for producer in self.net.inputs[layer]:
            self._read(self._value(producer, segment))
        self.trace.use(value, self.m * self.size(layer) * self.act(layer))
        if layer == self.tail[self.tensor[layer]]:
            self._pack(value, self.size(layer))
            self._take_slices(value)
        if segment == self.segment(layer):
            self._save(layer)
        if layer in self.unit_of:
            self.macs["fwd"] += self.unit_of[layer].macs * self.batch
        if self.wide_classifier and layer == self.net.units[-1].layer:
            self.trace.use("fp32 input", self.m * self.net.units[-1].input_elements * 4)

    def _read(self, value: object) -> None:
        """Read a buffer forward; latents that are gone are made again from the stored copy."""
        if value == LATENTS_AGAIN:
            if value not in self.trace.size:  # widened once, for all who read it
                self._use_stored(-1)
            self._use_latents(value)
        else:
            self.trace.use(value)

    def _save(self, layer: int) -> None:
        self.trace.use(("saved", layer), self.saved(layer))
        for other in self.fused(layer):
            self.trace.use(("saved", other), self.saved(other))
        self.trace.use(("clamped", layer), self.clamp_mask(layer))
        if self.keeps_slice(layer) and not self._stored(layer):
            self._use_slice(layer)

    def _pack(self, value: object, count: int) -> None:
        """Pack a buffer whose values are final, if a weight gradient needs the whole of it."""
        keepers = [unit.layer for unit in self.learning_units() if self.keeps_whole(unit.layer)]
        if self.packs() and any(self._operand(r) == value and not self._stored(r) for r in keepers):
            self.trace.use(("packed", value), self.packed_bytes(count))

    def _take_slices(self, value: object) -> None:
        """Take what units of recomputed segments need of final values, where they do not run again."""
        for unit in self.learning_units():
            layer = unit.layer
            once = self.segment(layer) is not None and layer not in self.again
            takes = self.keeps_slice(layer) and not self._stored(layer)
            if once and takes and self._operand(layer) == value:
                self._use_slice(layer)

    def _loss(self) -> None:
        self.trace.begin(("loss", -1))
        self.trace.use(self._value(self.top))
        self._use_error(self.top)

    # -- and backward ------------------------------------------------------------------------

    def _run_again(self, segment: tuple[int, int]) -> None:
        """The forward pass of a segment, as far as its backward pass needs it."""
        for layer in range(segment[0], segment[1] + 1):
            if layer in self.again:
                self._forward(layer, segment)

    def _backward(self, layer: int) -> None:
        unit_learns = layer in self.unit_of and self.own_learns(layer)
        norm_learns = layer in self.affine_unit and self.own_learns(layer)
        self.trace.begin(("bwd_weight", layer))
        if unit_learns and not self.late:
            self._weight_gradient(layer)
        if norm_learns:
            self._use_error(layer)
            self.trace.use(("saved", layer))
            self._use_norm_gradient(layer)
        self.trace.begin(("bwd_input", layer))
        if self.error_passes(layer):
            self._input_gradient(layer)
        norm = self.net.layers[layer].saves == "norm"
        if norm:
            self._hold_error(layer)  # its update applies a gradient, and reads no error
        self.trace.begin(("bwd_weight+update", layer))
        if unit_learns and self.late:
            self._weight_gradient(layer)
        if norm_learns and self.late:
            self._use_norm_gradient(layer)
        if not norm:
            self._hold_error(layer)

    def _hold_error(self, layer: int) -> None:
        """An error stays until its producer is done with it."""
        if layer in self.errors and layer not in self.handed_on:
            self.trace.hold(self.errors[layer])

    def _use_norm_gradient(self, layer: int) -> None:
        if self.m == self.batch:
            self.trace.use(("norm gradient", layer), self.norm_gradient(self.affine_unit[layer]))

    def _weight_gradient(self, layer: int) -> None:
        unit = self.unit_of[layer]
        self._use_error(layer)
        if not (self.late and self.error_passes(layer)):
            self.trace.use(("clamped", layer), self.clamp_mask(layer))
        if self.m == self.batch and self.plan.update != "in_place":
            self.trace.use(("gradient", layer), self.unit_gradient(unit))
        self.macs["bwd_weight"] += unit.macs * self.kept(unit) // unit.in_channels * self.batch
        if self.kept(unit):
            self._read_operand(layer)

    def _read_operand(self, layer: int) -> None:
        """The kept channels of the input, widened where they are saved narrower than they are multiplied."""
        wide, value, stored = max(self.a, self.err(layer)), self._operand(layer), self._stored(layer)
        if stored:
            self._use_stored(layer)
        elif self.keeps_slice(layer):
            self.trace.use(("slice", layer))
        else:
            self.trace.use(("packed", value) if self.packs() else value)
        if stored or self.packs() or wide > self.a:
            self.trace.use(("widened", layer), self.m * self.kept_elements(layer) * wide)

    def _input_gradient(self, layer: int) -> None:
        heir = self._heir(layer)
        if heir is None:
            self._use_error(layer)
        else:
            self.handed_on.add(layer)
            self.errors[self.tensor[heir]] = self.errors[layer]
        for producer in self.net.inputs[layer]:
            if self.error_needed(producer):
                self._use_error(producer)
        if self.net.layers[layer].saves != "norm" or self.plan.bn_mode != "frozen_stats":
            self.trace.use(("saved", layer), self.saved(layer))
        if self.late or not self.own_learns(layer):
            self.trace.use(("clamped", layer), self.clamp_mask(layer))
        if layer in self.unit_of:
            unit = self.unit_of[layer]
            self.macs["bwd_input"] += unit.macs * self.batch
            if self.narrow_errors:  # the scale of an int8 error follows from the largest of its sums
                self.trace.use(("sums", layer), self.m * unit.input_elements * 4)

    def _heir(self, layer: int) -> int | None:
        """Input of an addition whose error takes over the buffer of the addition's error."""
        if self.net.layers[layer].kind != "add":
            return None
        for producer in self.net.inputs[layer]:
            begins = self.tensor[producer] not in self.errors and self.error_needed(producer)
            if begins and self.err(producer) == self.err(layer):
                return producer
        return None

    def _update(self) -> None:
        self.trace.begin(("update", -1))
        self._use_accumulators()
        if self.m == self.batch and not self.late:
            for name in [name for name in self.trace.size if name[0] in ("gradient", "norm gradient")]:
                self.trace.use(name)
