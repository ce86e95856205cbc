"""Networks by name or path, with their variants: ``mobilenet-v1@width=0.5,resolution=96,classes=10``.

Model files and modules of other programs are taken in by ``dse.workload.model``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from dse.errors import Problem, UnknownName, UserError, allowed_names
from dse.workload import fields as read
from dse.workload.build import build_workload
from dse.workload.document import BASE_KEYS, KEYS, NUMBERS, Document
from dse.workload.entries import LayerReader
from dse.workload.graph import Workload
from dse.workload.model.limits import file_bytes
from dse.workload.names import AXIS, CHANGES, changes_of, is_file, is_model_file, split_name
from dse.workload.stored import with_stored_numbers

MOST_BYTES: Final = 2**20
WIDEST: Final = 16.0


@dataclass(frozen=True)
class Variant:
    """What differs from the network as its file has it."""

    width: float = 1.0
    resolution: tuple[int, int] | None = None
    length: int | None = None
    channels: int | None = None
    classes: int | None = None

    def over(self, base: Variant) -> Variant:
        """Apply this variant on top of ``base``: widths multiply, the rest replaces."""
        rest = {key: getattr(self, key) or getattr(base, key) for key in CHANGES if key != "width"}
        return Variant(self.width * base.width, **rest)


def list_networks() -> tuple[str, ...]:
    """Names of the networks that come with the program."""
    zoo = files("dse.workload") / "zoo"
    return tuple(sorted(item.name[:-5] for item in zoo.iterdir() if item.name.endswith(".toml")))


def load_network(
    network: str | Path | Any,
    *,
    width: float | None = None,
    resolution: int | str | None = None,
    length: int | None = None,
    channels: int | None = None,
    classes: int | None = None,
    batch_norm: str | None = None,
    output: str | None = None,
    axes: Mapping[str, int] | None = None,
    input_shape: Sequence[int] | None = None,
) -> Workload:
    """Load a network by name or from a file, optionally as a variant.

    Parameters
    ----------
    network: a name of ``list_networks()``, the path of a TOML file or of a model file (.onnx, .tflite, .pt2),
        or a PyTorch module; ``@width=...,resolution=...`` may follow a name or path and says the same as the
        arguments, ``axis.NAME=N`` what ``axes`` does.
    width: factor on all channels, each rounded to a multiple of 8 and at least 8; classes are not scaled.
    resolution: size of an input image [pixels]: one number for a square, ``"32x48"`` for height x width.
    length: length of an input series [samples].
    channels: channels of an input image or series; those inside the network do not change.
    classes: outputs of a network that classifies; one that comes with numbers gets a new last layer.
    batch_norm: of a model file: "keep", or "fold" into the weights before.
    output: of a model file: the node whose tensor is the result.
    axes: of a model file: sizes of its dynamic axes, by name.
    input_shape: of a module: the shape of one sample, (C, H, W), (C, L) or (F,).

    A model file and a module have fixed sizes: width, resolution, length and channels are refused.

    Raises UnknownName for a name that nothing answers to, UserError with every problem of a file.

    """
    given = {
        "width": width, "resolution": resolution, "length": length, "channels": channels, "classes": classes,
        "batch_norm": batch_norm, "output": output,
        **{f"{AXIS}{name}": size for name, size in (axes or {}).items()},
    }  # fmt: skip
    said = [(key, value) for key, value in given.items() if value is not None]
    if not isinstance(network, str | os.PathLike):
        return _module(network, said, input_shape)
    if input_shape is not None:
        raise UserError(Problem(str(network), "input_shape", f"{input_shape}", "for a module alone"))
    return load_variant(str(network), said)


def load_variant(text: str, changes: Sequence[tuple[str, Any]] = ()) -> Workload:
    """Load a network by name or path with what differs: behind its ``@``, and ``changes`` as pairs.

    See ``load_network`` for the keys (a dynamic axis as ``axis.NAME``) and the errors.
    """
    name, written = split_name(text)
    if is_model_file(name):
        from dse.workload.model.load import model_of_file

        return model_of_file(name, [*changes_of(written), *changes]).workload
    variant = _variant(text, [*((key, _number(value)) for key, value in changes_of(written)), *changes])
    document = _document(name)
    if "base" not in document.table:
        return _workload(document, variant)
    return _based(document, variant)


def read_network(path: Path) -> Workload:
    """Read a TOML file as it is, whatever its name looks like."""
    return _workload(_parsed(str(path), _toml_bytes(path)), Variant())


def _module(network: Any, said: Sequence[tuple[str, Any]], input_shape: Sequence[int] | None) -> Workload:
    from dse.workload.model.load import is_module, model_of_module

    if not is_module(network):
        found = f"a {type(network).__name__}"
        raise UserError(Problem("network", "", found, "a name, a path, or a torch.nn.Module"))
    return model_of_module(network, input_shape, said).workload


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _variant(file: str, changes: Sequence[tuple[str, object]]) -> Variant:
    """Check the values of a variant; all problems at once."""
    problems: list[Problem] = []
    readers: dict[str, Callable[[object], Any]] = {
        "width": partial(read.factor, most=WIDEST),
        "resolution": read.height_width,
        "length": read.count,
        "channels": read.count,
        "classes": read.count,
    }
    values: dict[str, Any] = {}
    for key, value in changes:
        if key not in readers:
            problems.append(Problem(file, key, "unknown change", allowed_names(key, CHANGES)))
        elif key in values:
            problems.append(Problem(file, key, "given twice", "say it once"))
        else:
            values[key] = None
            try:
                values[key] = readers[key](value)
            except read.Misfit as misfit:
                problems.append(Problem(file, key, misfit.found, misfit.allowed))
    if problems:
        raise UserError(problems)
    return Variant(**values)


# --- files ---


def _document(name: str) -> Document:
    """Read and parse a file of the zoo or of the user."""
    if name in list_networks():
        data, file = (files("dse.workload") / "zoo" / f"{name}.toml").read_bytes(), f"{name}.toml"
    elif is_file(name):
        data, file = _toml_bytes(Path(name)), name
    else:
        raise UnknownName("network", name, list_networks())
    return _parsed(file, data)


def _parsed(file: str, data: bytes) -> Document:
    try:
        return Document(file, tomllib.loads(data.decode("utf-8")))
    except ValueError as error:  # syntax, encoding, numbers of thousands of digits
        raise UserError(Problem(file, "", f"no valid TOML: {error}", "")) from None
    except RecursionError:
        raise UserError(Problem(file, "", "no valid TOML: nested too deeply", "")) from None


def _based(document: Document, variant: Variant) -> Workload:
    """Load a network that is described as a variant of another."""
    table = document.table
    document.check_keys(table, BASE_KEYS)
    title, source, name = document.label("title"), document.label("source"), document.label("name")
    base = document.attempt("base", lambda: read.word(table["base"], list_networks(), "network"))
    own = Variant()
    try:
        own = _variant(document.file, [(key, table[key]) for key in CHANGES if key in table])
    except UserError as error:
        document.problems += error.problems
    parent = _document(base) if base else None
    if parent is not None and "base" in parent.table:
        rule = f"name what it is made of, {parent.table['base']}"
        document.fault("base", f"{base} is a variant itself", rule)
    if parent is None or document.problems:
        raise UserError(document.problems)
    cuts = {"legal_cuts": table["legal_cuts"]} if "legal_cuts" in table else {}
    labels = {"name": name, "title": title, "source": source}
    merged = Document(document.file, {**parent.table, **labels, **cuts})
    return _workload(merged, variant, own)


def _workload(document: Document, variant: Variant, own: Variant | None = None) -> Workload:
    """Build the network of ``document`` (its file says it is a variant ``own``), changed by ``variant``."""
    document.check_keys(document.table, KEYS)
    asked = variant.over(own or Variant())
    labels = {key: document.label(key) for key in ("name", "title", "source")}
    word, outputs = document.outputs()
    shape = document.input_shape(asked.resolution, asked.length, asked.channels)
    if asked.classes is not None and outputs is not None:
        if word == "outputs":
            document.fault("classes", f"{asked.classes}", "this network does not classify")
        outputs = asked.classes
    cuts = document.legal_cuts()
    assembly = LayerReader(document, word, outputs, asked.width).assembly(shape)
    workload = build_workload(assembly, **labels, outputs=outputs, legal_cuts=cuts)
    if any(key in document.table for key in NUMBERS):
        as_filed = workload if asked == Variant() else _workload(document, Variant())
        workload = with_stored_numbers(workload, document, as_filed, renewed=asked.classes is not None)
    return _named(workload, document, variant, own)


def _named(workload: Workload, document: Document, variant: Variant, own: Variant | None) -> Workload:
    """Write into the name what differs from the file; what does not differ leaves the name alone."""
    own, size = own or Variant(), document.table["input"]
    as_filed = {
        "width": 1.0,
        "resolution": own.resolution or (size.get("height"), size.get("width")),
        "length": own.length or size.get("length"),
        "channels": own.channels or size.get("channels"),
        "classes": own.classes or document.table.get("classes"),
    }
    changed = {
        key: value
        for key in CHANGES
        if (value := getattr(variant, key)) is not None and value != as_filed[key]
    }
    if not changed:
        return workload
    suffix = ",".join(f"{key}={_written(value)}" for key, value in changed.items())
    title = f"{workload.title}; here {suffix.replace(',', ', ')}"
    return replace(workload, name=f"{workload.name}@{suffix}", title=title)


def _written(value: float | tuple[int, int]) -> str:
    """Write a value of a variant as its name takes it."""
    if isinstance(value, tuple):
        return f"{value[0]}" if value[0] == value[1] else f"{value[0]}x{value[1]}"
    return f"{value:.10g}"


def _toml_bytes(path: Path) -> bytes:
    return file_bytes(path, MOST_BYTES, "a network file is smaller")
