"""Shapes, parameters and MACs of single layers."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dse.workload.base import Pad, Shape
from dse.workload.convolutions import Conv1d, Conv2d, Depthwise, Depthwise1d, Linear, Pointwise
from dse.workload.layers import Add, AvgPool, Concat, GlobalAvgPool, MaxPool, Softmax
from dse.workload.windows import Axis, Sliding
from tests.workload.loops import multiplications, starts

AT = {"name": "layer", "inputs": ("input",)}
MANY = {"name": "layer", "inputs": ("a", "b")}


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Conv1d | Conv2d, Shape, int]:
    rank = draw(st.sampled_from([1, 2]))
    small = st.integers(1, 4)
    groups = draw(st.integers(1, 3))
    channels, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel = tuple(draw(small) for _ in range(rank))
    stride = tuple(draw(small) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    one_end = st.integers(0, 3)
    pads = [draw(st.one_of(one_end, st.tuples(one_end, one_end))) for _ in range(rank)]
    pad = draw(st.sampled_from(["same", pads]))
    extents = [(size - 1) * apart + 1 for size, apart in zip(kernel, dilation, strict=True)]
    sizes = tuple(max(1, size + draw(st.integers(0, 5))) for size in extents)
    layer = {1: Conv1d, 2: Conv2d}[rank](
        **AT,
        out_channels=outputs,
        kernel=kernel,
        stride=stride,
        groups=groups,
        padding="same" if pad == "same" else tuple(pad),
        dilation=dilation,
    )
    looped = multiplications(sizes, channels, outputs, kernel, stride, pad, groups, dilation)
    return layer, (channels, *sizes), looped


@given(convolutions())
def test_macs_equal_counted_multiplications(case: tuple[Conv1d | Conv2d, Shape, int]) -> None:
    layer, shape, counted = case
    assert layer.macs(shape) == {"fwd": counted, "bwd_input": counted, "bwd_weight": counted}


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_depthwise_macs_equal_counted_multiplications(
    size: int, kernel: int, stride: int, channels: int
) -> None:
    flat = Depthwise1d(**AT, kernel=(kernel,), stride=(stride,))
    square = Depthwise(**AT, kernel=(kernel, kernel), stride=(stride, stride))
    args = (channels, channels, (kernel,), (stride,), "same", channels)
    assert flat.macs((channels, size))["fwd"] == multiplications((size,), *args)
    args = (channels, channels, (kernel,) * 2, (stride,) * 2, "same", channels)
    assert square.macs((channels, size, size))["fwd"] == multiplications((size, size), *args)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_pointwise_macs_equal_counted_multiplications(channels: int, outputs: int, size: int) -> None:
    layer = Pointwise(**AT, out_channels=outputs)
    counted = multiplications((size, 2), channels, outputs, (1, 1), (1, 1), 0, 1)
    assert layer.macs((channels, size, 2))["fwd"] == counted


@pytest.mark.parametrize(
    ("size", "stride", "expected"), [(128, 2, 64), (49, 2, 25), (10, 2, 5), (7, 3, 3), (5, 1, 5), (1, 2, 1)]
)
def test_same_padding_divides_and_rounds_up(size: int, stride: int, expected: int) -> None:
    layer = Conv2d(**AT, out_channels=4, kernel=(3, 3), stride=(stride, stride))
    assert layer.output_shape((3, size, size)) == (4, expected, expected)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        (128, 3, 2, 1, 64),
        (32, 7, 2, 3, 16),
        (8, 3, 1, 0, 6),
        (5, 5, 1, 0, 1),
        (9, 3, 2, 0, 4),
        (3, 5, 1, 1, 1),
    ],
)
def test_numeric_padding_pads_both_ends(
    size: int, kernel: int, stride: int, padding: int, expected: int
) -> None:
    layer = Depthwise(**AT, kernel=(kernel, kernel), stride=(stride, stride), padding=(padding, padding))
    assert layer.output_shape((6, size, size)) == (6, expected, expected)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "padding", "expected"),
    [
        (8, 3, 2, 1, (0, 1), 4),  # windows begin at 0, 2, 4, 6
        (8, 3, 2, 1, (1, 0), 4),  # at -1, 1, 3, 5
        (9, 3, 2, 1, (0, 1), 4),
        (20, 3, 1, 4, (8, 0), 20),  # causal: as many outputs as inputs
        (20, 3, 1, 4, 0, 12),
        (10, 2, 3, 5, (2, 3), 4),  # taps at -2 and 3, 1 and 6, 4 and 9, 7 and 12
        (7, 3, 2, 3, "same", 4),
        (1, 1, 1, 7, 0, 1),  # a single tap has nothing to stand apart from
    ],
)
def test_padding_at_each_end_and_dilation_by_hand(
    size: int, kernel: int, stride: int, dilation: int, padding: Pad | str, expected: int
) -> None:
    pads = "same" if padding == "same" else (padding,)
    layer = Depthwise1d(**AT, kernel=(kernel,), stride=(stride,), dilation=(dilation,), padding=pads)
    assert layer.output_shape((6, size)) == (6, expected)
    assert layer.weight_params((6, size)) == 6 * kernel
    found = starts(size, kernel, stride, padding, dilation)
    assert len(found) == expected


def test_same_pads_what_the_reach_of_a_dilated_kernel_needs() -> None:
    """TensorFlow's rule with the kernel's extent: 3 taps 2 apart reach 5, so that 4 positions are added."""
    (axis,) = Conv1d(**AT, out_channels=2, kernel=(3,), dilation=(2,)).axes((3, 10))
    assert (axis.extent, axis.before, axis.after) == (5, 2, 2)
    (axis,) = Conv1d(**AT, out_channels=2, kernel=(2,), stride=(2,), dilation=(3,)).axes((3, 10))
    assert (axis.extent, axis.before, axis.after) == (4, 1, 1)  # 4 * 2 + 4 - 10 = 2


@given(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 6),
    st.integers(0, 6), st.data(),
)  # fmt: skip
def test_touched_positions_are_those_of_the_taps(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int, data: st.DataObject
) -> None:
    begins = starts(size, kernel, stride, (before, after), dilation)
    assume(begins)
    axis = Axis(size, kernel, stride, dilation, before, after)
    assert axis.positions == len(begins)
    first = data.draw(st.integers(0, len(begins) - 1))
    end = data.draw(st.integers(first, len(begins)))
    taps = {begin + tap * dilation for begin in begins[first:end] for tap in range(kernel)}
    inside = sorted(taps & set(range(size)))
    assert axis.touched(first, end) == ((inside[0], inside[-1] + 1) if inside else (0, 0))


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 6), st.integers(0, 6))
def test_a_pool_refuses_windows_without_data(
    size: int, kernel: int, stride: int, before: int, after: int
) -> None:
    begins = starts(size, kernel, stride, (before, after))
    assume(begins)
    layer = MaxPool(**AT, kernel=(kernel,), stride=(stride,), padding=((before, after),))
    if all(set(range(begin, begin + kernel)) & set(range(size)) for begin in begins):
        assert layer.output_shape((2, size)) == (2, len(begins))
    else:
        with pytest.raises(ValueError, match=r"makes windows of .* that hold no data"):
            layer.output_shape((2, size))


def test_equal_ends_are_kept_as_one_number() -> None:
    layer = Conv2d(**AT, out_channels=4, kernel=(3, 3), padding=((1, 1), (0, 1)))
    assert layer.padding == (1, (0, 1))
    assert layer.dilation == (1, 1)
    plain = Conv2d(**AT, out_channels=4, kernel=(3, 3), padding=(1, 1))
    assert plain == Conv2d(**AT, out_channels=4, kernel=(3, 3), padding=((1, 1), 1), dilation=(1, 1))


def test_rectangular_kernel() -> None:
    layer = Conv2d(**AT, out_channels=64, kernel=(10, 4), stride=(2, 2))
    assert layer.output_shape((1, 49, 10)) == (64, 25, 5)
    assert (layer.weight_params((1, 49, 10)), layer.bias_params((1, 49, 10))) == (2560, 64)


def test_groups_divide_the_weights() -> None:
    whole = Conv2d(**AT, out_channels=8, kernel=(3, 3), bias=False)
    halved = Conv2d(**AT, out_channels=8, kernel=(3, 3), groups=2, bias=False)
    assert whole.weight_params((4, 5, 5)) == 2 * halved.weight_params((4, 5, 5)) == 288
    assert whole.bias_params((4, 5, 5)) == 0


@pytest.mark.parametrize(
    ("layer", "shape", "operator"),
    [
        (Conv2d(**AT, out_channels=8, kernel=(3, 3)), (4, 5, 5), "conv2d"),
        (Conv2d(**AT, out_channels=8, kernel=(1, 1), stride=(2, 2)), (4, 5, 5), "pointwise"),
        (Conv2d(**AT, out_channels=4, kernel=(3, 3), groups=4), (4, 5, 5), "depthwise"),
        (Conv2d(**AT, out_channels=8, kernel=(3, 3), groups=4), (4, 5, 5), "conv2d"),
        (Conv2d(**AT, out_channels=4, kernel=(3, 3), groups=2), (4, 5, 5), "conv2d"),
        (Conv2d(**AT, out_channels=8, kernel=(1, 1), groups=2), (4, 5, 5), "conv2d"),
        (Conv2d(**AT, out_channels=4, kernel=(1, 1), groups=4), (4, 5, 5), "depthwise"),
        (Conv1d(**AT, out_channels=8, kernel=(3,)), (4, 9), "conv1d"),
        (Conv1d(**AT, out_channels=8, kernel=(1,)), (4, 9), "pointwise"),
        (Depthwise(**AT, kernel=(1, 1)), (1, 5, 5), "depthwise"),
        (Pointwise(**AT, out_channels=8), (4, 9), "pointwise"),
        (Linear(**AT, out_features=8), (4,), "linear"),
    ],
)
def test_operator_follows_from_the_geometry(layer: Conv2d, shape: Shape, operator: str) -> None:
    assert layer.operator_on(shape) == operator


def test_pools() -> None:
    assert AvgPool(**AT, kernel=(24, 5)).output_shape((64, 25, 5)) == (64, 1, 1)
    assert MaxPool(**AT, kernel=(2,)).output_shape((8, 9)) == (8, 4)
    assert MaxPool(**AT, kernel=(2,)).output_shape((8, 9, 7)) == (8, 4, 3)
    assert MaxPool(**AT, kernel=(3,), stride=(2,), padding=(1,)).output_shape((8, 16, 16)) == (8, 8, 8)
    assert GlobalAvgPool(**AT).output_shape((8, 9, 7)) == (8,)


def test_concat_adds_channels() -> None:
    assert Concat(**MANY).output_shape((8, 4, 4), (3, 4, 4)) == (11, 4, 4)


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (
            Conv2d(**AT, out_channels=8, kernel=(5, 5), padding=(0, 0)),
            [(3, 8, 4)],
            "a kernel of 5 is larger than the padded input of 4",
        ),
        (
            Depthwise1d(**AT, kernel=(3,), padding=((2, 1),), dilation=(4,)),
            [(3, 5)],
            "a kernel of 3 and dilation 4, 9 wide, is larger than the padded input of 8",
        ),
        (
            AvgPool(**AT, kernel=(2,), padding=((2, 0),)),
            [(3, 6)],
            "padding ((2, 0),) makes windows of (2,) that hold no data",
        ),
        (MaxPool(**AT, kernel=(3,)), [(3, 2)], "a kernel of 3 is larger than the padded input of 2"),
        (Conv2d(**AT, out_channels=8, kernel=(3, 3)), [(3, 8)], "conv2d reads (C, H, W), found 3x8"),
        (Conv1d(**AT, out_channels=8, kernel=(3,)), [(3, 8, 8)], "conv1d reads (C, L), found 3x8x8"),
        (Pointwise(**AT, out_channels=8), [(3,)], "pointwise reads (C, L) or (C, H, W), found 3"),
        (AvgPool(**AT, kernel=(2, 2)), [(3, 8)], "avg_pool has 2 axes, found an input of 3x8"),
        (
            Conv2d(**AT, out_channels=8, kernel=(3, 3), groups=4),
            [(6, 8, 8)],
            "4 groups do not divide the 6 input channels",
        ),
        (
            Conv2d(**AT, out_channels=6, kernel=(3, 3), groups=4),
            [(8, 8, 8)],
            "4 groups do not divide the 6 output channels",
        ),
        (
            Linear(**AT, out_features=8),
            [(3, 1, 1)],
            "linear reads a vector, found 3x1x1; pool or flatten it first",
        ),
        (Softmax(**AT), [(3, 2)], "softmax reads a vector, found 3x2; pool or flatten it first"),
        (Add(**MANY), [(3, 2), (3, 4)], "add needs equal shapes, found 3x2 and 3x4"),
        (Concat(**MANY), [(3, 2), (3, 4)], "concat needs equal positions, found 3x2 and 3x4"),
    ],
)
def test_impossible_shapes_state_rule_and_value(layer: Conv2d, shapes: list[Shape], message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is compared whole
        layer.output_shape(*shapes)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("cls", "given_", "message"),
    [
        (Conv2d, {"out_channels": 0, "kernel": (3, 3)}, "out_channels must be at least 1, found 0"),
        (Conv2d, {"out_channels": 4, "kernel": (3, 3), "groups": -1}, "groups must be at least 1, found -1"),
        (Conv2d, {"out_channels": 4, "kernel": (3,)}, r"kernel needs 2 sizes, found \[3\]"),
        (Depthwise, {"kernel": (3, 0)}, "kernel must be at least 1, found 0"),
        (Depthwise, {"kernel": (3, 3), "stride": (0, 1)}, "stride must be at least 1, found 0"),
        (MaxPool, {"kernel": (3, 3), "padding": (-1,)}, "padding must be at least 0, found -1"),
        (Depthwise, {"kernel": (3, 3), "padding": ((0, -2), 0)}, "padding must be at least 0, found -2"),
        (
            Depthwise,
            {"kernel": (3, 3), "padding": ((0, 1, 2), 0)},
            r"padding needs a number or \(before, after\) for each axis, found \(0, 1, 2\)",
        ),
        (Conv1d, {"out_channels": 4, "kernel": (3,), "padding": (1, 0)}, r"padding needs 1 sizes, found"),
        (Depthwise, {"kernel": (3, 3), "dilation": (1, 0)}, "dilation must be at least 1, found 0"),
        (Depthwise, {"kernel": (3, 3), "dilation": (2,)}, r"dilation needs 2 sizes, found \[2\]"),
        (MaxPool, {"kernel": ()}, r"kernel needs one or two sizes, found \[\]"),
        (Pointwise, {"out_channels": -8}, "out_channels must be at least 1, found -8"),
        (Linear, {"out_features": 0}, "out_features must be at least 1, found 0"),
    ],
)
def test_constructors_refuse_impossible_values(cls: type[Sliding], given_: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**AT, **given_)
