"""What a network asks of a board in its forward pass: operations with their share, priced, accepted or not.

A network with layers that run forward only is priced as a whole or not at all: every operation without a
figure is named at once, with its share of the work and the option that accepts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.cost.context import Context
from dse.cost.cycles import element_count
from dse.errors import Problem, Unpriced, UserError, allowed_names
from dse.hardware import HardwareProfile, Quantity
from dse.hardware.accept import (
    ELEMENT_UNIT,
    NO_CHOICE,
    RATE_UNIT,
    Accepted,
    Bound,
    accepted_prices,
    has_price,
    missing_dtypes,
    with_accepted,
)
from dse.plan.decisions import PlanBatch
from dse.vocabulary import is_custom
from dse.workload import Workload

FROZEN_DTYPES: Final = {8: "int8", 32: "fp32"}
FOLDED: Final = "batch_norm"  # part of the layer before it, in inference
NAMED: Final = 3
"""Most layers that a message names."""


@dataclass(frozen=True)
class Demand:
    """One operation of a network's forward pass: its layers, MACs and elements, and its share of them.

    ``counted`` says whether MACs price it; then ``share`` is of the network's MACs, else of its elements.
    """

    operation: str
    counted: bool
    layers: tuple[str, ...]
    amount: float
    share: float

    @property
    def unit(self) -> str:
        """Unit of a bound on it."""
        return RATE_UNIT if self.counted else ELEMENT_UNIT

    @property
    def text(self) -> str:
        """How much of the network it is, in words."""
        more = f" and {len(self.layers) - NAMED} more" if len(self.layers) > NAMED else ""
        where = f"{', '.join(self.layers[:NAMED])}{more}"
        what = "MACs" if self.counted else "elements"
        unknown = ", MACs unknown" if is_custom(self.operation) and not self.counted else ""
        return f"{100 * self.share:.3g} % of the {what}{unknown} ({where})"


def demands(workload: Workload, layers: Iterable[int] | None = None) -> tuple[Demand, ...]:
    """Return the operations of one forward pass, of some ``layers`` or of all; those with MACs first."""
    counts, owner = element_count(workload), {unit.layer: unit for unit in workload.units}
    elements = sum(counts[index] for index, layer in enumerate(workload.layers) if _element(layer))
    found: dict[tuple[str, bool], list[tuple[str, float]]] = {}
    for index in range(len(workload.layers)) if layers is None else layers:
        layer = workload.layers[index]
        if index in owner:
            found.setdefault((owner[index].operator, True), []).append((layer.name, owner[index].macs))
        elif word := _element(layer):
            found.setdefault((word, False), []).append((layer.name, float(counts[index])))
    totals = {True: workload.total_macs, False: elements}
    rows = [
        Demand(word, counted, tuple(name for name, _ in parts), amount, amount / max(totals[counted], 1))
        for (word, counted), parts in found.items()
        for amount in [sum(size for _, size in parts)]
    ]
    return tuple(sorted(rows, key=lambda row: (not row.counted, -row.amount, row.operation)))


def _element(layer: object) -> str:
    word = getattr(layer, "element_operation", None)
    return "" if word in (None, FOLDED) else str(word)


# --- what has no price ---


def unpriced(context: Context, dtype: str) -> tuple[Demand, ...]:
    """Return what a network with forward-only layers does in its frozen stage that has no price there."""
    always = range(max(context.workload.forward_only, default=-1) + 1)
    library = context.library(dtype)
    return tuple(
        row
        for row in demands(context.workload, always)
        if (row.counted or context.accounting.elements)
        and not has_price(context.board, row.operation, dtype, library, counted=row.counted)
    )


def price_problems(context: Context, bits: Iterable[int]) -> list[Problem]:
    """Return one problem for each operation without a price, over the widths of the frozen stage."""
    found: dict[tuple[str, bool], tuple[Demand, list[str]]] = {}
    for dtype in dict.fromkeys(FROZEN_DTYPES[int(width)] for width in bits):
        for row in unpriced(context, dtype):
            found.setdefault((row.operation, row.counted), (row, []))[1].append(dtype)
    return [_problem(context.board.label, row, dtypes) for row, dtypes in found.values()]


def _problem(board: str, row: Demand, dtypes: Sequence[str]) -> Problem:
    found = f"no forward figure in {' and '.join(dtypes)}: {row.text}"
    allowed = f"--accept {row.operation}, or --accept {row.operation}=LOW..HIGH in {row.unit}"
    return Problem(board, row.operation, found, allowed)


def require_priced(context: Context, plans: PlanBatch) -> None:
    """Raise Unpriced, naming every operation at once, where layers that run forward only have no price."""
    if not context.workload.forward_only:
        return
    problems = price_problems(context, np.unique(plans.frozen_bits).tolist())
    if problems:
        raise Unpriced(problems)


def require_some_price(contexts: Iterable[Context], bits: Sequence[int]) -> None:
    """Raise Unpriced where no context prices its network at any width of the frozen stage."""
    problems: list[Problem] = []
    for context in contexts:
        if not context.workload.forward_only or any(_is_priced(context, width) for width in bits):
            return
        problems += price_problems(
            context, [width for width in bits if FROZEN_DTYPES[width] in context.board.kernels]
        )
    if problems:
        raise Unpriced(dict.fromkeys(problems))


def _is_priced(context: Context, bits: int) -> bool:
    known = FROZEN_DTYPES[bits] in context.board.kernels
    return known and not price_problems(context, [bits])


# --- what is accepted ---


def accepting(
    boards: Sequence[HardwareProfile],
    workloads: Sequence[Workload],
    accept: Accepted,
    *,
    file: str,
    key: str,
    kernels: Mapping[str, str] = NO_CHOICE,
) -> tuple[HardwareProfile, ...]:
    """Return ``boards`` with bounds for the accepted operations of ``workloads``.

    ``kernels`` are libraries by dtype in place of the boards' own. Raises UserError for what no network has,
    for what every board prices, and for one bound on an operation that is priced in two units; ``file`` and
    ``key`` stand in messages.
    """
    asked = {(row.operation, row.counted): row for workload in workloads for row in demands(workload)}
    words = [word for word, _ in asked]
    problems = []
    for operation in accept:
        mine = [counted for word, counted in asked if word == operation]
        if not mine:
            networks = " or ".join(workload.name for workload in workloads)
            found = f"{networks} has no operation {operation!r}"
            problems.append(Problem(file, key, found, allowed_names(operation, list(dict.fromkeys(words)))))
        elif len(mine) > 1 and accept[operation] is not None:
            found = f"{operation} is priced by MACs in one layer and by elements in another"
            problems.append(Problem(file, f"{key}.{operation}", found, "accept it without numbers"))
        elif not any(
            missing_dtypes(board, operation, kernels, counted=how) for board in boards for how in mine
        ):
            labels = " and ".join(board.label for board in boards)
            rule = "accept only what has no figure"
            problems.append(Problem(file, f"{key}.{operation}", f"{labels} prices it already", rule))
    if problems:
        raise UserError(problems)
    wanted = {pair: accept[pair[0]] for pair in asked if pair[0] in accept}
    return tuple(with_accepted(board, wanted, kernels) for board in boards)


@dataclass(frozen=True)
class AcceptedShare:
    """An accepted operation on one network: how much of it, and the price in one dtype."""

    demand: Demand
    dtype: str
    price: Quantity

    @property
    def text(self) -> str:
        """Say it in one line."""
        low, high = self.price.low_value, self.price.high_value
        bound = f"{low:.3g} .. {high:.3g} {self.demand.unit} in {self.dtype}"
        return f"{self.demand.operation}: {self.demand.text}, {bound} ({self.price.note})"


def accepted_shares(
    board: HardwareProfile, workload: Workload, dtypes: Iterable[str] = ()
) -> tuple[AcceptedShare, ...]:
    """Return what was accepted on ``board`` for ``workload``, of some dtypes where these are given."""
    rows: Mapping[tuple[str, bool], Demand] = {(row.operation, row.counted): row for row in demands(workload)}
    wanted = tuple(dtypes)
    return tuple(
        AcceptedShare(rows[operation, counted], dtype, price)
        for operation, dtype, counted, price in accepted_prices(board)
        if (operation, counted) in rows and (not wanted or dtype in wanted)
    )


__all__ = [
    "AcceptedShare", "Bound", "Demand", "accepted_shares", "accepting", "demands", "price_problems",
    "require_priced", "unpriced",
]  # fmt: skip
