"""Modules that engineers write, imported from memory: outputs, counts and notes, beside torch itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import dse
from dse.errors import Unpriced, UserError
from dse.hardware import load_board
from dse.plan.workspace import recurrent_bytes
from dse.report.model import description_text, of_model
from dse.training.network import build_module


def lively(module: nn.Module) -> nn.Module:
    """Return ``module`` for inference, its batch norms as if they had been trained."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for values, low in ((part.weight, 0.5), (part.bias, -0.5), (part.running_var, 0.5)):
                nn.init.uniform_(values, low, low + 1.0)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            part.eps = 1e-3
    return module.eval()


class Tcn(nn.Module):
    """Causal and dilated, with residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(5 if level == 0 else 12, 12, 3, dilation=2**level, bias=level % 2 == 0)
            for level in range(4)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(12) for _ in range(4))
        self.project, self.head = nn.Conv1d(5, 12, 1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        for level, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = functional.relu(norm(conv(functional.pad(x, (2 * 2**level, 0)))))
            x = (self.project(x) if level == 0 else x) + y
        out: Tensor = self.head(x.mean(-1))
        return out


class Odd(nn.Module):
    """Windows that are nowhere square, pads by end, groups, a dilation by axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, (3, 5), (2, 1), (0, 3))
        self.second = nn.Conv2d(8, 8, (2, 3), padding="same", dilation=(3, 2))
        self.third, self.head = nn.Conv2d(8, 8, 4, 3, padding=(2, 1), groups=4), nn.Linear(240, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.second(functional.relu(self.first(x))))
        x = functional.avg_pool2d(
            self.third(functional.pad(x, (0, 1, 2, 0))), 2, 1, 1, count_include_pad=True
        )
        out: Tensor = self.head(x.flatten(1))
        return out


class Scales(nn.Module):
    """Factors and sums per channel around a batch norm, and a flatten of channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.gain, self.head = nn.Parameter(torch.rand(8, 1, 1) + 0.5), nn.Linear(8 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(2 * self.norm(self.conv(x) * self.gain - 0.3) + self.gain)
        out: Tensor = self.head(x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)) / 0.7 - 1
        return out


class Means(nn.Module):
    """Averages with zeros around them, which count in one and not in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(self.conv(x), 3, 1, 1, count_include_pad=True)
        x = functional.avg_pool2d(functional.relu(x), 3, 1, 1, count_include_pad=False)
        out: Tensor = self.head(x.flatten(1))
        return out


LEARNING: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "tcn": (Tcn, (5, 40)), "odd": (Odd, (3, 17, 13)), "scales": (Scales, (3, 8, 8)),
    "means": (Means, (3, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("batch_norm", ["keep", "fold"])
@pytest.mark.parametrize("name", LEARNING)
def test_outputs_are_those_of_torch(name: str, batch_norm: str) -> None:
    torch.manual_seed(3)
    make, shape = LEARNING[name]
    module, x = lively(make()), torch.randn(2, *shape)
    network = dse.import_model(module, input_shape=shape, batch_norm=batch_norm).workload
    ours = build_module(network, dict(network.numbers), dtype=torch.float64).eval()
    with torch.no_grad():
        found, wanted = ours(x.double()), module.double()(x.double())
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-5)


class Wider(nn.Module):
    """Zeros beside the channels, as the shortcuts of the first ResNets have them, and around them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(12, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(self.first(x), (1, 1, 1, 1, 2, 2))
        out: Tensor = self.head(self.second(x).mean((2, 3)))
        return out


def test_padding_of_channels_is_no_padding_of_a_convolution() -> None:
    network = dse.import_model(Wider(), input_shape=(3, 8, 8)).workload
    assert [getattr(network.layers[index], "operation", "") for index in network.forward_only] == ["copy"]
    assert network.shapes[1:3] == ((12, 8, 8), (4, 6, 6))


# --- tokens ---


class Tokens(nn.Module):
    """Patches of an image as a row of tokens, one attention head, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out((q @ k.transpose(-1, -2) / 4).softmax(-1) @ v)
        out: Tensor = self.head(x.mean(1))
        return out


def test_a_linear_layer_over_the_tokens_of_an_image() -> None:
    found = dse.import_model(Tokens(), input_shape=(3, 16, 16))
    assert not found.problems
    positions = 16
    assert (
        found.workload.total_macs == positions * (48 * 16 + 16 * 48 + 16 * 16 + 2 * 16 * positions) + 16 * 4
    )


# --- recurrent layers ---


class Listener(nn.Module):
    """A recurrent layer whose every step a convolution reads."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.conv, self.head = (
            nn.LSTM(6, 32, batch_first=True),
            nn.Conv1d(32, 8, 3),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(functional.relu(self.conv(self.cells(x)[0].transpose(1, 2))).mean(-1))
        return out


def test_the_state_of_a_recurrent_layer_is_as_wide_as_its_hidden_units_wherever_they_stand() -> None:
    network = dse.import_model(Listener(), input_shape=(50, 6)).workload
    assert network.shapes[0] == (32, 50)
    assert recurrent_bytes(network, network.units[0]) == 6 * 32 * 4


# --- batch norms with nothing before them ---


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.head = nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(functional.relu(self.conv(self.norm(x))).mean((2, 3)))
        return out


def estimated(accept: list[str], **more: Any) -> Any:
    network = dse.import_model(lively(Normed()), input_shape=(3, 32, 32)).workload
    board = load_board("stm32l4r5")
    plan = {"cut": "last", "images_per_event": 10, "batch": (10, 0), "intervals": False}
    return dse.estimate(network, board, accuracy="none", accept=accept, **plan, **more)


@pytest.mark.parametrize("bits", [8, 32])
def test_a_batch_norm_with_nothing_before_it_is_not_free(bits: int) -> None:
    with pytest.raises(Unpriced) as caught:
        estimated([], frozen_bits=bits)
    assert [problem.key for problem in caught.value.problems] == ["affine"]
    cheap, dear = (
        estimated([f"affine={cycles}..{cycles}"], frozen_bits=bits).value("frozen_image_s")
        for cycles in (10, 20)
    )
    clock = load_board("stm32l4r5").operating_points[0].clock_hz.value
    assert dear - cheap == pytest.approx(10 * 3 * 32 * 32 / clock, rel=1e-9)


# --- a convolution in front of the mean, as SqueezeNet ends ---


class Squeezed(nn.Module):
    """Seven classes on seven by seven places."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = functional.adaptive_avg_pool2d(
            functional.relu(self.head(functional.relu(self.body(x)))), 1
        )
        return out.flatten(1)


