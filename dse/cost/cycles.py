"""Cycles of computing per mini-batch: kernels by operator, pass and dtype, and operations element by element.

Plans are grouped by the kernels that they run: the learning dtype, whether errors are int8, and whether the
classifier computes in fp32. Kernels on int8 errors have rates of their own (``INT8_ERROR_PASSES``); those of
int8 learning with fp32 errors contain the widening of int8 operands. Not priced: the random numbers of
stochastic rounding, and the one multiplication per parameter that scales a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dse.cost.context import Context
from dse.hardware.entries import Rate
from dse.plan.decisions import OPTIMISERS, BoolArray, FloatArray, IntArray
from dse.plan.step import TrainingStep
from dse.plan.timeline import Holds
from dse.vocabulary import DTYPES, INT8_ERROR_PASSES, PASSES
from dse.workload import Workload
from dse.workload.base import elements as elements_of

MAC_PASSES: Final = PASSES[:3]
BYTE_BITS: Final = 8


@dataclass(frozen=True)
class Kernels:
    """Which kernels some plans of a step run; ``rows`` (R,) are their positions."""

    units: int
    rows: IntArray
    dtype: str
    int8_errors: bool
    fp32_classifier: bool

    def unit_dtype(self, unit: int) -> str:
        """Return the dtype that ``unit`` computes in."""
        return "fp32" if self.fp32_classifier and unit == self.units - 1 else self.dtype

    def rate(self, context: Context, unit: int, pass_: int) -> Rate:
        """Return the rate of ``unit`` in pass number ``pass_``; raises Unpriced."""
        dtype, name = self.unit_dtype(unit), MAC_PASSES[pass_]
        if self.int8_errors and dtype == "int8":
            name = INT8_ERROR_PASSES.get(name, name)
        operator = context.workload.units[unit].operator
        return context.board.rate(operator, name, dtype, context.kernels.get(dtype))

    def executed(self, step: TrainingStep) -> Iterator[tuple[int, int]]:
        """Yield (unit, pass) of what some plan runs: a pass that nobody runs needs no price."""
        runs = step.macs[self.rows].any(axis=0)
        yield from ((int(u), int(p)) for u, p in np.argwhere(runs))

    def per_unit(self, context: Context, operation: str, pass_: str, asked: BoolArray) -> FloatArray:
        """Cycles per element of ``operation`` by unit, (U,); only units ``asked`` (U,) need a price."""
        cycles = np.zeros(self.units)
        for dtype in {self.unit_dtype(unit) for unit in np.flatnonzero(asked).tolist()}:
            mine = [self.unit_dtype(unit) == dtype for unit in range(self.units)]
            cycles[asked & mine] = element_cycles(context, operation, pass_, dtype)
        return cycles


def kernels_of(step: TrainingStep) -> Iterator[Kernels]:
    """Yield the kernels that plans of ``step`` run, each with the plans."""
    spec, units = step.spec, len(step.workload.units)
    code = 4 * step.learning.dtype + 2 * spec.int8_errors + spec.fp32_classifier
    for value in np.unique(code):
        dtype, errors, classifier = DTYPES[value // 4], bool(value & 2), bool(value & 1)
        yield Kernels(units, np.flatnonzero(code == value), dtype, errors, classifier)


def step_cycles(context: Context, step: TrainingStep) -> FloatArray:
    """Cycles of computing per mini-batch: (S, U + 1, passes); the last row loads latents, takes the loss."""
    cycles = np.zeros((len(step), len(context.workload.units) + 1, len(PASSES)))
    for kernels in kernels_of(step):
        _mac_cycles(context, step, kernels, cycles)
        if context.accounting.elements:
            _element_cycles(context, step, kernels, cycles)
            _bias_cycles(context, step, kernels, cycles)
            _update_cycles(context, step, kernels, cycles)
            _latent_cycles(context, step, kernels, cycles)
            _saved_cycles(context, step, kernels, cycles)
            _classifier_cycles(context, step, kernels, cycles)
    return cycles


def kernel_cycles(macs: Any, mac_per_cycle: float, calls: Any = 0.0, cycles_per_call: float = 0.0) -> Any:
    """Cycles of kernel calls: MACs over their rate, and the overhead of each call; scalars or arrays."""
    return macs / mac_per_cycle + calls * cycles_per_call


def element_cycles(context: Context, operation: str, pass_: str, dtype: str) -> float:
    """Cycles per element of one element operation; raises Unpriced."""
    library = context.kernels.get(dtype)
    word = context.board.element_word(operation, pass_, dtype, library)
    return context.board.element_cost(word, pass_, dtype, library).cycles_per_element.value


def element_count(workload: Workload) -> FloatArray:
    """Elements that each layer's operation touches per sample, (L,).

    Pooling counts what it reads, other layers what they write; one that runs forward only the larger of its
    output and its largest input, because it may shrink either.
    """
    pools = np.array(["pool" in (layer.element_operation or "") for layer in workload.layers])
    none = np.array([layer.element_operation is None for layer in workload.layers])
    counts = np.where(pools, workload.in_elements, workload.out_elements)
    for layer in workload.forward_only:
        read = max(elements_of(workload.shape_of(source)) for source in workload.inputs[layer])
        counts[layer] = max(read, workload.out_elements[layer])
    return np.where(none, 0, counts).astype(float)


def layer_cycles(context: Context, dtype: str, pass_: str, mask: Any, *, folded: bool) -> FloatArray:
    """Cycles per sample of each layer's element operation, (L,); only layers in ``mask`` (L,) are priced."""
    cycles = np.zeros(len(context.workload.layers))
    counts = element_count(context.workload)
    for index, layer in enumerate(context.workload.layers):
        operation = layer.element_operation
        if operation is None or not mask[index] or (folded and operation == "batch_norm"):
            continue
        cycles[index] = counts[index] * element_cycles(context, operation, pass_, dtype)
    return cycles


