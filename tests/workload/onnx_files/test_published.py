"""Published networks and exported layers that come with the onnx package: parameters, MACs, shapes.

Parameters and MACs are those of the networks' papers and model collections; shapes are checked against the
results that are stored beside the files, and against ONNX's own shape inference.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper, shape_inference

from dse.workload.model import Node
from dse.workload.onnx import read_onnx
from tests.workload.onnx_files.walks import walk

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = DATA / "light"

PUBLISHED = {
    # parameters [M] and MACs [G] as published, batch norms counted with four numbers per channel
    "vgg19": (143.67, 19.63),  # Simonyan and Zisserman, arXiv 1409.1556: 144 M; 19.6 G
    "resnet50": (25.61, 4.089),  # He et al., arXiv 1512.03385: 25.6 M; 4.1 G with the stride on the 3x3
    "squeezenet": (1.2355, 0.349),  # version 1.1 of arXiv 1602.07360: 1.235 M; 0.35 G
    "densenet121": (8.146, 2.834),  # Huang et al., arXiv 1608.06993: 7.98 M and two numbers per norm; 2.83 G
    "bvlc_alexnet": (60.965, 0.6546),  # arXiv 1404.5997 in Caffe's grouping: 61 M; 0.66 G with borders of 224
    "inception_v1": (6.9986, 1.432),  # Szegedy et al., arXiv 1409.4842: 7 M; 1.43 G
}  # fmt: skip


def macs(node: Node) -> int:
    weight = node.constants.get("weight")
    if weight is None or node.shape is None:
        return 0
    return prod(weight.shape) * prod(node.shape[1:] if node.operation == "conv" else node.shape[:-1])


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs(name: str) -> None:
    model = read_onnx(LIGHT / f"light_{name}.onnx", {})
    parameters, wanted = PUBLISHED[name]
    assert model.faults == ()
    held = sum(one.elements for node in model.nodes for one in node.constants.values())
    assert held / 1e6 == pytest.approx(parameters, rel=5e-3)
    assert sum(map(macs, model.nodes)) / 1e9 == pytest.approx(wanted, rel=5e-3)
    assert model.nodes[-1].shape is not None
    assert prod(model.nodes[-1].shape) == 1000


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: path.stem)
def test_shapes_agree_with_onnx(path: Path, tmp_path: Path) -> None:
    """Every tensor of the file that ONNX's own inference, which is not used here, gives a shape."""
    theirs = shape_inference.infer_shapes(onnx.load(path))
    found = walk(onnx.load(path), tmp_path).tensors
    compared = 0
    for info in theirs.graph.value_info:
        dims = tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        if dims and all(dims) and info.name in found:
            assert found[info.name].shape == dims
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("group", ["pytorch-converted", "pytorch-operator"])
def test_layers_exported_by_torch_have_the_stored_shapes(group: str) -> None:
    """Files that torch exported one layer at a time (operator sets 6 and 7), with inputs and results."""
    compared = 0
    for folder in sorted((DATA / group).iterdir()):
        path = folder / "model.onnx"
        result = folder / "test_data_set_0" / "output_0.pb"
        stored = onnx.TensorProto()
        stored.ParseFromString(result.read_bytes())
        model = read_onnx(path, {})
        node = {one.name: one for one in model.nodes}.get(model.outputs[0]) if model.outputs else None
        if node is None or node.shape is None:
            continue
        whole = numpy_helper.to_array(stored).shape
        batched = model.inputs and any("batch" in note for note in model.notes)
        assert node.shape in ((whole[1:], whole) if not batched else (whole[1:],)), folder.name
        compared += 1
    assert compared >= {"pytorch-converted": 50, "pytorch-operator": 25}[group]