def test_classes_of_a_convolution_before_the_mean() -> None:
    old = dse.import_model(Squeezed(), input_shape=(3, 7, 7)).workload
    new = dse.import_model(Squeezed(), input_shape=(3, 7, 7), classes=5).workload
    assert (old.classes, new.classes) == (7, 5)
    assert new.shapes[-1] == (5,)
    assert {name.partition(".")[0] for name in new.numbers} == {"body"}


class Joined(nn.Module):
    """Its last mean is over the classes too."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).mean(1).flatten(1)


def test_outputs_that_are_no_classes_of_the_last_layer_cannot_be_replaced() -> None:
    with pytest.raises(UserError) as caught:
        _ = dse.import_model(Joined(), input_shape=(3, 3, 3), classes=5).workload
    assert "a linear layer or a convolution can be replaced" in str(caught.value)


# --- shared weights, and what is counted as a parameter ---


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.again, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(x)))
        x = functional.relu(self.again(functional.relu(self.again(x))))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def test_parameters_are_those_of_torch_and_sharing_is_said() -> None:
    module = lively(Twice())
    found = dse.import_model(module, input_shape=(3, 8, 8))
    count, buffers = sum(value.numel() for value in module.parameters()), 2 * 8
    text = " ".join(description_text(of_model(found)).split())
    assert f"{count} parameters and {buffers} statistics of batch norms" in text
    again = [layer.name for layer in found.workload.layers if layer.name.startswith("again")]
    assert f"{', '.join(again)} share their weights in the file; each holds its own here" in text


# --- what looks like a layer that learns, and is none ---


class Forked(nn.Module):
    """A view of a convolution that two read: a factor for one of them is not the convolution's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)
        self.gain = nn.Parameter(torch.rand(8, 1) + 2.0)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.conv(x).flatten(2)
        out: Tensor = self.head((rows * self.gain + rows).mean(-1))
        return out


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out: Tensor = self.head(torch.cat([x, x], 1).mean((2, 3)))
        return out


class Profile(nn.Module):
    """A mean over channels and rows, which leaves the columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.conv(x).mean((1, 2)))
        return out


AHEAD: dict[type[nn.Module], str] = {Forked: "multiply", Doubled: "concat", Profile: "reduce"}


@pytest.mark.parametrize("make", AHEAD)
def test_what_is_no_layer_that_learns_runs_forward_only(make: type[nn.Module]) -> None:
    module = make().eval()
    network = dse.import_model(module, input_shape=(3, 8, 8)).workload
    operations = [getattr(network.layers[index], "operation", "") for index in network.forward_only]
    assert [word for word in operations if word != "view"] == [AHEAD[make]]
    np.testing.assert_array_equal(network.numbers["conv.weight"], module.conv.weight.detach().numpy())  # type: ignore[union-attr, operator]