def call_overhead(context: Context, dtype: str) -> float:
    """Cycles per kernel call."""
    if not context.accounting.elements:
        return 0.0
    return context.board.overhead(context.library(dtype)).cycles_per_call.value


def _mac_cycles(context: Context, step: TrainingStep, kernels: Kernels, cycles: FloatArray) -> None:
    rows = kernels.rows
    for u, p in kernels.executed(step):
        rate = kernels.rate(context, u, p).mac_per_cycle.value
        overhead = call_overhead(context, kernels.unit_dtype(u))
        cycles[rows, u, p] += kernel_cycles(step.macs[rows, u, p], rate, step.calls[rows, u, p], overhead)


def _element_cycles(context: Context, step: TrainingStep, kernels: Kernels, cycles: FloatArray) -> None:
    """Add activations, batch norm, additions and pooling, forward and back."""
    workload, rows = context.workload, kernels.rows
    unit = np.maximum(workload.unit_of_layer, 0)
    owner = np.zeros((len(workload.layers), len(workload.units) + 1))
    owner[np.arange(len(workload.layers)), unit] = 1.0
    loss = np.array([layer.element_operation == "softmax_loss" for layer in workload.layers])
    folded = step.spec.bn_mode[rows] == 0
    norm = np.array([layer.element_operation == "batch_norm" for layer in workload.layers])
    for p, (pass_, samples) in enumerate(
        (("fwd", step.layer_fwd[rows]), ("bwd_input", step.layer_bwd[rows]))
    ):
        samples = np.where(folded[:, None] & norm[None, :], 0.0, samples) * ~loss[None, :]
        for dtype in {kernels.dtype, kernels.unit_dtype(kernels.units - 1)}:
            mine = np.array([kernels.unit_dtype(int(u)) == dtype for u in unit])
            per_sample = layer_cycles(context, dtype, pass_, samples.any(axis=0) & mine, folded=False)
            cycles[rows, :, p] += (samples * per_sample) @ owner


def _bias_cycles(context: Context, step: TrainingStep, kernels: Kernels, cycles: FloatArray) -> None:
    """The gradient of a bias sums its unit's output errors; a scale and a shift need two sums."""
    rows = kernels.rows
    learns = step.learning.trained_affine[rows] > 0
    outputs = np.array([unit.output_elements for unit in context.workload.units])
    norm = np.array([unit.norm_channels > 0 for unit in context.workload.units])
    sums = 1 + (norm[None, :] & (step.spec.bn_mode[rows] != 0)[:, None])
    cost = kernels.per_unit(context, "add", "fwd", np.asarray(learns.any(axis=0)))
    cycles[rows, :-1, 2] += step.spec.samples[rows][:, None] * learns * sums * outputs * cost


