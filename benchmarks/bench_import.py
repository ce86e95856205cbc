"""What taking in a model file of 5 MB costs, program start included, beside what its parser alone takes.

Each figure is the least processor time of some fresh processes, which wait for nothing but a file. The model
is mobilenet-v1 at 0.625 of its width with drawn weights, written as ONNX, as TFLite and as an archive of
torch.export.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench_startup import least_cpu_s
from benchmarks.figures import Figure
from dse.workload import Workload, load_network

NETWORK = "mobilenet-v1@width=0.625"
LIMIT_S = 2.0
PARSERS = {
    ".onnx": "import onnx; onnx.load({path!r})",
    ".tflite": "import tflite; tflite.Model.GetRootAs(open({path!r}, 'rb').read(), 0).SubgraphsLength()",
    ".pt2": "import torch; torch.export.load({path!r})",
}
"""Ending -> what opens the file and makes nothing of it."""


def measure() -> list[Figure]:
    """Return what ``dse model show`` and ``load_network`` take for each format."""
    network = load_network(NETWORK)
    with tempfile.TemporaryDirectory() as folder:
        return [figure for path in written(network, Path(folder)) for figure in figures(path)]


def figures(path: Path) -> Iterator[Figure]:
    """Measure one file."""
    size = f"{path.stat().st_size / 1e6:.2f} MB"
    name, text = path.suffix, str(path)
    load = f"from dse.workload import load_network; load_network({text!r})"
    shown_s = least_cpu_s([sys.executable, "-m", "dse.cli", "model", "show", text])
    load_s = least_cpu_s([sys.executable, "-c", load])
    alone_s = least_cpu_s([sys.executable, "-c", PARSERS[name].format(path=text)])
    yield Figure(f"dse model show, {name}", shown_s, "s CPU", "<=", LIMIT_S, size)
    yield Figure("  load_network alone", load_s, "s CPU", "<=", LIMIT_S)
    yield Figure("  its parser alone", alone_s, "s CPU", note=PARSERS[name].partition(";")[0])
    yield Figure("  load_network over parser", load_s / alone_s, "x")


def written(network: Workload, folder: Path) -> Iterator[Path]:
    """Write ``network`` in every format."""
    from tests.workload.round_trip import FORMATS, lively

    for name, (ending, write) in FORMATS.items():
        path = folder / f"{name}{ending}"
        path.write_bytes(write(network, lively(network)))
        yield path
