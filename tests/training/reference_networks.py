"""Networks of the zoo and of the tests written a second time, in plain torch.nn; padding stands as numbers.

Each lists its layers in the order of the units and takes the numbers of the network under test.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.plan.strategies import TCN, UNEVEN

SUFFIX = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}


def conv_norm(channels, out, kernel, stride=1, pad=0, groups=1, bias=False, act=nn.ReLU):
    """Convolution, batch norm, activation; ``pad`` is (left, right, top, bottom) or one number."""
    pads = (pad,) * 4 if isinstance(pad, int) else pad
    conv = nn.Conv2d(channels, out, kernel, stride, 0, groups=groups, bias=bias)
    return nn.Sequential(nn.ZeroPad2d(pads), conv, nn.BatchNorm2d(out), act())


class MobileNet(nn.Module):
    """MobileNet-V1 0.25 for 28x28; even sizes with stride 2 are padded at their end alone."""

    def __init__(self, channels=1, classes=10):
        super().__init__()
        end, around = (0, 1, 0, 1), 1
        self.blocks = nn.ModuleList([conv_norm(channels, 8, 3, 2, end)])
        plan = [
            (8, 16, 1, around), (16, 32, 2, end), (32, 32, 1, around), (32, 64, 2, around),
            (64, 64, 1, around), (64, 128, 2, end), *[(128, 128, 1, around)] * 5, (128, 256, 2, end),
            (256, 256, 1, around),
        ]  # fmt: skip
        for before, after, stride, pad in plan:
            self.blocks.append(conv_norm(before, before, 3, stride, pad, groups=before))
            self.blocks.append(conv_norm(before, after, 1))
        self.classifier = nn.Linear(256, classes)

    def units(self):
        """(conv or linear, batch norm or None) per unit."""
        return [(block[1], block[2]) for block in self.blocks] + [(self.classifier, None)]

    def after(self, x, cut):
        """Run what lies above LR layer ``cut``; -1 is everything."""
        for block in self.blocks[cut + 1 :]:
            x = block(x)
        if x.ndim == 4:
            x = x.mean((2, 3))
        return self.classifier(x)


class ResNet(nn.Module):
    """ResNet8 of MLPerf Tiny; convolutions have biases besides their batch norms, shortcuts have no norm."""

    def __init__(self, classes=10):
        super().__init__()
        stages = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.stem = conv_norm(3, 16, 3, 1, 1, bias=True)
        self.first, self.second, self.shortcut = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for before, after, stride in stages:
            pad = (0, 1, 0, 1) if stride == 2 else 1
            self.first.append(conv_norm(before, after, 3, stride, pad, bias=True))
            self.second.append(conv_norm(after, after, 3, 1, 1, bias=True, act=nn.Identity))
            self.shortcut.append(nn.Conv2d(before, after, 1, stride) if stride == 2 else nn.Identity())
        self.classifier = nn.Linear(64, classes)

    def units(self):
        found = [(self.stem[1], self.stem[2])]
        for first, second, shortcut in zip(self.first, self.second, self.shortcut, strict=True):
            found += [(first[1], first[2]), (second[1], second[2])]
            found += [(shortcut, None)] if isinstance(shortcut, nn.Conv2d) else []
        return [*found, (self.classifier, None)]

    def after(self, x, cut):
        begin = {-1: -1, 0: 0, 2: 1, 5: 2, 8: 3, 9: 3}[cut]
        if begin < 0:
            x = self.stem(x)
        for place in range(max(begin, 0), 3):
            x = torch.relu(self.second[place](self.first[place](x)) + self.shortcut[place](x))
        if x.ndim == 4:
            x = nn.functional.avg_pool2d(x, 8).flatten(1)
        return self.classifier(x)


class HarCnn(nn.Module):
    """The 1-D network of the zoo, with Conv1d and BatchNorm1d."""

    def __init__(self, channels=6, classes=6):
        super().__init__()
        plan = [
            (channels, 32, 5, 2, (1, 2)),
            (32, 32, 5, 2, (1, 2)),
            (32, 64, 3, 2, (0, 1)),
            (64, 64, 3, 1, (1, 1)),
        ]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ConstantPad1d(pad, 0.0), nn.Conv1d(before, after, kernel, stride, bias=False),
                nn.BatchNorm1d(after), nn.ReLU(),
            )
            for before, after, kernel, stride, pad in plan
        )  # fmt: skip
        self.classifier = nn.Linear(64, classes)

    def units(self):
        return [(block[1], block[2]) for block in self.blocks] + [(self.classifier, None)]

    def after(self, x, cut):
        for block in self.blocks[cut + 1 :]:
            x = block(x)
        return self.classifier(x.mean(2) if x.ndim == 3 else x)


def series(channels, out, kernel, stride=1, pad=(0, 0), bias=False, act=nn.ReLU, **conv):
    """Convolution over time, batch norm, activation; ``pad`` is (before, after)."""
    layer = nn.Conv1d(channels, out, kernel, stride, bias=bias, **conv)
    return nn.Sequential(nn.ConstantPad1d(pad, 0.0), layer, nn.BatchNorm1d(out), act())


class Tcn(nn.Module):
    """The dilated causal network of tcn.toml."""

    def __init__(self, classes=4):
        super().__init__()
        last = {"act": nn.Identity}
        self.stem = series(3, 8, 3, pad=(2, 0))
        self.a1 = series(8, 8, 3, pad=(4, 0), dilation=2)
        self.a2 = series(8, 8, 3, pad=(4, 0), dilation=2, groups=8, **last)
        self.down = series(8, 12, 2, 2, (2, 1), bias=True, dilation=3, groups=2)
        self.b1 = series(12, 12, 3, pad=(8, 0), dilation=4, groups=12)
        self.b2 = series(12, 12, 1, **last)
        self.late = series(12, 10, 3, pad=(18, 0), dilation=9)
        self.classifier = nn.Linear(10, classes)

    def units(self):
        blocks = (self.stem, self.a1, self.a2, self.down, self.b1, self.b2, self.late)
        return [(block[1], block[2]) for block in blocks] + [(self.classifier, None)]

    def after(self, x, cut):
        steps = {
            0: self.stem,
            2: lambda x: torch.relu(self.a2(self.a1(x)) + x),
            3: self.down,
            5: lambda x: torch.relu(self.b2(self.b1(x)) + x),
            6: self.late,
        }
        for unit, step in steps.items():
            x = step(x) if unit > cut else x
        if x.ndim == 3:
            padded = nn.functional.pad(x, (1, 0), value=-torch.inf)
            x = nn.functional.max_pool1d(padded, 2).mean(2)
        return self.classifier(x)


class Uneven(nn.Module):
    """The MobileNet of uneven.toml; ZeroPad2d counts (left, right, top, bottom)."""

    def __init__(self, classes=5):
        super().__init__()
        plan = [
            (3, 8, 2, (0, 1, 0, 1), 1, False), (8, 8, 1, (0, 2, 4, 0), (2, 1), True), (8, 16, 0, 0, 1, False),
            (16, 16, 2, (0, 1, 0, 1), 1, True), (16, 16, 0, 0, 1, False), (16, 16, 1, (2, 2, 1, 3), 2, True),
            (16, 24, 0, 0, 1, False), (24, 24, 1, (2, 2, 2, 2), 2, True),
        ]  # fmt: skip
        self.blocks = nn.ModuleList()
        for before, after, stride, pad, dilation, separable in plan:
            block = conv_norm(
                before, after, 3 if stride else 1, stride or 1, pad, groups=before if separable else 1,
                act=nn.ReLU6,
            )  # fmt: skip
            block[1].dilation = dilation if isinstance(dilation, tuple) else (dilation, dilation)
            self.blocks.append(block)
        self.classifier = nn.Linear(24, classes)

    def units(self):
        return [(block[1], block[2]) for block in self.blocks] + [(self.classifier, None)]

    def after(self, x, cut):
        for unit in range(cut + 1, len(self.blocks)):
            if unit == 7:
                x = nn.functional.avg_pool2d(nn.functional.pad(x, (1, 0, 0, 1)), 2)
            x = self.blocks[unit](x)
        return self.classifier(x.mean((2, 3)) if x.ndim == 4 else x)


REFERENCES = {
    "mobilenet-v1-0.25@resolution=28,channels=1,classes=10": MobileNet,
    "resnet8": ResNet,
    "har-cnn-1d": HarCnn,
    TCN: Tcn,
    UNEVEN: Uneven,
}
"""Network -> the same by hand."""


def reference(name, workload, parameters):
    """Build the network by hand and give it ``parameters``."""
    module = REFERENCES[name]()
    for key, tensor in named(module, workload).items():
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(parameters[key]).reshape(tensor.shape))
    return module


def named(module, workload, gradient=False):
    """Tensors of the network by hand (or their gradients) under the names of the network under test."""
    found = {}
    for unit, (layer, norm) in zip(workload.units, module.units(), strict=True):
        found[f"{unit.name}.weight"] = layer.weight
        if layer.bias is not None:
            found[f"{unit.name}.bias"] = layer.bias
        for part, name in SUFFIX.items() if norm is not None else ():
            found[f"{unit.name}.batch_norm.{name}"] = getattr(norm, part)
    return {key: tensor.grad for key, tensor in found.items()} if gradient else found


def lively(workload, parameters, seed=5):
    """Give batch norms statistics and scales that matter, and biases that are not zero."""
    draw = np.random.default_rng(seed)
    changed = dict(parameters)
    for key, value in parameters.items():
        part = key.rsplit(".", 1)[1]
        if part in ("gamma", "variance"):
            changed[key] = draw.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif part in ("beta", "mean", "bias"):
            changed[key] = draw.normal(0, 0.2, value.shape).astype(np.float32)
    return changed
