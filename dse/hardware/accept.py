"""Prices that the user accepts: bounds for operations of the forward pass that a board has no figure for.

``lstm=0.05..0.5`` bounds an operator in MAC/cycle, ``sigmoid=2..40`` an element operation in cycles per
element; without numbers the bound is derived from the board's own figures, and says so. An accepted price is
an assumed quantity like any other: its value is the geometric mean, and intervals carry its low and high.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any, Final

from dse.errors import Problem, Unpriced, UserError
from dse.hardware.entries import ElementCost, Rate
from dse.hardware.profile import HardwareProfile
from dse.hardware.quantity import LARGEST, Quantity
from dse.vocabulary import Evidence

ACCEPTED: Final = "accepted by the user"
"""Source of every accepted price."""

RATE_UNIT: Final = "MAC/cycle"
ELEMENT_UNIT: Final = "cycles per element"
SLOWER: Final = 10.0
"""A derived bound reaches this factor below the slowest rate, or above the dearest element cost."""

NO_CHOICE: Final[Mapping[str, str]] = {}
"""Of kernel libraries: those of the board."""

_FORM: Final = "OPERATION, or OPERATION=LOW..HIGH with 0 < LOW <= HIGH"
_LEAST: Final = 1e-9


@dataclass(frozen=True)
class Bound:
    """What an operation costs at least and at most: MAC/cycle, or cycles per element."""

    low: float
    high: float


Accepted = Mapping[str, Bound | None]
"""Operation -> its bound, None where the board's own figures are to give one."""


def read_accept(given: Iterable[str] | Mapping[str, Any], *, file: str, key: str) -> dict[str, Bound | None]:
    """Read accepted operations: words ``OPERATION[=LOW..HIGH]``, or a table of ``true`` or ``[low, high]``.

    Raises UserError with every problem; ``file`` and ``key`` stand in messages.
    """
    problems: list[Problem] = []
    found: dict[str, Bound | None] = {}
    for name, value in _pairs(given):
        bound = None if value is True else _bound(value)
        if not name or (bound is None and value is not True):
            problems.append(Problem(file, key, _shown(name, value), _FORM))
        elif name in found:
            problems.append(Problem(file, f"{key}.{name}", "given twice", "say it once"))
        else:
            found[name] = bound
    if problems:
        raise UserError(problems)
    return found


