"""What is wrong with a network file, by the whole text of the message."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.workload import LAYER_KINDS, load_network
from dse.workload.entries import SIMPLE_KINDS
from tests.workload.network_files import GOOD, SIZE, WHOLE, problems

INPUT = "{ channels, height, width } or { channels, length } or { features }"
TOP = "name, title, source, input, classes, outputs, legal_cuts, weights, weights_sha256, layers"
KINDS = ", ".join(LAYER_KINDS)
SIMPLE = ", ".join(SIMPLE_KINDS)


def test_the_good_file_is_good(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(GOOD, encoding="utf-8")
    assert load_network(tmp_path / "good.toml").legal_cuts == (0, 1, 2)


NETWORK_MISTAKES = {
    "no source": (
        'source = "own"\n',
        "",
        "source: missing; say where the topology is published (or that it is your own)",
    ),
    "empty source": ('"own"', '" "', "source: ' '; must be a text that is not empty"),
    "no name": ('name = "good"\n', "", "name: missing; a network has a short name"),
    "no title": ('title = "a chain"\n', "", "title: missing; one line for people"),
    "unknown key": (
        'title = "a chain"',
        'title = "a chain"\ntitel = 1',
        f"titel: unknown key; did you mean 'title'? allowed: {TOP}",
    ),
    "no input": (
        "input = { channels = 3, height = 8, width = 8 }\n",
        "",
        f"input: missing; a table: {INPUT}",
    ),
    "input of other keys": (
        "channels = 3, height = 8, width = 8",
        "channels = 3, height = 8",
        f"input: keys channels, height; must be a table: {INPUT}",
    ),
    "input is a list": (
        "{ channels = 3, height = 8, width = 8 }",
        "[3, 8, 8]",
        f"input: [3, 8, 8]; must be a table: {INPUT}",
    ),
    "negative size": ("height = 8", "height = -8", f"input.height: -8; {WHOLE}"),
    "no classes": (
        "classes = 4\n",
        "",
        "classes: missing; give classes, or outputs for a network that does not classify",
    ),
    "classes and outputs": (
        "classes = 4",
        "classes = 4\noutputs = 4",
        "classes: both; give classes, or outputs for a network that does not classify",
    ),
    "zero classes": ("classes = 4", "classes = 0", f"classes: 0; {WHOLE}"),
    "fractional classes": ("classes = 4", "classes = 4.0", f"classes: 4.0; {WHOLE}"),
    "true is no number": ("classes = 4", "classes = true", f"classes: True; {WHOLE}"),
    "no cuts": (
        "legal_cuts = [0, 1, 2]\n",
        "",
        "legal_cuts: missing; list the units at which the network may be cut, such as [0, 1, 4]",
    ),
    "cuts as a word": ("[0, 1, 2]", '"all"', "legal_cuts: 'all'; must be a list of whole numbers"),
    "empty cuts": (
        "[0, 1, 2]",
        "[]",
        "legal_cuts: an empty list; a single tensor crosses at units 0, 1, 2",
    ),
    "cut without unit": (
        "[0, 1, 2]",
        "[0, 7]",
        "legal_cuts: no unit 7, the units are 0 to 2; a single tensor crosses at units 0, 1, 2",
    ),
    "cut twice": ("[0, 1, 2]", "[0, 1, 1]", "legal_cuts: 1 stands 2 times; once is enough"),
    "output of another size": (
        '"classes"',
        "5",
        "layers: the last layer, c, gives 5; the file promises a vector of 4",
    ),
    "wrong word for the output": (
        '"classes"',
        '"clases"',
        "layers.c.out_features: unknown size 'clases'; did you mean 'classes'? allowed: classes",
    ),
}

LAYER_MISTAKES = {
    "unknown kind": (
        '"pointwise"',
        '"pointwize"',
        f"layers.b.kind: unknown layer kind 'pointwize'; did you mean 'pointwise'? allowed: {KINDS}",
    ),
    "no kind": (
        'kind = "pointwise", ',
        "",
        "layers.b.kind: missing; every layer has a kind and a name",
    ),
    "no name": ('name = "b", ', "", "layers[1].name: missing; every layer has a kind and a name"),
    "unknown key": (
        "kernel = 3",
        "kernel = 3, strides = 2",
        "layers.a.strides: unknown key; did you mean 'stride'? allowed: kind, name, inputs, then, "
        "kernel, stride, padding, dilation, out_channels, groups, bias",
    ),
    "missing key": ("kernel = 3, ", "", "layers.a.kernel: missing; conv2d needs it"),
    "negative channels": (
        'name = "b", out_channels = 8',
        'name = "b", out_channels = -8',
        f"layers.b.out_channels: -8; {WHOLE}",
    ),
    "too many channels": (
        'name = "b", out_channels = 8',
        'name = "b", out_channels = 65537',
        f"layers.b.out_channels: 65537; {WHOLE}",
    ),
    "three kernel sizes": (
        "kernel = 3",
        "kernel = [3, 3, 3]",
        "layers.a.kernel: [3, 3, 3]; must be one number or 2 of them",
    ),
    "negative padding": (
        "kernel = 3",
        "kernel = 3, padding = -1",
        "layers.a.padding: -1; must be a whole number from 0 to 65536",
    ),
    "unknown padding": (
        "kernel = 3",
        'kernel = 3, padding = "full"',
        "layers.a.padding: 'full'; must be \"same\" or whole numbers from 0",
    ),
    "three ends": (
        "kernel = 3",
        "kernel = 3, padding = [[1, 0, 2], 1]",
        "layers.a.padding: [1, 0, 2]; must be a number, or [before, after]",
    ),
    "a negative end": (
        "kernel = 3",
        "kernel = 3, padding = [1, [0, -1]]",
        "layers.a.padding: -1; must be a whole number from 0 to 65536",
    ),
    "one pair for two axes": (
        "kernel = 3",
        "kernel = 3, padding = [[1, 0]]",
        "layers.a.padding: [[1, 0]]; must be one number, or a list of 2: a number or [before, after] for "
        "each axis",
    ),
    "a text as an end": (
        "kernel = 3",
        'kernel = 3, padding = [["same", 0], 1]',
        "layers.a.padding: 'same'; must be a whole number from 0 to 65536",
    ),
    "dilation of nothing": ("kernel = 3", "kernel = 3, dilation = 0", f"layers.a.dilation: 0; {WHOLE}"),
    "three dilations": (
        "kernel = 3",
        "kernel = 3, dilation = [1, 2, 1]",
        "layers.a.dilation: [1, 2, 1]; must be one number or 2 of them",
    ),
    "a dilated kernel larger than the padded input": (
        "kernel = 3",
        "kernel = 3, dilation = 5, padding = [[1, 0], 2]",
        "layers.a: a kernel of 3 and dilation 5, 11 wide, is larger than the padded input of 9; its input is "
        "3x8x8",
    ),
    "bias as a number": ("kernel = 3", "kernel = 3, bias = 1", "layers.a.bias: 1; must be true or false"),
    "unknown follower": (
        '"relu"]',
        '"rellu"]',
        f"layers.a.then: unknown kind for 'then' 'rellu'; did you mean 'relu'? allowed: {SIMPLE}",
    ),
    "follower with keys": (
        '"relu"]',
        '"conv2d"]',
        f"layers.a.then: unknown kind for 'then' 'conv2d'; allowed: {SIMPLE}",
    ),
    "inputs as a text": (
        'name = "b"',
        'name = "b", inputs = "a"',
        "layers.b.inputs: 'a'; must be a list of names",
    ),
    "dangling input": (
        'name = "pool"',
        'name = "pool", inputs = ["bb"]',
        "layers.pool.inputs: unknown layer 'bb'; did you mean 'b'? allowed: input or the name of a layer",
    ),
    "duplicate name": (
        'name = "b"',
        'name = "a"',
        "layers.a.name: the name 'a' is taken; each name is used once",
    ),
    "duplicate follower": (
        '"relu"]',
        '"relu", "relu"]',
        "layers.a.name: the name 'a.relu' is taken; each name is used once",
    ),
    "the input's name": (
        'name = "b"',
        'name = "input"',
        "layers.input.name: the name 'input' is taken; it means the network input",
    ),
    "layer is a text": (
        '{ kind = "pointwise", name = "b", out_channels = 8 }',
        '"pointwise"',
        "layers[1]: 'pointwise'; must be a table with kind and name",
    ),
    "one input for two": (
        '{ kind = "pointwise", name = "b", out_channels = 8 }',
        '{ kind = "add", name = "b" }',
        "layers.b.inputs: ['a.relu']; add reads two or more different ones",
    ),
    "the same input twice": (
        '{ kind = "pointwise", name = "b", out_channels = 8 }',
        '{ kind = "add", name = "b", inputs = ["a", "a"] }',
        "layers.b.inputs: ['a.relu', 'a.relu']; add reads two or more different ones",
    ),
    "two inputs for one": (
        'name = "pool"',
        'name = "pool", inputs = ["a", "b"]',
        "layers.pool.inputs: ['a.relu', 'b']; global_avg_pool reads exactly one",
    ),
    "kernel larger than the padded input": (
        "kernel = 3",
        "kernel = 11, padding = 1",
        "layers.a: a kernel of 11 is larger than the padded input of 10; its input is 3x8x8",
    ),
    "linear on positions": (
        '  { kind = "global_avg_pool", name = "pool" },\n',
        "",
        "layers.c: linear reads a vector, found 8x8x8; pool or flatten it first; its input is 8x8x8",
    ),
    "norm behind an activation": (
        '["batch_norm", "relu"]',
        '["relu", "batch_norm"]',
        "layers.a.inputs: reads a.relu; batch_norm follows a conv or linear directly, as its only reader",
    ),
    "dead end": (
        'name = "pool"',
        'name = "pool", inputs = ["a"]',
        "layers: 2 outputs: b, c; a network has one output",
    ),
    "a layer too large": (
        "kernel = 3",
        "kernel = 65536, groups = 1, stride = 1, padding = 65536",
        "layers.a: 442843463308384665600 elements, weights or MACs; one layer has fewer than 1099511627776",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), NETWORK_MISTAKES.values(), ids=NETWORK_MISTAKES)
def test_mistakes_of_the_network(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    assert problems(GOOD.replace(old, new, 1), tmp_path) == [message]


@pytest.mark.parametrize(("old", "new", "message"), LAYER_MISTAKES.values(), ids=LAYER_MISTAKES)
def test_mistakes_of_a_layer(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    assert problems(GOOD.replace(old, new, 1), tmp_path) == [message]


def test_all_mistakes_of_a_window_come_at_once(tmp_path: Path) -> None:
    wrong = 'kernel = 3, padding = [[1, "a"], 0], dilation = -2, stride = 0'
    assert problems(GOOD.replace("kernel = 3", wrong, 1), tmp_path) == [
        f"layers.a.stride: 0; {WHOLE}",
        "layers.a.padding: 'a'; must be a whole number from 0 to 65536",
        f"layers.a.dilation: -2; {WHOLE}",
    ]


# --- files that are variants ---

BASED = 'name = "v"\ntitle = "t"\nsource = "s"\nbase = "mobilenet-v1"\nwidth = 0.5\n'


ALLOWED = "name, title, source, base, width, resolution, length, channels, classes, legal_cuts"
UNITS = ", ".join(map(str, range(28)))
VARIANT_MISTAKES = {
    "no source": (
        'source = "s"\n',
        "",
        ["source: missing; say where the topology is published (or that it is your own)"],
    ),
    "no width": ("width = 0.5", "width = 0", ["width: 0; must be a number above 0, at most 16"]),
    "two": (
        "width = 0.5",
        "classes = -1\nresolution = 1.5",
        [f"resolution: 1.5; {SIZE}", f"classes: -1; {WHOLE}"],
    ),
    "layers beside a base": ("width = 0.5", "layers = []", [f"layers: unknown key; allowed: {ALLOWED}"]),
    "variant of a variant": (
        '"mobilenet-v1"',
        '"mobilenet-v1-0.25"',
        ["base: mobilenet-v1-0.25 is a variant itself; name what it is made of, mobilenet-v1"],
    ),
    "cut without unit": (
        "width = 0.5",
        "legal_cuts = [3, 28]",
        [f"legal_cuts: no unit 28, the units are 0 to 27; a single tensor crosses at units {UNITS}"],
    ),
}


@pytest.mark.parametrize(("old", "new", "messages"), VARIANT_MISTAKES.values(), ids=VARIANT_MISTAKES)
def test_mistakes_of_a_variant(old: str, new: str, messages: list[str], tmp_path: Path) -> None:
    assert old in BASED
    assert problems(BASED.replace(old, new), tmp_path) == messages


def test_an_unknown_base_suggests_the_nearest(tmp_path: Path) -> None:
    (message,) = problems(BASED.replace('"mobilenet-v1"', '"mobilnet-v1"'), tmp_path)
    assert message.startswith("base: unknown network 'mobilnet-v1'; did you mean 'mobilenet-v1'? allowed: ")


def test_a_variant_may_offer_fewer_cuts(tmp_path: Path) -> None:
    path = tmp_path / "v.toml"
    path.write_text(BASED + "legal_cuts = [27]\n", encoding="utf-8")
    assert load_network(path).legal_cuts == (27,)
