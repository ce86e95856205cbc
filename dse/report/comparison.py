"""One plan priced on many boards: a row per board, as records and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dse.report import text
from dse.report.estimate import RESULTS, Estimate, verdict
from dse.units import human, human_bytes, human_seconds

COLUMNS: Final = ("ram_peak_bytes", "nvm_bytes", "event_s", "event_j", "lifetime_s")


@dataclass(frozen=True)
class BoardPrice:
    """What the plan costs on one board, or why it has no price there."""

    board: str
    estimate: Estimate | None
    reason: str = ""

    def ends(self, column: str) -> tuple[float, float, float]:
        """Return value, low and high of a result [SI]."""
        assert self.estimate is not None
        record = next(each for each in self.estimate.records() if each["quantity"] == column)
        return record["value"], record["low"], record["high"]


@dataclass(frozen=True)
class BoardComparison:
    """One plan of one network on many boards, in the order asked for."""

    network: str
    plan: str
    prices: tuple[BoardPrice, ...]

    @property
    def fits_somewhere(self) -> bool:
        """Whether the plan fits one of the boards."""
        return any(price.estimate is not None and price.estimate.fits for price in self.prices)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame: a row per board; results with ``_low`` and ``_high`` [SI]."""
        import pandas as pd

        return pd.DataFrame.from_records([_record(price) for price in self.prices])


def _record(price: BoardPrice) -> dict[str, Any]:
    found = price.estimate
    if found is None:
        return {"board": price.board, "operating_point": "", "fits": False, "verdict": price.reason}
    record: dict[str, Any] = {
        "board": price.board, "operating_point": found.operating_point, "fits": found.fits,
        "verdict": verdict(found),
    }  # fmt: skip
    for column in COLUMNS:
        record[column], record[f"{column}_low"], record[f"{column}_high"] = price.ends(column)
    return record


def comparison_text(found: BoardComparison) -> str:
    """Write a comparison for a terminal: the table, ratios to the best board, and what each verdict is."""
    priced = [price for price in found.prices if price.estimate is not None]
    parts = [f"{found.network}\n{text.wrapped('plan: ' + found.plan, 100)}"]
    if priced:
        header = (
            "board",
            "point",
            "fits",
            "RAM peak",
            "event",
            "energy",
            "interval",
            "x least",
            "battery life",
        )
        least = min(price.ends("event_j")[0] for price in priced)
        parts.append(text.table(header, [_row(price, least) for price in priced]))
    misfits = [
        (price.board, verdict(price.estimate) if price.estimate is not None else price.reason)
        for price in found.prices
        if price.estimate is None or not price.estimate.fits
    ]
    parts += [f"{board}: {reason}" for board, reason in misfits]
    parts.append(
        "each board at its first operating point; energy and interval are those of one learning event"
    )
    return "\n\n".join(parts)


def _row(price: BoardPrice, least_j: float) -> tuple[Any, ...]:
    assert price.estimate is not None
    joules, low, high = price.ends("event_j")
    return (
        price.board, price.estimate.operating_point, "yes" if price.estimate.fits else "no",
        human_bytes(price.ends("ram_peak_bytes")[0]), human_seconds(price.ends("event_s")[0]),
        human(joules, "J"), text.interval(low, high, "J"), f"{joules / least_j:.3g}",
        human_seconds(price.ends("lifetime_s")[0]),
    )  # fmt: skip


def caption(column: str) -> str:
    """Return the name of a result for the axis of a figure."""
    return RESULTS[column][0]
