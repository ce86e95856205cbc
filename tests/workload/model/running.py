"""Runs lowered networks in PyTorch, in float64, beside the naive evaluation of the file's own operations."""

from __future__ import annotations

import numpy as np
import torch

from dse.training.network import build_module
from dse.workload.model.lower import lower
from dse.workload.model.options import ImportOptions, Lowered
from tests.workload.model.building import Builder
from tests.workload.model.naive import Array

BATCH_NORM = ("keep", "fold")
ORDERS = ("NCHW", "NHWC")


def run(lowered: Lowered, x: Array) -> Array:
    module = build_module(lowered.workload, lowered.parameters, dtype=torch.float64).eval()
    with torch.inference_mode():
        return module(torch.from_numpy(np.ascontiguousarray(x)[None]))[0].numpy()


def given(builder: Builder, lowered: Lowered) -> Array:
    """The input of the network: channels first where the file has them last."""
    last = builder.order == "NHWC" and builder.x.ndim > 1
    x = np.moveaxis(builder.x, -1, 0) if last else builder.x
    return x.reshape(lowered.workload.input_shape)


def check(builder: Builder, batch_norm: str = "keep", x: Array | None = None) -> Lowered:
    """Lower, run, compare with the naive evaluation; returns the lowered network for further questions."""
    lowered = lower(builder.model(), ImportOptions(batch_norm=batch_norm))  # type: ignore[arg-type]
    wanted = builder.values[builder.last].reshape(-1)
    found = run(lowered, given(builder, lowered) if x is None else x)
    if lowered.workload.layers[-1].kind == "softmax":
        found = np.exp(found - found.max()) / np.exp(found - found.max()).sum()
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(wanted).max())))
    return lowered


def kinds(lowered: Lowered) -> list[str]:
    return [layer.kind for layer in lowered.workload.layers]


def image(order: str, channels: int, height: int, width: int, seed: int = 0) -> Builder:
    shape = (channels, height, width) if order == "NCHW" else (height, width, channels)
    return Builder(shape, order, seed)


def series(order: str, channels: int, length: int, seed: int = 0) -> Builder:
    return Builder((channels, length) if order == "NCHW" else (length, channels), order, seed)
