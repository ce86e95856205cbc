"""Small networks that have every operator, their cases, and the tools that compile them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dse.calibrate.bench.cases import Case, Setting, element_case, kernel_case
from dse.calibrate.bench.choice import ANY_OPERATIONS, FP32_OPERATIONS, INT8_OPERATIONS
from dse.calibrate.bench.geometry import WIDTHS
from dse.calibrate.bench.source import CASES, SHARED, cases_text, shared_text
from dse.calibrate.bench.work import Work
from dse.hardware import ElementCost, Quantity, load_board
from dse.vocabulary import OPERATORS, Evidence
from dse.workload import Workload, load_network

IMAGES = """
name = "images"
title = "every operator on images"
source = "made up"
input = { channels = 3, height = 11, width = 9 }
classes = 5
legal_cuts = [0]
layers = [
  { kind = "conv2d", name = "uneven", out_channels = 16, kernel = [5, 2], stride = [1, 2], \
padding = [[1, 3], 1], dilation = [2, 1], then = ["batch_norm", "relu6"] },
  { kind = "depthwise", name = "dw", kernel = 3, padding = 1, then = ["batch_norm", "relu"] },
  { kind = "pointwise", name = "pw", out_channels = 8, then = ["hard_swish"] },
  { kind = "conv2d", name = "grouped", out_channels = 8, kernel = 1, groups = 4 },
  { kind = "add", name = "sum", inputs = ["pw.hard_swish", "grouped"] },
  { kind = "max_pool", name = "max", kernel = 3, stride = 2, padding = 1 },
  { kind = "avg_pool", name = "mean", kernel = 2 },
  { kind = "flatten", name = "flat" },
  { kind = "linear", name = "last", out_features = "classes", then = ["softmax"] },
]
"""
SERIES = """
name = "series"
title = "every operator on series"
source = "made up"
input = { channels = 3, length = 21 }
classes = 4
legal_cuts = [0]
layers = [
  { kind = "conv1d", name = "conv", out_channels = 6, kernel = 5, stride = 2, padding = 2, \
groups = 3, then = ["relu"] },
  { kind = "flatten", name = "flat" },
  { kind = "linear", name = "last", out_features = "classes", then = ["softmax"] },
]
"""
FREESTANDING = (
    "-std=c99", "-O1", "-ffreestanding", "-fno-strict-aliasing", "-fno-tree-loop-distribute-patterns",
    "-fno-math-errno", "-Wall", "-Wextra", "-Werror",
)  # fmt: skip


def network(text: str, folder: Path) -> Workload:
    """Return the network that ``text`` describes."""
    path = folder / "network.toml"
    path.write_text(text, encoding="utf-8")
    return load_network(path)


def setting(workload: Workload, board: str = "stm32l4r5") -> Setting:
    """Return a setting in which nothing has run: the largest unit of each operator is taken."""
    profile = load_board(board)
    return Setting(profile, profile.operating_points[0].name, Work(workload, {}, 40, 5, 100, (), ()))


def element_cost(operation: str, pass_: str, dtype: str) -> ElementCost:
    """Return a price of an element operation."""
    cycles = Quantity(value=5, low=1, high=9, kind=Evidence.ASSUMED, source="estimate")
    return ElementCost(
        library="any", operation=operation, pass_=pass_, dtype=dtype, cores=1, cycles_per_element=cycles
    )


def element_kinds() -> list[tuple[str, str, str]]:
    """Return every element operation with its passes and dtypes that a loop is written for."""
    found = [(word, pass_, "fp32") for word in FP32_OPERATIONS for pass_ in ("fwd", "bwd_input")]
    found += [(word, "fwd", "int8") for word in INT8_OPERATIONS]
    for word in ANY_OPERATIONS:
        pass_ = "update" if word.startswith("update_") else "fwd"
        found += [(word, pass_, dtype) for dtype in ("fp32", "int8")]
    return found


def every_case(folder: Path, board: str = "stm32l4r5") -> list[Case]:
    """Return every kernel in every pass and dtype, and every element operation."""
    places = {
        "images": setting(network(IMAGES, folder), board),
        "series": setting(network(SERIES, folder), board),
    }
    cases = [
        kernel_case(
            places["series" if operator == "conv1d" else "images"], (operator, pass_, dtype), ("path",)
        )
        for operator in OPERATORS
        for pass_, dtype in WIDTHS
    ]
    return cases + [
        element_case(places["images"], element_cost(*kind), ("path",)) for kind in element_kinds()
    ]


def write_sources(cases: Sequence[Case], folder: Path) -> Path:
    """Write the C files of ``cases`` into ``folder``."""
    folder.mkdir(exist_ok=True)
    for name in SHARED:
        (folder / name).write_text(shared_text(name), encoding="utf-8")
    (folder / CASES).write_text(cases_text(cases, "title"), encoding="utf-8")
    return folder


def tool(name: str) -> str | None:
    """Return the path of a program, None where it is not installed."""
    return shutil.which(name)


def run(*command: str | Path, seconds: int = 120) -> subprocess.CompletedProcess[bytes]:
    """Run a command; its output is bytes."""
    return subprocess.run([str(word) for word in command], capture_output=True, timeout=seconds, check=False)
