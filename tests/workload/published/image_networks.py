"""Published networks for images, written from the tables of their papers as plain ``torch.nn`` modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: Activation | None = nn.ReLU
) -> nn.Sequential:
    """A convolution without bias, its batch norm and an activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([] if act is None else [act()]))


def divisible(value: float, by: int = 8) -> int:
    """Channels rounded to a multiple of ``by``, at most a tenth below (reference code of MobileNetV2)."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


class MobileNetV1(nn.Sequential):
    """Howard et al., arXiv 1704.04861, Table 1."""

    def __init__(self) -> None:
        layers, width = [conv_norm(3, 32, 3, 2)], 32
        plan = [
            (64, 1),
            (128, 2),
            (128, 1),
            (256, 2),
            (256, 1),
            (512, 2),
            *[(512, 1)] * 5,
            (1024, 2),
            (1024, 1),
        ]
        for outputs, stride in plan:
            layers += [conv_norm(width, width, 3, stride, width), conv_norm(width, outputs, 1)]
            width = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


class SqueezeExcite(nn.Module):
    """Squeeze and excite as in MobileNetV3: two 1x1 convolutions, hard sigmoid (arXiv 1905.02244, 5.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = divisible(channels / 4)
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), nn.Hardsigmoid()
        self.reduce, self.act, self.expand = (
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection (Sandler et al., arXiv 1801.04381, Table 1)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        kernel: int,
        stride: int,
        act: Activation,
        *,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        expand = [] if hidden == inputs else [conv_norm(inputs, hidden, 1, act=act)]
        gate = [SqueezeExcite(hidden)] if squeeze else []
        depthwise = conv_norm(hidden, hidden, kernel, stride, hidden, act)
        self.body = nn.Sequential(*expand, depthwise, *gate, conv_norm(hidden, outputs, 1, act=None))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def stages(width: int, rows: Sequence[Sequence[int]], act: Activation) -> tuple[list[nn.Module], int]:
    """Blocks of a table whose rows are (expansion, channels, repeats, stride, kernel)."""
    blocks: list[nn.Module] = []
    for expansion, outputs, repeats, stride, kernel in rows:
        for place in range(repeats):
            step = stride if place == 0 else 1
            blocks.append(InvertedResidual(width, outputs, width * expansion, kernel, step, act))
            width = outputs
    return blocks, width


class MobileNetV2(nn.Sequential):
    """Sandler et al., arXiv 1801.04381, Table 2."""

    ROWS = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3),
    )  # fmt: skip

    def __init__(self) -> None:
        blocks, width = stages(32, self.ROWS, nn.ReLU6)
        head = [
            conv_norm(width, 1280, 1, act=nn.ReLU6),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
        ]
        super().__init__(conv_norm(3, 32, 3, 2, act=nn.ReLU6), *blocks, *head, nn.Linear(1280, 1000))


class EfficientNetLite0(nn.Sequential):
    """EfficientNet-B0 (Tan and Le, arXiv 1905.11946, Table 1) without squeeze and excite, with ReLU6.

    What differs is stated in tensorflow/tpu, models/official/efficientnet/lite.
    """

    ROWS = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    )  # fmt: skip

    def __init__(self) -> None:
        blocks, width = stages(32, self.ROWS, nn.ReLU6)
        head = [
            conv_norm(width, 1280, 1, act=nn.ReLU6),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
        ]
        super().__init__(conv_norm(3, 32, 3, 2, act=nn.ReLU6), *blocks, *head, nn.Linear(1280, 1000))


class MobileNetV3Small(nn.Sequential):
    """Howard et al., arXiv 1905.02244, Table 2: kernel, hidden, channels, squeeze, hard swish, stride."""

    ROWS = (
        (3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2),
        (5, 240, 40, 1, 1, 1), (5, 240, 40, 1, 1, 1), (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1),
        (5, 288, 96, 1, 1, 2), (5, 576, 96, 1, 1, 1), (5, 576, 96, 1, 1, 1),
    )  # fmt: skip

    def __init__(self) -> None:
        layers: list[nn.Module] = [conv_norm(3, 16, 3, 2, act=nn.Hardswish)]
        width = 16
        for kernel, hidden, outputs, squeeze, hard, stride in self.ROWS:
            act = nn.Hardswish if hard else nn.ReLU
            layers.append(
                InvertedResidual(width, outputs, hidden, kernel, stride, act, squeeze=bool(squeeze))
            )
            width = outputs
        layers += [conv_norm(96, 576, 1, act=nn.Hardswish), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(
            *layers, nn.Linear(576, 1024), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1024, 1000)
        )


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., arXiv 1512.03385, Fig. 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = (
            conv_norm(inputs, outputs, 3, stride),
            conv_norm(outputs, outputs, 3, act=None),
        )
        self.shortcut = (
            nn.Identity() if stride == 1 and inputs == outputs else self.projection(inputs, outputs, stride)
        )
        self.act = nn.ReLU()

    def projection(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        return conv_norm(inputs, outputs, 1, stride, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.second(self.first(x)) + self.shortcut(x))


class ResNet18(nn.Sequential):
    """He et al., arXiv 1512.03385, Table 1."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [conv_norm(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
        for inputs, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            layers += [Residual(inputs, outputs, stride), Residual(outputs, outputs, 1)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class ResidualWithBias(Residual):
    """As in MLPerf Tiny: every convolution has a bias, the projection no batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        self.first[0] = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.second[0] = nn.Conv2d(outputs, outputs, 3, 1, 1)

    def projection(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        return nn.Conv2d(inputs, outputs, 1, stride)


class ResNet8(nn.Sequential):
    """Image classification of MLPerf Tiny (Banbury et al., arXiv 2106.07597), CIFAR-10."""

    def __init__(self) -> None:
        first = [nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU()]
        blocks = [ResidualWithBias(16, 16, 1), ResidualWithBias(16, 32, 2), ResidualWithBias(32, 64, 2)]
        super().__init__(*first, *blocks, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10), nn.Softmax(-1))


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1x1 and 3x3 beside each other (arXiv 1602.07360, Fig. 1)."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze, self.act = nn.Conv2d(inputs, squeeze, 1), nn.ReLU(inplace=True)
        self.narrow, self.wide = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.squeeze(x))
        return torch.cat([self.act(self.narrow(x)), self.act(self.wide(x))], 1)


class SqueezeNet11(nn.Sequential):
    """Iandola et al., arXiv 1602.07360, in the version 1.1 of its repository."""

    def __init__(self) -> None:
        def pool() -> nn.Module:
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        first = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(inplace=True), pool()]
        fires = [Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128), Fire(256, 32, 128), pool(),
                 Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]  # fmt: skip
        head = [
            nn.Dropout(),
            nn.Conv2d(512, 1000, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ]
        super().__init__(*first, *fires, *head)


class McuNetLike(nn.Sequential):
    """Inverted residuals with kernels of 3, 5 and 7, as MCUNet searches them (arXiv 2007.10319)."""

    ROWS = ((3, 16, 2, 2, 7), (4, 24, 2, 2, 5), (6, 40, 2, 2, 7), (5, 48, 2, 1, 3), (6, 96, 2, 2, 5))

    def __init__(self) -> None:
        blocks, width = stages(16, self.ROWS, nn.ReLU6)
        super().__init__(
            conv_norm(3, 16, 3, 2, act=nn.ReLU6),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 2),
        )
