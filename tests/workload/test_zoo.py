"""The networks that come with the program, against the published figures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dse.errors import IllegalPlan
from dse.workload import Workload, list_networks, load_network
from dse.workload.units import single_tensor_cuts
from tests.workload.loops import crossing_by_replay

with (Path(__file__).parent / "data" / "layers.csv").open(encoding="utf-8") as stream:
    ROWS = list(csv.DictReader(stream))

MACS = {
    "mobilenet-v1": 185_427_968,
    "resnet8": 12_501_632,  # MLPerf Tiny
    "ds-cnn": 2_656_768,
    "mobilenet-v1-0.25-vww": 7_489_664,
    "autoencoder": 264_192,
    "mcunet-5fps": 22_453_504 + 160 * 10,  # convs as published, then the classifier
    "proxylessnas-w0.3": 18_619_904 + 96 * 10,
    "mobilenet-v2-w0.35": 16_646_912 + 112 * 10,
}

# Elements of the tensor that a cut stores: arXiv 2110.10486, Table III.
LATENTS = {19: 32768, 20: 32768, 21: 32768, 22: 32768, 23: 8192, 24: 16384, 25: 16384, 26: 16384, 27: 1024}


@pytest.mark.parametrize("name", list_networks())
def test_every_network_loads_under_its_own_name(name: str) -> None:
    workload = load_network(name)
    assert workload.name == name
    assert workload.source
    assert workload.title
    assert workload.shapes[-1] == (workload.classes,)


def test_the_zoo_is_complete() -> None:
    assert set(list_networks()) == set(MACS) | {"mobilenet-v1-0.25", "har-cnn-1d"}


@pytest.mark.parametrize(("name", "macs"), MACS.items())
def test_macs(name: str, macs: int) -> None:
    assert load_network(name).total_macs == macs


@pytest.mark.parametrize("name", sorted({row["network"] for row in ROWS}))
def test_layer_by_layer(name: str) -> None:
    workload = load_network(name)
    for row in (row for row in ROWS if row["network"] == name):
        unit = workload.units[int(row["unit"])]
        shape = workload.shapes[unit.layer]
        positions = [int(row["out_height"]), int(row["out_width"])] if unit.operator != "linear" else []
        found = {
            "operator": unit.operator,
            "in_channels": str(unit.in_channels),
            "out_channels": str(unit.out_channels),
            "kernel": str(unit.kernel[-1]),
            "weights": str(unit.weight_params),
            "biases": str(unit.bias_params),
            "macs": str(unit.macs),
            "residual_add": str(sum(workload.layers[layer].kind == "add" for layer in unit.followers)),
        }
        assert found == {key: row[key] for key in found}, f"{name}, unit {unit.index}"
        assert [*shape[1:]] == positions


def test_every_conv_of_the_layer_tables_is_there() -> None:
    for name in {row["network"] for row in ROWS}:
        heads = 0 if name == "mobilenet-v1" else 1  # the tables of the others leave the classifier out
        assert len(load_network(name).units) == sum(row["network"] == name for row in ROWS) + heads


@pytest.mark.parametrize("name", ["mcunet-5fps", "proxylessnas-w0.3", "mobilenet-v2-w0.35"])
def test_clamps_stand_behind_all_convs_but_the_linear_bottlenecks(name: str) -> None:
    workload = load_network(name)
    clamped = [
        any(workload.layers[layer].kind == "relu6" for layer in unit.followers) for unit in workload.units
    ]
    bottlenecks = [unit.name.endswith("/project") or unit.operator == "linear" for unit in workload.units]
    assert clamped == [not bottleneck for bottleneck in bottlenecks]


@pytest.mark.parametrize(("cut", "elements"), LATENTS.items())
def test_latent_sizes_of_mobilenet_v1(cut: int, elements: int) -> None:
    assert load_network("mobilenet-v1").cut_elements(cut) == elements


def test_folding_leaves_one_bias_per_channel() -> None:
    workload = load_network("mobilenet-v1")
    assert [unit.norm_channels for unit in workload.units[:27]] == [
        unit.bias_params for unit in workload.units[:27]
    ]
    assert (workload.units[27].norm_channels, workload.units[27].bias_params) == (0, 50)


@pytest.mark.parametrize("name", list_networks())
def test_exactly_one_tensor_crosses_at_a_listed_cut(name: str) -> None:
    workload = load_network(name)
    for cut in workload.legal_cuts:
        assert crossing_by_replay(workload, workload.cut_layer(cut)) == {workload.cut_layer(cut)}
        assert workload.crossing(cut) == (workload.cut_layer(cut),)
        workload.require_cut(cut)


@pytest.mark.parametrize("name", list_networks())
def test_several_tensors_cross_at_every_other_unit(name: str) -> None:
    workload = load_network(name)
    assert workload.legal_cuts == single_tensor_cuts(workload)
    for cut in set(range(len(workload.units))) - set(workload.legal_cuts):
        assert len(crossing_by_replay(workload, workload.cut_layer(cut))) > 1
        assert set(workload.crossing(cut)) == crossing_by_replay(workload, workload.cut_layer(cut))
        with pytest.raises(IllegalPlan, match="tensors cross at unit"):
            workload.require_cut(cut)


def named(workload: Workload, layers: tuple[int, ...]) -> list[str]:
    return [workload.layers[layer].name for layer in layers]


def test_resnet8_cuts_lie_behind_the_additions() -> None:
    workload = load_network("resnet8")
    assert workload.legal_cuts == (0, 2, 5, 8, 9)
    assert workload.layers[workload.cut_layer(5)].name == "stack2/add.relu"
    assert named(workload, workload.crossing(4)) == ["stack1/add.relu", "stack2/conv2.batch_norm"]
    assert [unit.operator for unit in workload.units].count("pointwise") == 2


def test_the_autoencoder_has_outputs_in_place_of_classes() -> None:
    workload = load_network("autoencoder")
    assert workload.input_shape == (640,)
    assert [unit.out_channels for unit in workload.units] == [128] * 4 + [8] + [128] * 4 + [640]


def test_the_activity_network_reads_windows() -> None:
    workload = load_network("har-cnn-1d")
    assert (workload.input_shape, workload.classes) == ((6, 128), 6)
    assert [unit.operator for unit in workload.units] == ["conv1d"] * 4 + ["linear"]
    assert [workload.cut_elements(cut) for cut in (-1, *workload.legal_cuts)] == [
        768,
        2048,
        1024,
        1024,
        1024,
        64,
    ]
