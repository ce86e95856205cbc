"""A model file, or a network, as text for a terminal of 80 columns: what it holds, what can be planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dse.errors import Problem
from dse.report import text
from dse.report.columns import fitted, paragraph
from dse.units import human, human_bytes
from dse.workload import Workload
from dse.workload.base import Shape, shape_text
from dse.workload.model.counts import learnt, once
from dse.workload.model.formulas import STATISTICS
from dse.workload.model.graph import Constant, Model
from dse.workload.model.load import ImportedModel
from dse.workload.model.options import NodeRow
from dse.workload.parameters import layers_without_numbers

BRIEF_ROWS: Final = 60
"""A brief table has no more rows than this: those with most MACs and parameters."""

FLOAT_BYTES: Final = 4
FORWARD_ONLY: Final = "forward only"
UNKNOWN: Final = "unknown"
_HEADER: Final = ("name", "operation", "output", "MACs", "share", "bytes", "bits")
_RIGHT: Final = (False, False, False, True, True, True, True)
_LEAST: Final = (12, 9, 9, 0, 0, 0, 0)
_INDENT: Final = " " * 9


@dataclass(frozen=True)
class Description:
    """What is shown of a model: facts by name, a row per operation, and what keeps it from being planned."""

    name: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[NodeRow, ...]
    network: Workload | None
    problems: tuple[Problem, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """MACs of one sample, of those operations for which they are known."""
        return sum(row.macs or 0 for row in self.rows)

    def to_frame(self) -> Any:
        """Return the operations as a pandas DataFrame; shapes as text, such as 3x32x32."""
        import pandas as pd

        names = NodeRow.__dataclass_fields__
        frame = pd.DataFrame([vars(row) for row in self.rows], columns=list(names))
        frame["shape"] = [None if row.shape is None else shape_text(row.shape) for row in self.rows]
        for name in ("macs", "weight_bits", "activation_bits"):
            frame[name] = frame[name].astype("Int64")
        return frame


def of_model(found: ImportedModel) -> Description:
    """Describe a model that was imported."""
    model = found.model
    network = None if found.problems else found.workload
    facts = (
        ("file", f"{model.file}, {human_bytes(model.file_bytes)}"),
        ("format", model.format + (f", producer: {model.producer}" if model.producer else "")),
        *(("input", f"{each.name} {_shape(each.shape)}{_typed(each)}") for each in model.inputs),
        *(("output", f"{name} {_shape(_shape_of(model, name))}") for name in model.outputs),
        *((("network", f"{network.name}, {network.classes} outputs"),) if network else ()),
    )
    notes = (*model.notes, *(() if found.problems else found.lowered.notes))
    constants = list(once(_constants(model)))
    totals = _totals(found.rows, constants, *_learnt_and_not(model))
    return Description(
        model.name, (*facts, *totals), found.rows, network,
        tuple(problem for problem in found.problems if problem.found not in model.faults), model.faults,
        tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def of_network(network: Workload) -> Description:
    """Describe a network of the program, or of a file in its own format."""
    rows = tuple(_layer_rows(network))
    facts = [
        ("network", network.title),
        ("source", network.source),
        ("input", shape_text(network.input_shape)),
        ("output", f"{network.classes}"),
        *_totals(rows, [], sum(row.parameters for row in rows)),
    ]
    if network.numbers:
        facts.append(("numbers", f"{network.weights}, {human_bytes(network.numbers.nbytes)} in fp32"))
    return Description(network.name, tuple(facts), rows, network)


def _layer_rows(network: Workload) -> Iterator[NodeRow]:
    for layer, producers, shape in zip(network.layers, network.inputs, network.shapes, strict=True):
        inputs = [network.shape_of(producer) for producer in producers]
        count = layer.weight_params(*inputs) + layer.bias_params(*inputs)
        operation = str(getattr(layer, "operation", layer.kind))
        yield NodeRow(
            name=layer.name, operation=operation, source_operation=layer.kind, shape=shape,
            macs=layer.macs(*inputs)["fwd"], parameters=count, parameter_bytes=FLOAT_BYTES * count,
            weight_bits=None, activation_bits=None,
            becomes=FORWARD_ONLY if layer.forward_only else layer.kind,
        )  # fmt: skip


def _shape(shape: Shape | None) -> str:
    return "of unknown shape" if shape is None else shape_text(shape) or "scalar"


def _typed(found: Any) -> str:
    return "" if found.quantisation is None else f", {found.quantisation.bits} bits"


def _shape_of(model: Model, name: str) -> Shape | None:
    return next((node.shape for node in model.nodes if node.name == name), None)


# --- totals ---


def _constants(model: Model) -> Iterator[Constant]:
    return (constant for node in model.nodes for constant in node.constants.values())


def _learnt_and_not(model: Model) -> tuple[int, int]:
    """Parameters of a model, and statistics of its batch norms; what several operations share once."""
    learn = (constant for node in model.nodes for constant in learnt(node))
    fixed = (node.constants[name] for node in model.nodes for name in STATISTICS if name in node.constants)
    found, statistics = (sum(constant.elements for constant in once(each)) for each in (learn, fixed))
    return found, statistics


def _totals(
    rows: Sequence[NodeRow], constants: Sequence[Constant], count: int, statistics: int = 0
) -> Iterator[tuple[str, str]]:
    unknown = sum(row.macs is None for row in rows)
    macs = text.count(sum(row.macs or 0 for row in rows))
    hidden = f", and those of {text.plural(unknown, 'operation')} that are not known" if unknown else ""
    yield "MACs", f"{macs} of one sample, forward{hidden}"
    stored = sum(constant.stored_bytes for constant in constants)
    kept = f"{human_bytes(stored)} as stored, " if constants else ""
    sizes = f"{kept}{human_bytes(FLOAT_BYTES * count)} in fp32, {human_bytes(count)} in int8"
    norms = f" and {text.count(statistics)} statistics of batch norms" if statistics else ""
    yield "weights", f"{text.count(count)} parameters{norms}: {sizes}"
    if constants:
        yield "types", _types(constants)


def _types(constants: Iterable[Constant]) -> str:
    """Say how many tensors of constants are stored in which type, and how they are quantised."""
    counts = Counter((each.stored_type, _grain(each)) for each in constants)
    return ", ".join(
        f"{text.plural(count, 'tensor')} of {kind}{f' {grain}' if grain else ''}"
        for (kind, grain), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _grain(constant: Constant) -> str:
    if constant.quantisation is None:
        return ""
    return "per tensor" if constant.quantisation.axis is None else "per channel"


# --- text ---


def description_text(found: Description, *, brief: bool = False) -> str:
    """Write a model for a terminal of 80 columns: facts, operations, what is not planned, where to cut.

    ``brief`` shortens tables of more than 60 operations to those with most MACs and parameters.
    """
    sections = [
        "\n".join([_title(found), *(_fact(*fact) for fact in found.facts)]),
        _table(found, brief=brief),
        *_not_planned(found),
        _listed("faults" if found.network else "faults, which keep it from being planned", found.faults),
        _listed("notes", found.notes),
        _listed("cannot be planned", [_reason(problem) for problem in found.problems]),
        "" if found.network is None else _cuts(found.network),
    ]
    return "\n\n".join(section for section in sections if section)


def _title(found: Description) -> str:
    return paragraph(found.name)


def _fact(name: str, value: str) -> str:
    return paragraph(value, first=f"{name:9}", rest=_INDENT)


def _listed(title: str, lines: Sequence[str]) -> str:
    return (
        "\n".join([paragraph(title), *(paragraph(line, first="- ", rest="  ") for line in lines)])
        if lines
        else ""
    )


def _reason(problem: Problem) -> str:
    """Write a problem without the file, which stands above."""
    said = f"{problem.found}; {problem.allowed}" if problem.allowed else problem.found
    return f"{problem.key}: {said}" if problem.key else said


def _table(found: Description, *, brief: bool) -> str:
    rows = found.rows
    cut = brief and len(rows) > BRIEF_ROWS
    if cut:
        weight = [(row.macs or 0, row.parameter_bytes) for row in rows]
        largest = sorted(range(len(rows)), key=lambda place: weight[place], reverse=True)[:BRIEF_ROWS]
        rows = tuple(rows[place] for place in sorted(largest))
    shown = fitted(_HEADER, [_row(row, found.macs) for row in rows], right=_RIGHT, least=_LEAST)
    left = len(found.rows) - len(rows)
    return f"{shown}\n({text.plural(left, 'smaller operation')} left out)" if cut else shown


def _row(row: NodeRow, macs: int) -> tuple[str, ...]:
    bits = [_bits(row.weight_bits), _bits(row.activation_bits)]
    return (
        row.name,
        row.source_operation if row.becomes == UNKNOWN else row.operation,
        "unknown" if row.shape is None else shape_text(row.shape) or "scalar",
        "unknown" if row.macs is None else _short(row.macs),
        _share(row.macs / macs) if row.macs else "",
        human_bytes(row.parameter_bytes) if row.parameter_bytes else "",
        "" if bits == ["-", "-"] else "/".join(bits),
    )


def _share(part: float) -> str:
    return "<0.1%" if 0 < part < 0.0005 else f"{part:.1%}"


def _bits(found: int | None) -> str:
    return "-" if found is None else str(found)


def _short(macs: int) -> str:
    return human(macs, "").strip() if macs else ""


def _not_planned(found: Description) -> Iterator[str]:
    """List what runs forward only, and what is not known, by operation with its share of the MACs."""
    for becomes, title in _TITLES.items():
        groups: dict[str, list[NodeRow]] = {}
        for row in found.rows:
            if row.becomes == becomes:
                name = row.source_operation if becomes == UNKNOWN else row.operation
                groups.setdefault(name, []).append(row)
        lines = [_group(name, rows, found.macs) for name, rows in sorted(groups.items())]
        yield _listed(title, lines)


_TITLES: Final = {
    FORWARD_ONLY: "forward only: not trained; planned in the frozen stage where the board has a price",
    UNKNOWN: "not known: nothing here has a price for them",
}


def _group(name: str, rows: Sequence[NodeRow], macs: int) -> str:
    own = sum(row.macs or 0 for row in rows)
    share = f"{_share(own / macs)} of the MACs" if own else "no MACs"
    known = share if all(row.macs is not None for row in rows) else "MACs unknown"
    return f"{name}{'' if len(rows) == 1 else f', {len(rows)} times'}: {known}"


def _cuts(network: Workload) -> str:
    cuts = ["input" if cut < 0 else str(cut) for cut in network.cuts]
    lines = [
        _fact("units", f"{len(network.units)}, from {network.units[0].name} to {network.units[-1].name}")
    ]
    lines.append(_fact("cuts", f"learning may start above {', '.join(_ranges(cuts)) or 'nothing'}"))
    drawn = layers_without_numbers(network)
    if drawn:
        lines.append(_fact("drawn", f"training draws the numbers of {', '.join(drawn)}"))
    return "\n".join(lines)


def _ranges(cuts: Sequence[str]) -> list[str]:
    """Write runs of three and more units that follow each other as one.

    >>> _ranges(["input", "0", "1", "2", "5"])
    ['input', '0-2', '5']
    """
    found: list[list[str]] = []
    for cut in cuts:
        follows = found and cut != "input" and found[-1][-1] != "input" and int(cut) == int(found[-1][-1]) + 1
        if follows:
            found[-1].append(cut)
        else:
            found.append([cut])
    pieces: list[str] = []
    for run in found:
        pieces += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else run
    return pieces
