"""``dse model show`` on a terminal of 80 columns: everything in the file, and what of it can be planned."""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dse.cli import run
from dse.report.columns import columns, fitted, paragraph, shortened
from dse.workload import list_networks, load_network
from dse.workload.model import load as loading
from dse.workload.model.graph import Constant, Model, ModelInput, Node, Quantisation

Command = Callable[..., tuple[int, str, str]]
WIDE = "モデル/第一層/畳み込み/" * 5
LONG = "features.stage_1.block_0.expanded.convolution.kernel." * 3


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def constant(name: str, *shape: int, bits: int = 32) -> Constant:
    values = np.ones(shape, np.float32)
    if bits == 32:
        return Constant(name, shape, "float32", values.nbytes, values)
    scales = Quantisation(bits, True, np.full(shape[0], 0.1), np.zeros(shape[0], np.int64), 0)
    return Constant(name, shape, f"int{bits}", values.size * bits // 8, values, scales)


CONV = {"kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "pads": ((1, 1), (1, 1)), "groups": 1}


def conv(name: str, reads: str, channels: int, bits: int = 32) -> Node:
    weight = constant(f"{name}.w", 4, channels, 3, 3, bits=bits)
    return Node(name, "conv", (reads,), (4, 8, 8), "Conv", CONV, {"weight": weight}, channel_axis=0)


def model(*nodes: Node, faults: tuple[str, ...] = (), notes: tuple[str, ...] = ()) -> Model:
    image = ModelInput("image", (2, 8, 8), channel_axis=0)
    return Model("g", "own.onnx", "ONNX", "a test", (image,), nodes, (nodes[-1].name,), 5_000, notes, faults)


def planned(first: str = "first", bits: int = 8) -> tuple[Node, ...]:
    return (
        conv(first, "input:image", 2, bits),
        Node("act", "relu", (first,), (4, 8, 8), "Relu"),
        Node("pool", "global_avg_pool", ("act",), (4, 1, 1), "Pool", {"input_channel_axis": 0}),
        Node("flat", "reshape", ("pool",), (4,), "Flatten"),
        Node("scores", "linear", ("flat",), (3,), "Gemm", {}, {"weight": constant("v", 3, 4)},
             channel_axis=0),
    )  # fmt: skip


def reads(monkeypatch: pytest.MonkeyPatch, found: Model) -> None:
    def read(path: Path, axes: Mapping[str, int]) -> Model:
        return replace(found, file=str(path))

    monkeypatch.setitem(loading._READERS, "onnx", read)  # type: ignore[arg-type]


def columns_by_hand(line: str) -> int:
    """Columns of a line in a terminal, counted without the program."""
    return sum(2 if unicodedata.east_asian_width(sign) in ("W", "F") else 1 for sign in line)


def require_narrow(text: str) -> None:
    assert max(map(columns_by_hand, text.splitlines())) <= 80


def flat(text: str) -> str:
    """Return ``text`` on one line: where it is broken does not matter."""
    return " ".join(text.split())


# --- what is shown ---


def test_a_model_that_can_be_planned(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    reads(monkeypatch, model(*planned(), notes=("two dropouts are left out",)))
    code, out, _ = command("model", "show", "own.onnx")
    assert code == 0
    require_narrow(out)
    macs = 4 * 2 * 9 * 64 + 3 * 4
    for text in (
        "own.onnx, 5000 B",
        "ONNX, producer: a test",
        "input image 2x8x8",
        "output scores 3",
        "network own, 3 outputs",
        f"{macs:,} of one sample, forward",
        "84 parameters: 120 B as stored, 336 B in fp32, 84 B in int8",
        "1 tensor of float32, 1 tensor of int8 per channel",
        "two dropouts are left out",
        "units 2, from first to scores",
        "cuts learning may start above input, 0, 1",
    ):
        assert text in flat(out), text
    first = next(line for line in out.splitlines() if line.startswith("first"))
    assert first.split() == ["first", "conv", "4x8x8", "4.61", "k", "99.7%", "72", "B", "8/32"]
    assert "not known" not in out
    assert "forward only" not in out
    assert "cannot be planned" not in out


def test_what_cannot_be_planned_is_named_with_its_share(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = (
        conv("first", "input:image", 2),
        Node("odd", "unknown", ("first",), (4, 8, 8), "com.me::Fancy"),
        Node("odd2", "unknown", ("odd",), None, "com.me::Fancy"),
    )
    reads(monkeypatch, model(*nodes, faults=("odd2: its shape is not known",)))
    code, out, _ = command("model", "show", "own.onnx")
    assert code == 0
    require_narrow(out)
    assert "com.me::Fancy, 2 times: MACs unknown" in flat(out)
    assert "those of 2 operations that are not known" in flat(out)
    assert "faults, which keep it from being planned - odd2: its shape is not known" in flat(out)
    assert "units" not in out


def test_forward_only_operations_have_their_share(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        'name = "a"\ntitle = "t"\nsource = "s"\ninput = { channels = 3, length = 16 }\nclasses = 4\n'
        'legal_cuts = [1]\nlayers = [{ kind = "forward_only", name = "gates", operation = "lstm", '
        'shape = [8], forward_macs = 900, weights = 352 }, { kind = "linear", name = "a", '
        'out_features = 8, then = ["relu"] }, '
        '{ kind = "linear", name = "scores", out_features = "classes" }]\n',
        encoding="utf-8",
    )
    code, out, _ = command("model", "show", "a.toml")
    assert code == 0
    assert f"lstm: {900 / (900 + 64 + 32):.1%} of the MACs" in flat(out)
    assert "forward only: not trained" in out


@pytest.mark.parametrize("name", [WIDE, LONG, "a" * 300, "x y " * 60])
def test_no_line_is_wider_than_the_terminal(
    command: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    nodes = planned(name)
    faults = (f"{name}: {name}", "word " * 60)
    found = model(*nodes, faults=faults, notes=(name,))
    huge = replace(found.nodes[2], name="huge", operation="unknown", source_operation=name,
                   shape=(1024, 1024, 1024, 16), inputs=(name,))  # fmt: skip
    reads(monkeypatch, replace(found, nodes=(*found.nodes, huge), producer=name))
    code, out, _ = command("model", "show", "own.onnx")
    assert code == 0
    require_narrow(out)
    assert "…" in out


def test_names_do_not_control_the_terminal(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        'name = "a\\u001b[2J"\ntitle = "t\\u001b[2J"\nsource = "s\\u0007"\ninput = { features = 3 }\n'
        "classes = 4\nlegal_cuts = [0]\n"
        'layers = [{ kind = "linear", name = "\\u001b[2J", out_features = "classes" }]\n',
        encoding="utf-8",
    )
    code, out, _ = command("model", "show", "a.toml")
    assert code == 0
    assert not [sign for sign in out if unicodedata.category(sign)[0] == "C" and sign != "\n"]
    assert "_[2J  linear" in out


@pytest.mark.parametrize("name", list_networks())
def test_networks_of_the_program_are_shown_too(command: Command, name: str) -> None:
    code, out, _ = command("model", "show", name)
    network = load_network(name)
    assert code == 0
    require_narrow(out)
    assert f"{network.total_macs:,} of one sample" in flat(out)
    rows = [line for line in out.splitlines() if line.startswith(network.units[0].name)]
    assert len(rows) >= 1
    assert f"units {len(network.units)}, from {network.units[0].name}" in flat(out)


def test_long_tables_are_whole_unless_brief(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [conv("c0", "input:image", 2)]
    nodes += [conv(f"c{n}", f"c{n - 1}", 4) for n in range(1, 40)]
    nodes += [Node(f"r{n}", "relu", (f"r{n - 1}" if n else "c39",), (4, 8, 8), "Relu") for n in range(40)]
    reads(monkeypatch, model(*nodes))
    _, whole, _ = command("model", "show", "own.onnx")
    _, brief, _ = command("model", "show", "own.onnx", "--brief")
    assert all(f"\nr{n} " in whole for n in range(40))
    assert all(f"\nc{n} " in brief for n in range(40))
    assert sum(f"\nr{n} " in brief for n in range(40)) == 20
    assert "(20 smaller operations left out)" in brief
    require_narrow(brief)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "tflite", "torch"])
def test_a_model_of_5_mb_is_shown_within_two_seconds(form: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", exc_type=ImportError)
    from tests.workload.round_trip import FORMATS, lively

    ending, write = FORMATS[form]
    network = load_network("mobilenet-v1@width=0.625")
    path = tmp_path / f"large{ending}"
    path.write_bytes(write(network, lively(network)))
    assert path.stat().st_size > 5_000_000
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = subprocess.run(
            [sys.executable, "-m", "dse.cli", "model", "show", str(path)], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        require_narrow(shown.stdout.decode())
    assert min(taken) < 2


# --- options and files ---


def test_a_network_is_saved_and_loads_again(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reads(monkeypatch, model(*planned()))
    code, out, _ = command("model", "show", "own.onnx", "--classes", "5", "--save", "out")
    assert code == 0
    assert out.endswith(f"saved as {Path('out') / 'own-classes-5.toml'}\n")
    found = load_network(tmp_path / "out" / "own-classes-5.toml")
    assert found.classes == 5
    assert set(found.numbers) == {"first.weight"}
    assert (tmp_path / "out" / "own-classes-5.npz").is_file()


def test_operations_as_a_table(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reads(monkeypatch, model(*planned()))
    assert command("model", "show", "own.onnx", "--csv", "rows.csv")[0] == 0
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in rows] == ["first", "act", "pool", "flat", "scores"]
    assert rows[0]["macs"] == str(4 * 2 * 9 * 64)
    assert (rows[0]["shape"], rows[0]["weight_bits"], rows[0]["parameter_bytes"]) == ("4x8x8", "8", "72")


def test_axes_reach_the_reader(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mapping[str, int]] = []

    def read(path: Path, axes: Mapping[str, int]) -> Model:
        asked.append(axes)
        return model(*planned())

    monkeypatch.setitem(loading._READERS, "onnx", read)  # type: ignore[arg-type]
    code, _, _ = command("model", "show", "own.onnx@axis.B=2", "--axis", "T=100", "--axis", "a=b=3")
    assert code == 0
    assert asked == [{"B": 2, "T": 100, "a=b": 3}]


MISTAKES = {
    "no file": (("missing.tflite",), "missing.tflite: cannot be read: No such file"),
    "code": (("net.pth",), "net.pth: it may hold a pickle"),
    "axis": (("own.onnx", "--axis", "T"), "option: axis: 'T'; NAME=N, such as T=100"),
    "batch norm": (("own.onnx", "--batch-norm", "drop"), "batch_norm: unknown way with batch norms 'drop'"),
    "a name": (("resnet9",), "unknown network 'resnet9'; did you mean 'resnet8'"),
    "not a model's": (("resnet8", "--output", "x"), "resnet8: output: unknown change"),
    "twice": (("own.onnx@classes=3", "--classes", "4"), "own.onnx: classes: given twice; say it once"),
}


@pytest.mark.parametrize(("arguments", "text"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_each(command: Command, arguments: tuple[str, ...], text: str) -> None:
    code, out, err = command("model", "show", *arguments)
    assert (code, out) == (2, "")
    assert text in err
    assert "Traceback" not in err


def test_what_cannot_be_planned_cannot_be_saved(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reads(monkeypatch, model(Node("odd", "unknown", ("input:image",), None, "Odd")))
    code, _, err = command("model", "show", "own.onnx", "--save", "out")
    assert code == 2
    assert "own.onnx" in err
    assert not list(tmp_path.glob("out/*"))


# --- columns ---


def test_columns_are_those_of_a_terminal() -> None:
    assert columns("abc") == 3
    assert columns("層a") == 3
    assert columns("e\u0301") == 1
    assert shortened("abcdefgh", 5) == "ab…gh"
    assert columns(shortened("層" * 10, 7)) <= 7
    assert shortened("abc", 3) == "abc"


def test_paragraphs_hang_and_break_long_words() -> None:
    assert paragraph("aa bb cc", first="- ", rest="  ", width=7) == "- aa bb\n  cc"
    assert paragraph("a" * 12, first="- ", rest="  ", width=7) == "- aaaaa\n  aaaaa\n  aa"


def test_tables_shrink_what_may_shrink() -> None:
    text = fitted(["name", "n"], [["abcdefghij", "123"]], right=[False, True], least=[4, 0], width=10)
    assert text == "name     n\nab…ij  123"
