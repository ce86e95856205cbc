"""What is saved is read back as it is, bit for bit, and reads well."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dse.errors import UserError
from dse.workload import Workload, list_networks, load_network
from dse.workload.model.graph import Quantisation
from dse.workload.model.options import Lowered
from dse.workload.parameters import parameter_shapes, with_numbers
from dse.workload.save import file_name, save_network
from tests.workload.numbered import drawn, good

# --- there and back ---


@pytest.mark.parametrize("name", list_networks())
def test_a_saved_network_is_the_same_network(name: str, tmp_path: Path) -> None:
    network = load_network(name)
    again = load_network(save_network(network, tmp_path))
    assert again == network
    assert again.content_hash == network.content_hash
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.toml"]


def test_numbers_travel_bit_for_bit(tmp_path: Path) -> None:
    network = good(tmp_path)
    path = save_network(network, tmp_path / "new" / "folder")
    again = load_network(path)
    assert again == network
    assert again.weights_sha256 == network.weights_sha256 != ""
    assert again.weights == str(tmp_path / "new" / "folder" / "good.npz")
    for name, array in network.numbers.items():
        assert again.numbers[name].tobytes() == array.tobytes()
    with np.load(tmp_path / "new" / "folder" / "good.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == sorted(parameter_shapes(network))


def test_equal_networks_make_equal_files(tmp_path: Path) -> None:
    network = good(tmp_path)
    for folder in ("a", "b"):
        save_network(network, tmp_path / folder)
    for name in ("good.toml", "good.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


ODD = """
name = "odd"
title = "every way to write a layer"
source = "own"
input = { channels = 4, height = 12, width = 10 }
classes = 5
legal_cuts = [0]
layers = [
  { kind = "conv2d", name = "a \\" b\\\\c", out_channels = 8, kernel = [3, 1], stride = [2, 1] },
  { kind = "batch_norm", name = "norm é" },
  { kind = "conv2d", name = "wide", out_channels = 8, kernel = 3, dilation = 2, padding = [[1, 2], 0] },
  { kind = "depthwise", name = "d", kernel = [1, 3], padding = 0 },
  { kind = "pointwise", name = "p", inputs = ["a \\" b\\\\c"], out_channels = 8 },
  { kind = "max_pool", name = "m1", inputs = ["d"], kernel = [2], stride = [1, 1] },
  { kind = "global_avg_pool", name = "g1" },
  { kind = "avg_pool", name = "m2", inputs = ["p"], kernel = [2, 2], stride = 2, padding = [1, 0] },
  { kind = "global_avg_pool", name = "g2" },
  { kind = "concat", name = "both", inputs = ["g1", "g2"] },
  { kind = "linear", name = "scores", out_features = "classes" },
  { kind = "softmax", name = "s" },
]
"""


def odd(folder: Path) -> Workload:
    path = folder / "source.toml"
    path.write_text(ODD.replace('["a \\" b\\\\c"]', '["norm é"]'), encoding="utf-8")
    return load_network(path)


def test_odd_geometry_and_odd_names_come_back(tmp_path: Path) -> None:
    network = odd(tmp_path)
    again = load_network(save_network(with_numbers(network, drawn(network), "m"), tmp_path / "out"))
    assert replace(again, numbers=network.numbers) == network
    assert again.total_macs == network.total_macs
    assert [layer.name for layer in again.layers][:2] == ['a " b\\c', "norm é"]


FORWARD = """
name = "attention"
title = "an operation without a backward pass"
source = "own"
input = { channels = 3, length = 16 }
classes = 4
legal_cuts = [1]
layers = [
  { kind = "forward_only", name = "gates", operation = "lstm", shape = [8], forward_macs = 5632, weights = 352, biases = 64 },
  { kind = "linear", name = "a", out_features = 8, then = ["relu"] },
  { kind = "linear", name = "scores", out_features = "classes" },
]
"""  # noqa: E501 - one layer, one line


def test_layers_that_run_forward_only_come_back(tmp_path: Path) -> None:
    source = tmp_path / "source.toml"
    source.write_text(FORWARD, encoding="utf-8")
    network = load_network(source)
    text = save_network(network, tmp_path / "out").read_text(encoding="utf-8")
    assert load_network(tmp_path / "out" / "attention.toml") == network
    layer = tomllib.loads(text)["layers"][0]
    assert layer == {
        "kind": "forward_only", "name": "gates", "operation": "lstm", "shape": [8], "forward_macs": 5632,
        "weights": 352, "biases": 64,
    }  # fmt: skip


def test_a_saved_network_is_one_for_people(tmp_path: Path) -> None:
    """Defaults are left out, the head says classes, and the layer before is not named."""
    text = save_network(load_network("ds-cnn"), tmp_path).read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    zoo = load_network("ds-cnn")
    assert tables["layers"][-2]["out_features"] == "classes"
    assert not any("inputs" in layer for layer in tables["layers"])
    assert tables["legal_cuts"] == list(zoo.legal_cuts)
    assert max(map(len, text.splitlines())) < 160
    assert load_network(tmp_path / "ds-cnn.toml", classes=3).units[-1].out_channels == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a@b=1,c=2", "a-b-1-c-2"),
        ("../../etc/x", "etc-x"),
        ("...", "network"),
        ("ü/é\n", "network"),
        ("-v", "v"),
    ],
)
def test_file_names_are_plain(name: str, expected: str) -> None:
    assert file_name(name) == expected


def lowered(workload: Workload) -> Lowered:
    per_channel = Quantisation(8, True, np.linspace(0.1, 0.2, 8), np.zeros(8, np.int64), 0)
    per_tensor = Quantisation(8, False, np.array([0.5]), np.array([128]))
    notes = ("two dropouts\nare left out",)
    return Lowered(workload, dict(workload.numbers), {"a.weight": per_channel, "a.output": per_tensor}, notes)


def test_quantisation_is_kept_and_told(tmp_path: Path) -> None:
    path = save_network(lowered(good(tmp_path)), tmp_path)
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as archive:
        assert archive["quantisation/a.weight/scale"].tolist() == np.linspace(0.1, 0.2, 8).tolist()
        assert archive["quantisation/a.weight/axis"] == 0
        assert archive["quantisation/a.output/zero_point"].tolist() == [128]
        assert (archive["quantisation/a.output/bits"], archive["quantisation/a.output/signed"]) == (8, 0)
        assert "quantisation/a.output/axis" not in archive.files
    text = path.read_text(encoding="utf-8")
    assert "#   a.weight: int8, 8 scales 0.1 .. 0.2 along axis 0\n" in text
    assert "#   a.output: uint8, scale 0.5, zero point 128\n" in text
    assert "# two dropouts_are left out\n" in text  # a note cannot end its comment
    assert load_network(path) == good(tmp_path)


def test_nothing_is_left_where_nothing_can_be_saved(tmp_path: Path) -> None:
    deep = replace(load_network("ds-cnn"), input_shape=(1, 2, 3, 4))
    with pytest.raises(UserError, match="an input of 4 axes"):
        save_network(deep, tmp_path)
    other = replace(load_network("ds-cnn"), legal_cuts=())
    with pytest.raises(UserError):
        save_network(other, tmp_path)
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="is a file"):
        save_network(load_network("ds-cnn"), tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_signs_that_end_a_string_of_toml_come_back(tmp_path: Path) -> None:
    title = 'a "title" \\ with \x7f \t \u2028 and \U0001f642'
    network = replace(good(tmp_path), title=title)
    assert load_network(save_network(network, tmp_path, name="signs")).title == title
