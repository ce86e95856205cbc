"""MACs and parameters of published networks, read from real archives, against independent counts and papers.

Two counters that know nothing of this project count the same modules: fvcore and torch.utils.flop_counter.
Where they are blind is stated in ``BLIND``, and the equations count. Parameters are counted by torch itself.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dse.workload.model.counts import node_rows
from dse.workload.model.graph import Model
from tests.workload.exporters.torch_writer import archive_of, decomposed, exported
from tests.workload.published.image_networks import (
    EfficientNetLite0,
    McuNetLike,
    MobileNetV1,
    MobileNetV2,
    MobileNetV3Small,
    ResNet8,
    ResNet18,
    SqueezeNet11,
)
from tests.workload.published.series_networks import DeepAutoencoder, DsCnn, Spotter, Tcn, TinyViT
from tests.workload.torch_files.reading import read_bytes

CLOSE = 0.005
"""Share by which the importer may differ from an independent counter; it differs by nothing."""

MATRICES = ("conv", "linear", "addmm", "mm", "bmm", "matmul")
"""What fvcore counts one MAC per product for; its norms and pools are no MACs and are left out."""

FUSED = "tiny-vit, fused attention"

BLIND = {
    "by_torch": ("lstm", FUSED),  # as a processor runs them, they are one operator that it does not know
    "by_fvcore": ("lstm", "gru", FUSED),
}


@dataclass(frozen=True)
class Published:
    """A network, the shape of one sample, and what its source states of it, with a tolerance."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    macs: float | None = None
    parameters: float | None = None
    tolerance: float = 0.01
    source: str = ""


NETWORKS = {
    "resnet-8": Published(ResNet8, (3, 32, 32), 12_501_632, 78_186, 0.0, "reference model of mlcommons/tiny"),
    "ds-cnn": Published(DsCnn, (1, 49, 10), 2_656_768, 23_756, 0.0, "reference model of mlcommons/tiny"),
    "autoencoder": Published(
        DeepAutoencoder, (640,), 264_192, 267_928, 0.0, "reference model of mlcommons/tiny"
    ),
    "mcunet-like": Published(McuNetLike, (3, 96, 96)),
    "tcn": Published(Tcn, (9, 128)),
    "tiny-vit": Published(TinyViT, (3, 32, 32)),
    FUSED: Published(lambda: TinyViT(fused=True), (3, 32, 32)),
    "lstm": Published(lambda: Spotter(nn.LSTM, 1, 118), (49, 10)),
    "gru": Published(lambda: Spotter(nn.GRU, 2, 78), (49, 10)),
}

# What the 407 M of EfficientNet-Lite0 count is not said; its convolutions and its classifier have 385 M.
LARGE = {
    "mobilenet-v1": Published(MobileNetV1, (3, 224, 224), 569e6, 4.2e6, 0.01, "arXiv 1704.04861, Table 4"),
    "mobilenet-v2": Published(MobileNetV2, (3, 224, 224), 300e6, 3.4e6, 0.035, "arXiv 1801.04381, Table 4"),
    "mobilenet-v3-small": Published(
        MobileNetV3Small, (3, 224, 224), 56e6, 2.5e6, 0.02, "arXiv 1905.02244, Table 3"
    ),
    "efficientnet-lite0": Published(
        EfficientNetLite0, (3, 224, 224), 407e6, 4.7e6, 0.06, "tensorflow/tpu, efficientnet/lite"
    ),
    "resnet-18": Published(
        ResNet18, (3, 224, 224), 1.8e9, 11.69e6, 0.01, "arXiv 1512.03385, Table 1; torchvision"
    ),
    "squeezenet-1.1": Published(SqueezeNet11, (3, 224, 224), 0.35e9, 1_235_496, 0.005, "torchvision 0.20"),
}

