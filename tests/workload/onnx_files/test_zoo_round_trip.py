"""Zoo networks written as ONNX files and read again: the same layers, shapes, numbers, MACs."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest

from dse.training.parameters import fold, initial_parameters
from dse.workload import Workload
from dse.workload.load import list_networks, load_network
from dse.workload.model import Model, Node
from dse.workload.onnx import read_onnx
from tests.workload.exporters.onnx_writer import ABSORBED, ACTIVATION_SCALE, onnx_bytes, weight_scales

WEIGHTED = {
    "conv2d": "conv",
    "conv1d": "conv",
    "depthwise": "conv",
    "depthwise1d": "conv",
    "pointwise": "conv",
}
FORMS = ("float", "qdq", "qoperator")


def expected_words(workload: Workload, form: str) -> list[str]:
    kinds = [layer.kind for layer in workload.layers]
    if form != "float":
        kinds = [kind for kind in kinds if kind != "batch_norm"]
    if form == "qoperator":
        kinds = [kind for kind in kinds if kind not in ABSORBED]
    words = []
    for kind in kinds:
        words += ["reshape" if kind == "flatten" else WEIGHTED.get(kind, kind)]
        words += ["reshape"] if kind == "global_avg_pool" else []
    return words


def written(name: str, folder: Path, form: str, batch: int | str = 1) -> tuple[Workload, Model, dict]:
    workload = load_network(name)
    parameters = initial_parameters(workload, 0)
    parameters = parameters if form == "float" else fold(workload, parameters)
    path = folder / f"{form}.onnx"
    path.write_bytes(onnx_bytes(workload, parameters, form=form, batch=batch))
    return workload, read_onnx(path, {}), parameters


def macs(node: Node) -> int:
    """Weights times the positions that each is used at, by the definition."""
    assert node.shape is not None
    weight = node.constants["weight"].shape
    return prod(weight) * prod(node.shape[1:] if node.operation == "conv" else ())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", list_networks())
def test_round_trip(name: str, form: str, tmp_path: Path) -> None:
    workload, model, parameters = written(name, tmp_path, form)
    assert model.faults == ()
    assert [node.operation for node in model.nodes] == expected_words(workload, form)
    assert [given.shape for given in model.inputs] == [workload.input_shape]
    by_name = {node.name: node for node in model.nodes}
    for index, layer in enumerate(workload.layers):
        if layer.name in by_name and layer.kind != "global_avg_pool":
            assert by_name[layer.name].shape == workload.shapes[index]
    assert sum(macs(node) for node in model.nodes if "weight" in node.constants) == workload.total_macs
    held = {f"{node.name}.{part}": one for node in model.nodes for part, one in node.constants.items()}
    assert set(held) == set(parameters)
    for key, constant in held.items():
        check_numbers(key, constant, parameters, form)


def check_numbers(key: str, constant, parameters, form: str) -> None:
    value = parameters[key]
    assert constant.shape == value.shape
    if form == "float":
        assert constant.values.tobytes() == value.tobytes()
        assert (constant.stored_type, constant.stored_bytes) == ("float32", value.nbytes)
        return
    weight = key.endswith(".weight")
    scales = weight_scales(parameters[key.rsplit(".", 1)[0] + ".weight"])
    steps = scales if weight else scales * ACTIVATION_SCALE
    spread = steps.reshape(-1, *(1,) * (value.ndim - 1))
    assert np.all(np.abs(constant.values - value) <= 0.501 * spread)
    assert (constant.quantisation.bits, constant.quantisation.axis) == ((8 if weight else 32), 0)
    np.testing.assert_allclose(constant.quantisation.scale, steps, rtol=1e-6)
    assert constant.stored_bytes == value.size * (1 if weight else 4)


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_activations_carry_their_quantisation(form: str, tmp_path: Path) -> None:
    _, model, _ = written("resnet8", tmp_path, form)
    words = ("conv", "add", "avg_pool") if form == "qoperator" else ("relu", "avg_pool", "reshape")
    found = [node.quantisation for node in model.nodes if node.operation in words]
    assert len(found) > 8
    for match in found:
        assert match is not None
        assert (match.bits, match.signed, match.axis) == (8, False, None)
        assert float(match.scale[0]) == pytest.approx(ACTIVATION_SCALE)
        assert int(match.zero_point[0]) == 3
    assert model.inputs[0].quantisation is not None


@pytest.mark.parametrize("batch", ["N", "batch_size", 8])
def test_the_batch_is_not_counted(batch: int | str, tmp_path: Path) -> None:
    workload, model, _ = written("ds-cnn", tmp_path, "float", batch)
    assert model.inputs[0].shape == workload.input_shape
    assert model.nodes[-1].shape == (workload.classes,)
    assert any("batch" in note for note in model.notes)
