"""Peak memory of the public engine of arXiv 2206.15472, by the rules of its planner.

The engine keeps quantised layers (a convolution or an addition, each with a clamp to 8 bits) and computes
gradients in fp32. Counted is the training part for one sample: what the forward pass leaves behind and
what the backward pass needs. The forward pass itself, which the engine can run in patches, is left out.

Alive throughout: trained weights and biases, the classifier, the im2col buffer of the largest depthwise
input and one kernel buffer. Alive from the forward pass until used: the whole input of each layer whose
weights learn, one bit per output element of a convolution, one byte per output element of an addition.
The backward pass of a layer, in this order: mask its error in place; sum the bias gradient; widen the
stored input to fp32, cut the trained channels out of it, compute the weight gradient; compute the input
error beside the output error (a depthwise layer of stride 1 overwrites it). An addition holds its error
and one scaled copy for each input.

This is another count than ``dse.plan.schedule``, which is the product's own step of the same networks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from dse.errors import Problem, UnknownName, UserError
from dse.plan.policy import UpdatePolicy
from dse.plan.spec import BIAS_BYTES, kept_channels
from dse.workload import Workload
from dse.workload.graph import NETWORK_INPUT, Unit
from dse.workload.windows import Dilated, Plane

RATIO_TWICE: Final = "ratio-twice"
NO_SKIP_GRADIENT: Final = "no-skip-gradient"
QUIRKS: Final = (RATIO_TWICE, NO_SKIP_GRADIENT)
"""Faults of the public code that its published peaks contain; off unless named.

``ratio-twice``: the bytes of partly trained weights are multiplied by the ratio of channels twice.
``no-skip-gradient``: an addition hands its error to the block alone and nothing to the skip path.
"""
ENGINE_DTYPES: Final = {"int8": 1, "fp32": 4}
GRADIENT_BYTES: Final = 4  # errors and gradients are fp32 whatever the layers are
KERNEL_BUFFER_BYTES: Final = 864
IM2COL_CHANNELS: Final = 2

TRAINED, INPUT, CLAMP, RESIDUAL = "trained parameters", "saved input", "clamp mask", "residual mask"
ERROR, GRADIENT, SCRATCH, KERNEL = "error", "gradient", "scratch", "kernel buffer"

_PASS_THROUGH: Final = frozenset({"relu", "relu6", "batch_norm", "flatten", "softmax"})  # part of a clamp
_POOLS: Final = frozenset({"avg_pool", "global_avg_pool"})
_ADDITION: Final = "add"


@dataclass(frozen=True)
class EngineBuffer:
    """One buffer that is alive at the peak: its kind, the layer (or what it holds), and its bytes."""

    kind: str
    name: str
    size: int


@dataclass(frozen=True)
class EnginePeak:
    """The fullest moment: the step at which it is, and every buffer alive then."""

    step: str
    buffers: tuple[EngineBuffer, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes alive at the peak [B]."""
        return sum(buffer.size for buffer in self.buffers)

    def by_kind(self) -> dict[str, int]:
        """Return the bytes at the peak [B] by kind of buffer, largest first."""
        total: dict[str, int] = {}
        for buffer in self.buffers:
            total[buffer.kind] = total.get(buffer.kind, 0) + buffer.size
        return dict(sorted(total.items(), key=lambda item: -item[1]))


def engine_peak(
    workload: Workload,
    policy: UpdatePolicy,
    *,
    reorder: bool = True,
    quirks: Collection[str] = (),
    dtype: str = "int8",
) -> EnginePeak:
    """Return the peak of one training step for one sample on the public engine.

    Parameters
    ----------
    workload
        A network of convolutions, linear layers, additions and average pooling.
    policy
        What learns; resolved for the whole network (no frozen stage).
    reorder
        Update each parameter as soon as its gradient exists, both in one operation. Without it every
        gradient (fp32) lives to the end, and an input gradient first widens its whole weight tensor to fp32.
    quirks
        Names of ``QUIRKS`` to reproduce.
    dtype
        Of weights and activations: ``int8``, or ``fp32`` for the same engine without quantisation.

    Raises UserError with every unknown quirk, an unknown dtype, and layers that the engine does not have.

    """
    problems = [*_unknown_words(quirks, dtype), *_unknown_layers(workload)]
    if problems:
        raise UserError(problems)
    return _Backward(workload, policy, reorder, frozenset(quirks), dtype).peak()


