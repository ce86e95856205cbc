"""Operators of torch in both of their forms: the nodes compute what the module computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from tests.workload.exporters.torch_writer import archive_of
from tests.workload.torch_files.reading import read_back, read_bytes, seeded
from tests.workload.torch_files.replay import replay


class Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function: object, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Attention(nn.Module):
    """Self-attention by torch's own layer, and by its function."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.second = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.first(y, y, y, need_weights=False)[0]
        q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in self.second(x).chunk(3, -1))
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def activations(_: nn.Module, x: Tensor) -> Tensor:
    y = functional.silu(x) + functional.hardtanh(x, -1.0, 1.0) + functional.leaky_relu(x, 0.2)
    y = y + functional.hardswish(x) * functional.hardsigmoid(x) + functional.relu6(x).tanh()
    return y + functional.gelu(x) - 0.5 * functional.elu(x) + functional.sigmoid(x) / 3 + x.clamp(min=0)


def written_out(_: nn.Module, x: Tensor) -> Tensor:
    return x * functional.relu6(x + 3) / 6 + functional.relu6(x + 3) / 6 + x * torch.sigmoid(x)


def pools(_: nn.Module, x: Tensor) -> Tensor:
    y = functional.max_pool2d(x, 2, ceil_mode=True)
    y = functional.avg_pool2d(y, 3, 1, 1) + functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
    y = functional.max_pool2d(y, 3, 2, 1)
    return torch.cat([functional.adaptive_avg_pool2d(y, 1).flatten(1), y.mean((2, 3)), y.amax((2, 3))], 1)


def movement(_: nn.Module, x: Tensor) -> Tensor:
    a, b, c = x.split([1, 2, 1], 1)
    y = torch.cat([c, a, b], 1)[:, :, 1:, ::2].permute(0, 2, 3, 1)
    y = torch.stack([y, 2 * y], 1).flatten(1, 2)
    return torch.cat([y[:, 0], y[:, -1]], -1).reshape(1, -1)


CASES = {
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), bias=False), nn.BatchNorm2d(6, eps=1e-3), nn.ReLU(True),
            nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU6(),
            nn.Conv2d(6, 4, 2, padding="same"), nn.PReLU(4), nn.ConvTranspose2d(4, 3, 3, 2, 1, 1),
        ),
        (4, 9, 8),
    ),
    "causal": (
        nn.Sequential(
            nn.ConstantPad1d((4, 0), 0.0), weight_norm(nn.Conv1d(4, 6, 3, dilation=2)), nn.GroupNorm(2, 6)
        ),
        (4, 9),
    ),
    "attention": (Attention(), (9, 8)),
    "activations": (Lambda(activations), (5, 3)),
    "written out": (Lambda(written_out), (5, 3)),
    "pools": (Lambda(pools), (4, 9, 11)),
    "movement": (Lambda(movement), (4, 5, 6)),
    "lstm": (
        Lambda(
            lambda m, x: m.out(m.lstm(x)[0][:, -1]),
            lstm=nn.LSTM(4, 5, 2, bidirectional=True, batch_first=True), out=nn.Linear(10, 3),
        ),
        (6, 4),
    ),
    "gru": (Lambda(lambda m, x: m.gru(x)[0].mean(1), gru=nn.GRU(4, 5, batch_first=True)), (6, 4)),
    "dropout": (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3), nn.LogSoftmax(-1)), (4,)),
    "pooled series": (
        nn.Sequential(
            nn.Conv1d(4, 4, 3), nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()
        ),
        (4, 21),
    ),
}  # fmt: skip


LONG = ("lstm", "gru")  # torch writes every step of them out


