"""Every network of the zoo as a real .tflite file, float and int8: what comes back, and what vela counts.

Vela (Arm's compiler for Ethos-U) reads the same int8 files on its own and counts MACs per layer. It also
counts what is none here: one MAC per element of a pooling window, and a few for each class of a softmax.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dse.workload import Workload, list_networks, load_network
from dse.workload.convolutions import BatchNorm, Convolution, Linear
from dse.workload.model import Model, Node
from dse.workload.tflite import read_tflite
from tests.workload.exporters.tflite_builder import TfliteBuilder
from tests.workload.exporters.tflite_writer import tflite_bytes
from tests.workload.tflite_files.architectures import ARCHITECTURES
from tests.workload.tflite_files.samples import read_bytes

SHORT = ("ds-cnn", "har-cnn-1d")
EACH = [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in list_networks()]

ACTIVATIONS = ("relu", "relu6")
MULTIPLIED = ("conv", "linear")


def drawn(workload: Workload, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights, and one bias per channel where there is one or a batch norm was folded."""
    random = np.random.default_rng(seed)
    parameters: dict[str, NDArray[np.float32]] = {}
    for index, layer in enumerate(workload.layers):
        source = workload.shape_of(workload.inputs[index][0])
        if isinstance(layer, Convolution):
            out, groups, kernel = layer.geometry(source)
            shape: tuple[int, ...] = (out, source[0] // groups, *kernel)
        elif isinstance(layer, Linear):
            shape = (layer.out_features, source[0])
        else:
            continue
        parameters[f"{layer.name}.weight"] = random.standard_normal(shape).astype(np.float32)
        parameters[f"{layer.name}.bias"] = random.standard_normal(shape[0]).astype(np.float32)
    return parameters


@cache
def files(name: str) -> tuple[Workload, dict[str, NDArray[np.float32]], bytes, bytes]:
    workload = load_network(name)
    parameters = drawn(workload)
    return (
        workload,
        parameters,
        tflite_bytes(workload, parameters),
        tflite_bytes(workload, parameters, int8=True),
    )


def macs(node: Node) -> int:
    """Weights times the positions that they are applied at."""
    assert node.shape is not None
    channels = node.channel_axis
    positions = prod(size for axis, size in enumerate(node.shape) if axis != channels)
    return node.constants["weight"].elements * positions


def layers(workload: Workload) -> list[tuple[str, tuple[int, ...]]]:
    """Operation and shape (channels last) of every layer that leaves one behind, in order."""
    words = dict.fromkeys(("conv2d", "conv1d", "depthwise", "depthwise1d", "pointwise"), "conv")
    words["flatten"] = "reshape"
    return [
        (words.get(layer.kind, layer.kind), (*shape[1:], shape[0]))
        for layer, shape in zip(workload.layers, workload.shapes, strict=True)
        if not isinstance(layer, BatchNorm)
    ]


# --- round trip ---


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("name", list_networks())
def test_layers_come_back_in_order(name: str, int8: bool) -> None:
    workload, _, real, whole = files(name)
    model = read_bytes(whole if int8 else real)
    assert not model.faults
    assert [(node.operation, node.shape) for node in model.nodes] == layers(workload)
    units = [node for node in model.nodes if node.operation in MULTIPLIED]
    assert [node.name for node in units] == [unit.name for unit in workload.units]
    assert [macs(node) for node in units] == [unit.macs for unit in workload.units]


@pytest.mark.parametrize("name", list_networks())
def test_readers_read_whom_they_read_in_the_network(name: str) -> None:
    workload, _, real, _ = files(name)
    model = read_bytes(real)
    kept = [i for i, layer in enumerate(workload.layers) if not isinstance(layer, BatchNorm)]
    alias = {-1: -1}
    for i, layer in enumerate(workload.layers):
        alias[i] = alias[workload.inputs[i][0]] if isinstance(layer, BatchNorm) else i
    place = {f"input:{model.inputs[0].name}": -1} | {
        node.name: i for i, node in zip(kept, model.nodes, strict=True)
    }
    for i, node in zip(kept, model.nodes, strict=True):
        assert [place[source] for source in node.inputs] == [alias[source] for source in workload.inputs[i]]


@pytest.mark.parametrize("name", list_networks())
def test_weights_come_back(name: str) -> None:
    _, parameters, real, whole = files(name)
    for node in read_bytes(real).nodes:
        for key, constant in node.constants.items():
            wanted = parameters[f"{node.name}.{key}"]
            assert constant.shape == wanted.shape
            if node.operation == "conv" or key == "bias":
                np.testing.assert_array_equal(constant.values, wanted)
    for node in (node for node in read_bytes(whole).nodes if node.operation == "conv"):
        wanted, found = parameters[f"{node.name}.weight"], node.constants["weight"]
        scheme = found.quantisation
        assert found.values is not None
        assert scheme is not None
        assert (found.stored_type, scheme.axis, scheme.scale.shape) == ("int8", 0, (len(wanted),))
        step = scheme.scale.reshape(-1, *(1,) * (wanted.ndim - 1))
        assert np.all(np.abs(found.values - wanted) <= 0.5001 * step)


def test_columns_behind_a_flattened_image_stand_as_in_the_file() -> None:
    """The columns of an image of height 2 and width 3 with 2 channels: channels change fastest."""
    workload = load_network("ds-cnn")
    assert workload.shapes[-4][1:] == (1, 1)  # no zoo network flattens an image; so a file by hand
    build = TfliteBuilder()
    source = build.tensor("x", (1, 2, 3, 2))
    flat = build.operator(
        "RESHAPE", [source, build.ints("s", (1, 12))], build.tensor("flat", (1, 12)), "ReshapeOptions"
    )
    weight = np.arange(12, dtype=np.float32).reshape(1, 12)
    inputs = [flat, build.constant("w", weight), -1]
    out = build.operator("FULLY_CONNECTED", inputs, build.tensor("y", (1, 1)), "FullyConnectedOptions")
    dense = read_bytes(build.finish([source], [out])).nodes[1]
    np.testing.assert_array_equal(dense.constants["weight"].values, weight)


def test_int8_networks_are_an_eighth_of_their_bits() -> None:
    for name in ("resnet8", "ds-cnn"):
        workload, _, _, whole = files(name)
        stored = sum(
            node.constants["weight"].stored_bytes
            for node in read_bytes(whole).nodes
            if "weight" in node.constants
        )
        assert stored == workload.total_weights


def test_a_network_of_13_megabytes_is_read_in_a_second(tmp_path: Path) -> None:
    path = tmp_path / "mobilenet.tflite"
    path.write_bytes(files("mobilenet-v1")[2])
    assert path.stat().st_size > 5_000_000
    start = time.perf_counter()
    read_tflite(path, {})
    assert time.perf_counter() - start < 1


# --- what vela counts ---


def counted_by_vela(data: bytes, folder: Path) -> tuple[dict[str, int], int]:
    """MACs of convolutions and fully connected layers by name, and of the network, as vela sees them.

    It splits a large layer into stripes, one row each, and where it joins a layer with one that follows, the
    row has the name of that one.
    """
    path = folder / "network.tflite"
    path.write_bytes(data)
    command = [sys.executable, "-m", "ethosu.vela", str(path), "--accelerator-config", "ethos-u55-128",
               "--output-dir", str(folder), "--verbose-performance"]  # fmt: skip
    subprocess.run(
        command, check=True, capture_output=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    with (folder / "network_per-layer.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    (summary,) = folder.glob("network_summary_*.csv")
    with summary.open(encoding="utf-8") as stream:
        total = int(float(next(csv.DictReader(stream))["nn_macs"]))
    kinds = ("Conv2D", "DepthwiseConv2D", "FullyConnected")
    found: dict[str, int] = {}
    for row in rows:
        if row["Original Operator"] in kinds and int(row["MAC Count"]):
            found[row["Name"]] = found.get(row["Name"], 0) + int(row["MAC Count"])
    return found, total


def counted(model: Model) -> dict[str, int]:
    assert not model.faults
    return {node.name: macs(node) for node in model.nodes if node.operation in MULTIPLIED}


@pytest.mark.parametrize("name", EACH)
def test_vela_counts_the_same_macs(name: str, tmp_path: Path) -> None:
    whole = files(name)[3]
    ours = counted(read_bytes(whole))
    theirs, total = counted_by_vela(whole, tmp_path)
    assert ours == theirs
    assert load_network(name).total_macs == sum(ours.values()) <= total
    assert total <= 1.005 * load_network(name).total_macs


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_vela_counts_the_same_macs_of_other_architectures(name: str, tmp_path: Path) -> None:
    data = ARCHITECTURES[name]()
    ours, (theirs, _) = counted(read_bytes(data)), counted_by_vela(data, tmp_path)
    alike = ours.keys() & theirs.keys()
    assert len(alike) >= len(ours) // 2
    assert {key: ours[key] for key in alike} == {key: theirs[key] for key in alike}
    assert sum(ours.values()) == sum(theirs.values())