def _unknown_words(quirks: Collection[str], dtype: str) -> list[Problem]:
    errors = [UnknownName("quirk", name, QUIRKS) for name in quirks if name not in QUIRKS]
    if dtype not in ENGINE_DTYPES:
        errors.append(UnknownName("dtype of the engine", dtype, ENGINE_DTYPES))
    return [problem for error in errors for problem in error.problems]


def _unknown_layers(workload: Workload) -> list[Problem]:
    known = _PASS_THROUGH | _POOLS | {_ADDITION}
    rule = f"it has convolutions, linear layers and {', '.join(sorted(known))}"
    problems = [
        Problem(workload.name, layer.name, f"the engine has no {layer.kind}", rule)
        for layer in workload.layers
        if layer.operator is None and layer.kind not in known
    ]
    for layer in workload.layers:
        if isinstance(layer, Dilated) and set(layer.dilation) != {1}:
            found = f"dilation {list(layer.dilation)}"
            problems.append(Problem(workload.name, layer.name, found, "the engine's kernels have none"))
    return problems


@dataclass
class _Memory:
    """What is alive now by (kind, name), and the fullest moment so far."""

    live: dict[tuple[str, str], int] = field(default_factory=dict)
    fullest: EnginePeak = field(default_factory=lambda: EnginePeak("", ()))

    def hold(self, kind: str, name: str, size: int) -> None:
        self.live[kind, name] = size

    def drop(self, kind: str, name: str) -> None:
        self.live.pop((kind, name), None)

    def step(self, name: str, scratch: dict[str, int] | None = None) -> None:
        """Note one operation; ``scratch`` [B] is alive during it alone."""
        alive = self.live | {(SCRATCH, what): size for what, size in (scratch or {}).items()}
        if sum(alive.values()) > self.fullest.total_bytes:
            buffers = (EngineBuffer(*key, size) for key, size in alive.items() if size)
            self.fullest = EnginePeak(name, tuple(buffers))


