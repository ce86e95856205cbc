"""What converters have in common: their type, windows over positions, and lists of one number per axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dse.workload.base import Shape
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Malformed, Unsupported
from dse.workload.torch.values import Tensor, Value

Converter = Callable[[Conversion, Call], Value | Sequence[Value]]
"""Adds nodes for a call and returns what it gives: one value, or one per output of the call."""

Pads = tuple[tuple[int, int], ...]


def spread(numbers: tuple[int, ...], axes: int, what: str, least: int) -> tuple[int, ...]:
    """Return one number per axis out of one for all or one each, none below ``least``."""
    found = numbers * axes if len(numbers) == 1 else numbers
    if len(found) != axes or min(found, default=least) < least:
        raise Malformed(f"{what} of {list(numbers)!s:.60} for {axes} axes")
    return found


def positions(tensor: Tensor, axes: int) -> tuple[int | None, Shape]:
    """Return batch axis and (channels, positions...) of what a window over ``axes`` axes reads.

    Raises Malformed where it holds several samples at once, which is no layer of one sample.
    """
    shape = tensor.shape
    if len(shape) == axes + 1 and tensor.batch is None:
        return None, shape
    if len(shape) != axes + 2:
        raise Malformed(f"a window over {axes} axes of a tensor of shape {list(shape)}")
    if tensor.batch not in (0, None) or shape[0] != 1:
        raise Unsupported(f"works on {shape[0]} tensors at once")
    return 0, shape[1:]


def whole(own: Shape, batch: int | None) -> Shape:
    """Return the whole shape of ``own`` with a batch of 1 on the axis ``batch``."""
    return own if batch is None else (*own[:batch], 1, *own[batch:])


def steps(size: int, pads: tuple[int, int], kernel: int, stride: int, dilation: int) -> int:
    """Return how many windows fit: floor((size + pads - dilation (kernel - 1) - 1) / stride) + 1."""
    found = (size + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1
    if found < 1:
        raise Malformed(f"a window of {kernel} is larger than the padded input of {size + sum(pads)}")
    return found
