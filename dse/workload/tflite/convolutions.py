"""Converters of convolutions and pools: NHWC, weights OHWI or 1HWC in the file."""

from __future__ import annotations

from typing import Any

from dse.workload.base import Shape
from dse.workload.model import Constant
from dse.workload.tflite.flat import Operator
from dse.workload.tflite.nodes import Nodes, known
from dse.workload.tflite.stored import Unreadable, rearranged
from dse.workload.tflite.tensors import Value
from dse.workload.windows import same_padding

Pads = tuple[tuple[int, int], ...]

_STRIDE = ("StrideH", "StrideW")


def conv(nodes: Nodes, operator: Operator) -> None:
    """CONV_2D; groups are what the channels of the input and of the weights say."""
    image, full = _image(nodes, operator)
    stored = nodes.weights(operator, 1, 4, "weights")
    out, height, width, per_group = stored.shape
    if full[3] % per_group or out % (full[3] // per_group):
        raise Unreadable(f"{full[3]} channels in, {out} out and {per_group} per group do not fit")
    constants = {"weight": rearranged(stored, (0, 3, 1, 2))} | nodes.bias(operator, 2, out)
    _slide(nodes, operator, image, (height, width), out, full[3] // per_group, constants)


def depthwise_conv(nodes: Nodes, operator: Operator) -> None:
    """DEPTHWISE_CONV_2D; output channel c m + i is filter i of channel c."""
    image, full = _image(nodes, operator)
    stored = nodes.weights(operator, 1, 4, "weights")
    one, height, width, out = stored.shape
    if one != 1 or out % full[3]:
        raise Unreadable(f"weights {list(stored.shape)} do not fit {full[3]} channels")
    constants = {"weight": rearranged(stored, (3, 0, 1, 2))} | nodes.bias(operator, 2, out)
    _slide(nodes, operator, image, (height, width), out, full[3], constants)


def _slide(
    nodes: Nodes, operator: Operator, image: Value, kernel: Shape, out: int, groups: int,
    constants: dict[str, Constant],
) -> None:  # fmt: skip
    stride = pair(nodes, operator, *_STRIDE)
    dilation = pair(nodes, operator, "DilationHFactor", "DilationWFactor")
    sizes, pads = window(known(image)[1:3], kernel, stride, dilation, same=is_same(nodes, operator))
    attributes = {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": pads, "groups": groups}
    nodes.add(
        operator, "conv", [image], (1, *sizes, out), attributes=attributes, constants=constants,
        channel_last=True,
    )  # fmt: skip


def pool(nodes: Nodes, operator: Operator) -> None:
    """AVERAGE_POOL_2D, whose pads do not count, and MAX_POOL_2D."""
    image, full = _image(nodes, operator)
    kernel = pair(nodes, operator, "FilterHeight", "FilterWidth")
    stride = pair(nodes, operator, *_STRIDE)
    sizes, pads = window(full[1:3], kernel, stride, (1, 1), same=is_same(nodes, operator))
    attributes: dict[str, Any] = {"kernel": kernel, "stride": stride, "dilation": (1, 1), "pads": pads}
    average = operator.kind == "AVERAGE_POOL_2D"
    if average:
        attributes["count_include_pad"] = False
    operation = "avg_pool" if average else "max_pool"
    nodes.add(operator, operation, [image], (1, *sizes, full[3]), attributes=attributes, channel_last=True)


def conv_transpose(nodes: Nodes, operator: Operator) -> None:
    """TRANSPOSE_CONV; its first input says the shape of its output."""
    asked, stride = nodes.whole(operator, 0), pair(nodes, operator, *_STRIDE)
    _spread(nodes, operator, 2, asked, stride, same=is_same(nodes, operator))


def conv_transpose_of_mediapipe(nodes: Nodes, operator: Operator) -> None:
    """Convolution2DTransposeBias: as TRANSPOSE_CONV, its output's shape is the file's word alone.

    Source: mediapipe/util/tflite/operations/transpose_conv_bias.cc (inputs: image, weights, bias).
    """
    asked, full = nodes.stored_full(nodes.output(operator)), _image(nodes, operator)[1]
    if (
        asked is None
        or len(asked) != 4
        or any(most % size for most, size in zip(asked[1:3], full[1:3], strict=True))
    ):
        raise Unreadable(f"its output is no multiple of its input of {list(full)}")
    _spread(nodes, operator, 0, asked, (asked[1] // full[1], asked[2] // full[2]), same=True)


def _spread(nodes: Nodes, operator: Operator, place: int, asked: Shape, stride: Shape, *, same: bool) -> None:
    """Add a transposed convolution of the image at ``place``; weights at 1, a bias last."""
    image, full = _image(nodes, operator, place)
    stored = nodes.weights(operator, 1, 4, "weights")
    out, height, width, channels = stored.shape
    if channels != full[3] or len(asked) != 4 or asked[3] != out:
        raise Unreadable(f"weights {list(stored.shape)} do not fit {full[3]} channels and {list(asked)}")
    ends = [
        _cropped(*row, same=same) for row in zip(full[1:3], (height, width), stride, asked[1:3], strict=True)
    ]
    attributes = {
        "kernel": (height, width), "stride": stride, "dilation": (1, 1), "groups": 1,
        "pads": tuple(end[0] for end in ends), "output_padding": tuple(end[1] for end in ends),
    }  # fmt: skip
    bias = nodes.bias(operator, 3 if place == 2 else 2, out)
    constants = {"weight": rearranged(stored, (3, 0, 1, 2))} | bias
    nodes.add(operator, "conv_transpose", [image], (1, *asked[1:3], out), attributes=attributes,
              constants=constants, channel_last=True)  # fmt: skip


def _image(nodes: Nodes, operator: Operator, place: int = 0) -> tuple[Value, Shape]:
    value = nodes.per_sample(nodes.value(operator, place))
    full = known(value)
    if len(full) != 4:
        raise Unreadable(f"its input has the shape {list(full)}, which needs 4 axes")
    return value, full


def _cropped(size: int, kernel: int, stride: int, wanted: int, *, same: bool) -> tuple[tuple[int, int], int]:
    """Positions cut off both ends of what the windows cover, and what is added behind them."""
    forward = -(-wanted // stride) if same else (wanted - kernel) // stride + 1
    if wanted < 1 or forward != size:
        raise Unreadable(f"{wanted} positions cannot come from {size} by stride {stride} and kernel {kernel}")
    over = (size - 1) * stride + kernel - wanted
    return (max(over, 0) // 2, max(over, 0) - max(over, 0) // 2), max(-over, 0)


def pair(nodes: Nodes, operator: Operator, height: str, width: str) -> tuple[int, int]:
    """Two options that are at least 1."""
    found = (int(nodes.option(operator, height)), int(nodes.option(operator, width)))
    if min(found) < 1:
        raise Unreadable(f"{height} and {width} are {found[0]} and {found[1]}, at least 1 is needed")
    return found


def is_same(nodes: Nodes, operator: Operator) -> bool:
    """Whether padding is SAME; raises Unreadable where it is neither that nor VALID."""
    padding = nodes.option(operator, "Padding")
    if padding not in (0, 1):
        raise Unreadable(f"padding {padding} is neither SAME nor VALID")
    return bool(padding == 0)


def window(sizes: Shape, kernel: Shape, stride: Shape, dilation: Shape, *, same: bool) -> tuple[Shape, Pads]:
    """Output positions and pads of a window: SAME gives ceil(size / stride), VALID what fits.

    >>> window((49, 10), (10, 4), (2, 2), (1, 1), same=True)
    ((25, 5), ((4, 5), (1, 1)))
    """
    spans = tuple((taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True))
    if same:
        pads = tuple(same_padding(*row) for row in zip(sizes, spans, stride, strict=True))
        return tuple(-(-size // by) for size, by in zip(sizes, stride, strict=True)), pads
    if any(span > size for span, size in zip(spans, sizes, strict=True)):
        raise Unreadable(f"a window of {list(spans)} is larger than its input of {list(sizes)}")
    rows = zip(sizes, spans, stride, strict=True)
    return tuple((size - span) // by + 1 for size, span, by in rows), ((0, 0),) * len(sizes)
