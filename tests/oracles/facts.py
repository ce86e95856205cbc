"""What holds for a plan before anything runs: widths, who learns, who shares a buffer, what runs twice."""

from __future__ import annotations

from math import ceil, floor, prod

WIDTH = {"fp32": (4, 4, 4, 4, 4), "fp16": (2, 2, 2, 2, 2), "int8": (1, 4, 1, 4, 4)}
STATE = {"sgd": 0, "momentum": 1, "adam": 2, "lars": 1}
VIEWS = ("flatten", "softmax")


class NaiveFacts:
    """Answers about one network and plan, each found by looking."""

    def __init__(self, workload, plan, ratio, bias) -> None:
        self.net, self.plan = workload, plan
        self.ratio, self.bias = ratio, bias
        self.w, self.b, self.a, self.g, self.acc = WIDTH[plan.learning_dtype]
        self.int8 = plan.learning_dtype == "int8"
        self.narrow_errors = self.int8 and plan.backward_dtype == "int8"
        self.narrow_gradients = self.int8 and plan.accumulator_dtype == "int8"
        self.wide_classifier = self.int8 and plan.classifier_dtype == "fp32"
        self.batch = plan.new_per_batch + plan.replays_per_batch
        self.m = plan.micro_batch
        self.late = plan.update != "accumulate"
        self.cut_layer = -1 if plan.cut == -1 else workload.units[plan.cut].cut_layer
        self.top = len(workload.layers) - 1
        self.consumers = {
            producer: [i for i, sources in enumerate(workload.inputs) if producer in sources]
            for producer in range(-1, len(workload.layers))
        }
        self.unit_of = {unit.layer: unit for unit in workload.units}
        self.affine_unit = {
            follower: unit
            for unit in workload.units
            for follower in unit.followers
            if workload.layers[follower].saves == "norm"
        }
        self.tensor, self.frozen_tensor = self._tensors(frozen=False), self._tensors(frozen=True)
        self.tail = {root: layer for layer, root in self.tensor.items()}  # the last member remains
        self.needs: dict[int, bool] = {}
        for layer in range(len(workload.layers)):
            below = any(self.needs.get(p, False) for p in workload.inputs[layer])
            self.needs[layer] = layer > self.cut_layer and (self.own_learns(layer) or below)
        self.places = self._places()
        self.again = self._again()

    # -- buffers that layers share -----------------------------------------------------------

    def _tensors(self, frozen: bool) -> dict[int, int]:
        """Layer -> layer that first wrote the buffer of its output."""
        found: dict[int, int] = {}
        for index in range(len(self.net.layers)):
            source = self.net.inputs[index][0]
            alone = source >= 0 and len(self.consumers[source]) == 1
            found[index] = found[source] if alone and self.overwrites(index, frozen) else index
        return found

    def overwrites(self, index: int, frozen: bool) -> bool:
        """Whether the kind of a layer lets it write over its input."""
        layer = self.net.layers[index]
        if self.plan.in_place == "none":
            return layer.kind in VIEWS
        return layer.in_place or (frozen and self.plan.in_place == "depthwise" and self.in_plane(index))

    def in_plane(self, index: int) -> bool:
        """Whether the layer is a depthwise convolution that can overwrite its input plane by plane."""
        layer, source = self.net.layers[index], self.net.inputs[index][0]
        if source < 0 or layer.operator_on(self.net.shapes[source]) != "depthwise":
            return False
        return set(layer.stride) == {1} and self.net.shapes[source] == self.net.shapes[index]

    # -- widths and sizes --------------------------------------------------------------------

    def size(self, layer: int) -> int:
        """Elements of a layer's output, for one sample."""
        return prod(self.net.input_shape if layer < 0 else self.net.shapes[layer])

    def latent_elements(self) -> int:
        return self.size(self.cut_layer)

    def in_last_unit(self, layer: int) -> bool:
        return layer >= self.net.units[-1].layer

    def act(self, layer: int) -> int:
        """Bytes per element of a layer's output in the learning stage."""
        return 4 if self.int8 and self.in_last_unit(layer) else self.a

    def err(self, layer: int) -> int:
        """Bytes per element of the error of a layer's output."""
        if self.wide_classifier and self.in_last_unit(layer):
            return 4
        return 1 if self.narrow_errors else self.g

    def latent_bits(self) -> int:
        if self.cut_layer == -1:
            return 8
        if self.plan.replay == "raw" and self.plan.new_samples != "cache_latent":
            return 8 * self.a
        return self.plan.replay_bits

    def inside(self) -> bool:
        """Whether the frozen stage runs during the mini-batch."""
        raw = self.plan.replay == "raw" and self.plan.replays_per_batch > 0
        return self.plan.cut >= 0 and (self.plan.new_samples != "cache_latent" or raw)

    def stays(self) -> bool:
        """Whether latents wait for the weight gradients at the replay bits."""
        return self.plan.first_input == "stored" and self.latent_bits() < 8 * self.a

    def packs(self) -> bool:
        """Whether saved activations are narrower than they were computed."""
        return self.plan.saved_bits < 8 * self.a

    def packed_bytes(self, count: int) -> int:
        """Bytes of ``count`` saved values per sample, with their scale."""
        return ceil(self.m * count * self.plan.saved_bits / 8) + 4

    # -- what learns -------------------------------------------------------------------------

    def folded(self) -> bool:
        return self.plan.bn_mode == "folded"

    def kept(self, unit) -> int:
        return floor(self.ratio[unit.index] * unit.in_channels + 1e-9)

    def keeps_whole(self, layer: int) -> bool:
        return layer in self.unit_of and self.kept(self.unit_of[layer]) == self.unit_of[layer].in_channels

    def keeps_slice(self, layer: int) -> bool:
        if layer not in self.unit_of:
            return False
        return 0 < self.kept(self.unit_of[layer]) < self.unit_of[layer].in_channels

    def kept_elements(self, layer: int) -> int:
        """Elements of the kept input channels of a unit, for one sample."""
        unit = self.unit_of[layer]
        return self.kept(unit) * (unit.input_elements // unit.in_channels)

    def trained_weights(self, unit) -> int:
        return unit.weight_params * self.kept(unit) // unit.in_channels

    def norm_parameters(self, unit) -> int:
        """Scales and shifts of a norm that learns on its own."""
        own = self.bias[unit.index] and not self.folded() and unit.norm_channels
        return 2 * unit.norm_channels if own else 0

    def trained_bias(self, unit) -> int:
        """Biases of the unit itself that learn; a norm that is not folded brings its own shifts."""
        own = self.bias[unit.index] and (self.folded() or not unit.norm_channels)
        return unit.bias_params if own else 0

    def trained_affine(self, unit) -> int:
        return self.trained_bias(unit) + self.norm_parameters(unit)

    def gradient_bytes(self, unit, count: int) -> int:
        """Bytes of the gradient of ``count`` parameters of a unit."""
        whole = self.wide_classifier and self.in_last_unit(unit.layer)
        return count * (1 if self.narrow_gradients and not whole else self.acc)

    def unit_gradient(self, unit) -> int:
        return self.gradient_bytes(unit, self.trained_weights(unit) + self.trained_bias(unit))

    def norm_gradient(self, unit) -> int:
        return self.gradient_bytes(unit, self.norm_parameters(unit))

    def static_bytes_of(self, unit) -> int:
        """Learning weights and optimiser state, which is fp32 beside int8 weights."""
        weight = 4 if self.wide_classifier and self.in_last_unit(unit.layer) else self.w
        count = self.trained_weights(unit) + self.trained_affine(unit)
        running = 2 * unit.norm_channels if self.plan.bn_mode == "batch_stats" else 0
        return (
            self.trained_weights(unit) * weight
            + (self.trained_affine(unit) + running) * self.b
            + count * STATE[self.plan.optimiser] * WIDTH[self.plan.learning_dtype][4]
        )

    def learning_units(self):
        return [unit for unit in self.net.units if unit.layer > self.cut_layer]

    def own_learns(self, layer: int) -> bool:
        if layer in self.unit_of:
            unit = self.unit_of[layer]
            return self.kept(unit) > 0 or self.trained_bias(unit) > 0
        return layer in self.affine_unit and self.norm_parameters(self.affine_unit[layer]) > 0

    def error_needed(self, layer: int) -> bool:
        """Whether something at or below a layer's output learns."""
        return self.needs.get(layer, False)

    def error_passes(self, layer: int) -> bool:
        return any(self.error_needed(producer) for producer in self.net.inputs[layer])

    # -- what a layer leaves behind for its backward pass ------------------------------------

    def fused(self, layer: int) -> list[int]:
        """ReLUs in place on what ``layer`` writes, whose mask requantising to int8 already makes."""
        kind = self.net.layers[layer]
        sums = layer in self.unit_of or kind.element_operation in ("add", "concat")
        if not (self.int8 and sums and self.act(layer) == 1):
            return []
        same = [other for other in self.tensor if self.tensor[other] == layer and other != layer]
        return [other for other in same if self.net.layers[other].saves == "mask"]

    def saved(self, layer: int) -> int:
        """Bytes that the layer itself needs again; an input that a weight gradient needs is not its own."""
        kind, count, passes = self.net.layers[layer].saves, self.size(layer), self.error_passes(layer)
        if kind == "mask" and passes:
            return ceil(self.m * count / 8)
        if kind == "index" and passes:
            return self.m * count
        if kind == "input" and passes:
            return self._values(layer)
        if kind != "norm" or self.folded():
            return 0
        channels, mode = self.net.shapes[layer][0], self.plan.bn_mode
        if not self.own_learns(layer) and not (passes and mode != "frozen_stats"):
            return 0
        extra = {"frozen_stats": 0, "batch_stats": 8 * channels, "group": 8 * min(32, channels) * self.m}
        return self._values(layer) + extra[mode]

    def _values(self, layer: int) -> int:
        count = self.size(layer)
        return self.packed_bytes(count) if self.packs() else self.m * count * self.act(layer)

    def clamp_mask(self, layer: int) -> int:
        """Bytes of the mask of int8 sums that were clamped, where no ReLU in place clamps them again."""
        sums = layer in self.unit_of or self.net.layers[layer].kind == "add"
        if not (self.int8 and sums and self.error_needed(layer)) or self.act(layer) > 1:
            return 0
        same = [other for other in self.tensor if self.tensor[other] == layer]
        masked = any(self.net.layers[other].saves == "mask" for other in same)
        return 0 if masked else ceil(self.m * self.size(layer) / 8)

    # -- checkpoints -------------------------------------------------------------------------

    def _places(self) -> list[int]:
        """Layers behind which the learning stage is split."""
        units, seen = [], set()
        for unit in self.net.units:
            end = unit.cut_layer
            made = range(-1, end + 1)
            crossing = [p for p in made if any(c > end for c in self.consumers[p])]
            if end > self.cut_layer and crossing == [end] and end not in seen:
                units.append(unit)
                seen.add(end)
        kind, *numbers = self.plan.checkpoints.split()
        if kind == "none":
            return []
        if kind == "every":
            step = int(numbers[0])
            return [unit.cut_layer for count, unit in enumerate(units, start=1) if count % step == 0]
        return [unit.cut_layer for unit in units if str(unit.index) in numbers]

    def segment(self, layer: int) -> tuple[int, int] | None:
        """First and last layer of the segment that runs twice with ``layer``; None where it runs once."""
        first = self.cut_layer + 1
        for last in self.places:
            if first <= layer <= last:
                return first, last
            first = last + 1
        return None

    def _again(self) -> set[int]:
        """Layers whose forward pass runs a second time."""
        found: set[int] = set()
        for layer in range(self.top, self.cut_layer, -1):
            segment = self.segment(layer)
            if segment is None:
                continue
            if self.saved(layer) or self.clamp_mask(layer):
                found.add(layer)
            weights = layer in self.unit_of and self.kept(self.unit_of[layer]) > 0
            if layer in found or weights:
                found.update(p for p in self.net.inputs[layer] if segment[0] <= p <= segment[1])
        return found
