"""Model files wherever a network is taken: which are read, with which options, under which names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dse
from dse.errors import UnknownName, UserError
from dse.report.inputs import load_run
from dse.workload import load_network
from dse.workload.model import load as loading
from dse.workload.model.graph import Constant, Model, ModelInput, Node
from dse.workload.names import MODEL_SUFFIXES, REFUSED, changes_of, split_name
from dse.workload.parameters import layers_without_numbers


def constant(name: str, *shape: int) -> Constant:
    values = (np.random.default_rng([*name.encode()]).random(shape) + 0.5).astype(np.float32)
    return Constant(name, shape, "float32", values.nbytes, values)


CONV = {
    "kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "pads": ((1, 1), (1, 1)), "groups": 1,
}  # fmt: skip
NORM = {part: constant(part, 4) for part in ("gamma", "beta", "mean", "variance")}
SHAPE = (4, 6, 6)


def small(file: str) -> Model:
    """Return a model of one convolution with batch norm, and a linear layer with three outputs."""
    nodes = (
        Node("conv", "conv", ("input:image",), SHAPE, "Conv", CONV, {"weight": constant("w", 4, 2, 3, 3)},
             channel_axis=0),
        Node("bn", "batch_norm", ("conv",), SHAPE, "BatchNormalization", {"epsilon": 1e-5}, NORM,
             channel_axis=0),
        Node("act", "relu", ("bn",), SHAPE, "Relu"),
        Node("pool", "global_avg_pool", ("act",), (4, 1, 1), "GlobalAveragePool",
             {"input_channel_axis": 0}),
        Node("flat", "reshape", ("pool",), (4,), "Flatten"),
        Node("scores", "linear", ("flat",), (3,), "Gemm", {},
             {"weight": constant("v", 3, 4), "bias": constant("b", 3)}, channel_axis=0),
    )  # fmt: skip
    image = ModelInput("image", (2, 6, 6), channel_axis=0)
    return Model("graph", file, "ONNX", "a test", (image,), nodes, ("scores",), 1000)


Asked = list[tuple[Path, Mapping[str, int]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Read every model file as the small model; notes what was asked for."""
    found: Asked = []

    def read(path: Path, axes: Mapping[str, int]) -> Model:
        found.append((path, axes))
        return small(str(path))

    for name in set(MODEL_SUFFIXES.values()):
        monkeypatch.setitem(loading._READERS, name, read)  # type: ignore[arg-type]
    return found


# --- what is read ---


@pytest.mark.parametrize("ending", [*MODEL_SUFFIXES, ".ONNX"])
def test_a_model_file_is_a_network(ending: str, asked: Asked) -> None:
    network = load_network(f"some/own{ending}")
    assert asked == [(Path(f"some/own{ending}"), {})]
    assert (network.name, network.input_shape, network.classes) == ("own", (2, 6, 6), 3)
    assert network.total_macs == 6 * 6 * 4 * 2 * 9 + 4 * 3
    assert network.weights == f"some/own{ending}"
    assert set(network.numbers) >= {"conv.weight", "scores.weight", "scores.bias"}
    assert layers_without_numbers(network) == ()


def test_a_path_may_be_a_path(asked: Asked) -> None:
    assert load_network(Path("own.onnx")) == load_network("own.onnx")


@pytest.mark.parametrize("ending", REFUSED)
def test_what_may_hold_code_is_refused_with_a_way_out(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(UserError) as refused:
        load_network(path)
    (problem,) = refused.value.problems
    assert problem.file == str(path)
    assert problem.found.endswith(("not read", "without the layers"))
    assert any(word in problem.allowed for word in (".tflite", ".onnx", ".toml"))


@pytest.mark.parametrize("ending", [".pt", ".pth", ".pkl", ".h5", ".keras", ".pb"])
def test_the_usual_endings_are_known(ending: str) -> None:
    assert ending in REFUSED
    if ending in (".pt", ".pth", ".pkl"):
        assert "pickle" in REFUSED[ending][0]


@pytest.mark.parametrize(
    ("ending", "package", "extra"),
    [(".onnx", "onnx", "onnx"), (".tflite", "tflite", "tflite"), (".lite", "flatbuffers", "tflite")],
)
def test_a_missing_package_says_what_to_install(
    ending: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, axes: Mapping[str, int]) -> Model:
        import_module(package)
        raise AssertionError("it is installed")

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(loading._READERS, MODEL_SUFFIXES[ending], read)  # type: ignore[arg-type]
    with pytest.raises(UserError) as refused:
        load_network(f"m{ending}")
    assert f"takes the package {package}, which is not installed" in str(refused.value)
    assert f"pip install 'tinyml-dse[{extra}]'" in str(refused.value)


def test_another_missing_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, axes: Mapping[str, int]) -> Model:
        raise ModuleNotFoundError("no such thing", name="json.nowhere")

    monkeypatch.setitem(loading._READERS, "onnx", read)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError):
        load_network("a.onnx")


