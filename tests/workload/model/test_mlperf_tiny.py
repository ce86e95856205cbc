"""The four networks of MLPerf Tiny, described as a TFLite file would, against tables worked out by hand.

MACs are out x in per group x kernel x positions, by hand from the published topologies. The numbers of
parameters are what Keras counts for the reference models: 78,666 / 24,908 / 269,992 / 221,794, with biases
and four numbers per channel of each batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from dse.workload import load_network
from dse.workload.base import Shape
from dse.workload.model.counts import node_rows
from dse.workload.model.graph import INPUT_PREFIX, Constant, Model, ModelInput, Node
from dse.workload.model.lower import lower


@dataclass
class File:
    """Nodes of a file with channels last; numbers are zeros, only their count matters."""

    input: Shape
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    last: str = INPUT_PREFIX + "x"

    def __post_init__(self) -> None:
        self.shapes[self.last] = self.input

    def add(self, name: str, operation: str, shape: Shape, *inputs: str, **more: object) -> str:
        sizes = more.pop("sizes", {})
        held = {
            part: Constant(part, size, "float32", 4 * int(np.prod(size)), np.ones(size, dtype=np.float32))
            for part, size in sizes.items()  # type: ignore[attr-defined]
        }
        axis = more.pop("channel_axis", None)
        self.nodes.append(
            Node(name, operation, inputs or (self.last,), shape, operation, more, held, channel_axis=axis)  # type: ignore[arg-type]
        )
        self.shapes[name], self.last = shape, name
        return name

    def conv(
        self,
        name: str,
        out: int,
        kernel: Shape,
        stride: int,
        positions: Shape,
        *source: str,
        depthwise: bool = False,
    ) -> str:
        sizes = self.shapes[source[0] if source else self.last]
        inside = 1 if depthwise else sizes[-1]
        pads = []
        for size, width, count in zip(sizes, kernel, positions, strict=False):
            total = max((count - 1) * stride + width - size, 0)
            pads.append((total // 2, total - total // 2))
        return self.add(
            name, "conv", (*positions, out), *source, channel_axis=2, kernel=kernel, stride=(stride, stride),
            pads=tuple(pads), groups=out if depthwise else 1,
            sizes={"weight": (out, inside, *kernel), "bias": (out,)},
        )  # fmt: skip

    def norm(self, *, relu: bool = True) -> str:
        shape, name = self.shapes[self.last], self.last
        sizes = dict.fromkeys(("gamma", "beta", "mean", "variance"), shape[-1:])
        self.add(f"{name}.norm", "batch_norm", shape, channel_axis=len(shape) - 1, epsilon=1e-3, sizes=sizes)
        return self.add(f"{name}.relu", "relu", shape) if relu else self.last

    def linear(self, name: str, out: int) -> str:
        inside = self.shapes[self.last][-1]
        return self.add(
            name, "linear", (out,), channel_axis=0, sizes={"weight": (out, inside), "bias": (out,)}
        )

    def classifier(self, kernel: Shape, classes: int) -> None:
        """An average over windows of ``kernel``; over all positions where there is none."""
        channels = self.shapes[self.last][-1]
        if kernel:
            self.add("pool", "avg_pool", (1, 1, channels), channel_axis=2, kernel=kernel, stride=kernel)
        else:
            self.add("pool", "global_avg_pool", (1, 1, channels), channel_axis=2, input_channel_axis=2)
        self.add("flat", "reshape", (channels,))
        self.linear("classifier", classes)
        self.add("softmax", "softmax", (classes,), axis=0)

    def model(self) -> Model:
        return Model(
            "net",
            "net.tflite",
            "TFLite",
            "",
            (ModelInput("x", self.input),),
            tuple(self.nodes),
            (self.last,),
            0,
        )


def resnet8() -> File:
    file = File((32, 32, 3))
    file.conv("conv1", 16, (3, 3), 1, (32, 32))
    before = file.norm()
    for stack, (out, side, stride) in enumerate(((16, 32, 1), (32, 16, 2), (64, 8, 2)), 1):
        file.conv(f"{stack}a", out, (3, 3), stride, (side, side))
        file.norm()
        file.conv(f"{stack}b", out, (3, 3), 1, (side, side))
        main = file.norm(relu=False)
        if stride == 2:
            before = file.conv(f"{stack}s", out, (1, 1), 2, (side, side), before)
        file.add(f"{stack}add", "add", (side, side, out), before, main)
        before = file.add(f"{stack}relu", "relu", (side, side, out))
    file.classifier((8, 8), 10)
    return file


def ds_cnn() -> File:
    file = File((490,))
    file.add("image", "reshape", (49, 10, 1))
    file.conv("conv1", 64, (10, 4), 2, (25, 5))
    file.norm()
    for number in range(2, 6):
        file.conv(f"dw{number}", 64, (3, 3), 1, (25, 5), depthwise=True)
        file.norm()
        file.conv(f"pw{number}", 64, (1, 1), 1, (25, 5))
        file.norm()
    file.classifier((24, 5), 12)
    return file


def autoencoder() -> File:
    file = File((640,))
    for number, out in enumerate((128, 128, 128, 128, 8, 128, 128, 128, 128), 1):
        file.linear(f"dense{number}", out)
        file.norm()
    file.linear("dense10", 640)
    return file


BLOCKS = (
    (16, 1, 48), (32, 2, 24), (32, 1, 24), (64, 2, 12), (64, 1, 12), (128, 2, 6), (128, 1, 6), (128, 1, 6),
    (128, 1, 6), (128, 1, 6), (128, 1, 6), (256, 2, 3), (256, 1, 3),
)  # fmt: skip


def mobilenet() -> File:
    file = File((96, 96, 3))
    file.conv("conv1", 8, (3, 3), 2, (48, 48))
    file.norm()
    for number, (out, stride, side) in enumerate(BLOCKS, 1):
        before = file.shapes[file.last][-1]
        file.conv(f"dw{number}", before, (3, 3), stride, (side, side), depthwise=True)
        file.norm()
        file.conv(f"pw{number}", out, (1, 1), 1, (side, side))
        file.norm()
    file.classifier((), 2)
    return file


TABLES: dict[str, tuple[File, list[int], int]] = {
    "resnet8": (
        resnet8(),
        [442368, 2359296, 2359296, 1179648, 2359296, 131072, 1179648, 2359296, 131072, 640],
        78666,
    ),
    "ds-cnn": (ds_cnn(), [320000, *[72000, 512000] * 4, 768], 24908),
    "autoencoder": (
        autoencoder(),
        [81920, *[16384] * 3, 1024, 1024, *[16384] * 3, 81920],
        269992,
    ),
    "mobilenet-v1-0.25-vww": (
        mobilenet(),
        [
            497664, 165888, 294912, 82944, 294912, 165888, 589824, 41472, 294912, 82944, 589824, 20736,
            294912,
            *[41472, 589824] * 5, 10368, 294912, 20736, 589824, 512,
        ],
        221794,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_macs_and_parameters_by_hand(name: str) -> None:
    file, macs, parameters = TABLES[name]
    rows = node_rows(file.model())
    assert [row.macs for row in rows if row.operation in ("conv", "linear")] == macs
    assert sum(row.macs or 0 for row in rows) == sum(macs)
    statistics = sum(
        node.constants[part].elements
        for node in file.model().nodes
        if node.operation == "batch_norm"
        for part in ("mean", "variance")
    )
    assert sum(row.parameters for row in rows) == parameters - statistics
    assert sum(row.parameter_bytes for row in rows) == 4 * parameters
    assert {row.activation_bits for row in rows} == {32}
    assert {row.weight_bits for row in rows if row.parameters} == {32}


def test_totals_are_the_published_ones() -> None:
    """Banbury et al., arXiv 2106.07597, and the models' own cards: 12.5, 2.7, 0.26 and 7.5 million MACs."""
    found = {name: sum(macs) / 1e6 for name, (_, macs, _) in TABLES.items()}
    wanted = {"resnet8": 12.5, "ds-cnn": 2.66, "autoencoder": 0.264, "mobilenet-v1-0.25-vww": 7.49}
    assert found == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize("name", TABLES)
def test_networks_are_those_of_the_zoo(name: str) -> None:
    lowered, zoo = lower(TABLES[name][0].model()), load_network(name)
    found = lowered.workload
    assert found.input_shape == zoo.input_shape
    count = len(zoo.layers)  # the file ends with its softmax, of which a network may say nothing
    assert [layer.kind for layer in found.layers][:count] == [layer.kind for layer in zoo.layers]
    assert found.shapes[:count] == zoo.shapes
    assert set(zoo.legal_cuts) <= set(found.legal_cuts)
    for one, other in zip(found.units, zoo.units, strict=True):
        for what in ("operator", "macs", "weight_params", "bias_params", "input_elements", "cut_layer"):
            assert getattr(one, what) == getattr(other, what), (one.name, what)
