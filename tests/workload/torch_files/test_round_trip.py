"""Every network of the zoo as a real archive: read again, it has the same layers, numbers and outputs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dse.training.parameters import initial_parameters
from dse.workload import Workload, list_networks, load_network
from dse.workload.model.graph import Model
from dse.workload.model.lower import lower
from dse.workload.torch import read_archive
from tests.workload.exporters.torch_writer import Net, archive_of, decomposed, exported, plain
from tests.workload.torch_files.replay import replay

SMALL = ("autoencoder", "ds-cnn", "har-cnn-1d", "resnet8")
SLOW = [name for name in list_networks() if name not in SMALL]
EACH = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]

Case = tuple[Workload, dict[str, np.ndarray], Net]


@pytest.fixture(scope="module", params=EACH)
def case(request: pytest.FixtureRequest) -> Case:
    workload = load_network(request.param)
    parameters = initial_parameters(workload, seed=3)
    for place, (key, value) in enumerate(parameters.items()):
        noise = np.random.default_rng([5, place]).uniform(0.5, 1.5, value.shape)
        parameters[key] = (noise if key.endswith(("gamma", "variance")) else value + 0.01 * noise).astype(
            "f4"
        )
    return workload, parameters, Net(workload, parameters).eval()


@pytest.fixture(scope="module")
def archive(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archives") / f"{case[0].name}.pt2"
    path.write_bytes(archive_of(exported(case[2], torch.zeros(1, *case[0].input_shape))))
    return path


@pytest.fixture(scope="module")
def model(archive: Path) -> Model:
    return read_archive(archive, {})


def test_the_lowered_network_is_the_same(case: Case, model: Model) -> None:
    workload, parameters, _ = case
    lowered = lower(model)
    found = lowered.workload
    assert [layer.kind for layer in found.layers] == [layer.kind for layer in workload.layers]
    assert found.shapes == workload.shapes
    assert [(unit.operator, unit.macs, unit.weight_params, unit.bias_params) for unit in found.units] == [
        (unit.operator, unit.macs, unit.weight_params, unit.bias_params) for unit in workload.units
    ]
    assert set(found.legal_cuts) >= set(workload.legal_cuts)
    ours, theirs = sorted(parameters.values(), key=by_size), sorted(lowered.parameters.values(), key=by_size)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other.reshape(one.shape))


def by_size(value: np.ndarray) -> tuple[int, bytes]:
    return value.size, value.tobytes()


def test_the_nodes_compute_what_the_module_computes(case: Case, model: Model) -> None:
    workload, _, module = case
    x = torch.randn(1, *workload.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = module(x)[0]
        found = replay(model, x[0])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_nothing_is_left_unread(model: Model) -> None:
    assert not model.faults
    assert "unknown" not in {node.operation for node in model.nodes}


def test_weighted_nodes_bear_the_names_of_their_modules(case: Case, model: Model) -> None:
    wanted = {plain(key.rsplit(".", 1)[0]) for key in case[1]}
    found = {node.name.removesuffix(".1") for node in model.nodes if node.constants}
    assert found == wanted


def test_reading_is_fast(archive: Path) -> None:
    begin = time.perf_counter()
    read_archive(archive, {})
    assert time.perf_counter() - begin < 2.0


@pytest.mark.parametrize("name", ["ds-cnn", "har-cnn-1d"])
def test_core_operators_give_the_same_network(name: str, tmp_path: Path) -> None:
    workload = load_network(name)
    module = Net(workload, initial_parameters(workload, seed=1)).eval()
    program = decomposed(exported(module, torch.zeros(1, *workload.input_shape)))
    path = tmp_path / "core.pt2"
    path.write_bytes(archive_of(program))
    found = lower(read_archive(path, {})).workload
    assert [unit.macs for unit in found.units] == [unit.macs for unit in workload.units]
    assert [layer.kind for layer in found.layers] == [layer.kind for layer in workload.layers]


def test_torch_is_not_imported(tmp_path: Path) -> None:
    workload = load_network("autoencoder")
    path = tmp_path / "a.pt2"
    module = Net(workload, initial_parameters(workload, seed=1))
    path.write_bytes(archive_of(exported(module, torch.zeros(1, *workload.input_shape))))
    code = (
        "import sys; from pathlib import Path; from dse.workload.torch import read_archive;"
        f"read_archive(Path({str(path)!r}), {{}}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
