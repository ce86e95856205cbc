"""One benchmark each: what the C file defines, and the row of measurements that comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from dse.calibrate.bench.choice import Chosen, Subject
from dse.calibrate.bench.geometry import (
    MOST_CYCLES,
    Geometry,
    aligned,
    layer_geometry,
    window_geometry,
)
from dse.calibrate.bench.work import Kernel, Work
from dse.hardware import ElementCost, HardwareProfile, Overhead, Rate

COLUMNS: Final = (
    "operator", "pass", "dtype", "library", "operating_point", "macs", "elements", "calls", "cycles",
    "power_mw", "note",
)  # fmt: skip
PLAIN: Final = "plain-c"
"""The library of a row that a loop of this generator was timed for."""

ROOM_SHARE: Final = 0.75
"""Share of the largest RAM, less its reserve, that the tensors of a kernel may take."""
SMALLEST_ROOM: Final = 2048.0
OVERHEAD_CALLS: Final = 1000
SLOWEST_RATE: Final = 0.002
"""MACs per cycle that the loops surely reach: one MAC of emulated floats in some hundred cycles."""
_PASS_CODES: Final = {"fwd": 0, "bwd_input": 1, "bwd_weight": 2, "update": 3}
_ARRAYS: Final = 4  # that an element operation may touch, of four bytes per element


@dataclass(frozen=True)
class Case:
    """One benchmark: ``kind`` "timed", "power" or "sleep", macros, bytes of its tensors, cells of its row.

    ``template`` is the header with the loops ("" where the chip sleeps); ``paths`` the numbers it measures.
    """

    name: str
    kind: str
    template: str
    defines: Mapping[str, int | str]
    arena_bytes: int
    calls: int
    row: Mapping[str, str]
    paths: tuple[str, ...]
    state: str = ""
    layout: str = ""
    """Where the tensors are, for a kernel that takes the loop's place."""


@dataclass(frozen=True)
class Setting:
    """Where the cases run: board, operating point, and what the plan runs."""

    board: HardwareProfile
    point: str
    work: Work

    @property
    def room_bytes(self) -> float:
        """Bytes that the tensors of a kernel may take."""
        sizes = [
            level.usable_bytes
            for level in self.board.levels
            if level.volatile and level.access == "core" and not level.attached
        ]
        return max(ROOM_SHARE * max(sizes, default=0.0), SMALLEST_ROOM)


def cases_of(setting: Setting, chosen: tuple[Chosen, ...]) -> tuple[Case, ...]:
    """Return the benchmarks of the chosen numbers: kernels, then powers, then sleep."""
    subjects = [subject for each in chosen for subject in each.subjects]
    found = [case for subject in subjects for case in _case(setting, subject)]
    order = {"timed": 0, "power": 1, "sleep": 2}
    found.sort(key=lambda case: order[case.kind])
    return tuple(_with_own_names(found))


def _with_own_names(cases: list[Case]) -> Iterator[Case]:
    seen: dict[str, int] = {}
    for case in cases:
        seen[case.name] = seen.get(case.name, 0) + 1
        again = seen[case.name]
        yield case if again == 1 else replace(case, name=f"{case.name}_{again}")


def _case(setting: Setting, subject: Subject) -> Iterator[Case]:
    if isinstance(subject.entry, Rate):
        kernel = subject.entry.operator, subject.entry.pass_, subject.entry.dtype
        yield kernel_case(setting, kernel, (subject.path,))
    elif isinstance(subject.entry, ElementCost):
        yield element_case(setting, subject.entry, (subject.path,))
    elif isinstance(subject.entry, Overhead):
        yield overhead_case(setting, subject.entry, (subject.path,))
    elif subject.kind == "power":
        kernel = power_kernel(setting, subject.field)
        case = kernel_case(replace(setting, point=subject.name), kernel, (subject.path,))
        name = "power_" + subject.field.removesuffix("_power_w")
        row = {**case.row, "library": "", "note": f"power alone; {case.row['note']}"}
        yield replace(case, name=name, kind="power", row=row)
    else:
        name = "sleep_" + _identifier(subject.name)
        yield Case(name, "sleep", "", {}, 0, 0, {}, (subject.path,), state=subject.name)


