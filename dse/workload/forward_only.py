"""Layers that run forward only: attention, recurrent layers, gates, copies and operators of other origin.

They have a shape and a price and no backward pass, so they stand in the frozen stage alone: a network with
such a layer is cut at or behind the last of them (``units.single_tensor_cuts``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from dse.errors import Problem, UserError
from dse.vocabulary import (
    CUSTOM_PREFIX,
    ELEMENT_OPERATIONS,
    FORWARD_ELEMENT_OPERATIONS,
    FORWARD_OPERATORS,
    is_custom,
)
from dse.workload.base import MAC_PASSES, Layer, Shape, elements, shape_text

if TYPE_CHECKING:
    from dse.workload.graph import Workload

VIEW: Final = "view"
"""An operation that names the same bytes anew: another shape, nothing moved."""

COUNTED: Final = (*FORWARD_OPERATORS, "linear", "pointwise")
"""Operations that have MACs; ``linear`` and ``pointwise`` where the tensor has an order that no layer has."""

_OF_TRAINING: Final = (  # and batch norms, which cost nothing where the layer before takes them in
    "batch_norm", "softmax_loss", "unpack", "update_sgd", "update_momentum", "update_adam", "update_lars",
)  # fmt: skip

FORWARD_ONLY_OPERATIONS: Final = (
    *COUNTED,
    *(word for word in ELEMENT_OPERATIONS if word not in _OF_TRAINING),
    *FORWARD_ELEMENT_OPERATIONS,
    VIEW,
)
"""Operations of a forward-only layer, beside ``custom:NAME``."""

_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_.:/+-]+")
_LONGEST: Final = 80


def custom_operation(name: str) -> str:
    """Return the word ``custom:NAME`` for an operation that nothing here knows; odd characters become ``_``.

    >>> custom_operation("com.example::Fancy Op")
    'custom:com.example::Fancy_Op'
    """
    clean = _NO_NAME.sub("_", name).strip("_")[:_LONGEST]
    return f"{CUSTOM_PREFIX}{clean or 'unnamed'}"


@dataclass(frozen=True, kw_only=True)
class ForwardOnly(Layer):
    """One operation in the frozen stage, with one or more different inputs and a known output shape.

    Parameters
    ----------
    operation: a word of ``FORWARD_ONLY_OPERATIONS``, or ``custom:NAME``.
    shape: of the output, without batch, at least one axis.
    forward_macs: of one sample; above 0 for the words of ``COUNTED``, 0 for element operations.
        A custom operation without known MACs is priced per element.
    weights, biases: constants that it reads.

    Raises ValueError with the rule and the value.

    """

    operation: str
    shape: tuple[int, ...]
    forward_macs: int = 0
    weights: int = 0
    biases: int = 0

    kind: ClassVar[str] = "forward_only"
    many_inputs: ClassVar[bool | None] = None
    forward_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.operation not in FORWARD_ONLY_OPERATIONS and not is_custom(self.operation):
            known = f"{', '.join(FORWARD_ONLY_OPERATIONS)}, {CUSTOM_PREFIX}NAME"
            raise ValueError(f"operation must be one of {known}; found {self.operation!r}")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape needs one or more sizes of at least 1, found {list(self.shape)}")
        for what in ("forward_macs", "weights", "biases"):
            if getattr(self, what) < 0:
                raise ValueError(f"{what} must be at least 0, found {getattr(self, what)}")
        if self.operation in COUNTED and not self.forward_macs:
            raise ValueError(f"{self.operation} is priced by its MACs, found forward_macs 0")
        if self.forward_macs and self.operation not in COUNTED and not is_custom(self.operation):
            raise ValueError(f"{self.operation} has no MACs, found forward_macs {self.forward_macs}")
        if self.operation == VIEW and (self.weights or self.biases):
            raise ValueError(f"a view has no weights, found {self.weights + self.biases}")

    @property
    def operator(self) -> str | None:  # type: ignore[override]
        """Word that a rate prices, where there are MACs."""
        return self.operation if self.forward_macs else None

    @property
    def element_operation(self) -> str | None:  # type: ignore[override]
        """Word that is priced per element, where there are no MACs; None for a view."""
        return None if self.forward_macs or self.operation == VIEW else self.operation

    @property
    def in_place(self) -> bool:  # type: ignore[override]
        """Whether the output is the input's own bytes: views alone."""
        return self.operation == VIEW

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape that it was given; a view has as many elements as its one input."""
        if self.operation == VIEW:
            _require_view(self.shape, inputs)
        return self.shape

    def weight_params(self, *inputs: Shape) -> int:
        """See ``weights``."""
        return self.weights

    def bias_params(self, *inputs: Shape) -> int:
        """See ``biases``."""
        return self.biases

    def macs(self, *inputs: Shape) -> dict[str, int]:
        """Forward MACs; there is no other pass."""
        return {**dict.fromkeys(MAC_PASSES, 0), "fwd": self.forward_macs}

    def reads(self, pass_: str) -> tuple[str, ...]:
        """Forward: the input and, where there are any, the weights; nothing in the other passes."""
        super().reads(pass_)
        weights = ("weights",) if self.weights or self.biases else ()
        return ("input", *weights) if pass_ == "fwd" else ()


def executed_problems(workload: Workload, what: str) -> list[Problem]:
    """Return the problem that ``what`` has with a network some layers of which run forward only, if any."""
    fixed = workload.forward_only
    if not fixed:
        return []
    words = ", ".join(dict.fromkeys(getattr(workload.layers[index], "operation", "") for index in fixed))
    found = "1 layer runs" if len(fixed) == 1 else f"{len(fixed)} layers run"
    allowed = f"such a network is priced and placed, not executed: no {what}"
    return [Problem(workload.name, "layers", f"{found} forward only ({words})", allowed)]


def require_executed(workload: Workload, what: str) -> None:
    """Raise UserError where ``what`` would have to execute layers that run forward only."""
    problems = executed_problems(workload, what)
    if problems:
        raise UserError(problems)


def _require_view(shape: Shape, inputs: tuple[Shape, ...]) -> None:
    if len(inputs) != 1 or elements(inputs[0]) != elements(shape):
        found = " and ".join(map(shape_text, inputs))
        raise ValueError(f"a view has one input of {elements(shape)} elements, found {found}")