def _pairs(given: Iterable[str] | Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    if isinstance(given, Mapping):
        return [(str(name), value) for name, value in given.items()]
    pieces = (str(word).partition("=") for word in given)
    return [(name.strip(), text.strip() if equals else True) for name, equals, text in pieces]


def _bound(value: Any) -> Bound | None:
    """Read ``low..high`` or a pair; None where it is neither, or no range of positive numbers."""
    if isinstance(value, Bound):
        value = (value.low, value.high)
    pieces = value.split("..") if isinstance(value, str) else value
    if not isinstance(pieces, list | tuple) or len(pieces) != 2 or any(isinstance(x, bool) for x in pieces):
        return None
    try:
        low, high = (float(piece) for piece in pieces)
    except (TypeError, ValueError, OverflowError):
        return None
    good = isfinite(low) and isfinite(high) and _LEAST <= low <= high <= LARGEST
    return Bound(low, high) if good else None


def _shown(name: str, value: Any) -> str:
    return repr(name)[:80] if value is True else f"{name} = {value!r}"[:80]


def with_accepted(
    board: HardwareProfile,
    wanted: Mapping[tuple[str, bool], Bound | None],
    kernels: Mapping[str, str] = NO_CHOICE,
) -> HardwareProfile:
    """Return ``board`` with forward prices for what is accepted, in every dtype in which it has none.

    ``wanted`` maps (operation, whether it is counted in MACs) to its bound. Entries are those of the default
    kernel libraries, or of ``kernels`` by dtype, on the default number of cores. Raises UserError where no
    bound can be derived.
    """
    rates, elements, problems = list(board.rates), list(board.elements), []
    for (operation, counted), bound in wanted.items():
        for dtype in missing_dtypes(board, operation, kernels, counted=counted):
            library = board.library_for(dtype, kernels.get(dtype))
            found = bound or derived_bound(board, dtype, library, counted=counted)
            if found is None:
                problems.append(_underivable(board, operation, dtype, counted))
            elif counted:
                rates.append(_rate(board, library, operation, dtype, found, bound is None))
            else:
                elements.append(_element(board, library, operation, dtype, found, bound is None))
    if problems:
        raise UserError(problems)
    return board.model_copy(update={"rates": tuple(rates), "elements": tuple(elements)})


def missing_dtypes(
    board: HardwareProfile, operation: str, kernels: Mapping[str, str] = NO_CHOICE, *, counted: bool
) -> tuple[str, ...]:
    """Return the dtypes of the board in which ``operation`` has no forward price."""
    return tuple(
        dtype
        for dtype in board.kernels
        if not has_price(board, operation, dtype, kernels.get(dtype), counted=counted)
    )


def has_price(
    board: HardwareProfile, operation: str, dtype: str, library: str | None = None, *, counted: bool
) -> bool:
    """Return whether ``board`` prices ``operation`` forward; Unpriced without a library for ``dtype``."""
    library = board.library_for(dtype, library)
    try:
        if counted:
            board.rate(operation, "fwd", dtype, library)
        else:
            word = board.element_word(operation, "fwd", dtype, library)
            board.element_cost(word, "fwd", dtype, library)
    except Unpriced:
        return False
    return True


def derived_bound(
    board: HardwareProfile, dtype: str, library: str | None = None, *, counted: bool
) -> Bound | None:
    """Return the bound that the board's own forward figures in ``dtype`` give; None where it has none.

    Operators: from a tenth of the slowest rate to the fastest. Element operations: from the cheapest cost
    above zero to ten times the dearest.
    """
    entries: Iterable[Rate | ElementCost] = board.rates if counted else board.elements
    mine = (board.library_for(dtype, library), "fwd", dtype, board.cores)
    found = [
        figure.value
        for entry in entries
        if (entry.library, entry.pass_, entry.dtype, entry.cores) == mine
        for figure in [entry.mac_per_cycle if isinstance(entry, Rate) else entry.cycles_per_element]
        if figure.value > 0 and figure.source != ACCEPTED
    ]
    if not found:
        return None
    slowest = min(found) / SLOWER if counted else min(found)
    return Bound(slowest, max(found) if counted else max(found) * SLOWER)


def origin_text(dtype: str, *, counted: bool) -> str:
    """Say where a derived bound comes from."""
    if counted:
        return f"from a tenth of the board's slowest {dtype} forward rate to its fastest"
    return f"from the board's cheapest {dtype} forward element cost above zero to ten times its dearest"


def _quantity(bound: Bound, dtype: str, *, counted: bool, derived: bool) -> Quantity:
    note = origin_text(dtype, counted=counted) if derived else "bound as given"
    middle = min(max(sqrt(bound.low) * sqrt(bound.high), bound.low), bound.high)
    return Quantity(
        value=middle, low=bound.low, high=bound.high, kind=Evidence.ASSUMED, source=ACCEPTED, note=note
    )


def _rate(
    board: HardwareProfile, library: str, operation: str, dtype: str, bound: Bound, derived: bool
) -> Rate:
    return Rate(
        library=library, operator=operation, pass_="fwd", dtype=dtype, cores=board.cores,
        mac_per_cycle=_quantity(bound, dtype, counted=True, derived=derived),
    )  # fmt: skip


def _element(
    board: HardwareProfile, library: str, operation: str, dtype: str, bound: Bound, derived: bool
) -> ElementCost:
    return ElementCost(
        library=library, operation=operation, pass_="fwd", dtype=dtype, cores=board.cores,
        cycles_per_element=_quantity(bound, dtype, counted=False, derived=derived),
    )  # fmt: skip


def _underivable(board: HardwareProfile, operation: str, dtype: str, counted: bool) -> Problem:
    what, unit = ("rate", RATE_UNIT) if counted else ("element cost above zero", ELEMENT_UNIT)
    found = f"no bound for {operation}: the board has no {dtype} forward {what} to derive one from"
    return Problem(board.label, "accept", found, f"--accept {operation}=LOW..HIGH in {unit}")


def accepted_prices(board: HardwareProfile) -> tuple[tuple[str, str, bool, Quantity], ...]:
    """Return what was accepted on ``board``: operation, dtype, whether it is counted in MACs, the price."""
    rates = ((rate.operator, rate.dtype, True, rate.mac_per_cycle) for rate in board.rates)
    costs = ((cost.operation, cost.dtype, False, cost.cycles_per_element) for cost in board.elements)
    return tuple(found for found in (*rates, *costs) if found[3].source == ACCEPTED)
