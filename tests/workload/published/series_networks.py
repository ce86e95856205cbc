"""Published networks for sound and other series, and attention, as plain ``torch.nn`` modules."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class DsCnn(nn.Sequential):
    """Keyword spotting of MLPerf Tiny (arXiv 2106.07597), after Zhang et al., arXiv 1711.07128."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), 2), *self.tail()]
        for _ in range(4):
            layers += [
                nn.Conv2d(64, 64, 3, 1, 1, groups=64),
                *self.tail(),
                nn.Conv2d(64, 64, 1),
                *self.tail(),
            ]
        super().__init__(*layers, nn.AvgPool2d((25, 5)), nn.Flatten(), nn.Linear(64, 12), nn.Softmax(-1))

    def tail(self) -> list[nn.Module]:
        return [nn.BatchNorm2d(64), nn.ReLU()]


class DeepAutoencoder(nn.Sequential):
    """Anomaly detection of MLPerf Tiny (arXiv 2106.07597): 640 - 4 x 128 - 8 - 4 x 128 - 640."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
        super().__init__(*layers, nn.Linear(128, 640))


class CausalBlock(nn.Module):
    """Two dilated causal convolutions and a shortcut (Bai et al., arXiv 1803.01271, Fig. 1b).

    The weight norm of training is gone; instead of padding both ends and cutting one off, one end is padded.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.body = nn.Sequential(
            nn.ConstantPad1d((reach, 0), 0.0),
            nn.Conv1d(inputs, outputs, kernel, dilation=dilation),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.ConstantPad1d((reach, 0), 0.0),
            nn.Conv1d(outputs, outputs, kernel, dilation=dilation),
            nn.ReLU(),
            nn.Dropout(0.1),
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class Tcn(nn.Module):
    """Temporal convolutional network: four blocks of dilation 1, 2, 4, 8, the class from the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(CausalBlock(9 if i == 0 else 32, 32, 5, 2**i) for i in range(4)))
        self.out = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(x)[:, :, -1])


class Encoder(nn.Module):
    """Attention and a perceptron behind layer norms (Dosovitskiy et al., arXiv 2010.11929, Eqs. 2, 3)."""

    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.join(y.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.mlp(self.second(x))


class TinyViT(nn.Module):
    """A vision transformer for 32 x 32 images: patches of 8, width 48, two encoders, a class token."""

    def __init__(self, *, fused: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 8, 8)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 48)), nn.Parameter(torch.randn(1, 17, 48))
        self.encoders = nn.Sequential(Encoder(48, 3, fused=fused), Encoder(48, 3, fused=fused))
        self.norm, self.out = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1) + self.places
        return self.out(self.norm(self.encoders(y))[:, 0])


class Spotter(nn.Module):
    """A recurrent keyword spotter over 49 frames of 10 MFCC (Zhang et al., arXiv 1711.07128, Sec. 3)."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], layers: int, hidden: int) -> None:
        super().__init__()
        self.cell, self.out = cell(10, hidden, layers, batch_first=True), nn.Linear(hidden, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x)[0][:, -1])
