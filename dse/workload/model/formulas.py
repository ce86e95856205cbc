"""MACs and weights of operations that no layer kind counts: they run forward only.

A weight that is read once per step, position or row multiplies once there, which is all that these say.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Final

from dse.workload.base import Shape
from dse.workload.model.graph import Constant, Node

GATES: Final = {"lstm": 4, "gru": 3, "rnn": 1}
"""Matrices of H rows that each kind of recurrent cell multiplies its input and its state by.

LSTM: Gers et al., Neural Computation 12(10), 2000 (input, forget, output gate and cell); GRU: Cho et al.,
arXiv 1406.1078, Eqs. 5-8 (reset, update, candidate); Elman's network has one.
"""

SHIFTS: Final = ("bias", "beta", "shift")
"""How the names of constants begin that are added, not multiplied by."""

STATISTICS: Final = ("mean", "variance")
"""Constants of a batch norm that are in its factor and its shift by the time it runs."""


def matmul_macs(first: Shape, shape: Shape, *, transposed: bool = False) -> int:
    """Return the MACs of the product of two activations: one sum over K for every element of the result.

    ``first`` is the shape (..., M, K) of the first factor, (..., K, M) where it is ``transposed``.
    """
    inner = first[-2] if transposed and len(first) > 1 else first[-1]
    return prod(shape) * inner


def recurrent_macs(
    kind: str, features: int, hidden: int, steps: int, *, directions: int = 1, layers: int = 1
) -> int:
    """Return the MACs of stacked recurrent layers: gates x H (F + H) per step and direction.

    Behind the first layer F is what the directions of the layer before give together. Products of gates,
    element by element, are none. ``kind`` is one of ``GATES``.
    """
    inputs = [features, *[hidden * directions] * (layers - 1)]
    return sum(GATES[kind] * hidden * (width + hidden) for width in inputs) * steps * directions


def scattered_macs(weights: int, positions: int) -> int:
    """Return the MACs of a transposed convolution: each input position multiplies all its weights.

    ``weights`` = in x out per group x kernel, ``positions`` of the input; what the padding crops off again
    is counted (Dumoulin and Visin, arXiv 1603.07285, Ch. 4).
    """
    return weights * positions


def recurrent_node_macs(node: Node, features: int) -> int:
    """Return the MACs of a recurrent node whose input has ``features`` per step.

    Raises ValueError where the node does not say what is needed.
    """
    numbers = [node.attributes.get(key, least) for key, least in _RECURRENT.items()]
    if any(type(number) is not int or number < 1 for number in numbers):
        raise ValueError(f"a recurrent layer needs {', '.join(_RECURRENT)} of at least 1, found {numbers}")
    hidden, steps, directions, layers = numbers
    return recurrent_macs(node.operation, features, hidden, steps, directions=directions, layers=layers)


_RECURRENT: Final = {"hidden_size": None, "steps": None, "directions": 1, "layers": 1}


def weights_and_shifts(constants: Iterable[tuple[str, Constant]]) -> tuple[int, int]:
    """Return how many constants are multiplied by, and how many are added, when an operation runs."""
    running = [(name, constant) for name, constant in constants if name not in STATISTICS]
    found = [(name.startswith(SHIFTS), constant.elements) for name, constant in running]
    return sum(size for shift, size in found if not shift), sum(size for shift, size in found if shift)