# --- options ---


def test_names_are_split_at_the_last_sign_that_begins_options() -> None:
    assert split_name("a@b/own.onnx@axis.T=100,classes=3") == ("a@b/own.onnx", "axis.T=100,classes=3")
    assert split_name("me@host/own.onnx") == ("me@host/own.onnx", "")
    assert changes_of("output=a/b:0, axis.seq len=7") == [("output", "a/b:0"), ("axis.seq len", "7")]


def test_options_stand_in_the_name_where_they_differ(asked: Asked) -> None:
    assert load_network("own.onnx@classes=3,batch_norm=keep,output=scores").name == "own"
    found = load_network("own.onnx@classes=5,batch_norm=fold,axis.T=100,axis.B=1")
    assert found.name == "own@classes=5,batch_norm=fold,axis.B=1,axis.T=100"
    assert asked[-1][1] == {"T": 100, "B": 1}
    same = load_network("own.onnx", classes=5, batch_norm="fold", axes={"T": 100, "B": 1})
    assert same == found


def test_another_number_of_classes_is_a_new_head(asked: Asked) -> None:
    network = load_network("own.onnx", classes=7)
    assert network.classes == network.units[-1].out_channels == 7
    assert layers_without_numbers(network) == ("scores",)
    assert load_network("own.onnx@classes=3").numbers == load_network("own.onnx").numbers


def test_batch_norms_are_kept_or_folded(asked: Asked) -> None:
    kept, folded = load_network("own.onnx"), load_network("own.onnx@batch_norm=fold")
    assert [layer.kind for layer in kept.layers].count("batch_norm") == 1
    assert [layer.kind for layer in folded.layers].count("batch_norm") == 0
    assert kept.total_macs == folded.total_macs
    scale = NORM["gamma"].values / np.sqrt(NORM["variance"].values + 1e-5)  # type: ignore[operator]
    expected = kept.numbers["conv.weight"] * scale[:, None, None, None]
    np.testing.assert_allclose(folded.numbers["conv.weight"], expected, rtol=1e-6)


def test_an_inner_tensor_can_be_the_result(asked: Asked) -> None:
    network = load_network("own.onnx@output=flat")
    assert (network.classes, network.name) == (4, "own@output=flat")
    assert len(network.units) == 1


@pytest.mark.parametrize("change", ["width=0.5", "resolution=32", "length=10", "channels=1"])
def test_sizes_are_fixed(change: str, asked: Asked) -> None:
    with pytest.raises(UserError, match=r"a model file has fixed sizes: .*axis\.NAME=N"):
        load_network(f"own.onnx@{change}")
    assert asked == []


def test_all_wrong_options_at_once(asked: Asked) -> None:
    text = "own.onnx@classes=many,batch_norm=drop,axis.=3,axis.T=0,colour=2,classes=3"
    with pytest.raises(UserError) as refused:
        load_network(text)
    assert [problem.key for problem in refused.value.problems] == [
        "classes", "batch_norm", "axis.", "axis.T", "colour", "classes",
    ]  # fmt: skip
    assert "did you mean" in refused.value.problems[1].allowed or "keep" in refused.value.problems[1].allowed
    assert asked == []


@pytest.mark.parametrize("option", [{"batch_norm": "fold"}, {"output": "x"}, {"axes": {"T": 1}}])
def test_networks_of_the_program_have_no_such_options(option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"unknown change; .*width, resolution"):
        load_network("resnet8", **option)


@pytest.mark.parametrize("found", [3, None, object(), ["resnet8"], {"name": "resnet8"}])
def test_other_objects_are_no_networks(found: Any) -> None:
    with pytest.raises(UserError, match=r"a \w+; a name, a path, or a torch.nn.Module"):
        load_network(found)


def test_unknown_names_are_still_unknown() -> None:
    with pytest.raises(UnknownName, match="did you mean 'resnet8'"):
        load_network("resnet9")
    with pytest.raises(UserError, match=r"input_shape: .* for a module alone"):
        load_network("resnet8", input_shape=(3, 32, 32))