EVERY = {**NETWORKS, **LARGE}
EACH = [*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
STATED = [name for name in EVERY if EVERY[name].macs is not None]


@cache
def module_of(name: str) -> nn.Module:
    torch.manual_seed(7)
    return EVERY[name].build().eval()


@cache
def model_of(name: str) -> Model:
    return read_bytes(archive_of(exported(module_of(name), torch.zeros(1, *EVERY[name].shape))))


def macs(model: Model) -> int:
    counts = [row.macs for row in node_rows(model)]
    assert None not in counts
    return sum(count for count in counts if count is not None)


def parameters(model: Model) -> int:
    """Numbers that learn: each weight once, without running statistics and numbers of the graph itself."""
    held = {
        constant.name: constant.elements
        for node in model.nodes
        for part, constant in node.constants.items()
        if part not in ("mean", "variance") and constant.stored_bytes
    }
    return sum(held.values())


def by_fvcore(name: str) -> float:
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore imports parts of torch that are deprecated
        from fvcore.nn import FlopCountAnalysis

        counts = FlopCountAnalysis(module_of(name), torch.zeros(1, *EVERY[name].shape)).by_operator()
    return float(sum(counts[operator] for operator in MATRICES if operator in counts))


def by_torch(name: str) -> float:
    """Multiplications and additions that torch sees being dispatched; two are one MAC."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module_of(name)(torch.zeros(1, *EVERY[name].shape))
    return counter.get_total_flops() / 2


def by_elsewhere(name: str) -> float:
    """What counts where the counters are blind.

    Fused attention: the same network with its products written out. Recurrent layers: one product per gate,
    step and number of input and state (Gers et al. 2000; Cho et al., arXiv 1406.1078).
    """
    if name not in ("lstm", "gru"):
        return by_torch(name.partition(",")[0])
    gates, widths = {"lstm": (4, [(10, 118)]), "gru": (3, [(10, 78), (78, 78)])}[name]
    hidden = widths[-1][1]
    return sum(49 * gates * own * (given + own) for given, own in widths) + 12 * hidden


@pytest.mark.parametrize("name", EACH)
def test_macs_agree_with_an_independent_counter(name: str) -> None:
    seeing = [counter for counter in (by_torch, by_fvcore) if name not in BLIND[counter.__name__]]
    for counter in seeing or [by_elsewhere]:
        assert macs(model_of(name)) == pytest.approx(counter(name), rel=CLOSE), counter.__name__


@pytest.mark.parametrize(("counter", "name"), [(key, name) for key, names in BLIND.items() for name in names])
def test_where_the_counters_are_blind(counter: str, name: str) -> None:
    count = {"by_torch": by_torch, "by_fvcore": by_fvcore}[counter]
    assert count(name) < 0.95 * by_elsewhere(name), "it sees now: compare with it"


@pytest.mark.parametrize("name", EACH)
def test_parameters_agree_with_torch(name: str) -> None:
    assert parameters(model_of(name)) == sum(value.numel() for value in module_of(name).parameters())


@pytest.mark.parametrize("name", EACH)
def test_everything_is_read(name: str) -> None:
    model = model_of(name)
    assert not model.faults
    assert "unknown" not in {node.operation for node in model.nodes}


@pytest.mark.parametrize(
    "name", [name if name in NETWORKS else pytest.param(name, marks=pytest.mark.slow) for name in STATED]
)
def test_counts_are_those_of_the_source(name: str) -> None:
    stated, model = EVERY[name], model_of(name)
    assert macs(model) == pytest.approx(stated.macs, rel=stated.tolerance or 1e-12), stated.source
    if stated.parameters is not None:
        assert parameters(model) == pytest.approx(stated.parameters, rel=stated.tolerance), stated.source


@pytest.mark.parametrize(
    "name", ["tiny-vit", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)
def test_core_operators_count_the_same(name: str) -> None:
    program = decomposed(exported(module_of(name), torch.zeros(1, *EVERY[name].shape)))
    model = read_bytes(archive_of(program))
    assert (macs(model), parameters(model)) == (macs(model_of(name)), parameters(model_of(name)))
