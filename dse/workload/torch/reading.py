"""Reads an archive of ``torch.export`` into a ``Model``, with zip, JSON and numpy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from dse.errors import Problem, UserError
from dse.workload.model import limits
from dse.workload.model.graph import INPUT_PREFIX, Constant, Model
from dse.workload.torch import program
from dse.workload.torch.archive import SAVE_ANEW, Archive
from dse.workload.torch.axes import resolve
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.convert import convert, declared_shapes
from dse.workload.torch.passes import simplified
from dse.workload.torch.sample import add_inputs, batch_axes, batch_size
from dse.workload.torch.structure import Malformed, mapping
from dse.workload.torch.weights import read_weights

FORMAT: Final = "PyTorch (torch.export)"


def read_archive(path: Path, axes: Mapping[str, int]) -> Model:
    """Read a ``.pt2`` file of ``torch.export.save``.

    Nothing in it is executed or unpickled, and torch is not imported.

    Parameters
    ----------
    path: the file.
    axes: sizes of dynamic axes by their symbol (``s0``) or by input and axis (``x.2``); the batch is 1.

    Raises UserError where the file is damaged, of another layout, out of bounds, or leaves an axis open.

    """
    return read_bytes(limits.file_bytes(path), str(path), path.stem, axes, FORMAT)


def read_bytes(data: bytes, file: str, name: str, axes: Mapping[str, int], form: str) -> Model:
    """Read the bytes of an archive; ``file`` and ``name`` are what errors and the model call it."""
    archive = Archive(file, data)
    graph = archive.model()
    try:
        with np.errstate(all="ignore"):
            conversion, outputs, producer = _converted(archive, graph, axes)
            nodes = simplified(conversion, outputs)
    except Malformed as error:
        place = limits.clean_name(f"models/{graph}.json")
        raise UserError(Problem(file, place, limits.clean_name(str(error)), SAVE_ANEW)) from None
    return Model(
        name=limits.clean_name(name),
        file=file,
        format=form,
        producer=producer,
        inputs=tuple(conversion.inputs.values()),
        nodes=nodes,
        outputs=tuple(outputs),
        file_bytes=len(data),
        notes=tuple(f"{text} ({count})" if count > 1 else text for text, count in conversion.notes.items()),
        faults=tuple(conversion.faults),
    )


def _converted(archive: Archive, graph: str, given: Mapping[str, int]) -> tuple[Conversion, list[str], str]:
    """Return the converted graph, the nodes that are its outputs, and who wrote it."""
    document = archive.json(f"models/{graph}.json")
    parts, signature = program.graph_parts(document)
    tables = program.tables(parts)
    inputs, held = program.roles(signature)
    batch = batch_axes(inputs, program.calls(parts, {}), tables)
    ranges = mapping(document, "the model").get("range_constraints")
    axes = resolve(archive.file, inputs, tables, batch, given, ranges)
    c = Conversion(batch_size=batch_size(inputs, tables, axes.batch))
    c.declared = declared_shapes(tables, axes.symbols, c.batch_size)
    add_inputs(c, inputs, axes)
    for name, constant in read_weights(archive, graph, held, tables).items():
        c.values[name] = constant
    convert(c, program.calls(parts, axes.symbols))
    code = archive.code()
    if code:
        c.notes[f"{len(code)} files of code in the archive were not opened"] += 1
    return c, _outputs(c, program.results(signature)), program.producer(document)


def _outputs(c: Conversion, results: Sequence[str]) -> list[str]:
    """Return the nodes that the model gives its user, each once."""
    found: list[str] = []
    for name in results:
        value = c.values.get(name)
        if value is None:
            raise Malformed(f"the output {name[:60]!r} is made by nothing")
        if isinstance(value, Constant) or value.producer.startswith(INPUT_PREFIX):
            c.notes["outputs that no operation computes were left out"] += 1
        elif value.producer not in found:
            found.append(value.producer)
    if not found:
        raise Malformed("no output is computed from the input")
    return found
