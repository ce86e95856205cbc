"""Model files and modules of other programs, from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dse.errors import Problem, UserError
from dse.workload import Workload
from dse.workload.model.load import ImportedModel, is_module, model_of_file, model_of_module
from dse.workload.model.options import Lowered
from dse.workload.names import AXIS, changes_of, is_model_file, split_name
from dse.workload.save import save_network as save


def import_model(
    source: str | Path | Any,
    *,
    input_shape: Sequence[int] | None = None,
    batch_norm: str | None = None,
    classes: int | None = None,
    output: str | None = None,
    axes: Mapping[str, int] | None = None,
) -> ImportedModel:
    """Read a model of another program, also one that cannot be planned.

    The result has ``.model`` (what the file says), ``.rows`` and ``.to_frame()`` (a row per operation),
    ``.problems`` (what keeps it from being planned), and, where nothing does, ``.workload`` (the network, as
    ``load_network`` gives it) and ``.parameters`` (its numbers).

    Parameters
    ----------
    source: the path of an .onnx, .tflite or .pt2 file, options behind an ``@`` allowed; or a torch.nn.Module.
    input_shape: of one sample of a module: (C, H, W), (C, L) or (F,).
    batch_norm: "keep", or "fold" into the weights before.
    classes: outputs of a new last layer.
    output: node whose tensor is the result.
    axes: sizes of dynamic axes, by name.

    Raises UserError with every wrong option, and where the file cannot be read.

    """
    given = {
        "batch_norm": batch_norm, "classes": classes, "output": output,
        **{f"{AXIS}{name}": size for name, size in (axes or {}).items()},
    }  # fmt: skip
    changes = [(key, value) for key, value in given.items() if value is not None]
    if is_module(source):
        return model_of_module(source, input_shape, changes)
    if not isinstance(source, str | os.PathLike):
        found = f"a {type(source).__name__}"
        raise UserError(Problem("model", "", found, "the path of a model file, or a torch.nn.Module"))
    name, written = split_name(str(source))
    if not is_model_file(name):
        raise UserError(Problem(name, "", "no model file", "an .onnx, .tflite or .pt2 file"))
    if input_shape is not None:
        raise UserError(Problem(name, "input_shape", f"{input_shape}", "for a module alone"))
    return model_of_file(name, [*changes_of(written), *changes])


def save_network(network: Workload | ImportedModel | Lowered, folder: str | Path, *, name: str = "") -> Path:
    """Write a network as TOML, its numbers as .npz beside it, and return the path of the TOML.

    Parameters
    ----------
    network: a loaded network, or an imported model, whose quantisation is kept then too.
    folder: made where it is not there.
    name: of the files; the network's own where empty.

    Raises UserError where the model cannot be planned, and where nothing can be written there.

    """
    return save(network.lowered if isinstance(network, ImportedModel) else network, folder, name=name)
