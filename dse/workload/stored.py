"""The numbers that a network file names: found in its folder, checked against its layers, put to use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from dse.errors import Problem, UserError
from dse.workload.archive import read_arrays
from dse.workload.document import Document
from dse.workload.graph import Workload
from dse.workload.numbers import Numbers
from dse.workload.parameters import number_problems, parameter_shapes

MOST_PROBLEMS: Final = 20
"""Faults of one file of numbers that are told."""


def with_stored_numbers(
    workload: Workload, document: Document, as_filed: Workload, *, renewed: bool
) -> Workload:
    """Return ``workload`` with the numbers that its file names.

    Parameters
    ----------
    workload: the network, perhaps as a variant of what the file says.
    document: the file; its keys ``weights`` and ``weights_sha256`` are read here.
    as_filed: the network without any change, which the numbers must fit; the same, with its numbers, where
        that is what ``workload`` is.
    renewed: another number of classes was asked for: the last unit may lack numbers, it is drawn.

    Raises UserError with every problem of the file of numbers, and where a variant has no use for them.

    """
    numbers = as_filed.numbers or _read(as_filed, document)
    if workload is as_filed:
        return replace(workload, numbers=numbers)
    shapes = parameter_shapes(workload)
    misfits = {name.rpartition(".")[0] for name, array in numbers.items() if array.shape != shapes.get(name)}
    last = workload.units[-1]
    head = {workload.layers[index].name for index in (last.layer, *last.followers)} if renewed else set()
    if misfits - head:
        found = f"numbers of {', '.join(sorted(misfits - head)[:3])} do not fit this variant"
        rule = "a network with numbers takes another number of classes, and sizes that leave weights alone"
        raise UserError(Problem(document.file, "weights", found, rule))
    kept = {name: array for name, array in numbers.items() if name.rpartition(".")[0] not in misfits}
    return replace(workload, numbers=Numbers(kept, numbers.source))


def _read(workload: Workload, document: Document) -> Numbers:
    path = _path(document)
    found = read_arrays(path, parameter_shapes(workload))
    named = {problem.key for problem in found.problems}
    faults = number_problems(workload, found.parameters, str(path))
    problems = [*found.problems, *(problem for problem in faults if problem.key not in named)]
    if len(problems) > MOST_PROBLEMS:
        more = Problem(
            str(path), "", f"{len(problems) - MOST_PROBLEMS} more faults", "an .npz of this network"
        )
        problems = [*problems[:MOST_PROBLEMS], more]
    if problems:
        raise UserError(problems)
    numbers = Numbers(found.parameters, str(path))
    wanted = document.table.get("weights_sha256", numbers.sha256)
    if wanted != numbers.sha256:
        rule = f"{path.name} holds numbers with {numbers.sha256[:16]}...: the two files are not of one save"
        raise UserError(Problem(document.file, "weights_sha256", f"{str(wanted)[:16]}...", rule))
    return numbers


def _path(document: Document) -> Path:
    """Return the path of the numbers; it must stay in the folder of the network's file."""
    name = document.table.get("weights")
    rule = "the name of an .npz file in the folder of this file, or below it"
    plain = isinstance(name, str) and name.endswith(".npz") and "\\" not in name and "\0" not in name
    if not plain or PurePosixPath(str(name)).is_absolute() or ".." in PurePosixPath(str(name)).parts:
        raise UserError(Problem(document.file, "weights", repr(name)[:100], rule))
    folder = Path(document.file).parent
    path = folder / str(name)
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no system takes
        inside = False
    if not inside:
        raise UserError(Problem(document.file, "weights", f"{name!r} leads out of the folder", rule))
    return path
