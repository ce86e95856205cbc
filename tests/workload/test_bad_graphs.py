"""What is wrong with a network file beyond a single key: its graph, its size, several mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.errors import UserError
from dse.workload import load_network
from tests.workload.network_files import GOOD, WHOLE, problems


def test_an_illegal_cut_names_what_crosses_and_where_it_is_legal(tmp_path: Path) -> None:
    block = """  { kind = "pointwise", name = "b", out_channels = 8 },
  { kind = "add", name = "sum", inputs = ["a", "b"] },
  { kind = "pointwise", name = "between", out_channels = 8 },
  { kind = "pointwise", name = "last", out_channels = 8 },
  { kind = "add", name = "end", inputs = ["sum", "last"] },"""
    text = GOOD.replace('  { kind = "pointwise", name = "b", out_channels = 8 },', block)
    assert problems(text, tmp_path) == [
        "legal_cuts: 2 tensors cross at unit 2 (between): sum, between; "
        "a single tensor crosses at units 0, 1, 3, 4"
    ]


RULE = "batch_norm follows a conv or linear directly, as its only reader"


def test_a_norm_that_shares_its_conv_with_another_reader_is_refused(tmp_path: Path) -> None:
    block = """  { kind = "pointwise", name = "b", out_channels = 8 },
  { kind = "batch_norm", name = "norm" },
  { kind = "add", name = "sum", inputs = ["b", "norm"] },"""
    text = GOOD.replace('  { kind = "pointwise", name = "b", out_channels = 8 },', block)
    assert problems(text, tmp_path) == [f"layers.norm.inputs: reads b; {RULE}"]


def test_a_norm_on_the_network_input_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("layers = [", 'layers = [\n  { kind = "batch_norm", name = "norm" },')
    assert problems(text, tmp_path) == [f"layers.norm.inputs: reads input; {RULE}"]


def test_a_cycle_is_spelled_out(tmp_path: Path) -> None:
    text = GOOD.replace('name = "b"', 'name = "b", inputs = ["pool"]')
    assert problems(text, tmp_path) == [
        "layers: a cycle: b -> pool -> b; a layer reads only what comes before it"
    ]


def test_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    (message,) = problems(GOOD.replace("classes = 4", "classes = 4\nclasses = 5"), tmp_path)
    assert message.startswith("no valid TOML: Cannot overwrite a value")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no valid TOML: 'utf-8' codec"):
        load_network(path)


@pytest.mark.parametrize(
    ("text", "reason"), [("a = " + "[" * 9000, "nested too deeply"), ("a = " + "9" * 5000, "")]
)
def test_hostile_toml_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (message,) = problems(text, tmp_path)
    assert message.startswith(f"no valid TOML: {reason}")


def test_a_path_that_no_system_takes_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be read: embedded null byte"):
        load_network("a\0.toml")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml: cannot be read: No such file"):
        load_network(tmp_path / "none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match=r"folder\.toml: cannot be read: "):
        load_network(tmp_path / "folder.toml")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    assert problems(GOOD + "#" * 2**20, tmp_path) == ["larger than 1 MiB; a network file is smaller"]


@pytest.mark.parametrize(
    ("count", "then", "message"),
    [
        (0, "", "layers: 0 layers; must be a list of 1 to 4096 tables"),
        (4097, "", "layers: 4097 layers; must be a list of 1 to 4096 tables"),
        (2100, ', then = ["relu"]', "layers: 4200 layers; must be at most 4096"),
    ],
)
def test_the_number_of_layers_is_limited(count: int, then: str, message: str, tmp_path: Path) -> None:
    layer = '{{kind = "pointwise", name = "l{}", out_channels = 8{}}}'
    layers = ",\n".join(layer.format(index, then) for index in range(count))
    text = GOOD[: GOOD.index("layers = [")] + f"layers = [\n{layers}\n]\n"
    assert message in problems(text, tmp_path)


def test_a_network_without_units_is_refused(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("layers = [")] + 'layers = [{ kind = "global_avg_pool", name = "pool" }]\n'
    assert problems(text, tmp_path) == [
        "layers: no conv and no linear layer; a network has something to train"
    ]


MANY = """
name = 3
title = "many mistakes"
input = { channels = 3, height = 0, width = 8 }
classes = -4
legal_cuts = ["all"]
speed = 9
layers = [
  { kind = "conv2d", name = "a", out_channels = 8 },
  { kind = "conv", name = "b", out_channels = 8 },
  { kind = "relu", name = "c", inputs = ["nowhere"] },
  { kind = "add", name = "d" },
  { kind = "linear", name = "d", out_features = "classes" },
]
"""


def test_a_file_with_eleven_mistakes_reports_eleven(tmp_path: Path) -> None:
    keys = [message.split(": ")[0] for message in problems(MANY, tmp_path)]
    assert sorted(keys) == sorted(
        ["speed", "name", "source", "classes", "input.height", "legal_cuts", "layers.a.kernel",
         "layers.b.kind", "layers.d.name", "layers.c.inputs", "layers.d.inputs"]
    )  # fmt: skip


def test_several_impossible_shapes_are_all_reported(tmp_path: Path) -> None:
    block = """  { kind = "max_pool", name = "b", kernel = 9 },
  { kind = "conv1d", name = "x", inputs = ["a"], out_channels = 8, kernel = 3 },
  { kind = "add", name = "sum", inputs = ["b", "x"] },"""
    text = GOOD.replace('  { kind = "pointwise", name = "b", out_channels = 8 },', block)
    assert problems(text, tmp_path) == [
        "layers.b: a kernel of 9 is larger than the padded input of 8; its input is 8x8x8",
        "layers.x: conv1d reads (C, L), found 8x8x8; its input is 8x8x8",
    ]


def test_a_faulty_layer_does_not_make_its_readers_faulty(tmp_path: Path) -> None:
    text = GOOD.replace("kernel = 3", "kernel = 0").replace('name = "b"', 'name = "b", inputs = ["a"]')
    assert problems(text, tmp_path) == [f"layers.a.kernel: 0; {WHOLE}"]
