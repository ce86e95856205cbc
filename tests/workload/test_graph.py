"""Order, units, arrays and cuts of networks with branches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dse.errors import IllegalPlan
from dse.workload import Workload, load_network

HEAD = """
name = "branches"
title = "two branches"
source = "own"
input = { channels = 4, height = 8, width = 8 }
classes = 3
"""
TAIL = """
  { kind = "max_pool", name = "pool", kernel = 2 },
  { kind = "flatten", name = "flat" },
  { kind = "linear", name = "fc", out_features = "classes" },
]
"""
RESIDUAL = """
legal_cuts = [0, 3, 4]
layers = [
  { kind = "conv2d", name = "stem", out_channels = 8, kernel = 3, then = ["batch_norm", "relu"] },
  { kind = "pointwise", name = "left", out_channels = 8 },
  { kind = "conv2d", name = "right", inputs = ["stem"], out_channels = 8, kernel = 3, bias = false },
  { kind = "pointwise", name = "far", out_channels = 8 },
  { kind = "add", name = "sum", inputs = ["left", "far"], then = ["relu6"] },
"""


def load(tmp_path: Path, text: str) -> Workload:
    path = tmp_path / "network.toml"
    path.write_text(HEAD + text + TAIL, encoding="utf-8")
    return load_network(path)


@pytest.fixture
def residual(tmp_path: Path) -> Workload:
    return load(tmp_path, RESIDUAL)


def test_followers_belong_to_the_latest_unit_that_they_read(residual: Workload) -> None:
    names = [layer.name for layer in residual.layers]
    owned = dict(zip(names, residual.unit_of_layer.tolist(), strict=True))
    assert owned == {
        "stem": 0, "stem.batch_norm": 0, "stem.relu": 0, "left": 1, "right": 2, "far": 3,
        "sum": 3, "sum.relu6": 3, "pool": 3, "flat": 3, "fc": 4,
    }  # fmt: skip


def test_cuts_stand_behind_activations_and_before_pooling(residual: Workload) -> None:
    cuts = [residual.layers[residual.cut_layer(cut)].name for cut in range(5)]
    assert cuts == ["stem.relu", "left", "right", "sum.relu6", "flat"]
    assert residual.cut_shape(3) == (8, 8, 8)
    assert (residual.cut_shape(4), residual.cut_elements(4)) == ((128,), 128)
    assert (residual.cut_shape(-1), residual.cut_elements(-1)) == ((4, 8, 8), 256)


def test_crossing_tensors(residual: Workload) -> None:
    crossing = [
        [residual.layers[layer].name if layer >= 0 else "input" for layer in residual.crossing(cut)]
        for cut in range(-1, 5)
    ]
    assert crossing == [
        ["input"],
        ["stem.relu"],
        ["stem.relu", "left"],
        ["left", "right"],
        ["sum.relu6"],
        ["flat"],
    ]


def test_an_illegal_cut_names_the_tensors_and_the_legal_cuts(residual: Workload) -> None:
    with pytest.raises(IllegalPlan) as refused:
        residual.require_cut(2)
    assert str(refused.value) == (
        "plan: cut: 2 tensors cross at unit 2 (right): left, right; "
        "legal cuts of branches: input (-1), 0, 3, 4"
    )


@pytest.mark.parametrize("cut", [5, -2, 99])
def test_a_cut_without_unit_is_refused(residual: Workload, cut: int) -> None:
    expected = f"plan: cut: no unit {cut}, the units are 0 to 4"
    with pytest.raises(IllegalPlan) as refused:
        residual.require_cut(cut)
    assert str(refused.value) == f"{expected}; legal cuts of branches: input (-1), 0, 3, 4"
    with pytest.raises(IllegalPlan) as refused:
        residual.cut_elements(cut)
    assert str(refused.value) == expected


def test_a_legal_cut_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    workload = load(tmp_path, RESIDUAL.replace("[0, 3, 4]", "[4]"))
    with pytest.raises(IllegalPlan, match=r"unit 3 \(far\) is not offered as a cut; .*: input \(-1\), 4$"):
        workload.require_cut(3)
    workload.require_cut(-1)


def test_a_unit_counts_what_belongs_to_it(residual: Workload) -> None:
    stem = residual.units[0]
    assert (stem.name, stem.operator, stem.followers) == ("stem", "conv2d", (1, 2))
    assert (stem.weight_params, stem.bias_params, stem.norm_channels) == (4 * 8 * 9, 8, 8)
    assert (stem.input_elements, stem.output_elements, stem.kernel) == (256, 512, (3, 3))
    assert stem.macs == 4 * 8 * 9 * 64
    right, fc = residual.units[2], residual.units[4]
    assert (right.bias_params, right.norm_channels) == (0, 0)
    assert (fc.in_channels, fc.out_channels, fc.macs, fc.kernel) == (128, 3, 384, (1,))


def test_arrays_per_layer_are_read_only(residual: Workload) -> None:
    assert residual.out_elements.tolist() == [512] * 8 + [128, 128, 3]
    assert residual.in_elements.tolist() == [256] + [512] * 8 + [128, 128]
    for array in (residual.out_elements, residual.in_elements, residual.unit_of_layer):
        assert array.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_totals_sum_over_units(residual: Workload) -> None:
    assert residual.total_macs == sum(unit.macs for unit in residual.units)
    assert residual.total_weights == 288 + 64 + 576 + 64 + 384


def test_equal_networks_are_equal_and_hash_alike(residual: Workload, tmp_path: Path) -> None:
    again = load(tmp_path, RESIDUAL)
    assert again is not residual
    assert (again, hash(again)) == (residual, hash(residual))
    assert len({again, residual}) == 1


def test_layers_written_out_of_order_are_sorted_and_otherwise_keep_theirs(tmp_path: Path) -> None:
    text = """
legal_cuts = [2]
layers = [
  { kind = "add", name = "sum", inputs = ["b", "a"] },
  { kind = "pointwise", name = "b", inputs = ["input"], out_channels = 8 },
  { kind = "pointwise", name = "a", inputs = ["input"], out_channels = 8 },
  { kind = "max_pool", name = "half", inputs = ["sum"], kernel = 2 },
"""
    workload = load(tmp_path, text)
    assert [layer.name for layer in workload.layers] == ["b", "a", "sum", "half", "pool", "flat", "fc"]
    assert workload.inputs == ((-1,), (-1,), (0, 1), (2,), (3,), (4,), (5,))


def test_a_layer_before_the_first_unit_belongs_to_none(tmp_path: Path) -> None:
    text = 'legal_cuts = [0]\nlayers = [\n  { kind = "avg_pool", name = "shrink", kernel = 2 },\n'
    workload = load(tmp_path, text)
    assert workload.unit_of_layer.tolist() == [-1, -1, -1, 0]
    assert workload.crossing(-1) == (-1,)


def test_a_single_unit_on_the_input_is_cut_at_the_input(tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    text = HEAD.replace("channels = 4, height = 8, width = 8", "features = 9")
    layer = '{ kind = "linear", name = "fc", out_features = "classes" }'
    path.write_text(f"{text}legal_cuts = [0]\nlayers = [{layer}]\n", encoding="utf-8")
    workload = load_network(path)
    assert (workload.units[0].cut_layer, workload.crossing(0), workload.cut_elements(0)) == (-1, (-1,), 9)
