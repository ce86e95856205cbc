"""Networks with numbers of their own, for tests of what becomes of the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dse.workload import Workload, load_network
from dse.workload.parameters import parameter_shapes, with_numbers
from tests.workload.network_files import GOOD

Arrays = dict[str, Any]


def drawn(workload: Workload, seed: int = 0) -> Arrays:
    """Return numbers of every parameter of ``workload``, all of them different."""
    random = np.random.default_rng(seed)
    return {
        name: (random.random(shape) + 0.1).astype(np.float32)
        for name, shape in parameter_shapes(workload).items()
    }


def good(folder: Path) -> Workload:
    path = folder / "good-source.toml"
    path.write_text(GOOD, encoding="utf-8")
    found = load_network(path)
    return with_numbers(found, drawn(found), "somewhere/model.onnx")