# --- modules ---


def test_a_module_needs_the_shape_of_a_sample() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(4, 2)
    with pytest.raises(UserError, match="Linear: input_shape: missing; of one sample"):
        load_network(module)
    for shape in ((), (0, 3), (2.5,), ("3",)):
        with pytest.raises(UserError, match=r"input_shape: .*sizes of one sample"):
            load_network(module, input_shape=shape)
    with pytest.raises(UserError, match="fixed sizes"):
        load_network(module, input_shape=(4,), width=0.5)


# --- spaces, and what runs keep ---

SPACE = """\
boards = ["stm32l4r5"]
objectives = ["ram_peak_bytes", "event_j"]
accuracy = "none"
[choices]
cut = ["last"]
n_replays = [10]
"""


def space(folder: Path, networks: str) -> Path:
    path = folder / "space.toml"
    path.write_text(f"networks = {networks}\n{SPACE}", encoding="utf-8")
    return path


def test_model_files_beside_a_space(tmp_path: Path, asked: Asked) -> None:
    (tmp_path / "own.onnx").write_bytes(b"")
    networks = '["own.onnx@classes=5", { name = "own.onnx", batch_norm = "fold", axes = { T = 9 } }]'
    found = dse.load_space(space(tmp_path, networks))
    assert [path for path, _ in asked] == [tmp_path / "own.onnx"] * 2
    assert found.network_names == ("own.onnx@classes=5", "own.onnx@batch_norm=fold,axis.T=9")
    assert [network.classes for network in found.networks] == [5, 3]


def test_mistakes_are_those_of_the_space(tmp_path: Path, asked: Asked) -> None:
    path = space(tmp_path, '[{ name = "own.onnx", width = 0.5, axes = 3 }, { name = "own.onnx", width = 2 }]')
    with pytest.raises(UserError) as refused:
        dse.load_space(path)
    assert [(problem.file, problem.key) for problem in refused.value.problems] == [
        (str(path), "networks[0].axes"), (str(path), "networks[1].width"),
    ]  # fmt: skip


def test_a_run_keeps_the_network_and_needs_no_file_any_more(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.onnx").write_bytes(b"")
    found = dse.load_space(space(tmp_path, '["own.onnx@classes=5", "resnet8"]'))
    folder = dse.write_run(dse.explore(found), tmp_path / "runs", designs="none")
    inputs = folder / "inputs"
    assert {path.name for path in inputs.iterdir()} == {
        "space.json", "own-classes-5.toml", "own-classes-5.npz",
    }  # fmt: skip
    assert str(tmp_path) not in (inputs / "space.json").read_text(encoding="utf-8")
    (tmp_path / "own.onnx").unlink()
    asked.clear()
    monkeypatch.chdir(tmp_path / "runs")
    again = load_run(folder).space
    assert asked == []
    assert again.content_hash == found.content_hash
    assert again.network_names == found.network_names
    assert again.networks[0].numbers == found.networks[0].numbers


# --- from Python ---


def test_a_model_can_be_taken_apart(asked: Asked, tmp_path: Path) -> None:
    found = dse.import_model("own.onnx", classes=5)
    assert found.problems == ()
    assert found.workload == load_network("own.onnx@classes=5")
    assert set(found.parameters) == set(found.workload.numbers)
    frame = found.to_frame()
    assert frame["macs"].sum() == 6 * 6 * 4 * 2 * 9 + 4 * 3
    assert frame["name"].tolist() == [node.name for node in found.model.nodes]
    path = dse.save_network(found, tmp_path)
    assert load_network(path) == found.workload


def test_a_model_that_cannot_be_planned_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, axes: Mapping[str, int]) -> Model:
        node = Node("odd", "unknown", (f"input:{'image'}",), None, "com.me::Odd")
        image = ModelInput("image", (2, 6, 6), channel_axis=0)
        return Model("g", str(path), "ONNX", "", (image,), (node,), ("odd",), 10, (), ("odd: no shape",))

    monkeypatch.setitem(loading._READERS, "onnx", read)  # type: ignore[arg-type]
    found = dse.import_model("own.onnx")
    assert found.problems
    assert len(found.to_frame()) == 1
    with pytest.raises(UserError):
        _ = found.workload
    with pytest.raises(UserError):
        load_network("own.onnx")


@pytest.mark.parametrize("found", ["resnet8", "own.toml", 3])
def test_only_models_are_imported(found: Any) -> None:
    with pytest.raises(UserError, match="model"):
        dse.import_model(found)
