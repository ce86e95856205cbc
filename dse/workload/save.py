"""Writes a network as the project's own files: its layers as TOML, its numbers as .npz beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.files import atomic_path, require_new_folder, require_writable_file
from dse.workload.archive import QUANTISATION, write_arrays
from dse.workload.base import Layer
from dse.workload.build import INPUT
from dse.workload.document import AXES
from dse.workload.entries import OWN_KEYS
from dse.workload.graph import Workload
from dse.workload.model.graph import Quantisation
from dse.workload.model.options import Lowered
from dse.workload.windows import Sliding

_NOT_IN_A_FILE_NAME: Final = re.compile(r"[^A-Za-z0-9_.+-]+")
_LONGEST_NAME: Final = 100
_WIDTH: Final = 110


def save_network(network: Workload | Lowered, folder: str | Path, *, name: str = "") -> Path:
    """Write a network so that ``load_network`` reads it back as it is, and return the path of its TOML.

    Beside ``NAME.toml`` stands ``NAME.npz`` where the network has numbers: its parameters under their names,
    and the quantisation of a model file as ``quantisation/<tensor>/scale``, ``zero_point``, ``bits``,
    ``signed`` and ``axis``. Each file appears complete or not at all.

    Parameters
    ----------
    network: a network, or a lowered model file, whose quantisation and notes are kept then.
    folder: made where it is not there.
    name: of the files; the network's own where empty.

    Raises UserError where nothing can be written there, and where the network has something that the TOML
    cannot hold (an input of four axes, more than 4096 layers).

    """
    from dse.workload.load import read_network

    lowered = network if isinstance(network, Lowered) else None
    workload = network.workload if isinstance(network, Lowered) else network
    stem = file_name(name or workload.name)
    place = require_new_folder(Path(folder))
    place.mkdir(exist_ok=True)
    path, numbers = place / f"{stem}.toml", place / f"{stem}.npz"
    arrays = {**workload.numbers, **_scales(lowered.quantisation if lowered else {})}
    text = network_text(workload, numbers.name if arrays else "", _comments(workload, lowered, stem))
    for file in (path, numbers):
        require_writable_file(file)
    if arrays:
        with atomic_path(numbers) as partial:
            write_arrays(partial, arrays)
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
        _require_same(workload, read_network(partial), path)
    return path


def file_name(name: str) -> str:
    """Return what a network's files are called.

    >>> file_name("mobilenet-v1@width=0.5,classes=10")
    'mobilenet-v1-width-0.5-classes-10'
    """
    return _NOT_IN_A_FILE_NAME.sub("-", name).strip("-.")[:_LONGEST_NAME] or "network"


def _require_same(workload: Workload, again: Workload, path: Path) -> None:
    """Raise UserError where what was written says something else."""
    same = workload.content_hash == again.content_hash and workload.numbers == again.numbers
    if not same:
        found = f"{workload.name} would not be read back as it is"
        raise UserError(Problem(str(path), "", found, "a network that the file can hold"))


def _scales(quantisation: Mapping[str, Quantisation]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for tensor, found in quantisation.items():
        start = f"{QUANTISATION}{tensor}/"
        arrays[f"{start}scale"] = np.asarray(found.scale, dtype="<f8")
        arrays[f"{start}zero_point"] = np.asarray(found.zero_point, dtype="<i8")
        arrays[f"{start}bits"] = np.asarray(found.bits, dtype="<i8")
        arrays[f"{start}signed"] = np.asarray(found.signed, dtype="<i8")
        if found.axis is not None:
            arrays[f"{start}axis"] = np.asarray(found.axis, dtype="<i8")
    return arrays


# --- TOML ---


def network_text(workload: Workload, weights: str = "", comments: Sequence[str] = ()) -> str:
    """Return a network as the text of a TOML file; ``weights`` names the file that holds its numbers."""
    axes = next((axes for axes in AXES if len(axes) == len(workload.input_shape)), None)
    if axes is None:
        found = f"an input of {len(workload.input_shape)} axes"
        raise UserError(Problem(workload.name, "input", found, "one to three axes, as the file holds"))
    sizes = dict(zip(axes, workload.input_shape, strict=True))
    lines = [
        *(f"# {_one_line(line)}" for line in comments),
        *(["", ""][: bool(comments)]),
        f"name = {_value(workload.name)}",
        f"title = {_value(workload.title or workload.name)}",
        f"source = {_value(workload.source or 'own')}",
        f"input = {_table(sizes)}",
        f"classes = {workload.classes}",
        f"legal_cuts = {_value(workload.legal_cuts)}",
    ]
    if weights:
        lines += [f"weights = {_value(weights)}"]
        lines += [f"weights_sha256 = {_value(workload.weights_sha256)}"] if workload.numbers else []
    layers = (f"  {_table(entry)}," for entry in _entries(workload))
    return "\n".join([*lines, "layers = [", *layers, "]"]) + "\n"


def _entries(workload: Workload) -> Iterator[dict[str, Any]]:
    """Yield the table of each layer; the input of one that reads the layer before it is left out."""
    head = workload.units[-1].layer if workload.units else -1
    before = INPUT
    for index, layer in enumerate(workload.layers):
        entry: dict[str, Any] = {"kind": layer.kind, "name": layer.name}
        names = [INPUT if place < 0 else workload.layers[place].name for place in workload.inputs[index]]
        if names != [before]:
            entry["inputs"] = names
        entry |= {key: value for key, value in _geometry(layer) if value != _default(layer, key)}
        if index == head:
            outputs = [key for key in ("out_channels", "out_features") if entry.get(key) == workload.classes]
            entry |= dict.fromkeys(outputs, "classes")
        yield entry
        before = layer.name


def _geometry(layer: Layer) -> Iterator[tuple[str, Any]]:
    for item in fields(layer):
        if item.name in OWN_KEYS or not item.init:
            continue
        value = getattr(layer, item.name)
        if isinstance(value, tuple) and isinstance(layer, Sliding):
            value = _short(value, layer.rank or 1)
        yield item.name, value


def _short(sizes: tuple[Any, ...], rank: int) -> Any:
    """Write one number for all axes where that reads back as the same."""
    same = len(sizes) == rank and len(set(sizes)) == 1 and isinstance(sizes[0], int)
    return sizes[0] if same else sizes


def _default(layer: Layer, key: str) -> Any:
    if isinstance(layer, Sliding) and key in ("stride", "dilation"):
        ones = (1,) * len(layer.kernel)
        return _short(layer.default_stride() if key == "stride" else ones, layer.rank or 1)
    default = next(item.default for item in fields(layer) if item.name == key)
    return None if default is MISSING else default


def _table(table: Mapping[str, Any]) -> str:
    return f"{{ {', '.join(f'{key} = {_value(value)}' for key, value in table.items())} }}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # a JSON string is one of TOML, but for one sign
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)


# --- comments ---


def _comments(workload: Workload, lowered: Lowered | None, stem: str) -> list[str]:
    lines = [f"{workload.title or workload.name}; written by dse, in the format of its own networks."]
    if workload.weights:
        lines.append(f"Numbers from {Path(workload.weights).name}, kept in {stem}.npz.")
    if lowered is None:
        return lines
    lines += lowered.notes
    if lowered.quantisation:
        lines += ["", f"Quantisation of the file, kept in {stem}.npz: real = scale (q - zero point)."]
        lines += [f"  {tensor}: {scale_text(found)}" for tensor, found in lowered.quantisation.items()]
    return lines


def scale_text(found: Quantisation) -> str:
    """Say how a tensor is quantised, in one line."""
    sign = "int" if found.signed else "uint"
    if found.axis is None:
        return f"{sign}{found.bits}, scale {found.scale[0]:.6g}, zero point {int(found.zero_point[0])}"
    low, high = float(np.min(found.scale)), float(np.max(found.scale))
    return f"{sign}{found.bits}, {len(found.scale)} scales {low:.3g} .. {high:.3g} along axis {found.axis}"


def _one_line(text: str) -> str:
    """Return ``text`` without what would end a comment, of bounded length."""
    return "".join(sign if sign.isprintable() else "_" for sign in text)[: 2 * _WIDTH].rstrip()