@pytest.mark.parametrize(
    ("name", "core"),
    [(name, False) for name in CASES]
    + [
        pytest.param(name, True, marks=[pytest.mark.slow] * (name in LONG), id=f"{name}, core")
        for name in CASES
    ],
)
def test_nodes_compute_what_the_module_computes(name: str, core: bool) -> None:
    module, shape = CASES[name]
    module = seeded(module)
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    model = read_back(module, x, core=core)
    assert not model.faults
    assert "unknown" not in {node.operation for node in model.nodes}
    with torch.no_grad():
        torch.testing.assert_close(replay(model, x[0]), module(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("core", [False, True], ids=["as exported", "core operators"])
def test_activations_written_out_are_found(core: bool) -> None:
    model = read_back(Lambda(written_out), torch.zeros(1, 4), core=core)
    found = sorted(node.operation for node in model.nodes)
    assert found == ["add", "add", "hard_sigmoid", "hard_swish", "swish"]


def test_a_pool_over_one_axis_stays_one_in_core_operators() -> None:
    module, shape = CASES["pooled series"]
    for core in (False, True):
        model = read_back(module, torch.zeros(1, *shape), core=core)
        pools = [node for node in model.nodes if node.operation in ("max_pool", "avg_pool")]
        assert [node.attributes["kernel"] for node in pools] == [(2,), (2,)]
        assert [node.shape for node in pools] == [(4, 9), (4, 4)]


def test_pads_of_zeros_go_into_the_convolution() -> None:
    model = read_back(CASES["causal"][0], torch.zeros(1, 4, 9))
    assert model.nodes[0].operation == "conv"
    assert model.nodes[0].attributes["pads"] == ((4, 0),)
    assert any("zero pads" in note for note in model.notes)


def test_names_are_paths_of_modules() -> None:
    model = read_back(
        nn.Sequential(nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3)), nn.ReLU()), torch.zeros(1, 2, 5)
    )
    assert [node.name for node in model.nodes] == ["0.0", "0.1", "relu"]


def test_a_layer_used_twice_has_two_names_and_one_weight() -> None:
    layer = nn.Linear(4, 4)
    model = read_back(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 4))
    first, _, second = model.nodes
    assert second.name == f"{first.name}~2"
    assert first.constants["weight"] is second.constants["weight"]


def test_tied_weights_are_read_from_one_storage() -> None:
    module = Lambda(lambda m, x: m.b(m.a(x)), a=nn.Linear(4, 4, bias=False), b=nn.Linear(4, 4, bias=False))
    module.b.weight = nn.Parameter(module.a.weight.data.T)
    x = torch.randn(1, 4)
    model = read_back(module, x)
    torch.testing.assert_close(replay(model, x[0]), module(x)[0])


def test_an_unknown_operation_is_listed_with_its_shape() -> None:
    model = read_back(Lambda(lambda m, x: m.f(torch.cumsum(x, 1)), f=nn.Linear(5, 2)), torch.zeros(1, 5))
    assert [(node.operation, node.source_operation, node.shape) for node in model.nodes] == [
        ("unknown", "aten.cumsum", (5,)), ("linear", "aten.linear", (2,)),
    ]  # fmt: skip


def test_a_pool_of_unequal_windows_is_unknown_and_says_why() -> None:
    model = read_back(nn.AdaptiveAvgPool2d(2), torch.zeros(1, 3, 5, 5))
    assert model.nodes[0].operation == "unknown"
    assert any("unequal" in note for note in model.notes)


def test_a_batch_norm_exported_in_training_is_read_with_its_statistics() -> None:
    module = seeded(nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3))).train()
    statistics = module[1].running_var.clone().numpy()
    program = torch.export.export(module, (torch.zeros(2, 2, 5),))
    model = read_bytes(archive_of(program))
    norm = model.nodes[1]
    assert norm.operation == "batch_norm"
    assert (norm.constants["variance"].values == statistics).all()
    assert any("training mode" in note for note in model.notes)
    assert any("batch of 2 became 1" in note for note in model.notes)


def in_place(_: nn.Module, x: Tensor) -> Tensor:
    y = x * 2
    kept, same = y.clone(), y.detach()
    y.relu_()
    return y + kept - 3 * same


def test_what_is_written_in_place_reaches_its_other_names_but_no_copy() -> None:
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    model = read_back(Lambda(in_place), x)
    torch.testing.assert_close(replay(model, x[0]), in_place(nn.Identity(), x)[0])


def test_writing_into_a_part_is_a_fault() -> None:
    def write(_: nn.Module, x: Tensor) -> Tensor:
        y = x * 2
        y[:, 0] = 0.0
        return y

    model = read_back(Lambda(write), torch.zeros(1, 4))
    assert any("in place" in fault for fault in model.faults)


def test_the_last_state_of_a_recurrent_layer_is_a_part_of_its_output() -> None:
    module = Lambda(lambda m, x: m.f(m.r(x)[1][0]), r=nn.GRU(4, 5, batch_first=True), f=nn.Linear(5, 2))
    model = read_back(module, torch.zeros(1, 6, 4))
    assert [(node.operation, node.shape) for node in model.nodes] == [
        ("gru", (6, 5)), ("slice", (1, 5)), ("reshape", (5,)), ("linear", (2,)),
    ]  # fmt: skip
