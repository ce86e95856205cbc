"""Every network of the program, written as a real model file and read again, is the network that it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", exc_type=ImportError)

from dse.training.parameters import fold
from dse.workload import Workload, list_networks, load_network
from dse.workload.convolutions import BatchNorm
from dse.workload.parameters import Parameters, layers_without_numbers
from dse.workload.save import save_network
from tests.workload.round_trip import FORMATS, INTEGERS, lively

QUICK = ("autoencoder", "ds-cnn", "har-cnn-1d", "resnet8")
"""Networks that PyTorch exports in a moment."""

EACH = [
    pytest.param(
        form,
        name,
        marks=[pytest.mark.slow] if form == "torch" and name not in QUICK else [],
        id=f"{form}-{name}",
    )
    for form in FORMATS
    for name in list_networks()
]


@pytest.mark.parametrize(("form", "name"), EACH)
def test_the_network_comes_back(form: str, name: str, tmp_path: Path) -> None:
    ending, write = FORMATS[form]
    network = load_network(name)
    parameters = lively(network)
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(write(network, parameters))
    found = load_network(path)
    assert found.name == name
    assert_same_structure(found, network)
    assert_same_numbers(found, network, parameters)
    again = load_network(save_network(found, tmp_path / "saved"))
    assert again == found


@pytest.mark.parametrize("name", list_networks())
@pytest.mark.parametrize("form", INTEGERS)
def test_an_integer_model_has_the_same_structure(form: str, name: str, tmp_path: Path) -> None:
    ending, write = INTEGERS[form]
    network = load_network(name)
    folded = fold(network, lively(network))
    path = tmp_path / f"own{ending}"
    path.write_bytes(write(network, folded))
    found = load_network(path)
    assert_same_structure(found, network)
    for mine, theirs in zip(network.units, found.units, strict=True):
        weight, read = folded[f"{mine.name}.weight"], found.numbers[f"{theirs.name}.weight"]
        rows = (1, -1) if mine.operator == "linear" else (len(weight), -1)  # one scale, or one per channel
        step = np.abs(weight).reshape(rows).max(axis=1) / 127
        off = np.abs(read - weight).reshape(rows).max(axis=1)
        assert (off <= 0.51 * step).all(), mine.name


@pytest.mark.parametrize("name", ["ds-cnn", "har-cnn-1d"])
def test_a_module_in_memory_is_the_same_network(name: str) -> None:
    from tests.workload.exporters.torch_writer import Net

    network = load_network(name)
    parameters = lively(network)
    module = Net(network, parameters)
    found = load_network(module, input_shape=network.input_shape)
    assert module.training  # it is left as it was
    assert_same_structure(found, network)
    assert_same_numbers(found, network, parameters)
    assert (found.name, found.weights) == ("Net", "Net")


@pytest.mark.parametrize(("form", "packages"), [("onnx", ["onnx"]), ("tflite", ["tflite", "flatbuffers"])])
def test_without_its_package_a_file_says_what_to_install(
    form: str, packages: list[str], tmp_path: Path
) -> None:
    ending, write = FORMATS[form]
    network = load_network("resnet8")
    path = tmp_path / f"own{ending}"
    path.write_bytes(write(network, lively(network)))
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({packages}))\n"
        f"from dse.cli import run; sys.exit(run(['networks', 'show', {str(path)!r}]))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"{path}: ")
    assert f"the package {packages[0]}" in line
    assert line.endswith(f"pip install 'tinyml-dse[{form}]'")


def assert_same_structure(found: Workload, network: Workload) -> None:
    assert found.input_shape == network.input_shape
    assert found.classes == network.classes
    assert found.total_macs == network.total_macs
    assert found.total_weights == network.total_weights
    assert len(found.units) == len(network.units)
    for mine, theirs in zip(network.units, found.units, strict=True):
        for what in (
            "operator", "macs", "weight_params", "bias_params", "in_channels", "out_channels",
            "input_elements", "output_elements", "kernel",
        ):  # fmt: skip
            assert getattr(theirs, what) == getattr(mine, what), (mine.name, what)
        assert found.shapes[theirs.layer] == network.shapes[mine.layer], mine.name
    assert set(network.legal_cuts) <= set(found.legal_cuts)
    for cut in network.legal_cuts:
        assert found.cut_shape(cut) == network.cut_shape(cut)


def assert_same_numbers(found: Workload, network: Workload, parameters: Parameters) -> None:
    """Exactly those of the network where its batch norms come back, else those with batch norms folded."""
    assert layers_without_numbers(found) == ()
    folded = not any(isinstance(layer, BatchNorm) for layer in found.layers)
    expected = fold(network, parameters) if folded else parameters
    for mine, theirs in zip(of_units(network, expected), of_units(found, found.numbers), strict=True):
        for part in mine.keys() | theirs.keys():
            zeros = np.zeros(len(mine["weight"]), np.float32)  # a bias that a format insists on
            pair = mine.get(part, zeros), theirs.get(part, zeros)
            if folded:
                np.testing.assert_allclose(pair[1], pair[0], rtol=1e-6, atol=1e-6)
            else:
                np.testing.assert_array_equal(pair[1], pair[0])


def of_units(network: Workload, numbers: Mapping[str, np.ndarray]) -> Iterator[Parameters]:
    """Yield the numbers of each unit, those of its batch norm among them, by the name of their part."""
    for unit in network.units:
        names = [network.layers[index].name for index in (unit.layer, *unit.followers)]
        yield {
            key.rpartition(".")[2]: value for key, value in numbers.items() if key.rpartition(".")[0] in names
        }
