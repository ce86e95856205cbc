"""Seconds of one event, layer by layer: the slow recomputation that the vectorised price must equal."""

from __future__ import annotations

from math import ceil

from tests.oracles import NaiveStep


class NaiveEvent:
    """Seconds of one event on a board whose cores work directly on its RAM, layer by layer.

    Only for plans with latent or no replay and cached latents. Untrained parameters of the learning stage
    are read from flash, wait states included, once per micro-batch.
    """

    def __init__(self, context, plan, ratio, bias, point: int) -> None:
        self.board, self.net, self.plan = context.board, context.workload, plan
        self.hz = self.board.operating_points[point].clock_hz.value
        self.dtype, self.frozen = plan.learning_dtype, {8: "int8", 32: "fp32"}[plan.frozen_bits]
        self.walk = NaiveStep(self.net, plan, ratio, bias)
        self.calls = ceil(self.walk.batch / plan.micro_batch)
        image = sum(self._frozen(index) for index in range(self.walk.cut_layer + 1))
        count = len(self.net.layers)
        minibatch = sum(self._learning(index) for index in range(self.walk.cut_layer + 1, count))
        minibatch += self._inputs_and_loss()
        used = plan.images_per_event // plan.new_per_batch * plan.new_per_batch
        self.seconds = {
            "frozen stage": used * image / self.hz,
            "learning": used // plan.new_per_batch * plan.epochs * minibatch / self.hz,
            "sample storage": used * self._store() / self.hz,
        }

    def element(self, operation, pass_, dtype):
        return self.board.element_cost(operation, pass_, dtype).cycles_per_element.value

    def overhead(self, dtype):
        return self.board.overhead(self.board.library_for(dtype)).cycles_per_call.value

    def touched(self, index):
        pools = "pool" in self.net.layers[index].element_operation
        return self.net.in_elements[index] if pools else self.net.out_elements[index]

    def _frozen(self, index):
        unit, operation = self.walk.unit_of.get(index), self.net.layers[index].element_operation
        if unit is not None:
            rate = self.board.rate(unit.operator, "fwd", self.frozen)
            cycles = unit.macs / rate.mac_per_cycle.value + self.overhead(self.frozen)
            if rate.weights_in != "flash":
                held = unit.weight_params * self.plan.frozen_bits // 8 + 4 * unit.bias_params
                cycles += held * self.board.level("flash").read_s_per_byte(self.hz) * self.hz
            return cycles
        if operation in (None, "batch_norm"):
            return 0.0
        return self.touched(index) * self.element(operation, "fwd", self.frozen)

    def _learning(self, index):
        walk, operation = self.walk, self.net.layers[index].element_operation
        if index in walk.unit_of:
            return self._unit(index, walk.unit_of[index])
        if operation in (None, "softmax_loss") or (operation == "batch_norm" and walk.folded()):
            return 0.0
        cycles = walk.batch * self.touched(index) * self.element(operation, "fwd", self.dtype)
        if walk.error_passes(index):
            cycles += walk.batch * self.touched(index) * self.element(operation, "bwd_input", self.dtype)
        return cycles

    def _unit(self, index, unit):
        walk, plan = self.walk, self.plan
        weights, affine = walk.trained_weights(unit), walk.trained_affine(unit)
        all_affine = unit.bias_params if walk.folded() or not unit.norm_channels else 2 * unit.norm_channels
        still = 2 * unit.norm_channels if plan.bn_mode == "frozen_stats" else 0
        untrained = (unit.weight_params - weights) * walk.w
        fixed = (all_affine - affine + still) * walk.b
        shares = {"fwd": 1.0, "bwd_input": float(walk.error_passes(index))}
        shares["bwd_weight"] = walk.kept(unit) / unit.in_channels
        cycles = 0.0
        for pass_, part in shares.items():
            if part:
                rate = self.board.rate(unit.operator, pass_, self.dtype)
                cycles += (
                    walk.batch * part * unit.macs / rate.mac_per_cycle.value
                    + self.calls * self.overhead(self.dtype)
                )
                read = {"fwd": untrained + fixed, "bwd_input": untrained, "bwd_weight": 0}[pass_]
                flash = self.board.level("flash")
                assert rate.weights_in != "flash"
                cycles += self.calls * read * flash.read_s_per_byte(self.hz) * self.hz
        if affine:
            sums = 1 if walk.folded() or not unit.norm_channels else 2
            cycles += walk.batch * sums * unit.output_elements * self.element("add", "fwd", self.dtype)
        words = {"sgd": "update_sgd", "momentum": "update_momentum", "adam": "update_adam"}[plan.optimiser]
        return cycles + (weights + affine) * self.element(words, "update", self.dtype)

    def _inputs_and_loss(self):
        walk, bits = self.walk, self.walk.latent_bits()
        cycles = (
            walk.batch * self.net.units[-1].out_channels * self.element("softmax_loss", "fwd", self.dtype)
        )
        if bits < 8 * walk.a:
            twice = 2 if self.plan.first_input == "stored" else 1
            unpack = 0 if bits in (8, 16, 32) else self.element("unpack", "fwd", self.dtype)
            widen = self.element("dequantise", "fwd", self.dtype) + unpack
            cycles += walk.batch * walk.latent_elements() * twice * widen
        return cycles

    def _store(self):
        bits = self.walk.latent_bits()
        if self.plan.cut < 0 or bits == self.plan.frozen_bits:
            return 0.0
        pack = 0 if bits in (8, 16, 32) else self.element("unpack", "fwd", self.frozen)
        return self.walk.latent_elements() * (self.element("quantise", "fwd", self.frozen) + pack)
