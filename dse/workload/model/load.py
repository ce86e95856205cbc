"""Networks out of model files and modules: which reader takes them, with which options, under which name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Final

from dse.errors import Problem, UserError, allowed_names
from dse.workload import fields as read
from dse.workload.graph import Workload
from dse.workload.model.graph import Model
from dse.workload.model.limits import clean_name
from dse.workload.model.options import BATCH_NORM, ImportOptions, Lowered, NodeRow
from dse.workload.names import AXIS, CHANGES, MODEL_CHANGES, MODEL_SUFFIXES, REFUSED, suffix_of
from dse.workload.parameters import Parameters, with_numbers

EXTRAS: Final = {"onnx": "onnx", "tflite": "tflite", "flatbuffers": "tflite", "torch": "train"}
"""Package that a reader needs -> the extra of this program that brings it."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class ImportedModel:
    """A model as it was read, and, where that is possible, the network that it becomes."""

    model: Model
    options: ImportOptions

    @cached_property
    def lowered(self) -> Lowered:
        """The network with its parameters and quantisation; UserError says what keeps it from being one."""
        from dse.workload.model.lower import lower

        found = lower(self.model, self.options)
        network = with_numbers(found.workload, found.parameters, self.model.file)
        return replace(found, workload=replace(network, name=_name(self.model, self.options)))

    @property
    def workload(self) -> Workload:
        """The network, with the file's numbers to start training from; raises UserError, see ``lowered``."""
        return self.lowered.workload

    @property
    def parameters(self) -> Parameters:
        """The file's numbers under the names of the network's parameters; raises UserError."""
        return dict(self.workload.numbers)

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """What keeps the model from being planned; empty where nothing does."""
        try:
            _ = self.lowered
        except UserError as error:
            return error.problems
        return ()

    @cached_property
    def rows(self) -> tuple[NodeRow, ...]:
        """One row per operation of the file: shape, MACs, bytes, bits, and what it becomes."""
        from dse.workload.model.counts import node_rows

        return node_rows(self.model)

    def to_frame(self) -> Any:
        """Return the operations as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows])


def model_of_file(path: str, changes: Sequence[tuple[str, Any]] = ()) -> ImportedModel:
    """Read a model file.

    Parameters
    ----------
    path: of an .onnx, .tflite, .lite or .pt2 file.
    changes: pairs of ``classes``, ``batch_norm``, ``output`` or ``axis.NAME`` with a value.

    Raises UserError with every wrong option, where the file is of a kind that is not read and why, where the
    package that reads it is not installed, and where the file is faulty.

    """
    if suffix_of(path) in REFUSED:
        raise UserError(Problem(path, "", *REFUSED[suffix_of(path)]))
    options = import_options(path, changes)
    reader = _READERS[MODEL_SUFFIXES[suffix_of(path)]]
    return ImportedModel(_installed(path, lambda: reader(Path(path), options.axes)), options)


def model_of_module(
    module: Any, input_shape: Sequence[int] | None, changes: Sequence[tuple[str, Any]] = ()
) -> ImportedModel:
    """Read a PyTorch module that is in memory.

    Parameters
    ----------
    module: a ``torch.nn.Module``; its own code runs once, in evaluation mode, to be traced.
    input_shape: of one sample, without batch: (C, H, W), (C, L) or (F,).
    changes: see ``model_of_file``.

    Raises UserError with every wrong option, and where the module cannot be exported.

    """
    name = type(module).__name__
    options = import_options(name, changes)
    if input_shape is None:
        raise UserError(Problem(name, "input_shape", "missing", "of one sample, such as (3, 32, 32)"))
    sizes = tuple(input_shape)
    if not sizes or not all(type(size) is int and 1 <= size <= read.MOST for size in sizes):
        raise UserError(Problem(name, "input_shape", repr(input_shape), "sizes of one sample, without batch"))

    def made() -> Model:
        from dse.workload.torch import read_module

        return read_module(module, input_shape=sizes, axes=options.axes, name=name)

    return ImportedModel(_installed(name, made), options)


def is_module(found: object) -> bool:
    """Whether ``found`` is a PyTorch module; does not import torch."""
    return any(
        cls.__name__ == "Module" and cls.__module__ == "torch.nn.modules.module"
        for cls in type(found).__mro__
    )


# --- readers ---


def _onnx(path: Path, axes: Mapping[str, int]) -> Model:
    from dse.workload.onnx import read_onnx

    return read_onnx(path, axes)


def _tflite(path: Path, axes: Mapping[str, int]) -> Model:
    from dse.workload.tflite import read_tflite

    return read_tflite(path, axes)


def _torch(path: Path, axes: Mapping[str, int]) -> Model:
    from dse.workload.torch import read_archive

    return read_archive(path, axes)


_READERS: Final[Mapping[str, Callable[[Path, Mapping[str, int]], Model]]] = {
    "onnx": _onnx,
    "tflite": _tflite,
    "torch": _torch,
}


def _installed(file: str, reader: Callable[[], Model]) -> Model:
    """Return what ``reader`` reads; a package that it lacks becomes a sentence on how to install it."""
    try:
        return reader()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        found = f"reading it takes the package {package}, which is not installed"
        raise UserError(Problem(file, "", found, f"pip install 'tinyml-dse[{EXTRAS[package]}]'")) from None


# --- options ---


def import_options(file: str, changes: Sequence[tuple[str, Any]]) -> ImportOptions:
    """Check the options of a model file; all problems at once."""
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for key, value in changes:
        if key in values:
            problems.append(Problem(file, key, "given twice", "say it once"))
            continue
        values[key] = None
        try:
            values[key] = _option(key, value)
        except read.Misfit as misfit:
            problems.append(Problem(file, key, misfit.found, misfit.allowed))
    if problems:
        raise UserError(problems)
    axes = {key.removeprefix(AXIS): value for key, value in values.items() if key.startswith(AXIS)}
    own = {key: value for key, value in values.items() if not key.startswith(AXIS)}
    return ImportOptions(axes=axes, **own)


def _option(key: str, value: Any) -> Any:
    if isinstance(value, str) and key != "output" and _NUMBER.fullmatch(value):
        value = int(value)
    if key == "classes" or (key.startswith(AXIS) and key != AXIS):
        return read.count(value)
    if key == "batch_norm":
        return read.word(value, BATCH_NORM, "way with batch norms")
    if key == "output":
        return read.text(value)
    if key in CHANGES:
        rule = "a model file has fixed sizes: export it with others; a dynamic axis is set by axis.NAME=N"
        raise read.Misfit(repr(value), rule)
    raise read.Misfit("unknown change", allowed_names(key, (*MODEL_CHANGES, f"{AXIS}NAME")))


def _name(model: Model, options: ImportOptions) -> str:
    """Return the file's stem with the options that differ from what the file says."""
    shapes = {node.name: node.shape for node in model.nodes}
    own = prod(shapes.get(model.outputs[0]) or (0,)) if model.outputs else 0
    said: dict[str, object] = {
        "classes": options.classes if options.classes != own else None,
        "batch_norm": options.batch_norm if options.batch_norm != BATCH_NORM[0] else None,
        "output": options.output if (options.output,) != model.outputs else None,
        **{f"{AXIS}{name}": size for name, size in sorted(options.axes.items())},
    }
    suffix = ",".join(f"{key}={value}" for key, value in said.items() if value is not None)
    stem = Path(model.file).stem if suffix_of(model.file) in MODEL_SUFFIXES else model.name
    return clean_name(f"{stem}@{suffix}" if suffix else stem)
