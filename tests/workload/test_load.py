"""Names, variants and identity of networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import UnknownName, UserError
from dse.workload import load_network
from dse.workload.fields import scaled
from tests.plan.strategies import TCN, UNEVEN
from tests.workload.network_files import SIZE, WHOLE


def test_width_scales_channels_and_leaves_classes() -> None:
    whole, half = load_network("mobilenet-v1"), load_network("mobilenet-v1", width=0.5)
    pairs = zip(whole.units[:-1], half.units[:-1], strict=True)
    assert all(unit.out_channels == 2 * narrow.out_channels for unit, narrow in pairs)
    assert half.classes == half.units[-1].out_channels == 50
    assert half.units[-1].in_channels == 512


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        (32, 0.25, 8),
        (32, 0.1, 8),
        (24, 0.35, 8),
        (96, 0.35, 32),
        (64, 0.75, 48),
        (320, 0.35, 112),
        (30, 1.0, 30),
    ],
)
def test_channels_are_rounded_as_in_the_mobilenet_family(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


@given(st.integers(1, 2048), st.floats(0.01, 4).filter(lambda width: width != 1))
def test_scaled_channels_are_multiples_of_eight_near_the_wish(channels: int, width: float) -> None:
    found = scaled(channels, width)
    assert found % 8 == 0
    assert found >= max(8, 0.9 * channels * width - 1e-9)
    assert found <= max(8, channels * width + 8)


def test_resolution_replaces_height_and_width() -> None:
    small = load_network("mobilenet-v1", resolution=96)
    assert small.input_shape == (3, 96, 96)
    assert small.cut_elements(26) == 3 * 3 * 1024
    assert small.total_weights == load_network("mobilenet-v1").total_weights


def test_an_image_can_have_any_height_and_width() -> None:
    wide = load_network("mobilenet-v1", resolution="32x48")
    assert wide.input_shape == (3, 32, 48)
    assert wide.cut_shape(0) == (32, 16, 24)
    assert wide.name == "mobilenet-v1@resolution=32x48"
    assert wide.title.endswith("; here resolution=32x48")
    assert load_network(wide.name) == wide


def test_a_square_is_written_as_one_number() -> None:
    square = load_network("mobilenet-v1", resolution="28x28")
    assert square == load_network("mobilenet-v1@resolution=28")
    assert square.name == "mobilenet-v1@resolution=28"


def test_channels_replace_those_of_the_input_alone() -> None:
    grey, colour = load_network("mobilenet-v1-0.25", channels=1), load_network("mobilenet-v1-0.25")
    assert grey.input_shape == (1, 128, 128)
    assert colour.total_weights - grey.total_weights == 8 * 3 * 3 * 2  # the first convolution's
    assert [unit.out_channels for unit in grey.units] == [unit.out_channels for unit in colour.units]
    assert load_network("har-cnn-1d", channels=3).input_shape == (3, 128)


def test_length_replaces_that_of_a_series() -> None:
    short = load_network("har-cnn-1d", length=64)
    assert short.input_shape == (6, 64)
    assert short.cut_shape(0) == (32, 32)
    assert short.name == "har-cnn-1d@length=64"


def test_changes_stand_in_the_name_in_one_order() -> None:
    written = load_network("mobilenet-v1-0.25@classes=10,channels=1,resolution=28")
    assert written.name == "mobilenet-v1-0.25@resolution=28,channels=1,classes=10"
    assert load_network(written.name) == written
    assert load_network("mobilenet-v1-0.25", channels=3, resolution="128x128").name == "mobilenet-v1-0.25"


def test_a_file_can_say_every_change(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    head = 'name = "own"\ntitle = "t"\nsource = "s"\nbase = "har-cnn-1d"\n'
    path.write_text(head + "length = 64\nchannels = 3\nclasses = 4\n", encoding="utf-8")
    own = load_network(path)
    assert (own.name, own.input_shape, own.classes) == ("own", (3, 64), 4)
    assert load_network(path, length=64, channels=6).name == "own@channels=6"
    path.write_text(head.replace("har-cnn-1d", "resnet8") + 'resolution = "32x40"\n', encoding="utf-8")
    assert load_network(path).input_shape == (3, 32, 40)


def test_classes_replace_the_outputs() -> None:
    assert load_network("mcunet-5fps", classes=3).units[-1].out_channels == 3


def test_a_variant_can_be_written_into_the_name() -> None:
    written = load_network("mobilenet-v1@width=0.5,resolution=96,classes=10")
    assert written == load_network("mobilenet-v1", classes=10, width=0.5, resolution=96)
    assert written.name == "mobilenet-v1@width=0.5,resolution=96,classes=10"
    assert written.title.endswith("; here width=0.5, resolution=96, classes=10")


def test_what_does_not_differ_leaves_the_name_alone() -> None:
    same = load_network("mobilenet-v1@width=1,resolution=128,classes=50")
    assert same == load_network("mobilenet-v1")
    assert load_network("mobilenet-v1-0.25-vww", resolution=96, classes=2).name == "mobilenet-v1-0.25-vww"


def test_a_file_can_be_a_variant_of_another() -> None:
    quarter = load_network("mobilenet-v1-0.25")
    assert quarter.content_hash == load_network("mobilenet-v1", width=0.25).content_hash
    assert load_network("mobilenet-v1-0.25-vww").input_shape == (3, 96, 96)


def test_widths_multiply_on_a_variant() -> None:
    eighth = load_network("mobilenet-v1-0.25", width=0.5)
    assert eighth.content_hash == load_network("mobilenet-v1", width=0.125).content_hash
    assert eighth.name == "mobilenet-v1-0.25@width=0.5"


def test_a_path_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(TINY, encoding="utf-8")
    assert load_network(path) == load_network(str(path))
    assert load_network(f"{path}@classes=7").units[-1].out_channels == 7


# --- identity ---

TINY = """
name = "tiny"
title = "a chain"
source = "own"
input = { channels = 3, height = 8, width = 8 }
classes = 4
legal_cuts = [0, 1]
layers = [
  { kind = "conv2d", name = "a", out_channels = 8, kernel = 3, stride = 2, then = ["relu"] },
  { kind = "global_avg_pool", name = "pool" },
  { kind = "linear", name = "c", out_features = "classes" },
]
"""


def hash_of(text: str, folder: Path) -> str:
    path = folder / "network.toml"
    path.write_text(text, encoding="utf-8")
    return load_network(path).content_hash


def test_the_content_hash_does_not_move() -> None:
    expected = "fd557890e7673c70fdee26f0b14d5b71153a3142beadc1467726ba237b9825af"
    assert load_network("mobilenet-v1").content_hash == expected
    expected = "69a28b093a9658c57217a1b7703516ceec891f29e51fa1831a6e822ea8c85573"
    assert load_network("har-cnn-1d").content_hash == expected


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("kernel = [3, 3], padding = [1, 1]", True),
        ("kernel = 3, padding = [[1, 1], 1]", True),
        ("kernel = 3, padding = 1, dilation = 1", True),
        ("kernel = 3, padding = 1, dilation = [1, 1]", True),
        ("kernel = 3, padding = [[0, 2], 1]", False),
        ("kernel = 3, padding = [1, [0, 2]]", False),
        ("kernel = 3, padding = [[2, 0], 1]", False),
        ("kernel = 3, padding = 2, dilation = 2", False),
    ],
)
def test_other_words_for_the_same_window_are_the_same_network(
    written: str, same: bool, tmp_path: Path
) -> None:
    """Each gives the same shapes; only what is computed tells them apart."""
    text = """
