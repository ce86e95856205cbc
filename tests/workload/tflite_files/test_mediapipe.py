"""Operators of TFLite files that MediaPipe adds to the schema's own."""

from __future__ import annotations

import pytest

from tests.workload.exporters.tflite_builder import TfliteBuilder
from tests.workload.tflite_files.samples import only, ramp, read


def test_the_transposed_convolution_of_mediapipe_has_its_shape_from_its_output() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 4, 4, 3)), build.tensor("y", (1, 8, 8, 5))
    given = [build.constant("w", ramp(5, 2, 2, 3)), build.constant("b", ramp(5))]
    build.operator("CUSTOM:Convolution2DTransposeBias", [source, *given], target)
    node = only(read(build, [source], [target]))
    assert (node.operation, node.shape, node.attributes["stride"]) == ("conv_transpose", (8, 8, 5), (2, 2))
    assert {name: constant.shape for name, constant in node.constants.items()} == {
        "weight": (3, 5, 2, 2), "bias": (5,)
    }  # fmt: skip


@pytest.mark.parametrize("out", [(1, 7, 8, 5), (1, 8, 8, 4)])
def test_one_whose_output_does_not_fit_is_a_fault(out: tuple[int, ...]) -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 4, 4, 3)), build.tensor("y", out)
    given = [build.constant("w", ramp(5, 2, 2, 3)), build.constant("b", ramp(5))]
    build.operator("CUSTOM:Convolution2DTransposeBias", [source, *given], target)
    model = read(build, [source], [target])
    assert model.faults
    assert (model.nodes[0].operation, model.nodes[0].shape) == ("unknown", out[1:])
