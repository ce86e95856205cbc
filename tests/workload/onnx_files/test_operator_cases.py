"""The test cases of ONNX's own operators: no shape may differ from the stored result, no constant either."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dse.errors import UserError
from tests.workload.onnx_files.walks import walk

TRAINING = ("test_training_dropout",)
"""Cases whose result is random on purpose."""


def held(case: Any, inputs: list[Any], first: int) -> Any:
    """The model of a case without any claim of shapes, its inputs from ``first`` on as constants."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for place, (info, value) in enumerate(zip(model.graph.input, inputs, strict=False)):
        if place >= first and isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
            model.graph.initializer.append(numpy_helper.from_array(value, info.name))
    for info in model.graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return model


def compare(name: str, tensor: Any, value: np.ndarray, tally: Counter[str]) -> None:
    if tensor is None or tensor.shape is None:
        tally["not known"] += 1
        return
    assert tensor.shape == value.shape, name
    tally["shape"] += 1
    if tensor.value is not None and value.dtype.kind in "iufb" and not name.startswith(TRAINING):
        np.testing.assert_allclose(tensor.value.astype(float), value.astype(float), 1e-4, 1e-5, err_msg=name)
        tally["value"] += 1


@pytest.mark.slow
def test_operator_cases(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = [case for case in collect_testcases(None) if case.model is not None]
    tally: Counter[str] = Counter()
    for case in cases:
        for inputs, outputs in case.data_sets:
            for first in (99, 2, 1, 0):
                if first < 99 and first >= len(inputs):
                    continue
                try:
                    found = walk(held(case, inputs, first), tmp_path, batch=False).tensors
                except UserError:  # an axis of length zero is none here
                    tally["refused"] += 1
                    continue
                for info, value in zip(case.model.graph.output, outputs, strict=False):
                    if isinstance(value, np.ndarray) and value.size:
                        compare(case.name, found.get(info.name), value, tally)
    assert tally["shape"] > 3900
    assert tally["value"] > 700
    assert tally["refused"] < 60