def _identifier(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)


def power_kernel(setting: Setting, field: str) -> Kernel:
    """Return the kernel that runs while power is measured: the largest of the stage that draws it.

    Inference power is that of int8 inference, as ``dse hw calibrate`` takes it; any other pass trains.
    """
    work = setting.work
    if field == "inference_power_w":
        operator = next(iter(work.forward))[0]
        return operator, "fwd", "int8"
    trains = [kernel for kernel in work.learning if kernel[1:] != ("fwd", "int8")]
    known = [kernel for kernel in trains if kernel[2] in ("fp32", "int8")]
    return known[0] if known else (work.forward[0][0], "fwd", "fp32")


def kernel_case(setting: Setting, kernel: Kernel, paths: tuple[str, ...]) -> Case:
    """Return the case of one operator in one pass, at the geometry of the layer that needs it most."""
    operator, pass_, dtype = kernel
    unit = setting.work.unit_of(kernel)
    full, name = _FALLBACK, "no layer of the network"
    if unit is not None:
        own = setting.work.workload.units[unit]
        full, name = layer_geometry(setting.work.workload, own.layer), own.name
    shape = full.fitting(pass_, dtype, setting.room_bytes, MOST_CYCLES * SLOWEST_RATE)
    shrunk = "" if shape == full else f"; shrunk from {full.text}"
    row = _row(setting, operator, pass_, dtype) | {
        "macs": str(shape.macs), "calls": "1", "note": f"{name}: {shape.text}{shrunk}",
    }  # fmt: skip
    return Case(
        f"{operator}_{pass_}_{dtype}", "timed", "dse_conv.h", conv_defines(shape, pass_, dtype),
        shape.arena_bytes(pass_, dtype), 1, row, paths, layout=shape.layout(pass_, dtype),
    )  # fmt: skip


_FALLBACK: Final = Geometry(8, 8, 1, (1, 1), (1, 1), (1, 1), (8, 8))


def conv_defines(shape: Geometry, pass_: str, dtype: str) -> dict[str, int | str]:
    """Return the macros of a kernel that multiplies."""
    plain = pass_.removesuffix("_int8")
    errors = 8 if pass_ != plain else 32
    bits = 8 if dtype == "int8" else 32
    return {"DSE_PASS": _PASS_CODES[plain], "DSE_BITS": bits, "DSE_ERRORS": errors, **shape.defines()}


def overhead_case(setting: Setting, entry: Overhead, paths: tuple[str, ...]) -> Case:
    """Return the case of many calls that do one MAC each."""
    rates = [rate for rate in setting.board.rates if rate.library == entry.library and rate.cores == 1]
    known = [rate for rate in rates if rate.pass_ == "fwd" and rate.dtype in ("fp32", "int8")]
    operators = [rate.operator for rate in known]
    operator = "linear" if "linear" in operators or not operators else operators[0]
    dtype = known[0].dtype if known else "fp32"
    one = Geometry(1, 1, 1, (1, 1), (1, 1), (1, 1), (1, 1))
    row = _row(setting, operator, "fwd", dtype) | {
        "macs": str(OVERHEAD_CALLS), "calls": str(OVERHEAD_CALLS),
        "note": f"{OVERHEAD_CALLS} calls of one MAC each",
    }  # fmt: skip
    return Case(
        f"overhead_{dtype}", "timed", "dse_conv.h", conv_defines(one, "fwd", dtype),
        one.arena_bytes("fwd", dtype), OVERHEAD_CALLS, row, paths,
    )  # fmt: skip


