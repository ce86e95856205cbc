"""Every loop in C, compiled for this computer, against slow loops over numpy arrays, and its MACs counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dse.calibrate.bench.cases import Case
from dse.calibrate.bench.geometry import WIDTHS, Geometry, aligned
from dse.cost.cycles import element_count
from dse.vocabulary import OPERATORS
from tests.calibrate.bench import loops
from tests.calibrate.bench.networks import (
    FREESTANDING,
    IMAGES,
    SERIES,
    element_kinds,
    every_case,
    network,
    run,
    tool,
    write_sources,
)

DATA = Path(__file__).parent / "data"
TYPES = {(4, True): np.float32, (4, False): np.int32, (1, False): np.int8}


@dataclass(frozen=True)
class Ran:
    """A case after it ran: the buffer before, the output, the MACs that it counted, whether the loop ran."""

    case: Case
    before: bytes
    output: bytes
    macs: int
    plain: bool


def compiled(folder: Path, cases: list[Case], *flags: str) -> Path:
    sources = write_sources(cases, folder)
    program = folder / "driver"
    found = run("cc", *FREESTANDING, *flags, "-DDSE_COUNT", f"-I{sources}", sources / "bench_cases.c",
                DATA / "host_driver.c", "-o", program)  # fmt: skip
    assert found.returncode == 0, found.stderr.decode()
    return program


def run_here(folder: Path, cases: list[Case], *flags: str) -> dict[str, Ran]:
    """Compile and run cases on this computer."""
    if tool("cc") is None:
        pytest.skip("no C compiler for this computer")
    data = run(compiled(folder / "c", cases, *flags)).stdout
    found, at, own = {}, 0, {case.name: case for case in cases}
    while at < len(data):
        end = data.index(b"\n", at)
        name, arena, size = data[at:end].decode().split()
        before = data[end + 1 : end + 1 + int(arena)]
        at = end + 1 + int(arena)
        output, at = data[at : at + int(size)], at + int(size)
        end = data.index(b"\n", at)
        macs, plain = data[at:end].decode().split()
        found[name] = Ran(own[name], before, output, int(macs), plain == "1")
        at = end + 1
    assert found.keys() == own.keys()
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ran]:
    folder = tmp_path_factory.mktemp("kernels")
    found = run_here(folder, every_case(folder))
    assert len(found) == len(OPERATORS) * len(WIDTHS) + len(element_kinds())
    return found


def geometry(defines: Mapping[str, int | str]) -> Geometry:
    """Return the geometry that the macros of a case describe."""

    def pair(name: str) -> tuple[int, int]:
        return int(defines[f"DSE_{name.replace('*', 'ROWS')}"]), int(
            defines[f"DSE_{name.replace('*', 'COLUMNS')}"]
        )

    channels = int(defines.get("DSE_CHANNELS", 0))
    return Geometry(
        int(defines.get("DSE_IN", channels)), int(defines.get("DSE_OUT", channels)),
        int(defines["DSE_GROUPS"]),
        pair("TAP_*"), pair("STRIDE_*"), pair("APART_*"), pair("*_OUT"),
    )  # fmt: skip


def tensors(one: Ran, shape: Geometry, pass_: str, dtype: str) -> list[NDArray[np.generic]]:
    """Return input, weights and output as they were before the kernel ran."""
    taken, at = [], 0
    shapes = (
        (*shape.padded, shape.inputs),
        (shape.outputs, *shape.taps, shape.inputs // shape.groups),
        (*shape.positions, shape.outputs),
    )
    for size, width in zip(shapes, WIDTHS[pass_, dtype], strict=True):
        kind = TYPES[width, width == 4 and not pass_.endswith("_int8")]
        count = prod(size)
        taken.append(np.frombuffer(one.before, kind, count, at).reshape(size))
        at += aligned(count * width)
    return taken


@pytest.mark.parametrize(("pass_", "dtype"), list(WIDTHS))
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_kernel_computes_and_counts_what_the_slow_loop_does(
    ran: Mapping[str, Ran], operator: str, pass_: str, dtype: str
) -> None:
    one = ran[f"{operator}_{pass_}_{dtype}"]
    shape = geometry(one.case.defines)
    x, w, y = tensors(one, shape, pass_, dtype)
    x = np.zeros(x.shape) if pass_.startswith("bwd_input") else x  # the result: what was there is of no use
    expected, macs = loops.multiplied(shape, pass_, x, w, y)
    kind = TYPES[{"fwd": WIDTHS[pass_, dtype][2]}.get(pass_, 4), dtype == "fp32" or not (
        pass_ == "fwd" or pass_.endswith("_int8"))]  # fmt: skip
    found = np.frombuffer(one.output, kind).astype(float)
    if pass_ == "fwd" and dtype == "int8":
        expected = np.vectorize(lambda total: loops.requantised(total, 1518500250, 7))(expected)
    assert np.abs(expected).sum() > 0
    np.testing.assert_array_equal(found, expected.ravel().astype(float))
    assert one.macs == macs == int(one.case.row["macs"])
    assert one.plain


@pytest.mark.parametrize(("pass_", "dtype"), list(WIDTHS))
def test_macs_of_a_row_are_those_of_the_layer(
    ran: Mapping[str, Ran], tmp_path: Path, pass_: str, dtype: str
) -> None:
    images, series = network(IMAGES, tmp_path), network(SERIES, tmp_path)
    for operator in OPERATORS:
        workload = series if operator == "conv1d" else images
        layers = [
            layer.macs(*(workload.shape_of(source) for source in workload.inputs[index]))
            for index, layer in enumerate(workload.layers)
            if index in {unit.layer for unit in workload.units if unit.operator == operator}
        ]
        largest = max(macs[pass_.removesuffix("_int8")] for macs in layers)
        assert ran[f"{operator}_{pass_}_{dtype}"].macs == largest


@pytest.mark.parametrize(("operation", "pass_", "dtype"), element_kinds())
def test_an_element_operation_computes_what_the_slow_loop_does(
    ran: Mapping[str, Ran], operation: str, pass_: str, dtype: str
) -> None:
    one = ran[f"{operation}_{pass_}_{dtype}"]
    defines = one.case.defines
    pools = operation in ("avg_pool", "max_pool")
    longest = (
        prod(geometry(defines).padded) * int(defines["DSE_CHANNELS"]) if pools else int(defines["DSE_N"])
    )
    step = aligned(longest * 4)
    update = operation.startswith("update_")
    narrow = dtype == "int8" and not update and operation != "quantise"
    kind = np.int8 if narrow or operation in ("dequantise", "unpack") else np.float32
    small = operation in ("quantise", "unpack") or (dtype == "int8" and operation != "dequantise")
    written = np.int8 if small else np.float32
    found = np.frombuffer(one.output, written)
    if pools:
        shape = geometry(defines)
        size = (*shape.padded, shape.inputs) if pass_ == "fwd" else (*shape.positions, shape.inputs)
        a = np.frombuffer(one.before, kind, prod(size)).reshape(size)
        index = np.zeros(1)
        if pass_ == "bwd_input":
            index = np.frombuffer(one.before, np.uint8, prod(size), step).reshape(size)
        expected = loops.pooled(operation, pass_, shape, a, index).ravel()
    else:
        read = np.uint8 if operation == "unpack" else kind
        a, b = (np.frombuffer(one.before, read, longest, place) for place in (0, step))
        old = np.frombuffer(one.before, written, longest, 3 * step)
        mask = np.frombuffer(one.before, np.uint8, longest, step)
        width = int(defines.get("DSE_WIDTH", 0))
        channels = int(defines["DSE_CHANNELS"])
        expected = np.array(loops.element(operation, pass_, a, b, old, mask, channels, width))
        assert int(one.case.row["elements"]) == longest == len(found)
    assert np.abs(expected).sum() > 0
    np.testing.assert_allclose(found.astype(float), expected, rtol=3e-6, atol=3e-7)


@pytest.mark.parametrize("operation", ["relu", "batch_norm", "add", "max_pool", "avg_pool", "softmax_loss"])
def test_elements_of_a_row_are_those_of_the_cost_model(
    ran: Mapping[str, Ran], tmp_path: Path, operation: str
) -> None:
    workload = network(IMAGES, tmp_path)
    counts = element_count(workload)
    own = [counts[i] for i, layer in enumerate(workload.layers) if layer.element_operation == operation]
    assert int(ran[f"{operation}_fwd_fp32"].case.row["elements"]) == max(own)


def test_a_core_without_a_square_root_takes_the_same_steps(ran: Mapping[str, Ran], tmp_path: Path) -> None:
    names = ("update_adam_update_fp32", "update_lars_update_fp32")
    cases = [case for case in every_case(tmp_path) if case.name in names]
    slow = run_here(tmp_path, cases, "-U__SSE2__")
    for name in names:
        one, other = (np.frombuffer(each[name].output, np.float32) for each in (ran, slow))
        np.testing.assert_allclose(one, other, rtol=3e-6, atol=1e-7)
