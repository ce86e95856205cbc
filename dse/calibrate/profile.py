"""The calibrated board: fitted numbers with their interval, their kind of evidence and their source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from dse.calibrate.calibration import ALONE, BY_RATIO, Calibration, FittedTerm
from dse.calibrate.fit import FITTED, PRIOR
from dse.calibrate.power import FittedPower
from dse.calibrate.response import path_of
from dse.hardware import HardwareProfile, Quantity
from dse.hardware.quantity import Entry
from dse.vocabulary import Evidence

T = TypeVar("T", bound=Entry)

DIGITS: Final = 6


def source_key(source: str) -> str:
    """Return the key of the source under which fitted numbers stand.

    >>> source_key("runs/My kernels.csv")
    'calibrated_my_kernels'
    """
    stem = re.split(r"[/\\]", source)[-1].removesuffix(".csv")
    return "calibrated_" + (re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:40] or "measurements")


def source_text(found: Calibration) -> str:
    """Return what the source of the fitted numbers is."""
    rows = f"{found.count} row" + ("" if found.count == 1 else "s")
    return f"calibrated from {found.source} ({rows})"


def fitted_quantities(found: Calibration) -> dict[str, Quantity]:
    """Return path -> quantity of every number that the measurements tell; others keep their prior."""
    key = source_key(found.source)
    quantities = {}
    for term in found.terms:
        if term.status != PRIOR:
            quantities[term.term.path] = _quantity(term, key)
    return quantities | {power.path: _power(power, key) for power in found.powers}


def _quantity(term: FittedTerm, key: str) -> Quantity:
    alone = term.share >= ALONE
    kind = Evidence.ASSUMED
    if term.status == FITTED:
        kind = Evidence.MEASURED if alone else Evidence.DERIVED
    said = {
        FITTED: _things(term.rows),
        BY_RATIO: "relative to conv2d as on other boards",
    }.get(term.status, "only seen together with others")
    before = term.term.quantity
    note = f"{said}; was {before.value:.4g} ({before.source})"
    value, low, high = (_rounded(number) for number in (term.value, term.low, term.high))
    return Quantity(value=value, low=min(low, value), high=max(high, value), kind=kind, source=key, note=note)


def _power(power: FittedPower, key: str) -> Quantity:
    note = f"{_things(power.rows)}; was {power.prior.value * 1e3:.4g} mW ({power.prior.source})"
    value, low, high = (_rounded(number) for number in (power.value_w, power.low_w, power.high_w))
    return Quantity(value=value, low=low, high=high, kind=Evidence.MEASURED, source=key, note=note)


def _things(count: int) -> str:
    return f"{count} thing{'' if count == 1 else 's'} measured"


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def with_quantities(board: HardwareProfile, quantities: Mapping[str, Quantity]) -> HardwareProfile:
    """Return ``board`` with other quantities under paths of rates, element costs, overheads and powers."""

    def priced(entries: tuple[T, ...], field: str) -> tuple[T, ...]:
        def new(entry: Any) -> Any:
            path = path_of(entry)
            return entry.model_copy(update={field: quantities[path]}) if path in quantities else entry

        return tuple(new(entry) for entry in entries)

    def powered(entries: tuple[T, ...], section: str) -> tuple[T, ...]:
        def new(entry: Any) -> Any:
            prefix = f"{section}.{entry.name}."
            own = {path.removeprefix(prefix): value for path, value in quantities.items()
                   if path.startswith(prefix)}  # fmt: skip
            return entry.model_copy(update=own) if own else entry

        return tuple(new(entry) for entry in entries)

    update_all: dict[str, Any] = {
        "rates": priced(board.rates, "mac_per_cycle"),
        "elements": priced(board.elements, "cycles_per_element"),
        "overheads": priced(board.overheads, "cycles_per_call"),
        "operating_points": powered(board.operating_points, "operating_point"),
        "sleep_states": powered(board.sleep_states, "sleep_state"),
    }
    return board.model_copy(update=update_all)


def calibrated_board(found: Calibration, name: str | None = None) -> HardwareProfile:
    """Return the board with its fitted numbers; ``name`` replaces its own."""
    quantities = fitted_quantities(found)
    board = with_quantities(found.board, quantities)
    sources = dict(board.bibliography)
    if quantities:
        sources[source_key(found.source)] = source_text(found)
    update: dict[str, Any] = {"bibliography": tuple(sorted(sources.items()))}
    return board.model_copy(update=update | ({"name": name} if name else {}))
