"""Archives that are damaged or mean harm: one clear error, in bounds, and nothing of theirs runs."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from dse.errors import UserError
from dse.workload.torch import archive as archives
from tests.workload.exporters.torch_writer import archive_of, exported
from tests.workload.torch_files.damaging import Net, nodes
from tests.workload.torch_files.reading import GRAPH, WEIGHTS, edited, entries, graph_of, packed, read_bytes


@pytest.fixture(scope="module")
def good() -> bytes:
    return archive_of(exported(Net(), torch.zeros(1, 3, 8)))


def refused(data: bytes) -> str:
    """Return what is said of an archive that has to be refused."""
    with pytest.raises(UserError) as error:
        read_bytes(data)
    said = str(error.value)
    assert "\n" not in said
    return said


def test_the_archive_itself_is_read(good: bytes) -> None:
    model = read_bytes(good)
    assert not model.faults
    assert len(model.nodes) == 9


# --- code ---


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_pickle_among_the_samples_is_never_opened(good: bytes, tmp_path: Path) -> None:
    harm = pickle.dumps(Bomb(tmp_path / "harm"))
    read_bytes(packed({**entries(good), "data/sample_inputs/model.pt": harm}))
    assert not (tmp_path / "harm").exists()


def test_pickled_weights_are_refused(good: bytes, tmp_path: Path) -> None:
    def change(table: Any) -> None:
        table["config"]["out.weight"]["use_pickle"] = True

    found = entries(edited(good, WEIGHTS, change))
    place = json.loads(found[WEIGHTS])["config"]["out.weight"]["path_name"]
    found[f"data/weights/{place}"] = pickle.dumps(Bomb(tmp_path / "harm"))
    said = refused(packed(found))
    assert "out.weight: is pickled" in said
    assert "torch.export.save" in said
    assert not (tmp_path / "harm").exists()


def test_older_layouts_are_refused_saying_how_to_save_anew(good: bytes) -> None:
    old = {"serialized_exported_program.json": entries(good)[GRAPH], "serialized_state_dict.pt": b"\x80\x02."}
    said = refused(packed(old))
    assert "older layout" in said
    assert "torch.export.save" in said


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["data/aotinductor/model/a.so", "data/aotinductor/model/a.cpp"], "code from files is not run"),
        (["code/__torch__.py", "data.pkl"], "code"),
        (["data.pkl", "data/0"], "pickled checkpoint"),
        (["readme.txt"], "no archive of torch.export"),
    ],
)
def test_archives_of_code_are_refused(names: list[str], said: str) -> None:
    assert said in refused(packed(dict.fromkeys(names, b"x")))


def test_compiled_code_beside_a_graph_is_left_alone(good: bytes) -> None:
    model = read_bytes(packed({**entries(good), "data/aotinductor/model/a.so": b"\x7fELF"}))
    assert "1 files of code in the archive were not opened" in model.notes


# --- bombs ---


def test_what_unpacks_to_too_much_is_refused(good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dse.workload.model.limits.MOST_FILE_BYTES", 2**21)
    zeros = bytes(2**20)
    data = packed({**entries(good), "data/a": zeros, "data/b": zeros}, zipfile.ZIP_DEFLATED)
    assert "unpacks to more than 2 MiB" in refused(data)


def test_a_ratio_that_no_weights_reach_is_refused(good: bytes) -> None:
    data = packed({**entries(good), "data/a": bytes(2**22)}, zipfile.ZIP_DEFLATED)
    assert "times its size" in refused(data)


def test_many_entries_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_ENTRIES", 10)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    stream = b"PK\x01\x02" * 11
    assert "more than 10 entries" in refused(stream)


def test_a_large_graph_is_refused(good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_JSON_BYTES", 1000)
    assert "larger than" in refused(good)


@pytest.mark.parametrize(
    "text",
    [b"[" * 200_000, b'{"a":' * 100_000, b"{}", b"[]", b"", b"\xff\xfe", b"nul", b"9" * 10_000, b"[1e999]"],
)
def test_json_that_is_no_graph_is_refused(good: bytes, text: bytes) -> None:
    assert GRAPH in refused(packed({**entries(good), GRAPH: text}))


def test_two_entries_of_one_name_are_refused() -> None:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/models/model.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/models/model.json", "[]")
    assert "two entries of one name" in refused(stream.getvalue())


def test_other_compressions_are_refused(good: bytes) -> None:
    assert "other than deflate" in refused(packed(entries(good), zipfile.ZIP_LZMA))


# --- contradictions ---

Change = Callable[[Any], object]


def sizes(name: str, *numbers: Any) -> Change:
    def change(document: Any) -> None:
        table = document["config"] if "config" in document else graph_of(document)["tensor_values"]
        (table[name]["tensor_meta"] if "config" in document else table[name])["sizes"] = [
            {"as_int": number} for number in numbers
        ]

    return change


def field(name: str, key: str, value: Any) -> Change:
    return lambda document: document["config"][name]["tensor_meta"].update({key: value})


TABLE: dict[str, tuple[Change, str]] = {
    "more numbers than bytes": (sizes("out.weight", 2, 6), "out.weight"),
    "terabytes": (sizes("out.weight", 2**20, 2**20), "out.weight: more than"),
    "negative sizes": (sizes("out.weight", -2, -5), "out.weight"),
    "sizes that are words": (sizes("out.weight", "2", "5"), "whole number"),
    "many axes": (sizes("out.weight", *[1] * 40), "out.weight: 40 axes"),
    "strides that leave the storage": (
        field("out.weight", "strides", [{"as_int": 50}, {"as_int": 1}]),
        "out.weight: needs 55 numbers",
    ),
    "huge strides": (
        field("out.weight", "strides", [{"as_int": 2**62}, {"as_int": 2**62}]),
        "out.weight: needs",
    ),
    "negative strides": (
        field("out.weight", "strides", [{"as_int": -5}, {"as_int": -1}]),
        "out.weight: strides",
    ),
    "too few strides": (field("out.weight", "strides", [{"as_int": 5}]), "out.weight: strides"),
    "an offset": (field("out.weight", "storage_offset", {"as_int": 1}), "out.weight: needs 11 numbers"),
    "an unknown type": (field("out.weight", "dtype", 99), "type 99 cannot be read"),
    "a wider type": (field("out.weight", "dtype", 8), "out.weight: needs 10 numbers"),
    "another type than the graph": (field("out.weight", "dtype", 4), "the graph states float32"),
    "a sparse layout": (field("out.weight", "layout", 1), "sparse layout"),
    "no table": (
        lambda document: document["config"].update({"out.weight": None}),
        "out.weight has to be an object",
    ),
    "no row": (lambda document: document["config"].pop("out.weight"), "out.weight: has no row"),
    "no file": (
        lambda document: document["config"]["out.weight"].update({"path_name": "../../weight_0"}),
        "../../weight_0: is missing",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_weights_that_contradict_their_table_are_refused(good: bytes, name: str) -> None:
    change, said = TABLE[name]
    assert said in refused(edited(good, WEIGHTS, change))


def turn(document: Any) -> None:
    nodes(document)[0]["inputs"][0]["arg"] = {"as_tensor": {"name": nodes(document)[-1]["name"]}}


NOWHERE = {"user_output": {"arg": {"as_tensor": {"name": "nowhere"}}}}

GRAPHS: dict[str, tuple[Change, str]] = {
    "a cycle": (turn, "which nothing makes before"),
    "backwards": (lambda document: nodes(document).reverse(), "which nothing makes before"),
    "a node that is none": (lambda document: nodes(document).append(7), "node"),
    "no nodes": (lambda document: nodes(document).clear(), "made by nothing"),
    "another schema": (
        lambda document: document["schema_version"].update({"major": 99}),
        "schema version 99",
    ),
    "an output of nowhere": (
        lambda document: document["graph_module"]["signature"]["output_specs"][0].update(NOWHERE),
        "made by nothing",
    ),
    "an input without a shape": (
        lambda document: graph_of(document)["tensor_values"].pop("x"),
        "has no shape",
    ),
    "an input of nothing": (sizes("x", 1, 0, 8), "has no shape"),
    "an input of terabytes": (sizes("x", 1, 2**30, 2**30), "has no shape"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_contradict_themselves_are_refused(good: bytes, name: str) -> None:
    change, said = GRAPHS[name]
    assert said in refused(edited(good, GRAPH, change))


def argument(document: Any, node: str, name: str, value: Any) -> None:
    found = next(entry for entry in nodes(document) if entry["name"] == node)
    found["inputs"] = [entry for entry in found["inputs"] if entry["name"] != name]
    found["inputs"].append({"name": name, "arg": value, "kind": 1})


ARGUMENTS = {
    "a stride of zero": ("conv1d", "stride", {"as_ints": [0]}),
    "a negative dilation": ("conv1d", "dilation", {"as_ints": [-1]}),
    "groups of zero": ("conv1d", "groups", {"as_int": 0}),
    "a kernel beyond the input": ("max_pool1d", "kernel_size", {"as_ints": [99]}),
    "a huge pad": ("conv1d", "padding", {"as_ints": [2**62]}),
    "axes that are none": ("transpose", "dim0", {"as_int": 17}),
    "words for numbers": ("softmax", "dim", {"as_string": "last"}),
    "two recurrent layers": ("gru", "num_layers", {"as_int": 2}),
    "the input as a weight": ("linear", "weight", {"as_tensor": {"name": "x"}}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_cannot_be_make_the_operation_unknown(good: bytes, name: str) -> None:
    node, key, value = ARGUMENTS[name]
    model = read_bytes(edited(good, GRAPH, lambda document: argument(document, node, key, value)))
    assert any(line.startswith(f"{node} (") for line in (*model.faults, *model.notes))
    assert "unknown" in {entry.operation for entry in model.nodes}


def test_a_stated_shape_that_is_wrong_is_a_fault(good: bytes) -> None:
    model = read_bytes(edited(good, GRAPH, sizes("conv1d", 1, 4, 9)))
    assert [fault for fault in model.faults if "the file states [1, 4, 9]" in fault]


def test_names_reach_no_terminal_as_they_are(good: bytes) -> None:
    def change(document: Any) -> None:
        nodes(document)[2]["name"] = "relu\x1b[2J\nclean"
        document["torch_version"] = "\x1b[31m"

    model = read_bytes(edited(good, GRAPH, change))
    assert "\x1b" not in "".join((model.producer, *(node.name for node in model.nodes)))


@pytest.mark.parametrize("part", ["models/model.json", WEIGHTS, "data/weights/weight_1"])
def test_a_missing_entry_is_named(good: bytes, part: str) -> None:
    found = entries(good)
    del found[part]
    assert ("models/*.json" if part == GRAPH else part) in refused(packed(found))


def test_several_models_are_named(good: bytes) -> None:
    found = entries(good)
    assert "model.json, models/other.json" in refused(packed({**found, "models/other.json": found[GRAPH]}))
