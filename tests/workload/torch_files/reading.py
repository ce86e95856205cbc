"""Exports modules and reads them again, through a real archive on disk."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dse.workload.model.graph import Model
from dse.workload.torch import read_archive
from tests.workload.exporters.torch_writer import archive_of, decomposed, exported

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


def read_back(
    module: nn.Module,
    *example: Tensor,
    core: bool = False,
    axes: Mapping[str, int] | None = None,
    **options: Any,
) -> Model:
    """Return a module as it is read from its archive; ``core``: in decomposed form."""
    program = exported(module, *example, **options)
    return read_bytes(archive_of(decomposed(program) if core else program), axes)


def read_bytes(data: bytes, axes: Mapping[str, int] | None = None) -> Model:
    """Return what the bytes of an archive are read as."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt2"
        path.write_bytes(data)
        return read_archive(path, axes or {})


def entries(data: bytes) -> dict[str, bytes]:
    """Entries of an archive by their path below its top folder."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(found: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of these entries."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in found.items():
            archive.writestr(f"net/{name}", content)
    return stream.getvalue()


def edited(data: bytes, path: str, change: Callable[[Any], object]) -> bytes:
    """Return an archive with one entry of JSON changed in place."""
    found = entries(data)
    document = json.loads(found[path])
    change(document)
    return packed({**found, path: json.dumps(document).encode()})


def graph_of(document: Any) -> Any:
    """Return the graph inside a parsed model.json."""
    return document["graph_module"]["graph"]


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return ``module`` in evaluation mode with random parameters and statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                low = 0.5 if name.endswith("running_var") else -0.5
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
    return module.eval()
