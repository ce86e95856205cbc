"""Modules in the user's own process: read like archives, left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.workload.torch import read_module
from tests.workload.torch_files.reading import read_back
from tests.workload.torch_files.replay import replay


class Small(nn.Module):
    """A convolution with batch norm, and a dropout that stays on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6())
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.body(x).mean((2, 3))))


def test_a_module_is_read_as_its_archive_is() -> None:
    module = Small()
    x = torch.randn(1, 3, 8, 8)
    model = read_module(module, input_shape=(3, 8, 8), name="small")
    module.eval()
    torch.testing.assert_close(replay(model, x[0]), module(x)[0], rtol=1e-4, atol=1e-5)
    saved = read_back(module, x)
    assert [(node.name, node.operation, node.shape) for node in model.nodes] == [
        (node.name, node.operation, node.shape) for node in saved.nodes
    ]
    assert (model.name, model.format) == ("small", "PyTorch (nn.Module)")


def test_the_module_is_left_as_it_was() -> None:
    module = Small().train()
    module.body[1].eval()  # a frozen batch norm
    before = {name: value.clone() for name, value in module.state_dict().items()}
    read_module(module, example=torch.randn(2, 3, 8, 8))
    assert {name: part.training for name, part in module.named_modules() if not part.training} == {
        "body.1": False
    }
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_an_example_may_be_several_tensors() -> None:
    model = read_module(nn.Bilinear(3, 4, 5), example=(torch.zeros(1, 3), torch.zeros(1, 4)))
    assert [given.shape for given in model.inputs] == [(3,), (4,)]
    assert model.nodes[-1].shape == (5,)


class Branching(nn.Module):
    """Control flow that depends on data, which torch.export refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("options", [{}, {"input_shape": (3,), "example": torch.zeros(1, 3)}])
def test_one_description_of_the_input_is_needed(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="one of input_shape and example"):
        read_module(nn.Linear(3, 2), **options)


@pytest.mark.parametrize(
    ("module", "shape", "said"),
    [
        (Branching(), (4,), "cannot be exported"),
        (nn.Linear(3, 2), (4,), "cannot be exported"),
        (nn.Linear(3, 2), (0,), "whole numbers from 1"),
        ("a path", (3,), "an instance of torch.nn.Module"),
    ],
    ids=["branches", "shapes that do not fit", "no sizes", "no module"],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    module: object, shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said) as error:
        read_module(module, input_shape=shape)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    if isinstance(module, nn.Module):
        assert module.training
