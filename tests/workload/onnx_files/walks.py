"""Walks over ONNX files down to the tensors, batch axes included: what the tests of shapes compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dse.workload.onnx.document import parse
from dse.workload.onnx.read import _model, _prepared
from dse.workload.onnx.reading import Reading
from dse.workload.onnx.storage import Storage


def walk(model: Any, folder: Path, *, batch: bool = True) -> Reading:
    """Return the walk over an onnx model; without ``batch`` no axis of an input is taken as one."""
    path = folder / "walked.onnx"
    data = model.SerializeToString()
    path.write_bytes(data)
    graph, storage = parse(str(path), data), Storage(path)
    reading, nodes, inputs = _prepared(str(path), graph, {}, storage)
    if not batch:
        reading.tensors = {name: replace(tensor, batch=None) for name, tensor in reading.tensors.items()}
    for node in nodes:
        reading.node(node)
    _model(path, reading, inputs, len(data), 0)
    return reading
