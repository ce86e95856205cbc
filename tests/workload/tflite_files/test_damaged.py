"""Damaged and hostile TFLite files: one clear error, within seconds and in little memory."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tflite

from dse.errors import UserError
from dse.workload import load_network
from dse.workload.model import Model
from dse.workload.tflite import read_tflite
from dse.workload.tflite.tensors import Names
from tests.workload.exporters.tflite_builder import Scheme, TfliteBuilder
from tests.workload.exporters.tflite_writer import tflite_bytes
from tests.workload.fuzzing import mutations, survives
from tests.workload.tflite_files.samples import CONV, ints, ramp, read, read_bytes, sampler
from tests.workload.tflite_files.test_zoo_files import drawn

SHORT, LONG = 75, 20_000


def reader(path: Path) -> Model:
    return read_tflite(path, {})


def refused(data: bytes, match: str) -> None:
    """``data`` is answered with one clear error, soon."""
    start = time.perf_counter()
    with pytest.raises(UserError, match=match) as caught:
        read_bytes(data)
    assert time.perf_counter() - start < 5
    assert len(caught.value.problems) == 1
    assert "\x1b" not in str(caught.value)


# --- mutations ---


def samples() -> Iterator[bytes]:
    yield sampler()
    workload = load_network("har-cnn-1d")
    yield tflite_bytes(workload, drawn(workload), int8=True)


@pytest.mark.parametrize("index", [0, 1], ids=["operators", "har-cnn-1d"])
def test_mutations_are_read_or_refused(index: int) -> None:
    data = list(samples())[index]
    read_count = sum(survives(reader, damaged, ".tflite") for damaged in mutations(data, index, SHORT))
    assert 0 < read_count < SHORT  # some damage is harmless, some is not: both paths were met


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1], ids=["operators", "har-cnn-1d"])
def test_many_mutations_are_read_or_refused(index: int) -> None:
    data = list(samples())[index]
    for damaged in mutations(data, 1000 + index, LONG // 2):
        survives(reader, damaged, ".tflite")


def test_every_cut_is_refused_or_read() -> None:
    data = sampler()
    for end in range(0, len(data), 97):
        survives(reader, data[:end], ".tflite")


def test_every_offset_may_be_extreme() -> None:
    """Each aligned word in turn claims 2 GiB."""
    data = sampler()
    for place in range(0, 1200, 4):
        damaged = data[:place] + struct.pack("<I", 0x7FFFFFF0) + data[place + 4 :]
        survives(reader, damaged, ".tflite")


# --- what is no TFLite file ---


@pytest.mark.parametrize("data", [
    b"", b"\0", b"\0" * 64, b"\xff" * 64, b"PK\x03\x04" + b"\0" * 60, b"\x08\x07\x12\x07pytorch" * 9,
    b"\x1c\0\0\0TFL3" + b"\0" * 64, b"hello " * 100,
], ids=range(8))  # fmt: skip
def test_other_files_are_refused(data: bytes) -> None:
    refused(data, "the file is damaged, or not a TFLite model")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.tflite"
    with path.open("wb") as stream:
        stream.truncate(2**27 + 1)  # sparse: takes no disk
    with pytest.raises(UserError, match="larger than 128 MiB"):
        read_tflite(path, {})


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_tflite(path, {})


# --- vectors and indices, each damaged on its own ---


def vector_place(data: bytes, field: int) -> int:
    """Place of the length of a vector of the model table, found by the rules of flatbuffers."""
    root = struct.unpack_from("<I", data, 0)[0]
    table = root - struct.unpack_from("<i", data, root)[0]
    slot = root + struct.unpack_from("<H", data, table + field)[0]
    return slot + int(struct.unpack_from("<I", data, slot)[0])


@pytest.mark.parametrize("field", [6, 8, 12], ids=["operator codes", "subgraphs", "buffers"])
@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 1, 100_000])
def test_vectors_that_claim_more_than_the_file_are_refused(field: int, length: int) -> None:
    data = bytearray(sampler())
    struct.pack_into("<I", data, vector_place(data, field), length)
    refused(bytes(data), "damaged")


def test_a_text_that_ends_behind_the_file_is_refused() -> None:
    data = bytearray(sampler())
    place = bytes(data).index(b"softmax\0") - 4
    struct.pack_into("<I", data, place, 2**30)
    refused(bytes(data), "a text ends")


def test_a_table_that_describes_itself_is_refused() -> None:
    data = bytearray(sampler())
    root = struct.unpack_from("<I", data, 0)[0]
    struct.pack_into("<i", data, root, 0)  # its vtable is the table itself
    refused(bytes(data), "damaged")


def test_buffers_that_do_not_exist_are_refused() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 3)), build.tensor("y", (1, 2))
    weight = build.tensor("w", (2, 3), buffer=99)
    build.operator("FULLY_CONNECTED", [source, weight], target, "FullyConnectedOptions")
    refused(build.finish([source], [target]), "reads buffer 99 of 1")


@pytest.mark.parametrize("index", [7, -2, 2**31 - 1])
def test_tensors_that_do_not_exist_are_refused(index: int) -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 3)), build.tensor("y", (1, 3))
    build.operator("ADD", [source, index], target, "AddOptions")
    refused(build.finish([source], [target]), f"name tensor {index} of 2")


def test_operator_codes_that_do_not_exist_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = tflite.OperatorAddOpcodeIndex
    monkeypatch.setattr(tflite, "OperatorAddOpcodeIndex", lambda flat, index: genuine(flat, index + 50))
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 3)), build.tensor("y", (1, 3))
    build.operator("RELU", [source], target)
    refused(build.finish([source], [target]), "operator 0 has the code 50 of 1")


# --- shapes ---


@pytest.mark.parametrize(("shape", "match"), [
    ((1, -3), "has the shape"), ((-1, 3), "has the shape"), ((1,) * 9, "Shape claims 9"),
    ((1, 2**31 - 1, 2**31 - 1), "an input holds numbers"), ((1, 0), "an input holds numbers"),
])  # fmt: skip
def test_shapes_that_cannot_be_are_refused(shape: tuple[int, ...], match: str) -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", shape), build.tensor("y", (1, 3))
    build.operator("RELU", [source], target)
    refused(build.finish([source], [target]), match)


def test_a_shape_and_a_signature_must_agree() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 3), signature=(-1,)), build.tensor("y", (1, 3))
    build.operator("RELU", [source], target)
    refused(build.finish([source], [target]), "and the signature")


def test_weights_that_claim_terabytes_are_a_fault() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 2**20)), build.tensor("y", (1, 2**30))
    weight = build.tensor("w", (2**30, 2**20), data=b"\0" * 8)
    build.operator("FULLY_CONNECTED", [source, weight], target, "FullyConnectedOptions")
    model = read(build, [source], [target])
    assert model.nodes[0].operation == "unknown"
    assert "claims 1125899906842624 elements" in "".join(model.faults)


def test_weights_with_too_few_bytes_are_a_fault() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 2**14)), build.tensor("y", (1, 2**15))
    weight = build.tensor("w", (2**15, 2**14), data=b"\0" * 8)  # 2 GiB are claimed
    build.operator("FULLY_CONNECTED", [source, weight], target, "FullyConnectedOptions")
    model = read(build, [source], [target])
    assert "has 8 bytes, its shape needs 2147483648" in model.faults[0]
    assert model.nodes[0].constants["weight"].values is None


@pytest.mark.parametrize(("kind", "constant"), [
    ("PAD", ints(0, 0, 2**31 - 1, 2**31 - 1, 2**31 - 1, 0, 0, 0).reshape(4, 2)),
    ("TILE", ints(1, 2**31 - 1, 2**31 - 1, 1)),
    ("RESIZE_BILINEAR", ints(2**31 - 1, 2**31 - 1)),
    ("BROADCAST_TO", ints(1, 2**31 - 1, 2**31 - 1, 3)),
])  # fmt: skip
def test_operators_that_blow_a_tensor_up_are_faults(kind: str, constant: np.ndarray) -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 4, 4, 3)), build.tensor("y", (1, 4, 4, 3))
    build.operator(kind, [source, build.constant("c", constant)], target)
    model = read(build, [source], [target])
    assert model.nodes[0].operation == "unknown"
    assert len(model.faults) == 1


# --- sharing that multiplies work ---


def test_one_buffer_behind_many_weights_does_not_fill_the_memory() -> None:
    build = TfliteBuilder()
    source = here = build.tensor("x", (1, 1024), "int8", scheme=Scheme((1.0,)))
    shared = build.constant("w0", np.ones((1024, 1024), dtype=np.int8), Scheme((1.0,)))
    for i in range(100):
        weight = (
            shared if not i else build.tensor(f"w{i}", (1024, 1024), "int8", scheme=Scheme((1.0,)), buffer=1)
        )
        out = build.tensor(f"y{i}", (1, 1024), "int8", scheme=Scheme((1.0,)))
        here = build.operator("FULLY_CONNECTED", [here, weight, -1], out, "FullyConnectedOptions")
    refused(build.finish([source], [here]), "its constants hold more than 67108864 numbers")


def test_many_operators_of_one_name_are_read_in_time() -> None:
    build = TfliteBuilder()
    source = here = build.tensor("x", (1, 4))
    for _ in range(6000):
        here = build.operator("RELU", [here], build.tensor("same", (1, 4)))
    data = build.finish([source], [here])
    start = time.perf_counter()
    model = read_bytes(data)
    assert time.perf_counter() - start < 4
    assert len({node.name for node in model.nodes}) == 6000


def test_names_are_found_without_trying_every_number() -> None:
    names = Names()
    start = time.perf_counter()
    assert len({names.new("same") for _ in range(20_000)}) == 20_000
    assert time.perf_counter() - start < 2


def test_many_large_scales_are_refused() -> None:
    build = TfliteBuilder()
    wide = Scheme((1.0,) * 2**20, (0,) * 2**20, axis=1)
    source = build.tensor("x", (1, 2**20), "int8", scheme=wide)
    here = source
    for i in range(3):
        here = build.operator("RELU", [here], build.tensor(f"y{i}", (1, 2**20), "int8", scheme=wide))
    refused(build.finish([source], [here]), "more than 4194304 scales")


def test_faults_are_counted_where_there_are_many() -> None:
    build = TfliteBuilder()
    source = here = build.tensor("x", (1, 4, 4, 3))
    for i in range(80):
        weight = build.constant(f"w{i}", ramp(3, 1, 1, 2))
        here = build.operator(
            "CONV_2D", [here, weight, -1], build.tensor(f"y{i}", (1, 4, 4, 3)), "Conv2DOptions", **CONV
        )
    faults = read(build, [source], [here]).faults
    assert (len(faults), faults[-1]) == (51, "and 30 more faults")


def test_the_fuzzed_sample_is_itself_in_order() -> None:
    assert not read_bytes(sampler()).faults


def test_long_lists_of_whole_numbers_are_not_read() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 4)), build.tensor("y", (1, 4))
    build.operator("RESHAPE", [source, build.ints("shape", range(300))], target, "ReshapeOptions")
    assert "more than 256 entries" in read(build, [source], [target]).faults[0]
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 4)), build.tensor("y", (1, 4))
    build.operator("RESHAPE", [source, build.ints("shape", range(250))], target, "ReshapeOptions")
    assert len(read(build, [source], [target]).faults[0]) < 500


def test_gates_that_share_their_weights_do_not_fill_the_memory() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 9, 16))
    weight, inner = build.constant("w", ramp(512, 16)), build.constant("r", ramp(512, 512))
    bias = build.constant("b", ramp(512))
    for i in range(80):
        out = build.tensor(f"y{i}", (1, 9, 512))
        inputs = [source, *[weight] * 4, *[inner] * 4, -1, -1, -1, *[bias] * 4]
        build.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, out, "UnidirectionalSequenceLSTMOptions")
    refused(build.finish([source], [out]), "its constants hold more than")
