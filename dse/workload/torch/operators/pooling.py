"""Pools over windows, pools to a given size, and means that are global pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dse.workload.base import Shape
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.operators.base import Converter, Pads, positions, spread, steps, whole
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Malformed, Unsupported
from dse.workload.torch.values import Tensor, Value

AXES: Final = {"1d": 1, "2d": 2, "3d": 3}


def _axes(call: Call) -> int:
    for ending, axes in AXES.items():
        if ending in call.operator:
            return axes
    raise Unsupported("a pool over an unknown number of axes")


def pool(c: Conversion, call: Call) -> Value:
    """Return a pool over windows; rounding up is resolved into larger pads behind."""
    x, axes = c.tensor(call, "self"), _axes(call)
    batch, own = positions(x, axes)
    kernel = spread(call.integers("kernel_size"), axes, "a kernel", 1)
    stride = spread(call.integers("stride", kernel) or kernel, axes, "a stride", 1)
    dilation = spread(call.integers("dilation", (1,)), axes, "a dilation", 1)
    padding = spread(call.integers("padding", (0,)), axes, "a padding", 0)
    average = "avg" in call.operator
    if average and call.get("divisor_override") is not None:
        raise Unsupported("an average with a divisor of its own")
    pads: Pads = tuple((pad, pad) for pad in padding)
    if call.flag("ceil_mode"):
        spans = zip(own[1:], padding, kernel, stride, dilation, strict=True)
        pads = tuple(_rounded_up(*span) for span in spans)
    attributes: dict[str, object] = {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": pads}
    if average:
        attributes["count_include_pad"] = call.flag("count_include_pad", True)
    sizes = zip(own[1:], pads, kernel, stride, dilation, strict=True)
    shape = whole((own[0], *(steps(*entry) for entry in sizes)), batch)
    operation = "avg_pool" if average else "max_pool"
    return c.add(call, operation, [x], shape, batch, attributes=attributes, channel_axis=0)


def _rounded_up(size: int, pad: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return pads with which rounding down gives as many windows as torch does rounding up.

    A last window that would begin in the padding behind is left out, as torch leaves it.
    """
    width = dilation * (kernel - 1) + 1
    windows = -(-(size + 2 * pad - width) // stride) + 1
    if (windows - 1) * stride >= size + pad:
        windows -= 1
    return pad, max(pad, (windows - 1) * stride + width - size - pad)


def adaptive(c: Conversion, call: Call) -> Value:
    """Return a pool to a given number of positions: global for one, side by side where they divide."""
    x, axes = c.tensor(call, "self"), _axes(call)
    batch, own = positions(x, axes)
    wanted = call.get("output_size")
    sizes = wanted if isinstance(wanted, tuple) else (wanted,)
    sizes = sizes * axes if len(sizes) == 1 else sizes
    if len(sizes) != axes:
        raise Malformed(f"{len(sizes)} sizes for {axes} axes")
    found = tuple(held if size is None else size for size, held in zip(sizes, own[1:], strict=True))
    if found == own[1:] and set(found) != {1}:
        return x
    if any(size < 1 or held % size for size, held in zip(found, own[1:], strict=True)):
        raise Unsupported(f"pools {list(own[1:])} positions to {list(found)}: windows of unequal size")
    average = "avg" in call.operator
    shape = whole((own[0], *found), batch)
    if average and set(found) == {1}:
        return _global(c, call, x, shape, batch, 0)
    return _even(c, call, x, own, found, batch)


def _even(
    c: Conversion, call: Call, x: Tensor, own: Shape, found: tuple[int, ...], batch: int | None
) -> Tensor:
    kernel = tuple(held // size for held, size in zip(own[1:], found, strict=True))
    ones, none = (1,) * len(kernel), ((0, 0),) * len(kernel)
    attributes: dict[str, object] = {"kernel": kernel, "stride": kernel, "dilation": ones, "pads": none}
    operation = "max_pool"
    if "avg" in call.operator:
        operation, attributes["count_include_pad"] = "avg_pool", True
    shape = whole((own[0], *found), batch)
    return c.add(call, operation, [x], shape, batch, attributes=attributes, channel_axis=0)


def _global(c: Conversion, call: Call, x: Tensor, shape: Shape, batch: int | None, channels: int) -> Tensor:
    return c.add(call, "global_avg_pool", [x], shape, batch, attributes={"input_channel_axis": channels})


def reduction(c: Conversion, call: Call) -> Value | Sequence[Value]:
    """Return a reduction over axes; a mean that leaves channels alone is a global average pool."""
    x = c.tensor(call, "self")
    kind = call.operator.removeprefix("aten.")
    axes = _reduced(call, x)
    keep = call.flag("keepdim")
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    batch = x.batch
    if not keep:
        shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
        batch = None if batch is None or batch in axes else batch - sum(axis < batch for axis in axes)
    own_axes = tuple(x.axis(axis) for axis in sorted(axes) if axis != x.batch)
    rest = [axis for axis in range(len(x.own)) if axis not in own_axes]
    if kind == "mean" and own_axes and len(rest) == 1 and (rest[0] == 0 or len(x.own) == 2):
        return _global(c, call, x, shape, batch, rest[0])
    return c.add(call, "reduce", [x], shape, batch, attributes={"kind": KINDS[kind], "axes": own_axes})


def _reduced(call: Call, x: Tensor) -> set[int]:
    """Axes of the whole shape that are reduced; all where none are named, the batch only where it is."""
    named = call.integers("dim", ())
    return {x.whole(axis) for axis in named} or set(range(len(x.shape)))


KINDS: Final[Mapping[str, str]] = {
    "mean": "mean", "sum": "sum", "amax": "max", "amin": "min", "max": "max", "min": "min", "prod": "product",
    "argmax": "argmax", "argmin": "argmin", "var": "variance", "std": "deviation",
}  # fmt: skip

POOLING: Final[Mapping[str, Converter]] = {
    **{
        f"aten.{kind}_pool{axes}{ending}": pool
        for kind in ("max", "avg") for axes in AXES for ending in ("", "_with_indices")
    },
    **{
        f"aten.{start}adaptive_{kind}_pool{axes}": adaptive
        for kind in ("max", "avg") for axes in AXES for start in ("", "_")
    },
    **{f"aten.{kind}": reduction for kind in KINDS},
}  # fmt: skip