name = "one"
title = "t"
source = "s"
input = { channels = 2, height = 8, width = 8 }
classes = 3
legal_cuts = [0]
layers = [
  { kind = "conv2d", name = "a", out_channels = 4, WINDOW },
  { kind = "global_avg_pool", name = "gap" },
  { kind = "linear", name = "fc", out_features = "classes" },
]
"""
    plain = hash_of(text.replace("WINDOW", "kernel = 3, padding = 1"), tmp_path)
    assert (hash_of(text.replace("WINDOW", written), tmp_path) == plain) == same


def test_windows_are_told_apart_by_every_number(tmp_path: Path) -> None:
    found = {load_network(name).content_hash for name in (TCN, UNEVEN)}
    text = Path(TCN).read_text(encoding="utf-8")
    changes = {
        "padding = [[2, 1]]": "padding = [[1, 2]]",
        "dilation = 4, padding = [[8, 0]]": "padding = [[2, 0]]",
    }
    for old, new in changes.items():
        assert old in text
        found.add(hash_of(text.replace(old, new), tmp_path))
    assert len(found) == 4


def test_the_content_hash_is_the_same_in_another_process() -> None:
    code = "from dse.workload import load_network; assert load_network('resnet8').content_hash == '{}'"
    command = [sys.executable, "-c", code.format(load_network("resnet8").content_hash)]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(command, check=True, cwd=root, env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(root)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stride = 2", "stride = 1"),
        ("kernel = 3", "kernel = [3, 5]"),
        ("kernel = 3", "kernel = 3, bias = false"),
        ("kernel = 3", "kernel = 3, padding = 1"),
        ("out_channels = 8", "out_channels = 16"),
        ('"relu"', '"relu6"'),
        ("height = 8", "height = 9"),
        ("classes = 4", "classes = 5"),
        ("[0, 1]", "[1]"),
        ('then = ["relu"] },', 'then = ["relu"] },\n  { kind = "pointwise", name = "b", out_channels = 8 },'),
    ],
)
def test_the_content_hash_moves_with_the_structure(old: str, new: str, tmp_path: Path) -> None:
    assert old in TINY
    assert hash_of(TINY.replace(old, new), tmp_path) != hash_of(TINY, tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a chain", "another title"),
        ('"own"', '"a paper"'),
        ('name = "a"', 'name = "first"'),
        ("kernel = 3", "kernel = [3, 3]"),
        ("stride = 2", 'stride = [2, 2], inputs = ["input"]'),
    ],
)
def test_the_content_hash_ignores_names_and_spelling(old: str, new: str, tmp_path: Path) -> None:
    assert old in TINY
    assert hash_of(TINY.replace(old, new), tmp_path) == hash_of(TINY, tmp_path)


# --- refusals ---


def message(name: str, **changes: object) -> str:
    with pytest.raises(UserError) as refused:
        load_network(name, **changes)
    return str(refused.value)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown network 'mobilnet-v1'; did you mean 'mobilenet-v1'\?"):
        load_network("mobilnet-v1")


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf"), 17, "wide", True])
def test_impossible_widths(width: object) -> None:
    expected = f"resnet8: width: {width!r}; must be a number above 0, at most 16"
    assert message("resnet8", width=width) == expected


@pytest.mark.parametrize("value", [0, -3, 1.5, 65_537, "ten"])
def test_impossible_resolutions_and_classes(value: object) -> None:
    assert message("resnet8", resolution=value, classes=value, channels=value).splitlines() == [
        f"resnet8: resolution: {value!r}; {SIZE}",
        f"resnet8: channels: {value!r}; {WHOLE}",
        f"resnet8: classes: {value!r}; {WHOLE}",
    ]


@pytest.mark.parametrize(
    "text",
    ["32x", "x32", "0x32", "32x0", "-1x3", "3x4x5", "32X48", "3 x4", "65537x1", "1_0x2", "", True],
)
def test_impossible_sizes_of_an_image(text: object) -> None:
    assert message("resnet8", resolution=text) == f"resnet8: resolution: {text!r}; {SIZE}"


@pytest.mark.parametrize("length", [0, "64x64", 2.5])
def test_impossible_lengths(length: object) -> None:
    assert message("har-cnn-1d", length=length) == f"har-cnn-1d: length: {length!r}; {WHOLE}"


def test_every_problem_of_a_variant_is_reported() -> None:
    name = "resnet8@widht=1,classes=x,resolution=64,resolution=32"
    assert message(name).splitlines() == [
        f"{name}: widht: unknown change; did you mean 'width'? "
        "allowed: width, resolution, length, channels, classes",
        f"{name}: classes: 'x'; must be a whole number from 1 to 65536",
        f"{name}: resolution: given twice; say it once",
    ]


def test_a_change_in_the_name_and_in_the_arguments_is_refused() -> None:
    assert message("resnet8@classes=3", classes=4) == "resnet8@classes=3: classes: given twice; say it once"


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("har-cnn-1d", {"resolution": 20}, ["resolution: 20x20; the input 6x128 takes length and channels"]),
        ("ds-cnn", {"length": 20}, ["length: 20; the input 1x49x10 takes resolution and channels"]),
        (
            "autoencoder",
            {"channels": 2, "resolution": "3x4"},
            [
                "resolution: 3x4; the input 640 has a fixed number of features",
                "channels: 2; the input 640 has a fixed number of features",
            ],
        ),
    ],
)
def test_only_axes_that_the_input_has_can_change(
    name: str, changes: dict[str, object], expected: list[str]
) -> None:
    assert message(name, **changes).splitlines() == [f"{name}.toml: {line}" for line in expected]


def test_no_classes_where_nothing_is_classified() -> None:
    assert message("autoencoder", classes=3) == (
        "autoencoder.toml: classes: 3; this network does not classify"
    )


def test_a_resolution_that_the_network_cannot_take() -> None:
    expected = (
        "resnet8.toml: layers.pool: a kernel of 8 is larger than the padded input of 4; its input is 64x4x4"
    )
    assert message("resnet8", resolution=16) == expected


def test_importing_is_light() -> None:
    code = (
        "import sys, dse.workload; assert not {'pandas', 'torch', 'optuna', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