def _update_cycles(context: Context, step: TrainingStep, kernels: Kernels, cycles: FloatArray) -> None:
    """Add what the optimiser spends on each parameter."""
    for code in np.unique(step.spec.optimiser[kernels.rows]):
        rows = kernels.rows[step.spec.optimiser[kernels.rows] == code]
        rows = rows[step.spec.backprop[rows]]
        parameters = step.learning.parameters[rows]
        cost = kernels.per_unit(context, f"update_{OPTIMISERS[code]}", "update", parameters.any(axis=0))
        cycles[rows, :-1, 3] += parameters * cost


def _latent_cycles(context: Context, step: TrainingStep, kernels: Kernels, cycles: FloatArray) -> None:
    """Widening of stored latents, and the element work of closed-form heads."""
    spec, rows = step.spec, kernels.rows
    bits = spec.latent_bits[rows]
    narrow = bits < 8 * spec.act_bytes[rows]
    if narrow.any():
        packed = narrow & ~np.isin(bits, (8, 16, 32))
        widened = spec.samples[rows] * step.latent_elements[rows] * (1 + spec.keeps_stored_input[rows])
        unpack = packed * element_cycles(context, "unpack", "fwd", kernels.dtype) if packed.any() else 0
        cost = narrow * element_cycles(context, "dequantise", "fwd", kernels.dtype)
        cycles[rows, -1, 0] += widened * (cost + unpack)
    if spec.head_sample_elements[rows].any():
        added = spec.new_samples[rows] * spec.head_sample_elements[rows]
        cycles[rows, -1, 3] += added * element_cycles(context, "add", "fwd", kernels.dtype)


def _saved_cycles(context: Context, step: TrainingStep, kernels: Kernels, cycles: FloatArray) -> None:
    """Narrow what is saved in fewer bits than computed, and widen it for the pass that reads it."""
    spec, rows = step.spec, kernels.rows
    saves = spec.packs_saved()[rows]
    if not saves.any():
        return
    narrow, widen = (
        element_cycles(context, operation, "fwd", kernels.dtype) for operation in ("quantise", "dequantise")
    )
    packed = saves & (spec.saved_bits[rows] < BYTE_BITS)
    pack = packed * (element_cycles(context, "unpack", "fwd", kernels.dtype) if packed.any() else 0.0)
    for reader, elements in ((2, _saved_inputs(step)[rows]), (1, _saved_by_layers(step)[rows])):
        count = (spec.samples[rows] * saves)[:, None] * elements
        cycles[rows, :-1, 0] += count * (narrow + pack)[:, None]
        cycles[rows, :-1, reader] += count * (widen + pack)[:, None]


def _saved_inputs(step: TrainingStep) -> FloatArray:
    """Elements per sample saved for weight gradients, (P, U); not latents that stay as they are stored."""
    units = step.workload.units
    pixels = np.array([unit.input_elements // unit.in_channels for unit in units])
    stored = step.spec.keeps_stored_input[:, None] & (np.arange(len(units)) == step.spec.first_unit[:, None])
    return np.asarray(step.learning.kept_channels * pixels * ~stored, dtype=float)


def _saved_by_layers(step: TrainingStep) -> FloatArray:
    """Elements per sample that hard-swish and batch norms have saved, by unit, (P, U)."""
    workload = step.workload
    elements = np.zeros((len(step), len(workload.units)))
    for buffer in step.schedule.buffers:
        if buffer.holds in (Holds.SAVED_INPUT, Holds.NORM):
            unit = max(int(workload.unit_of_layer[buffer.place]), 0)
            elements[:, unit] += workload.out_elements[buffer.place] * (buffer.size > 0)
    return elements


def _classifier_cycles(context: Context, step: TrainingStep, kernels: Kernels, cycles: FloatArray) -> None:
    """The loss; and where the classifier is fp32 in int8 learning, widening its input for each pass."""
    spec, rows, last = step.spec, kernels.rows, context.workload.units[-1]
    dtype = kernels.unit_dtype(last.index)
    samples = spec.samples[rows] * spec.backprop[rows]
    if not samples.any():
        return
    cycles[rows, -1, 0] += samples * last.out_channels * element_cycles(context, "softmax_loss", "fwd", dtype)
    if dtype != kernels.dtype:
        widened = samples * last.input_elements * element_cycles(context, "dequantise", "fwd", dtype)
        cycles[rows, last.index, 0] += widened
        cycles[rows, last.index, 2] += widened * step.learning.weights_learn(last.index)[rows]