@dataclass
class _Backward:
    """One backward pass, layer by layer from the loss."""

    workload: Workload
    policy: UpdatePolicy
    reorder: bool
    quirks: frozenset[str]
    dtype: str
    memory: _Memory = field(default_factory=_Memory)

    def __post_init__(self) -> None:
        self.ratio, self.bias = self.policy.resolve(self.workload, NETWORK_INPUT)
        self.kept = kept_channels(self.workload, self.ratio)
        self.unit_at = {unit.layer: unit for unit in self.workload.units}
        self.width = ENGINE_DTYPES[self.dtype]

    def peak(self) -> EnginePeak:
        """Run the backward pass and return its fullest moment."""
        self._parameters()
        self._left_by_forward()
        last = len(self.workload.layers) - 1
        self._deliver("loss", last)
        for index in range(last, -1, -1):
            if (ERROR, self._name(index)) in self.memory.live:
                self._layer(index)
        self.memory.step("update of all parameters")
        return self.memory.fullest

    @cached_property
    def needed(self) -> list[bool]:
        """Whether the error of each layer's output is needed: something at or below it learns."""
        found: list[bool] = []
        for index, producers in enumerate(self.workload.inputs):
            unit = self.unit_at.get(index)
            own = unit is not None and bool(self.kept[unit.index] or self.bias[unit.index])
            found.append(own or any(found[producer] for producer in producers if producer >= 0))
        return found

    # --- alive before the backward pass ---

    def _parameters(self) -> None:
        for unit in self.workload.units:
            weights = self._trained_weights(unit)
            if RATIO_TWICE in self.quirks:
                weights = int(weights * self.ratio[unit.index])
            biases = BIAS_BYTES * unit.bias_params * int(self.bias[unit.index])
            self.memory.hold(TRAINED, unit.name, self.width * weights + biases)
        columns = (self._column_bytes(unit) for unit in self.workload.units if unit.operator == "depthwise")
        self.memory.hold(KERNEL, "im2col of the largest depthwise input", max(columns, default=0))
        self.memory.hold(KERNEL, "kernel", KERNEL_BUFFER_BYTES)

    def _column_bytes(self, unit: Unit) -> int:
        """Two padded channels of a depthwise input, int8."""
        shape = self.workload.shape_of(self.workload.inputs[unit.layer][0])
        window = Plane.of(self.workload.layers[unit.layer], shape)
        return IM2COL_CHANNELS * window.rows.padded * window.columns.padded

    def _trained_weights(self, unit: Unit) -> int:
        return unit.weight_params * int(self.kept[unit.index]) // unit.in_channels

    def _left_by_forward(self) -> None:
        for index, layer in enumerate(self.workload.layers):
            elements, unit = int(self.workload.out_elements[index]), self.unit_at.get(index)
            if unit is not None and self.kept[unit.index]:
                self.memory.hold(INPUT, unit.name, self.width * unit.input_elements)
            if unit is not None and self.needed[index] and unit is not self.workload.units[-1]:
                self.memory.hold(CLAMP, unit.name, -(-elements // 8))
            if layer.kind == _ADDITION and self.needed[index]:
                self.memory.hold(RESIDUAL, layer.name, elements)

    # --- the backward pass ---

    def _layer(self, index: int) -> None:
        """Run the backward pass of one layer whose error is there, and drop that error."""
        unit, kind = self.unit_at.get(index), self.workload.layers[index].kind
        if unit is not None:
            self._convolution(unit)
        elif kind == _ADDITION:
            self._addition(index)
        else:
            self._deliver(f"bwd {self._name(index)}", self.workload.inputs[index][0])
        self.memory.drop(ERROR, self._name(index))

    def _convolution(self, unit: Unit) -> None:
        self.memory.drop(CLAMP, unit.name)
        if self.bias[unit.index]:
            self._bias_gradient(unit)
        if self.kept[unit.index]:
            self._weight_gradient(unit)
        if unit.operator == "depthwise" and unit.input_elements == unit.output_elements:
            self.memory.drop(ERROR, unit.name)  # overwritten by the input error
        widens = not self.reorder and self.width < GRADIENT_BYTES
        scratch = {f"widened weights of {unit.name}": GRADIENT_BYTES * unit.weight_params} if widens else {}
        self._deliver(f"bwd_input {unit.name}", self.workload.inputs[unit.layer][0], scratch)

    def _weight_gradient(self, unit: Unit) -> None:
        """Widen the stored input, cut the trained channels out of it, compute their gradient."""
        kept, step = int(self.kept[unit.index]), f"bwd_weight {unit.name}"
        source: dict[str, int] = {}
        if self.width < GRADIENT_BYTES:
            source = {f"widened input of {unit.name}": GRADIENT_BYTES * unit.input_elements}
            self.memory.step(step, source)
            self.memory.drop(INPUT, unit.name)
        if kept < unit.in_channels:
            size = GRADIENT_BYTES * kept * (unit.input_elements // unit.in_channels)
            cut = {f"trained channels of the input of {unit.name}": size}
            self.memory.step(step, source | cut)
            self.memory.drop(INPUT, unit.name)
            source = cut
        if not self.reorder:
            self.memory.hold(
                GRADIENT, f"weights of {unit.name}", GRADIENT_BYTES * self._trained_weights(unit)
            )
        self.memory.step(step, source)
        self.memory.drop(INPUT, unit.name)

    def _bias_gradient(self, unit: Unit) -> None:
        size, name = GRADIENT_BYTES * unit.out_channels, f"biases of {unit.name}"
        if not self.reorder:
            self.memory.hold(GRADIENT, name, size)
        self.memory.step(f"bwd_bias {unit.name}", {f"gradient of the {name}": size} if self.reorder else {})

    def _addition(self, index: int) -> None:
        """Scale the error once for each input; the scaled copies are the inputs' errors."""
        own, size = self._name(index), GRADIENT_BYTES * int(self.workload.out_elements[index])
        self.memory.drop(RESIDUAL, own)
        producers = self.workload.inputs[index]
        copies = {f"scaled error {place}": size for place in range(len(producers))}
        self.memory.step(f"bwd {own}", copies)
        self.memory.drop(ERROR, own)
        block = max(producers)  # the skip path is the earlier tensor
        for producer in producers:
            if producer == block or NO_SKIP_GRADIENT not in self.quirks:
                self._deliver(f"bwd {own}", producer)

    def _deliver(self, step: str, producer: int, scratch: dict[str, int] | None = None) -> None:
        """Hold the error of what ``producer`` made; one that is there already is added to in place."""
        root = self._root(producer)
        if root == NETWORK_INPUT or not self.needed[root]:
            return
        name, size = self._name(root), GRADIENT_BYTES * int(self.workload.out_elements[root])
        if (ERROR, name) in self.memory.live:
            self.memory.step(step, {f"second error of {name}": size} | (scratch or {}))
            return
        self.memory.hold(ERROR, name, size)
        self.memory.step(step, scratch)

    def _root(self, layer: int) -> int:
        """Layer whose output ``layer`` rewrites: clamps and reshapes hand an error on as it is."""
        while layer >= 0 and self.workload.layers[layer].kind in _PASS_THROUGH:
            layer = self.workload.inputs[layer][0]
        return layer

    def _name(self, layer: int) -> str:
        return self.workload.layers[layer].name