def element_case(setting: Setting, entry: ElementCost, paths: tuple[str, ...]) -> Case:
    """Return the case of an element operation, at the size of the layer that has most of it."""
    operation, pass_, dtype = entry.operation, entry.pass_, entry.dtype
    bits = 8 if dtype == "int8" else 32
    defines: dict[str, int | str] = {
        "DSE_OP": f"DSE_OP_{operation}", "DSE_PASS": _PASS_CODES[pass_], "DSE_BITS": bits,
    }  # fmt: skip
    if operation in ("avg_pool", "max_pool"):
        more, count, arena, note = _pooling(setting, operation)
    else:
        more, count, arena, note = _vector(setting, operation)
    row = _row(setting, operation, pass_, dtype) | {"elements": str(count), "note": note}
    return Case(
        f"{operation}_{pass_}_{dtype}", "timed", "dse_elements.h", defines | more, arena, 1, row, paths
    )


def _vector(setting: Setting, operation: str) -> tuple[dict[str, int], int, int, str]:
    """Return macros, elements, bytes and a note of an operation that walks along vectors."""
    work, workload = setting.work, setting.work.workload
    channels, layer = 1, work.layer_of(operation)
    if layer is not None:
        full, name = int(workload.out_elements[layer]), workload.layers[layer].name
        channels = workload.shapes[layer][0] if operation == "batch_norm" else 1
    elif operation.startswith("update_"):
        full, name = work.parameters, "parameters of the unit that learns most"
    else:
        full, name = work.latent_elements, "a latent"
    each = setting.room_bytes / (_ARRAYS * 4)
    channels = max(min(channels, int(each) // 2), 1)
    count = max(min(full, int(each) - 8) // channels, 2 if channels > 1 else 1) * channels
    shrunk = "" if count == full else f"; shrunk from {full}"
    more = {"DSE_N": count, "DSE_CHANNELS": channels}
    if operation == "unpack":
        more["DSE_WIDTH"] = work.latent_bits if work.latent_bits < 8 else 7
        name += f" of {more['DSE_WIDTH']} bits"
    return more, count, _ARRAYS * aligned(count * 4), f"{name}: {count} elements{shrunk}"


def _pooling(setting: Setting, operation: str) -> tuple[dict[str, int], int, int, str]:
    """Return macros, elements read, bytes and a note of a window that pools."""
    workload, layer = setting.work.workload, setting.work.layer_of(operation)
    full, name = replace(_FALLBACK, taps=(2, 2), strides=(2, 2), positions=(4, 4)), "no layer of the network"
    if layer is not None:
        shape = workload.shape_of(workload.inputs[layer][0])
        name = workload.layers[layer].name
        full = window_geometry(workload.layers[layer], shape, shape[0])
        if workload.layers[layer].kind == "global_avg_pool":
            rows, columns = full.positions
            full = replace(full, taps=(rows, columns), strides=(rows, columns), positions=(1, 1))
    small = replace(full, groups=full.inputs)
    while _ARRAYS * aligned(small.sizes[0] * 4) > setting.room_bytes and small.sizes[0] > 1:
        small = small.smaller() if small.groups > 1 or max(small.positions) > 1 else _less_taps(small)
    shrunk = "" if small.sizes == replace(full, groups=full.inputs).sizes else f"; shrunk from {full.text}"
    defines = {name: value for name, value in small.defines().items() if name not in ("DSE_IN", "DSE_OUT")}
    # Counted as the cost model counts, what is read; of a part of the layer in proportion to what is written.
    read = full.sizes[0] if layer is None else int(prod(workload.shape_of(workload.inputs[layer][0])))
    count = max(round(read * small.sizes[2] / full.sizes[2]), 1)
    if small.taps != full.taps:
        count = small.sizes[0]
    more = {"DSE_CHANNELS": small.inputs} | defines
    return more, count, _ARRAYS * aligned(small.sizes[0] * 4), f"{name}: {small.text}{shrunk}"


def _less_taps(shape: Geometry) -> Geometry:
    rows, columns = shape.taps
    taps = (-(-rows // 2), columns) if rows >= columns else (rows, -(-columns // 2))
    return replace(shape, taps=taps, strides=taps)


def _row(setting: Setting, operator: str, pass_: str, dtype: str) -> dict[str, str]:
    empty = dict.fromkeys(COLUMNS, "")
    return empty | {
        "operator": operator, "pass": pass_, "dtype": dtype, "library": PLAIN,
        "operating_point": setting.point,
    }  # fmt: skip
