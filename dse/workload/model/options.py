"""What a user may say about a model file, and what its lowering gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError, allowed_names
from dse.workload.base import Shape
from dse.workload.graph import Workload
from dse.workload.model.graph import Quantisation

BATCH_NORM: Final = ("keep", "fold")


@dataclass(frozen=True)
class ImportOptions:
    """How a model file becomes a network.

    Parameters
    ----------
    axes: sizes of axes that the file leaves open, by their names.
    batch_norm: keep batch norms behind their convolution, or fold them into its weights.
    classes: outputs of a new last layer; None keeps the model's own.
    output: node whose tensor is the result; None takes the model's only output.

    Raises UserError for values that are not allowed.

    """

    axes: Mapping[str, int] = field(default_factory=dict)
    batch_norm: Literal["keep", "fold"] = "keep"
    classes: int | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.batch_norm not in BATCH_NORM:
            rule = allowed_names(self.batch_norm, BATCH_NORM)
            problems.append(Problem("options", "batch_norm", repr(self.batch_norm), rule))
        sizes = {f"axis.{name}": size for name, size in self.axes.items()} | {"classes": self.classes}
        for key, size in sizes.items():
            if size is not None and (type(size) is not int or size < 1):
                problems.append(Problem("options", key, repr(size), "a whole number of at least 1"))
        if problems:
            raise UserError(problems)


@dataclass(frozen=True, eq=False)
class Lowered:
    """A model file as a network of the planner.

    ``parameters`` holds what the file has of ``<layer>.weight``, ``.bias``, ``.gamma``, ``.beta``, ``.mean``
    and ``.variance``; ``quantisation`` that of ``<layer>.weight``, ``<layer>.output`` and ``input``.
    ``notes`` say what was chosen, dropped or changed.
    """

    workload: Workload
    parameters: dict[str, NDArray[np.float32]]
    quantisation: Mapping[str, Quantisation]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NodeRow:
    """One operation of a model file for people: what it costs, and what the planner takes it for.

    ``shape`` is without batch, channels first, and None where it is not known; ``macs`` is None where nobody
    can say. ``parameters`` learn; the statistics of a batch norm do not, and are in ``parameter_bytes``.
    ``becomes`` is a layer kind, ``"forward only"``, ``"view"``, ``"folded"`` (into another layer's
    numbers) or ``"unknown"``.
    """

    name: str
    operation: str
    source_operation: str
    shape: Shape | None
    macs: int | None
    parameters: int
    parameter_bytes: int
    weight_bits: int | None
    activation_bits: int | None
    becomes: str
