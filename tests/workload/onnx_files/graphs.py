"""Small ONNX models for the tests: nodes in, a path or a model out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dse.workload.model import Model, Node
from dse.workload.onnx import read_onnx

Array = NDArray[Any]
Dims = Sequence[int | str | None]

node = helper.make_node


def proto(
    nodes: Sequence[Any],
    inputs: Mapping[str, Dims | None],
    outputs: Sequence[str | tuple[str, Dims]],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    domains: Mapping[str, int] | None = None,
    claims: Mapping[str, Dims] | None = None,
) -> Any:
    """Return a model; outputs are names, or names with the dims that the file claims."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()]
    pairs = [(entry, None) if isinstance(entry, str) else entry for entry in outputs]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in pairs]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    said = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (claims or {}).items()
    ]
    graph = helper.make_graph(list(nodes), "small", given, results, held, value_info=said)
    words = {"": opset, **(domains or {})}
    imports = [helper.make_opsetid(domain, version) for domain, version in words.items()]
    return helper.make_model(graph, opset_imports=imports)


def read(model: Any, folder: Path, **axes: int) -> Model:
    """Write a model (or bytes) into ``folder`` and read it."""
    path = folder / "small.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return read_onnx(path, axes)


def single(
    folder: Path, op: str, x: Dims, *held: Array | None, domain: str = "", opset: int = 17, **more: Any
) -> Node:
    """Return what one operator on input ``x`` (with the batch) and constants becomes; no fault is allowed."""
    names = ["" if value is None else f"c{place}" for place, value in enumerate(held)]
    constants = {name: value for name, value in zip(names, held, strict=True) if value is not None}
    model = proto(
        [node(op, ["x", *names], ["y"], op, domain=domain, **more)],
        {"x": x},
        ["y"],
        constants,
        opset=opset,
        domains={domain: 1} if domain else None,
    )
    found = read(model, folder)
    assert found.faults == ()
    assert len(found.nodes) == 1
    return found.nodes[0]


def words(model: Model) -> list[str]:
    """Operations in order."""
    return [entry.operation for entry in model.nodes]


def integers(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def reals(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
