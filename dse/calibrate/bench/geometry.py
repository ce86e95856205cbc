"""The shape of one kernel in C, taken from a layer and shrunk until its tensors fit into RAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from dse.workload import Workload
from dse.workload.base import Layer, Shape
from dse.workload.convolutions import Convolution
from dse.workload.windows import Plane, Sliding

ALIGNMENT: Final = 8
MOST_CYCLES: Final = 1e9
"""Cycles of one run: a counter of 32 bits must not wrap, and nobody waits for minutes."""

WIDTHS: Final[Mapping[tuple[str, str], tuple[int, int, int]]] = {
    ("fwd", "fp32"): (4, 4, 4), ("bwd_input", "fp32"): (4, 4, 4), ("bwd_weight", "fp32"): (4, 4, 4),
    ("fwd", "int8"): (1, 1, 1), ("bwd_input", "int8"): (4, 1, 4), ("bwd_weight", "int8"): (1, 4, 4),
    ("bwd_input_int8", "int8"): (4, 1, 1), ("bwd_weight_int8", "int8"): (1, 4, 1),
}  # fmt: skip
"""(pass, dtype) -> bytes of an input, a weight and an output element; what is summed has four."""


def aligned(size: int) -> int:
    """Return ``size`` rounded up to the alignment of a tensor."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Geometry:
    """A window over rows and columns: channels, taps, strides, distance of taps, output positions, groups."""

    inputs: int
    outputs: int
    groups: int
    taps: tuple[int, int]
    strides: tuple[int, int]
    apart: tuple[int, int]
    positions: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the input that the taps meet, padding included."""
        numbers = zip(self.positions, self.strides, self.taps, self.apart, strict=True)
        rows, columns = (
            (count - 1) * stride + (taps - 1) * apart + 1 for count, stride, taps, apart in numbers
        )
        return rows, columns

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Elements of input, weights and output."""
        taps, places = self.taps[0] * self.taps[1], self.positions[0] * self.positions[1]
        weights = self.outputs * (self.inputs // self.groups) * taps
        return self.padded[0] * self.padded[1] * self.inputs, weights, places * self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass."""
        return self.sizes[1] * self.positions[0] * self.positions[1]

    def arena_bytes(self, pass_: str, dtype: str) -> int:
        """Bytes of the tensors of a pass."""
        widths = WIDTHS[pass_, dtype]
        return sum(aligned(size * width) for size, width in zip(self.sizes, widths, strict=True))

    @property
    def text(self) -> str:
        """Write the shape for people: what is read (padded), taps, what is written."""
        read, written = (
            "x".join(map(str, (channels, *places)))
            for channels, places in ((self.inputs, self.padded), (self.outputs, self.positions))
        )
        window = f"{self.taps[0]}x{self.taps[1]}"
        stride = f" stride {max(self.strides)}" if max(self.strides) > 1 else ""
        return f"{read} to {written} by {window}{stride}"

    def layout(self, pass_: str, dtype: str) -> str:
        """Return where input, weights and output begin in ``dse_arena``, with their type and axes."""
        axes = (
            ("x", (*self.padded, self.inputs)),
            ("w", (self.outputs, *self.taps, self.inputs // self.groups)),
            ("y", (*self.positions, self.outputs)),
        )
        words = {1: "int8_t", 4: "int32_t" if pass_.endswith("_int8") else "float"}
        parts, at = [], 0
        for (name, sizes), size, width in zip(axes, self.sizes, WIDTHS[pass_, dtype], strict=True):
            parts.append(f"{words[width]} {name}{''.join(f'[{extent}]' for extent in sizes)} at {at}")
            at += aligned(size * width)
        return ", ".join(parts)

    def smaller(self) -> Geometry:
        """Return the shape with half of its longer side, or else of its channels."""
        rows, columns = self.positions
        if max(rows, columns) > 1:
            halves = (-(-rows // 2), columns) if rows >= columns else (rows, -(-columns // 2))
            return replace(self, positions=halves)
        if self.groups > 1:
            groups = self.groups // 2
            inputs, outputs = self.inputs // self.groups, self.outputs // self.groups
            return replace(self, groups=groups, inputs=inputs * groups, outputs=outputs * groups)
        if self.outputs >= self.inputs:
            return replace(self, outputs=-(-self.outputs // 2))
        return replace(self, inputs=-(-self.inputs // 2))

    def fitting(self, pass_: str, dtype: str, room_bytes: float, most_macs: float) -> Geometry:
        """Return the largest shape on the way down whose tensors fit and that is not too long."""
        shape = self
        while shape.macs > 1 and (shape.arena_bytes(pass_, dtype) > room_bytes or shape.macs > most_macs):
            shape = shape.smaller()
        return shape

    def defines(self) -> dict[str, int]:
        """Return the macros that the kernels in C read."""
        return {
            "DSE_ROWS_IN": self.padded[0], "DSE_COLUMNS_IN": self.padded[1], "DSE_IN": self.inputs,
            "DSE_OUT": self.outputs, "DSE_GROUPS": self.groups,
            "DSE_TAP_ROWS": self.taps[0], "DSE_TAP_COLUMNS": self.taps[1],
            "DSE_STRIDE_ROWS": self.strides[0], "DSE_STRIDE_COLUMNS": self.strides[1],
            "DSE_APART_ROWS": self.apart[0], "DSE_APART_COLUMNS": self.apart[1],
            "DSE_ROWS_OUT": self.positions[0], "DSE_COLUMNS_OUT": self.positions[1],
        }  # fmt: skip


def layer_geometry(workload: Workload, index: int) -> Geometry:
    """Return the shape of a layer that multiplies."""
    layer, shape = workload.layers[index], workload.shape_of(workload.inputs[index][0])
    if not isinstance(layer, Convolution):  # linear
        return Geometry(shape[0], workload.shapes[index][0], 1, (1, 1), (1, 1), (1, 1), (1, 1))
    outputs, groups, _ = layer.geometry(shape)
    return replace(window_geometry(layer, shape, outputs), groups=groups)


def window_geometry(layer: Layer, shape: Shape, outputs: int) -> Geometry:
    """Return the shape of a layer that slides a window, or that mixes channels at each position."""
    if isinstance(layer, Sliding):
        plane = Plane.of(layer, shape)
        return Geometry(shape[0], outputs, 1, plane.kernel, plane.stride, plane.dilation, plane.positions)
    rows, columns = (1, *shape[1:])[-2:] if len(shape) > 1 else (1, 1)
    return Geometry(shape[0], outputs, 1, (1, 1), (1, 1), (1, 1), (rows, columns))
