"""Graphs of quantise and dequantise operations: they become the quantisation of what they enclose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import Tensor, nn
from torch.nn import functional

from dse.workload.model.graph import Model
from tests.workload.torch_files.reading import read_back

OPS = torch.ops.quantized_decomposed


def fake(x: Tensor, scale: float, zero: int, low: int = -128, high: int = 127) -> Tensor:
    q = OPS.quantize_per_tensor(x, scale, zero, low, high, torch.int8)
    return OPS.dequantize_per_tensor(q, scale, zero, low, high, torch.int8)


class Quantised(nn.Module):
    """A convolution and a linear layer as quantisation-aware export leaves them: weights stored as int8."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(2)
        self.register_buffer(
            "conv_q", torch.tensor(random.integers(-127, 128, (6, 3, 3, 3)), dtype=torch.int8)
        )
        self.register_buffer("conv_scale", torch.tensor(random.uniform(0.01, 0.02, 6)))
        self.register_buffer("conv_zero", torch.zeros(6, dtype=torch.int64))
        self.register_buffer("bias_q", torch.tensor(random.integers(-999, 999, 6), dtype=torch.int32))
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = OPS.dequantize_per_channel(
            self.conv_q, self.conv_scale, self.conv_zero, 0, -127, 127, torch.int8
        )
        bias = OPS.dequantize_per_tensor(self.bias_q, 0.001, 0, -(2**31), 2**31 - 1, torch.int32)
        y = fake(functional.relu(functional.conv2d(fake(x, 0.02, 3), weight, bias)), 0.05, -128)
        return fake(
            functional.linear(y.mean((2, 3)), fake(self.linear.weight, 0.01, 0, -7, 7), self.linear.bias),
            0.1,
            5,
        )


@pytest.fixture(scope="module")
def module() -> Quantised:
    torch.manual_seed(4)
    return Quantised().eval()


@pytest.fixture(scope="module", params=[False, True], ids=["as exported", "core operators"])
def model(request: pytest.FixtureRequest, module: Quantised) -> Model:
    return read_back(module, torch.zeros(1, 3, 6, 6), core=request.param)


def test_only_the_network_remains(model: Model) -> None:
    assert [node.operation for node in model.nodes] == ["conv", "relu", "global_avg_pool", "linear"]
    assert not model.faults


def test_weights_are_real_numbers_with_their_quantisation(model: Model, module: Quantised) -> None:
    weight = model.nodes[0].constants["weight"]
    wanted = module.conv_q.numpy() * module.conv_scale.numpy().reshape(6, 1, 1, 1)
    np.testing.assert_allclose(weight.values, wanted, rtol=1e-6)
    assert (weight.stored_type, weight.stored_bytes) == ("int8", 6 * 3 * 3 * 3)
    assert weight.quantisation is not None
    assert (weight.quantisation.bits, weight.quantisation.signed, weight.quantisation.axis) == (8, True, 0)
    np.testing.assert_allclose(weight.quantisation.scale, module.conv_scale.numpy(), rtol=1e-6)


def test_biases_have_32_bits(model: Model, module: Quantised) -> None:
    bias = model.nodes[0].constants["bias"]
    assert bias.quantisation is not None
    assert bias.quantisation.bits == 32
    np.testing.assert_allclose(bias.values, module.bias_q.numpy() * 0.001, rtol=1e-5)


def test_float_weights_between_a_pair_take_its_levels(model: Model, module: Quantised) -> None:
    weight = model.nodes[-1].constants["weight"]
    with torch.no_grad():
        np.testing.assert_allclose(
            weight.values, fake(module.linear.weight, 0.01, 0, -7, 7).numpy(), atol=1e-7
        )
    assert weight.quantisation is not None
    assert weight.quantisation.bits == 4


def test_activations_note_theirs_at_the_producer(model: Model) -> None:
    given, relu, out = model.inputs[0].quantisation, model.nodes[1].quantisation, model.nodes[-1].quantisation
    assert given is not None
    assert relu is not None
    assert out is not None
    assert (given.bits, given.scale[0], given.zero_point[0], given.axis) == (8, 0.02, 3, None)
    assert (relu.scale[0], relu.zero_point[0]) == (0.05, -128)
    assert (out.scale[0], out.zero_point[0]) == (0.1, 5)
    assert model.nodes[0].quantisation is None
