"""Networks that keep state from call to call: what they read of it is an input."""

from __future__ import annotations

import pytest

from dse.errors import UserError
from dse.workload.model import Model
from dse.workload.model.counts import node_rows
from dse.workload.model.lower import lower
from tests.workload.exporters.tflite_builder import TfliteBuilder
from tests.workload.tflite_files.samples import CONV, by_name, ints, ramp, read


def streaming(*, assigned_before: bool = False) -> Model:
    """Read a window over 2 old frames and 1 new one; the last 2 are kept."""
    build = TfliteBuilder()
    frame, kept = build.tensor("frame", (1, 1, 1, 4)), build.tensor("kept", (1, 2, 1, 4))
    handles = [build.tensor(f"handle {i}", (), "resource") for i in range(2)]
    for handle in handles:
        build.operator("VAR_HANDLE", [], handle, "VarHandleOptions", SharedName="ring")
    begin, ends, steps = (build.constant(f"c{i}", ints(*row)) for i, row in enumerate(
        [(0, 1, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1)]))  # fmt: skip
    if assigned_before:
        build.operator("TILE", [frame, build.constant("times", ints(1, 2, 1, 1))], kept)
        build.operator("ASSIGN_VARIABLE", [handles[1], kept], [])
        kept = build.tensor("again", (1, 2, 1, 4))
    build.operator("READ_VARIABLE", [handles[0]], kept)
    window = build.tensor("window", (1, 3, 1, 4))
    build.operator("CONCATENATION", [kept, frame], window, "ConcatenationOptions", Axis=1)
    last = build.tensor("last", (1, 2, 1, 4))
    build.operator("STRIDED_SLICE", [window, begin, ends, steps], last, "StridedSliceOptions", BeginMask=13,
                   EndMask=15)  # fmt: skip
    build.operator("ASSIGN_VARIABLE", [handles[1], last], [])
    weight, out = build.constant("weight", ramp(6, 3, 1, 4)), build.tensor("out", (1, 1, 1, 6))
    build.operator("CONV_2D", [window, weight, -1], out, "Conv2DOptions", **CONV | {"Padding": 1})
    return read(build, [frame], [out])


def test_state_is_an_input() -> None:
    model = streaming()
    assert not model.faults
    assert [(item.name, item.shape) for item in model.inputs] == [
        ("frame", (1, 1, 4)), ("state:ring", (2, 1, 4))
    ]  # fmt: skip
    assert by_name(model)["window"].inputs == ("input:state:ring", "input:frame")
    assert "variables that keep state from call to call, read as inputs: 1" in model.notes
    assert sum(row.macs or 0 for row in node_rows(model)) == 6 * 3 * 4


def test_a_streaming_network_is_not_planned() -> None:
    with pytest.raises(UserError, match="state:ring, kept from call to call; it streams"):
        lower(streaming())


def test_what_this_call_assigned_is_what_it_reads() -> None:
    model = streaming(assigned_before=True)
    assert [item.name for item in model.inputs] == ["frame"]
    assert by_name(model)["window"].inputs == ("kept", "input:frame")


def test_a_variable_without_a_handle_is_a_fault() -> None:
    build = TfliteBuilder()
    source, read_, out = (build.tensor(name, (1, 4)) for name in ("x", "read", "y"))
    build.operator("READ_VARIABLE", [source], read_)
    build.operator("RELU", [read_], out)
    model = read(build, [source], [out])
    assert model.faults == ("read: READ_VARIABLE: its first input is no variable",)
