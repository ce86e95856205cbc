"""Networks of the program as real model files in every format that is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from dse.training.parameters import fold, initial_parameters
from dse.workload import Workload
from dse.workload.parameters import Parameters

Write = Callable[[Workload, Parameters], bytes]


def lively(workload: Workload, seed: int = 1) -> Parameters:
    """Return drawn numbers, no two of them alike: biases, scales and statistics too."""
    random = np.random.default_rng(seed)
    found = initial_parameters(workload, seed)
    for name, array in found.items():
        part = name.rpartition(".")[2]
        if part != "weight":
            spread = random.random(array.shape).astype(np.float32)
            found[name] = (
                spread + np.float32(0.5) if part in ("gamma", "variance") else spread - np.float32(0.5)
            )
    return found


def written_tflite(workload: Workload, parameters: Parameters) -> bytes:
    from tests.workload.exporters.tflite_writer import tflite_bytes

    return tflite_bytes(workload, fold(workload, parameters))


def written_onnx(workload: Workload, parameters: Parameters) -> bytes:
    from tests.workload.exporters.onnx_writer import onnx_bytes

    return onnx_bytes(workload, parameters)


def written_torch(workload: Workload, parameters: Parameters) -> bytes:
    import torch

    from tests.workload.exporters.torch_writer import Net, archive_of, exported

    module = Net(workload, parameters).eval()
    return archive_of(exported(module, torch.zeros(1, *workload.input_shape)))


FORMATS: Mapping[str, tuple[str, Write]] = {
    "onnx": (".onnx", written_onnx),
    "tflite": (".tflite", written_tflite),
    "torch": (".pt2", written_torch),
}
"""Format -> the ending of its files, and what writes a network as one."""


def _int8_tflite(workload: Workload, folded: Parameters) -> bytes:
    from tests.workload.exporters.tflite_writer import tflite_bytes

    return tflite_bytes(workload, folded, int8=True)


def _int8_onnx(form: Literal["qdq", "qoperator"]) -> Write:
    def write(workload: Workload, folded: Parameters) -> bytes:
        from tests.workload.exporters.onnx_writer import onnx_bytes

        return onnx_bytes(workload, folded, form=form)

    return write


INTEGERS: Mapping[str, tuple[str, Write]] = {
    "tflite": (".tflite", _int8_tflite),
    "qdq": (".onnx", _int8_onnx("qdq")),
    "qoperator": (".onnx", _int8_onnx("qoperator")),
}
"""The same for integer weights, one scale per output channel; of networks whose batch norms are folded."""
